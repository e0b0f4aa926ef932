"""Which documents a mixed dataset holds: whole copies first, then a cut in hash order.

Axes: K domains, B hash buckets, N documents in hash order.

Lay a domain's documents end to end in the order of a hash of their ids. `wanted` tokens of a
domain that holds `tokens` are `wanted // tokens` copies of everything, and of one copy more the
documents whose middle lies before the mark at `wanted % tokens`. A document that lies across the
mark is taken when that brings the sum nearer to it, so the sum misses `wanted` by at most half
of one document. Nothing needs a sort of a whole domain: a histogram over the hash's leading bits
finds the bucket that the mark falls into, and only that bucket's documents are put in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.collisions import breaches
from climb.errors import MixtureError, TableError
from climb.limits import Limits
from climb.mixture import FeasibleSet, apportion, weights_array

BUCKET_BITS = 12
"""4096 buckets: one holds a few thousand documents of a domain of ten million."""


@dataclass(frozen=True)
class Portion:
    """What one domain gives to the dataset."""

    domain: str
    weight: float
    tokens: int
    """Tokens that the domain holds."""

    wanted: int
    """Tokens that the dataset wants of it."""

    @property
    def copies(self) -> int:
        """Copies of every document."""
        return self.wanted // self.tokens

    @property
    def rest(self) -> int:
        """Tokens that the hash-ordered remainder is to hold: the mark."""
        return self.wanted % self.tokens


@dataclass(frozen=True)
class Boundary:
    """The bucket of a domain that the mark falls into."""

    bucket: int
    """All buckets before it are taken whole."""

    start: int
    """Tokens of the buckets before it."""


def portions(weights: Mapping[str, float], tokens: Mapping[str, int], total: int) -> list[Portion]:
    """Share out the dataset's tokens, in order of name; domains of weight 0 get nothing.

    Raises:
        TableError: the mixture names a domain that there is not, or that holds no token.
    """
    names = sorted(tokens)
    unknown = sorted(name for name in weights if name not in tokens)
    if unknown:
        raise TableError(
            f"table mixtures weighs {', '.join(unknown)}, but the domains of table clusters are "
            f"{', '.join(names)}: the search saw other domains; run `climb search` again"
        )
    wanted_K = apportion([weights.get(name, 0.0) for name in names], total)
    shares = [
        Portion(name, float(weights.get(name, 0.0)), tokens[name], int(wanted))
        for name, wanted in zip(names, wanted_K, strict=True)
        if wanted > 0
    ]
    empty = [share.domain for share in shares if share.tokens == 0]
    if empty:
        raise TableError(f"the mixture wants tokens of {', '.join(empty)}, which hold none")
    return shares


def boundary(tokens_B: NDArray[np.int64], rest: int) -> Boundary:
    """Find the bucket that the mark falls into.

    Args:
        tokens_B: tokens per bucket in hash order; their sum exceeds `rest`.
        rest: the mark.
    """
    end_B = np.cumsum(tokens_B)
    bucket = int(np.searchsorted(end_B, rest, side="right"))
    return Boundary(bucket, int(end_B[bucket] - tokens_B[bucket]))


def taken(ends_N: Any, tokens_N: Any, rest: Any) -> Any:
    """Whether a document's middle lies before the mark; arrays, or Spark columns.

    Args:
        ends_N: tokens up to and with each document, in hash order.
        tokens_N: tokens of each document.
        rest: the mark.
    """
    return 2 * ends_N - tokens_N < 2 * rest


def check_limits(weights: Mapping[str, float], tokens: Mapping[str, int], limits: Limits) -> None:
    """Hold a dataset of `limits.target_tokens` tokens against the limits that its search kept to.

    Args:
        weights: the mixture, by name.
        tokens: tokens that each domain holds, by name.
        limits: the limits of the search, for as many tokens as the dataset has.

    Raises:
        MixtureError: the dataset would break a limit, or no dataset of that size can keep them all.
    """
    names = sorted(tokens)
    try:
        space = FeasibleSet.of(names, [tokens[name] for name in names], limits)
        broken = breaches(space, weights_array(names, weights), 1e-9)
    except MixtureError as error:
        broken = [str(error)]
    if broken:
        raise MixtureError(
            f"a dataset of {limits.target_tokens:,} tokens of this mixture would break what the "
            f"search may do: {'; '.join(broken)}. Lower mix.tokens, or change those limits (the "
            "search then has to run again where its answer breaks them)"
        )
