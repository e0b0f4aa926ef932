"""Bounds of each domain's weight and of each group's sum of weights, derived from constraints.

Axes: K domains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import MixtureError
from climb.mixture.constraints import Constraint, Constraints
from climb.mixture.projection import Pool
from climb.mixture.support import TOLERANCE, Support, SupportBounds, find_widest_support

Array = NDArray[np.float64]

_MAX_TOKENS = 1e100
"""Largest number of tokens of a domain: sums of larger numbers may be too large for a float."""

SourcedValue = tuple[float, str]
"""A value, and the configuration key or reason that sets the value, for messages. The key is empty
if nothing sets the value."""


@dataclass(frozen=True, eq=False)
class DomainBounds:
    """Lower and upper bounds of the domains' weights, and bounds of sums over groups of domains.

    A weight is 0, or between `min_weight` and its upper bound; it is never below its lower bound.

    Raises:
        MixtureError: arrays of the wrong length, bounds that are negative or not finite, or a
            `min_weight` outside [0, 1).
    """

    domains: tuple[str, ...]
    lower_K: Array
    """Lower bound of each domain's weight. A domain whose lower bound is above 0 is in every
    mixture."""

    upper_K: Array
    """Upper bound of each domain's weight."""

    min_weight: float = 0.0
    """A feasible weight is 0, or at least this."""

    groups: tuple[Constraint, ...] = ()
    """Constraints on the sum of several weights. They name domains, and contain no patterns. No
    domain is in two groups."""

    reasons: tuple[tuple[str, str], ...] = ()
    """What sets the lower and the upper bound of each domain, for messages; may be empty."""

    def __post_init__(self) -> None:
        sizes = {len(self.domains), len(self.lower_K), len(self.upper_K)}
        if len(sizes) != 1:
            raise MixtureError(
                f"{len(self.domains)} domains, but {len(self.lower_K)} lower and "
                f"{len(self.upper_K)} upper bounds; there must be one of each per domain"
            )
        if not 0.0 <= self.min_weight < 1.0:
            raise MixtureError(f"min_weight is {self.min_weight}; it must be in [0, 1)")
        for name, bounds_K in (("lower", self.lower_K), ("upper", self.upper_K)):
            if not (np.isfinite(bounds_K).all() and (bounds_K >= 0.0).all()):
                raise MixtureError(
                    f"{name} bounds must be finite and non-negative: {bounds_K.tolist()}"
                )

    @cached_property
    def support_bounds(self) -> SupportBounds:
        """The same bounds in the form that projection computes with."""
        required_K = self.lower_K > 0.0
        upper_K = np.where(self.upper_K >= self.min_weight, self.upper_K, 0.0)
        lower_K = np.minimum(np.maximum(self.lower_K, self.min_weight), upper_K)
        pools = [Pool(self.columns(g), g.min_weight, g.max_weight) for g in self.groups]
        grouped = {name for group in self.groups for name in group.domains}
        rest = [k for k, name in enumerate(self.domains) if name not in grouped]
        if rest:
            pools.append(Pool(np.array(rest, dtype=np.int64), 0.0, 1.0))
        rank_K = np.argsort(np.argsort(np.array(self.domains, dtype=object)))
        return SupportBounds(lower_K, upper_K, required_K, rank_K, tuple(pools))

    @cached_property
    def widest_support(self) -> Support:
        """The support that `find_widest_support` chooses; projection uses it as a fallback."""
        return find_widest_support(self.support_bounds)

    def columns(self, group: Constraint) -> NDArray[np.int64]:
        """Columns of a group's domains."""
        return np.array([self.domains.index(name) for name in group.domains], dtype=np.int64)

    def reorder_domains(self, order_K: NDArray[np.int64]) -> DomainBounds:
        """Put the domains in another order."""
        return replace(
            self,
            domains=tuple(self.domains[k] for k in order_K),
            lower_K=self.lower_K[order_K],
            upper_K=self.upper_K[order_K],
            reasons=tuple(self.reasons[k] for k in order_K) if self.reasons else (),
        )


def derive_bounds(
    constraints: Constraints, domains: Sequence[str], tokens_K: Array
) -> DomainBounds:
    """Derive the bounds of each domain and of each group from constraints.

    An upper bound is the smallest of 1, max_epochs * tokens / target_tokens, max_share_ratio *
    share and the domain's max_weight. The upper bound of a domain without tokens is 0.

    Args:
        constraints: what is configured.
        domains: K names.
        tokens_K: tokens of each domain, as `check_tokens` returns them; shares are enough if the
            constraints limit no epochs.

    Raises:
        MixtureError: constraints on domains that do not exist, groups that share domains, or fewer
            tokens than the target run needs.
    """
    resolved = [c.resolve(domains) for c in constraints.domain_constraints]
    weighted = [c for c in resolved if c.bounds_weight]
    groups = tuple(c for c in weighted if len(c.domains) > 1)
    _check_disjoint(groups)
    tokens = dict(zip(domains, tokens_K.tolist(), strict=True))
    epoch_limits = constraints.find_epoch_limits(domains)
    _check_supply(constraints, epoch_limits, tokens)
    total = math.fsum(tokens_K)
    lower, upper = [], []
    for name, count in tokens.items():
        own = [c for c in weighted if c.domains == (name,)]
        token_limits = _limit_by_tokens(constraints, epoch_limits.get(name), count, count / total)
        lower.append(_find_lower(own))
        upper.append(_find_upper(own, token_limits))
    return DomainBounds(
        tuple(domains),
        np.array([value for value, _ in lower]),
        np.array([value for value, _ in upper]),
        constraints.min_weight,
        groups,
        tuple((low, high) for (_, low), (_, high) in zip(lower, upper, strict=True)),
    )


