"""Choose the support of a mixture: its domains with weights above 0.

Axes: M mixtures, K domains, P pools, O options (see `find_widest_support`). On axis N, element n
belongs to supports with n domains of one pool (n = 0, 1, 2, ...).

If `search.min_weight` is 0, every domain may be in the support, so there is nothing to choose. If
it is above 0, weights between 0 and this minimum are forbidden.

A pool is a set of domains whose sum of weights has bounds. A support admits a mixture if two
conditions hold for those domains of every pool that are in the support. Their lower bounds sum to
at most the upper bound of the pool, and their upper bounds sum to at least the lower bound of the
pool. Both conditions must also hold for all domains together, with 1 as both bounds of the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.mixture.projection import Array, Pool, project_onto_bounds

Bools = NDArray[np.bool_]

_TOLERANCE = 1e-12
"""Largest difference by which the sums of a chosen support may miss a bound."""

TOLERANCE = 1e-9
"""Tolerance for conflicts between constraints, whose decimal numbers are rounded."""


@dataclass(frozen=True, eq=False)
class SupportBounds:
    """The bounds that each domain's weight has if the domain is in the support, and the pools."""

    lower_K: Array
    upper_K: Array
    """0 where a domain cannot be in the support."""

    required_K: Bools
    """Domains that are in every support: those with a lower bound above 0."""

    rank_K: NDArray[np.int64]
    """Position of each domain among the sorted names; decides ties."""

    pools: tuple[Pool, ...]

    @property
    def pool_K(self) -> NDArray[np.int64]:
        """Index of the pool of each domain."""
        pool_K = np.empty(len(self.lower_K), dtype=np.int64)
        for p, pool in enumerate(self.pools):
            pool_K[pool.columns] = p
        return pool_K

    def restrict(self, support_MK: Bools) -> tuple[Array, Array]:
        """Lower and upper bounds for these supports; both are 0 outside the support."""
        return np.where(support_MK, self.lower_K, 0.0), np.where(support_MK, self.upper_K, 0.0)

    def contain(self, weights_MK: Array, tolerance: float, tolerance_of_sums: float) -> Bools:
        """Whether each mixture satisfies every bound to within a tolerance; any shape (..., K)."""
        out = ~self.required_K & (np.abs(weights_MK) <= tolerance)
        above, below = self.lower_K - tolerance, self.upper_K + tolerance
        inside = (weights_MK >= above) & (weights_MK <= below)
        whole = np.abs(weights_MK.sum(axis=-1) - 1.0) <= tolerance_of_sums
        satisfied = whole & (out | inside).all(axis=-1)
        for pool in self.pools:
            if not pool.is_unbounded:
                sums = weights_MK[..., pool.columns].sum(axis=-1)
                satisfied &= sums >= pool.lower - tolerance_of_sums
                satisfied &= sums <= pool.upper + tolerance_of_sums
        return np.asarray(satisfied)

    def admit(self, support_MK: Bools) -> Bools:
        """Whether each support admits a mixture, shape (M,)."""
        lower_MK, upper_MK = self.restrict(support_MK)
        admits_M, min_M, max_M = np.ones(len(support_MK), dtype=np.bool_), 0.0, 0.0
        for pool in self.pools:
            lower_M, upper_M = (a_MK[:, pool.columns].sum(axis=1) for a_MK in (lower_MK, upper_MK))
            admits_M &= (lower_M <= pool.upper + _TOLERANCE) & (upper_M >= pool.lower - _TOLERANCE)
            min_M = min_M + np.maximum(lower_M, pool.lower)
            max_M = max_M + np.minimum(upper_M, pool.upper)
        return np.asarray(admits_M & (min_M <= 1.0 + _TOLERANCE) & (max_M >= 1.0 - _TOLERANCE))


