"""Select the documents of a mixed dataset: whole copies first, then a cut in hash order.

Axes: K domains, B hash buckets, N documents in hash order.

Put a domain's documents in the order of a hash of their ids. If the dataset wants `wanted` tokens
of a domain of `available` tokens, it takes `wanted // available` copies of every document, and a
part of one more copy. This part ends at the cut, after `wanted % available` tokens. It has the
documents whose middle token is before the cut. So a document that crosses the cut is taken if the
part ends nearer to the cut with it than without it. The tokens that are taken of a domain differ
from `wanted` by at most half of one document. No domain is sorted as a whole. A histogram over the
hash's leading bits finds the bucket with the cut, and only the documents of this bucket are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.errors import MixtureError, TableError
from climb.mixture import Constraints, FeasibleSet, apportion, weights_to_array
from climb.mixture.conflicts import find_violations

BUCKET_BITS = 12
"""The documents are divided into 4096 buckets. In a domain of ten million documents, one bucket
contains a few thousand."""


@dataclass(frozen=True)
class DomainQuota:
    """How many tokens of one domain the dataset takes."""

    domain: str
    weight: float
    available_tokens: int
    """Tokens of the domain's documents."""

    wanted_tokens: int
    """Tokens that the dataset takes of the domain."""

    @property
    def copies(self) -> int:
        """Whole copies of every document."""
        return self.wanted_tokens // self.available_tokens

    @property
    def cut(self) -> int:
        """Tokens that are taken from one more copy: those of its first documents in hash order."""
        return self.wanted_tokens % self.available_tokens


@dataclass(frozen=True)
class CutBucket:
    """The hash bucket of a domain that contains the cut."""

    bucket: int
    """Number of the bucket. All documents of the buckets before this bucket are taken."""

    start: int
    """Tokens of all buckets before this bucket."""


def allocate_tokens(
    weights: Mapping[str, float], tokens: Mapping[str, int], total: int
) -> list[DomainQuota]:
    """Divide the dataset's tokens among the domains, sorted by name; weight 0 gets no quota.

    Args:
        weights: the mixture, by domain name.
        tokens: tokens of each domain, by name.
        total: tokens of the dataset.

    Raises:
        TableError: the mixture names a domain that does not exist, or that has no tokens.
    """
    names = sorted(tokens)
    unknown = sorted(name for name in weights if name not in tokens)
    if unknown:
        raise TableError(
            f"table mixtures has weights of unknown domains {', '.join(unknown)}; the domains of "
            f"table clusters are {', '.join(names)}: they changed after the search; run "
            "`climb search` again"
        )
    wanted_K = apportion([weights.get(name, 0.0) for name in names], total)
    quotas = [
        DomainQuota(name, float(weights.get(name, 0.0)), tokens[name], int(wanted))
        for name, wanted in zip(names, wanted_K, strict=True)
        if wanted > 0
    ]
    empty = [quota.domain for quota in quotas if quota.available_tokens == 0]
    if empty:
        raise TableError(
            f"the mixture gives weight to domains without tokens: {', '.join(empty)}; run "
            "`climb search` again"
        )
    return quotas


def find_cut_bucket(tokens_B: NDArray[np.int64], cut: int) -> CutBucket:
    """Find the bucket that contains the cut.

    Args:
        tokens_B: tokens per bucket in hash order; their sum exceeds `cut`.
        cut: tokens before the cut.
    """
    end_B = np.cumsum(tokens_B)
    bucket = int(np.searchsorted(end_B, cut, side="right"))
    return CutBucket(bucket, int(end_B[bucket] - tokens_B[bucket]))


def is_before_cut(ends_N: Any, tokens_N: Any, cut: Any) -> Any:
    """Whether a document's middle is before the cut; for arrays, or for Spark columns.

    Args:
        ends_N: tokens up to and including each document, in hash order.
        tokens_N: tokens of each document.
        cut: tokens before the cut.
    """
    return 2 * ends_N - tokens_N < 2 * cut


def check_constraints(
    weights: Mapping[str, float], tokens: Mapping[str, int], constraints: Constraints
) -> None:
    """Check that a dataset of `constraints.target_tokens` tokens satisfies the constraints.

    Args:
        weights: the mixture, by domain name.
        tokens: tokens of each domain, by name.
        constraints: those of the search, with the dataset's tokens as `target_tokens`.

    Raises:
        MixtureError: the dataset violates a constraint, or no dataset of that size satisfies all.
    """
    names = sorted(tokens)
    try:
        space = FeasibleSet.from_constraints(names, [tokens[name] for name in names], constraints)
        violations = find_violations(space.bounds, weights_to_array(names, weights), 1e-9)
    except MixtureError as error:
        violations = [str(error)]
    if violations:
        raise MixtureError(
            f"a dataset of {constraints.target_tokens:,} tokens of this mixture violates the "
            f"constraints of the search: {'; '.join(violations)}. Lower mix.tokens, or change "
            "these constraints and run `climb search` again"
        )