def _find_lower(constraints: Sequence[Constraint]) -> SourcedValue:
    """Find the largest of the lower bounds that constraints set for one domain."""
    minima = [(c.min_weight, f"{c.config_key}: min_weight") for c in constraints]
    return max([(0.0, ""), *minima], key=lambda bound: bound[0])


def _find_upper(
    constraints: Sequence[Constraint], token_limits: Sequence[SourcedValue]
) -> SourcedValue:
    """Find the smallest of the upper bounds that constraints and tokens set for one domain."""
    maxima = [(c.max_weight, f"{c.config_key}: max_weight") for c in constraints]
    return min([(1.0, ""), *maxima, *token_limits], key=lambda bound: bound[0])


def _limit_by_tokens(
    constraints: Constraints, epoch_limit: SourcedValue | None, tokens: float, share: float
) -> list[SourcedValue]:
    """List the upper bounds that follow from a domain's number of tokens."""
    if tokens == 0.0:
        return [(0.0, "the domain has no tokens")]
    limits = []
    if epoch_limit is not None:
        max_epochs, key = epoch_limit
        target = f"{constraints.target_tokens:.4g} target tokens"
        reason = f"{key} {max_epochs:g} * {tokens:.4g} tokens / {target}"
        limits.append((max_epochs * tokens / constraints.target_tokens, reason))
    if constraints.max_share_ratio is not None:
        reason = f"search.max_share_ratio {constraints.max_share_ratio:g} times its token share"
        limits.append((constraints.max_share_ratio * share, reason))
    return limits


def check_tokens(domains: Sequence[str], tokens_K: ArrayLike) -> Array:
    """Check names and token counts, and return the counts as an array of shape (K,).

    Raises:
        MixtureError: duplicate names, a wrong number of counts, counts that are negative, too large
            or not numbers, or no tokens at all.
    """
    tokens = np.array(tokens_K, dtype=np.float64)
    duplicates = sorted({name for name in domains if list(domains).count(name) > 1})
    if duplicates:
        raise MixtureError(f"duplicate domain names: {', '.join(duplicates)}")
    if not domains or tokens.shape != (len(domains),):
        raise MixtureError(
            f"{len(domains)} domains, but token counts of shape {tokens.shape}; there must be "
            "at least one domain, and one count per domain"
        )
    for name, count in zip(domains, tokens.tolist(), strict=True):
        if not 0.0 <= count <= _MAX_TOKENS:
            raise MixtureError(
                f"domain {name!r} has {count} tokens; the number must be at least 0 and at most "
                f"{_MAX_TOKENS:g}"
            )
    if not tokens.any():
        raise MixtureError("all domains have 0 tokens; at least one must have some")
    return tokens


def _check_disjoint(groups: Sequence[Constraint]) -> None:
    for i, later in enumerate(groups):
        for earlier in groups[:i]:
            shared = sorted(set(later.domains) & set(earlier.domains))
            if shared:
                raise MixtureError(
                    f"{earlier.config_key} and {later.config_key} both bound a sum of weights that "
                    f"contains {', '.join(shared)}; groups must not share domains: remove them "
                    "from one of the two groups"
                )


def _check_supply(
    constraints: Constraints, epoch_limits: Mapping[str, SourcedValue], tokens: Mapping[str, float]
) -> None:
    """Check that the domains' tokens, repeated as often as allowed, suffice for the target run."""
    if len(epoch_limits) < len(tokens):
        return
    total, target = math.fsum(tokens.values()), constraints.target_tokens
    supply = math.fsum(epoch_limits[name][0] * count for name, count in tokens.items())
    # Only half of TOLERANCE: then rounding errors cannot turn a supply that is accepted here into
    # upper bounds whose sum is below 1 - TOLERANCE.
    if supply >= target * (1.0 - 0.5 * TOLERANCE):
        return
    if {key for _, key in epoch_limits.values()} == {"search.max_epochs"}:
        source = f"the domains' {total:.4g} tokens times max_epochs {constraints.max_epochs:g}"
        fix = f"raise search.max_epochs to {_round_up(target / total)}"
    else:
        source = f"the domains' {total:.4g} tokens, repeated as often as allowed,"
        fix = "raise search.max_epochs or the max_epochs in search.constraints"
    raise MixtureError(
        f"{source} give {supply:.4g} tokens, but {target:.4g} are needed "
        f"({target - supply:.4g} more): {fix}, or lower the number of target tokens "
        "(search.target_tokens, or mix.tokens)"
    )


def _round_up(value: float) -> str:
    """Format a positive number with three digits, rounded up."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit - 1e-9) * unit:.3g}"