def project_with_support(
    weights_MK: Array, natural_K: Array, bounds: SupportBounds, fallback_K: Bools | None
) -> Array:
    """Project mixtures onto the bounds, and choose the support of each.

    Args:
        weights_MK: mixtures inside or outside the bounds.
        natural_K: token shares.
        bounds: the bounds.
        fallback_K: a support that admits a mixture, from `find_widest_support`; None if
            `search.min_weight` is 0, so that there is no support to choose.

    Returns:
        Mixtures that satisfy the bounds, shape (M, K).
    """
    lower_K = np.where(bounds.required_K, bounds.lower_K, 0.0)
    lower_MK, upper_MK = (
        np.broadcast_to(a_K, weights_MK.shape) for a_K in (lower_K, bounds.upper_K)
    )
    first_MK = project_onto_bounds(weights_MK, natural_K, lower_MK, upper_MK, bounds.pools)
    if fallback_K is None:
        return first_MK
    lower_MK, upper_MK = bounds.restrict(choose_support(first_MK, bounds, fallback_K))
    return project_onto_bounds(weights_MK, natural_K, lower_MK, upper_MK, bounds.pools)


def choose_support(weights_MK: Array, bounds: SupportBounds, fallback_K: Bools) -> Bools:
    """Choose the support of each mixture: the domains whose weight is large enough already.

    If these cannot sum to 1, or to the lower bound of a pool, the domains with the next largest
    weights are added. If that support does not admit a mixture either, the fallback is used.

    Args:
        weights_MK: mixtures that satisfy all bounds, except that positive weights may be below
            `search.min_weight`.
        bounds: the bounds.
        fallback_K: a support that admits a mixture, from `find_widest_support`.
    """
    support_MK = (weights_MK >= bounds.lower_K * (1.0 - 1e-9)) & (bounds.upper_K > 0.0)
    bad_M = ~bounds.admit(support_MK)
    if bad_M.any():
        support_MK[bad_M] = _extend_support(weights_MK[bad_M], support_MK[bad_M], bounds)
        support_MK[~bounds.admit(support_MK)] = fallback_K
    return support_MK


def _extend_support(weights_MK: Array, support_MK: Bools, bounds: SupportBounds) -> Bools:
    """Add domains, largest weights first, until every pool and the total can reach what they need.

    A pool needs its lower bound, and all domains together need 1.
    """
    shape = weights_MK.shape
    ties = (np.broadcast_to(bounds.rank_K, shape), np.broadcast_to(-bounds.upper_K, shape))
    order_MK = np.lexsort((*ties, -weights_MK, ~support_MK), axis=1)
    chosen_MK = np.take_along_axis(support_MK, order_MK, axis=1)
    lower_MK, upper_MK = bounds.lower_K[order_MK], bounds.upper_K[order_MK]
    pool_MK = bounds.pool_K[order_MK]
    gain_MK = np.zeros(shape)
    for p, pool in enumerate(bounds.pools):
        in_pool_MK = (pool_MK == p) & (upper_MK > 0.0)
        after_MK = np.cumsum(np.where(in_pool_MK, upper_MK, 0.0), axis=1)
        before_MK = after_MK - np.where(in_pool_MK, upper_MK, 0.0)
        sum_MK = np.cumsum(np.where(in_pool_MK, lower_MK, 0.0), axis=1)
        fits_MK = sum_MK <= pool.upper + _TOLERANCE
        chosen_MK |= in_pool_MK & (before_MK < pool.lower - _TOLERANCE)
        adds_MK = np.minimum(after_MK, pool.upper) - np.minimum(before_MK, pool.upper)
        gain_MK += np.where(in_pool_MK & fits_MK, adds_MK, 0.0)
    more_MK = np.where(chosen_MK, 0.0, gain_MK)
    sure_M1 = np.where(chosen_MK, gain_MK, 0.0).sum(axis=1, keepdims=True)
    reached_MK = sure_M1 + np.cumsum(more_MK, axis=1) - more_MK
    chosen_MK |= (reached_MK < 1.0 - _TOLERANCE) & (more_MK > 0.0)
    extended_MK = np.empty_like(chosen_MK)
    np.put_along_axis(extended_MK, order_MK, chosen_MK, axis=1)
    return extended_MK


@dataclass(frozen=True, eq=False)
class Support:
    """The support with the most room, and how small and how large the sums of bounds can be.

    The room of a support is the smaller of two differences: 1 minus the sum of its lower bounds,
    and the sum of its upper bounds minus 1.
    """

    chosen_K: Bools
    is_feasible: bool
    min_total: float
    """Smallest sum of lower bounds over all supports; NaN if a pool has no support."""

    max_total: float
    """Largest sum of upper bounds over the supports whose lower bounds sum to at most 1; NaN
    if there is no such support."""


