"""What limits mean for each domain of a corpus: floors, caps, and groups that are left.

Axes: K domains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import MixtureError
from climb.limits import Limit, Limits

Array = NDArray[np.float64]

Bound = tuple[float, str]
"""A value, and what sets it in words."""


@dataclass(frozen=True, eq=False)
class Box:
    """What limits mean for single domains, and the groups that are left."""

    floors_K: Array
    caps_K: Array
    reasons: tuple[tuple[str, str], ...]
    """What sets each domain's floor, and what its cap; empty where nothing does."""

    groups: tuple[Limit, ...]
    """Limits on sums of several domains, patterns resolved; no domain is in two of them."""


def box(limits: Limits, domains: Sequence[str], tokens_K: Array) -> Box:
    """Derive floors, caps and groups.

    A cap is the smallest of 1, max_epochs * tokens / target_tokens, max_share_ratio * share and the
    domain's max_weight; a domain without tokens has a cap of 0.

    Raises:
        MixtureError: limits on domains that there are not, groups that share domains, or fewer
            tokens than the target run needs.
    """
    rules = [rule.over(domains) for rule in limits.rules]
    groups = tuple(rule for rule in rules if rule.weighs and len(rule.domains) > 1)
    _check_disjoint(groups)
    tokens = dict(zip(domains, tokens_K.tolist(), strict=True))
    epochs = limits.epochs(domains)
    _check_supply(limits, epochs, tokens)
    single = [rule for rule in rules if rule.weighs and len(rule.domains) == 1]
    held = math.fsum(tokens_K)
    floors, caps = [], []
    for name, count in tokens.items():
        own = [rule for rule in single if rule.domains == (name,)]
        demands = [(rule.min_weight, f"{rule.key}: min_weight") for rule in own]
        floors.append(max([(0.0, ""), *demands], key=lambda bound: bound[0]))
        allowed = [(rule.max_weight, f"{rule.key}: max_weight") for rule in own]
        allowed += _by_tokens(limits, epochs.get(name), count, count / held)
        caps.append(min([(1.0, ""), *allowed], key=lambda bound: bound[0]))
    return Box(
        np.array([value for value, _ in floors]),
        np.array([value for value, _ in caps]),
        tuple((floor, cap) for (_, floor), (_, cap) in zip(floors, caps, strict=True)),
        groups,
    )


def _by_tokens(limits: Limits, epochs: Bound | None, tokens: float, share: float) -> list[Bound]:
    """What the tokens of a domain allow as its weight."""
    if tokens == 0.0:
        return [(0.0, "it holds no tokens")]
    allowed = []
    if epochs is not None:
        often, key = epochs
        reason = f"{key} {often:g} of its {tokens:.4g} tokens"
        allowed.append((often * tokens / limits.target_tokens, reason))
    if limits.max_share_ratio is not None:
        reason = f"search.max_share_ratio {limits.max_share_ratio:g} of its share"
        allowed.append((limits.max_share_ratio * share, reason))
    return allowed


def checked_tokens(domains: Sequence[str], tokens_K: ArrayLike) -> Array:
    """Tokens as numbers.

    Raises:
        MixtureError: names or tokens that make no sense.
    """
    tokens = np.array(tokens_K, dtype=np.float64)
    twice = sorted({name for name in domains if list(domains).count(name) > 1})
    if twice:
        raise MixtureError(f"domains are named twice: {', '.join(twice)}")
    if not domains or tokens.shape != (len(domains),):
        raise MixtureError(f"{len(domains)} domains, but token counts of shape {tokens.shape}")
    for name, count in zip(domains, tokens.tolist(), strict=True):
        if not (np.isfinite(count) and count >= 0.0):
            raise MixtureError(f"domain {name!r} has {count} tokens; it must be 0 or more")
    if not tokens.any():
        raise MixtureError("all domains are empty; a mixture needs tokens")
    return tokens


def _check_disjoint(groups: Sequence[Limit]) -> None:
    for i, one in enumerate(groups):
        for other in groups[:i]:
            shared = sorted(set(one.domains) & set(other.domains))
            if shared:
                raise MixtureError(
                    f"{other.key} and {one.key} both limit the sum of weights of "
                    f"{', '.join(shared)}; groups must not share a domain: take it out of one"
                )


def _check_supply(limits: Limits, epochs: Mapping[str, Bound], tokens: Mapping[str, float]) -> None:
    """Whether the domains' tokens, repeated as often as allowed, fill the target run."""
    if len(epochs) < len(tokens):
        return
    held, target = math.fsum(tokens.values()), limits.target_tokens
    supply = math.fsum(epochs[name][0] * count for name, count in tokens.items())
    if supply >= target * (1.0 - 1e-9):
        return
    if {key for _, key in epochs.values()} == {"search.max_epochs"}:
        how = f"the domains' {held:.4g} tokens times max_epochs {limits.max_epochs:g}"
        mend = f"raise search.max_epochs to {target / held:.3g}"
    else:
        how = f"the domains' {held:.4g} tokens, repeated as often as each domain may be,"
        mend = "raise search.max_epochs or the max_epochs in search.limits"
    raise MixtureError(
        f"{how} give {supply:.4g} tokens, but the target run needs {target:.4g} "
        f"({target - supply:.4g} more): {mend}, or lower search.target_tokens"
    )