def find_widest_support(bounds: SupportBounds) -> Support:
    """Find a support that admits a mixture, if there is one; the search is exact.

    All domains that can be in a support have the same lower bound, `search.min_weight`, except the
    required ones. So if n domains of a pool are in the support, the best n are the required ones
    and those with the largest upper bounds. It remains to choose n for each pool. The pools are
    added one by one. After each, an option is a choice of n for every pool so far, with the sums of
    its lower and upper bounds. An option is dropped if the lower sum of another option is equal or
    smaller, and the upper sum of that other option is equal or larger.
    """
    lower_O, upper_O, picks_OP = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
    orders = [_order_by_upper_bound(pool, bounds) for pool in bounds.pools]
    for pool, order in zip(bounds.pools, orders, strict=True):
        numbers, lower_N, upper_N = _find_feasible_numbers(pool, order, bounds)
        if not len(numbers):
            return Support(np.zeros(len(bounds.lower_K), dtype=np.bool_), False, np.nan, np.nan)
        sums = ((lower_O[:, None] + lower_N).ravel(), (upper_O[:, None] + upper_N).ravel())
        kept = _drop_dominated(*sums)
        lower_O, upper_O = sums[0][kept], sums[1][kept]
        before, number = np.divmod(kept, len(numbers))
        picks_OP = np.column_stack([picks_OP[before], numbers[number]])
    fits_O = (lower_O <= 1.0 + TOLERANCE) & (upper_O >= 1.0 - TOLERANCE)
    room_O = np.where(fits_O, np.minimum(1.0 - lower_O, upper_O - 1.0), -np.inf)
    chosen_K = np.zeros(len(bounds.lower_K), dtype=np.bool_)
    for order, n in zip(orders, picks_OP[room_O.argmax()], strict=True):
        chosen_K[order[:n]] = True
    affordable_O = lower_O <= 1.0 + TOLERANCE
    max_total = float(upper_O[affordable_O].max()) if affordable_O.any() else np.nan
    return Support(chosen_K, bool(fits_O.any()), float(lower_O.min()), max_total)


def is_satisfiable(pool: Pool, bounds: SupportBounds) -> bool:
    """Whether a subset of the pool's domains can have a sum within the pool's bounds."""
    order = _order_by_upper_bound(pool, bounds)
    return len(_find_feasible_numbers(pool, order, bounds)[0]) > 0


def _order_by_upper_bound(pool: Pool, bounds: SupportBounds) -> NDArray[np.int64]:
    """Sort the pool's usable domains: required ones first, then by upper bound, largest first."""
    columns = pool.columns[bounds.upper_K[pool.columns] > 0.0]
    keys = (bounds.rank_K[columns], -bounds.upper_K[columns], ~bounds.required_K[columns])
    return np.asarray(columns[np.lexsort(keys)])


def _find_feasible_numbers(
    pool: Pool, order: NDArray[np.int64], bounds: SupportBounds
) -> tuple[NDArray[np.int64], Array, Array]:
    """Find the numbers n for which the first n domains in `order` satisfy the bounds of the pool.

    Returns:
        The possible numbers, and for each the smallest and the largest sum of the pool's weights.
    """
    lower_N = np.concatenate([[0.0], np.cumsum(bounds.lower_K[order])])
    upper_N = np.concatenate([[0.0], np.cumsum(bounds.upper_K[order])])
    n_required = int(bounds.required_K[order].sum())
    fits_N = (lower_N <= pool.upper + TOLERANCE) & (upper_N >= pool.lower - TOLERANCE)
    fits_N[:n_required] = False
    numbers = np.flatnonzero(fits_N)
    return (
        numbers,
        np.maximum(lower_N[numbers], pool.lower),
        np.minimum(upper_N[numbers], pool.upper),
    )


def _drop_dominated(lower_O: Array, upper_O: Array) -> NDArray[np.int64]:
    """Return the indices of the options that are not dropped; see `find_widest_support`."""
    # Rounded: the last bits of equal sums depend on the order of the addition.
    order = np.lexsort((-upper_O, np.round(lower_O, 12)))
    best_O = np.maximum.accumulate(upper_O[order])
    more = np.concatenate([[True], upper_O[order][1:] > best_O[:-1] + _TOLERANCE])
    return np.asarray(order[more])
