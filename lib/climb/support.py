"""Which domains take part in a mixture whose weights are 0 or at least some smallest weight.

Axes: M mixtures, K domains, P pools, N numbers of domains, O options.

A choice of domains can be levelled into a mixture where, for every pool and for the whole, the
smallest weights of the chosen sum to no more than the most, and their largest to no less than the
least. Without a smallest weight every domain may take part, and there is nothing to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.waterfill import Array, Pool, fill

Bools = NDArray[np.bool_]

_SLACK = 1e-12
"""By how much chosen domains may miss a bound."""

SLACK = 1e-9
"""By how much limits may miss each other: they come from numbers that people write down."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What holds for each domain that takes part, and for pools of domains."""

    low_K: Array
    high_K: Array
    """0 where a domain cannot take part."""

    must_K: Bools
    """Domains that always take part: those with a floor."""

    rank_K: NDArray[np.int64]
    """Place of each domain among the sorted names: decides ties."""

    pools: tuple[Pool, ...]

    @property
    def pool_K(self) -> NDArray[np.int64]:
        """Number of the pool that each domain is in."""
        numbers_K = np.empty(len(self.low_K), dtype=np.int64)
        for p, pool in enumerate(self.pools):
            numbers_K[pool.columns] = p
        return numbers_K

    def rows(self, used_MK: Bools) -> tuple[Array, Array]:
        """Low and high bounds where just these domains take part."""
        return np.where(used_MK, self.low_K, 0.0), np.where(used_MK, self.high_K, 0.0)

    def keep(self, weights_MK: Array, slack: float, slack_of_sums: float) -> Bools:
        """Whether each mixture keeps every bound, to within a slack; any shape (..., K)."""
        out = ~self.must_K & (np.abs(weights_MK) <= slack)
        inside = (weights_MK >= self.low_K - slack) & (weights_MK <= self.high_K + slack)
        whole = np.abs(weights_MK.sum(axis=-1) - 1.0) <= slack_of_sums
        kept = whole & (out | inside).all(axis=-1)
        for pool in self.pools:
            if not pool.free:
                sums = weights_MK[..., pool.columns].sum(axis=-1)
                kept &= sums >= pool.least - slack_of_sums
                kept &= sums <= pool.most + slack_of_sums
        return np.asarray(kept)

    def fit(self, used_MK: Bools) -> Bools:
        """Whether the chosen domains can be levelled into a mixture, shape (M,)."""
        low_MK, high_MK = self.rows(used_MK)
        fits_M, least_M, most_M = np.ones(len(used_MK), dtype=np.bool_), 0.0, 0.0
        for pool in self.pools:
            low_M, high_M = (a_MK[:, pool.columns].sum(axis=1) for a_MK in (low_MK, high_MK))
            fits_M &= (low_M <= pool.most + _SLACK) & (high_M >= pool.least - _SLACK)
            least_M = least_M + np.maximum(low_M, pool.least)
            most_M = most_M + np.minimum(high_M, pool.most)
        return np.asarray(fits_M & (least_M <= 1.0 + _SLACK) & (most_M >= 1.0 - _SLACK))


def nearest(weights_MK: Array, natural_K: Array, bounds: Bounds, fallback_K: Bools | None) -> Array:
    """The nearest mixtures within the bounds.

    Args:
        weights_MK: mixtures, anywhere.
        natural_K: shares.
        bounds: the bounds.
        fallback_K: a choice of domains that fits, of `witness`; None where there is no smallest
            weight, and so nothing to choose.
    """
    low_K = np.where(bounds.must_K, bounds.low_K, 0.0)
    low_MK, high_MK = (np.broadcast_to(a_K, weights_MK.shape) for a_K in (low_K, bounds.high_K))
    filled_MK = fill(weights_MK, natural_K, low_MK, high_MK, bounds.pools)
    if fallback_K is None:
        return filled_MK
    low_MK, high_MK = bounds.rows(choose(filled_MK, bounds, fallback_K))
    return fill(weights_MK, natural_K, low_MK, high_MK, bounds.pools)


def choose(filled_MK: Array, bounds: Bounds, fallback_K: Bools) -> Bools:
    """Choose the domains of each mixture: those whose weight is large enough already.

    Where they cannot hold the whole, or the least of a pool, the next largest weights take part
    too; where that does not fit either, the fallback decides.

    Args:
        filled_MK: mixtures that keep all bounds but those from below.
        bounds: the bounds.
        fallback_K: a choice that fits, of `witness`.
    """
    used_MK = (filled_MK >= bounds.low_K * (1.0 - 1e-9)) & (bounds.high_K > 0.0)
    bad_M = ~bounds.fit(used_MK)
    if bad_M.any():
        used_MK[bad_M] = _completed(filled_MK[bad_M], used_MK[bad_M], bounds)
        used_MK[~bounds.fit(used_MK)] = fallback_K
    return used_MK


def _completed(filled_MK: Array, used_MK: Bools, bounds: Bounds) -> Bools:
    """Add the largest weights that fit until every pool and the whole can be held."""
    shape = filled_MK.shape
    ties = (np.broadcast_to(bounds.rank_K, shape), np.broadcast_to(-bounds.high_K, shape))
    order_MK = np.lexsort((*ties, -filled_MK, ~used_MK), axis=1)
    taken_MK = np.take_along_axis(used_MK, order_MK, axis=1)
    low_MK, high_MK = bounds.low_K[order_MK], bounds.high_K[order_MK]
    pool_MK = bounds.pool_K[order_MK]
    gain_MK = np.zeros(shape)
    for p, pool in enumerate(bounds.pools):
        mine_MK = (pool_MK == p) & (high_MK > 0.0)
        held_MK = np.cumsum(np.where(mine_MK, high_MK, 0.0), axis=1)
        before_MK = held_MK - np.where(mine_MK, high_MK, 0.0)
        fits_MK = np.cumsum(np.where(mine_MK, low_MK, 0.0), axis=1) <= pool.most + _SLACK
        taken_MK |= mine_MK & (before_MK < pool.least - _SLACK)
        adds_MK = np.minimum(held_MK, pool.most) - np.minimum(before_MK, pool.most)
        gain_MK += np.where(mine_MK & fits_MK, adds_MK, 0.0)
    more_MK = np.where(taken_MK, 0.0, gain_MK)
    sure_M1 = np.where(taken_MK, gain_MK, 0.0).sum(axis=1, keepdims=True)
    reached_MK = sure_M1 + np.cumsum(more_MK, axis=1) - more_MK
    taken_MK |= (reached_MK < 1.0 - _SLACK) & (more_MK > 0.0)
    completed_MK = np.empty_like(taken_MK)
    np.put_along_axis(completed_MK, order_MK, taken_MK, axis=1)
    return completed_MK


@dataclass(frozen=True, eq=False)
class Witness:
    """The choice of domains that leaves most room, and how far choices can reach."""

    used_K: Bools
    fits: bool
    least: float
    """What the smallest weights sum to at least, over all choices."""

    most: float
    """What the largest weights sum to at most, over the choices whose smallest ones fit."""


def witness(bounds: Bounds) -> Witness:
    """Find a choice of domains that fits, if there is one: exact.

    In a pool the domains of largest caps are best for any number of them, as all but those with a
    floor have the same smallest weight. Choices of numbers are put together pool by pool, and a
    choice that both needs more and holds less than another is dropped.
    """
    low_O, high_O, picks_OP = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
    orders = [_largest_first(pool, bounds) for pool in bounds.pools]
    for pool, order in zip(bounds.pools, orders, strict=True):
        numbers, low_N, high_N = _numbers(pool, order, bounds)
        if not len(numbers):
            return Witness(np.zeros(len(bounds.low_K), dtype=np.bool_), False, np.nan, np.nan)
        sums = ((low_O[:, None] + low_N).ravel(), (high_O[:, None] + high_N).ravel())
        kept = _undominated(*sums)
        low_O, high_O = sums[0][kept], sums[1][kept]
        before, number = np.divmod(kept, len(numbers))
        picks_OP = np.column_stack([picks_OP[before], numbers[number]])
    fit_O = (low_O <= 1.0 + SLACK) & (high_O >= 1.0 - SLACK)
    room_O = np.where(fit_O, np.minimum(1.0 - low_O, high_O - 1.0), -np.inf)
    used_K = np.zeros(len(bounds.low_K), dtype=np.bool_)
    for order, n in zip(orders, picks_OP[room_O.argmax()], strict=True):
        used_K[order[:n]] = True
    affordable_O = low_O <= 1.0 + SLACK
    most = float(high_O[affordable_O].max()) if affordable_O.any() else np.nan
    return Witness(used_K, bool(fit_O.any()), float(low_O.min()), most)


def can_hold(pool: Pool, bounds: Bounds) -> bool:
    """Whether any number of a pool's domains can have a total within the pool's bounds."""
    return len(_numbers(pool, _largest_first(pool, bounds), bounds)[0]) > 0


def _largest_first(pool: Pool, bounds: Bounds) -> NDArray[np.int64]:
    """The pool's usable domains: those with a floor, then by cap."""
    columns = pool.columns[bounds.high_K[pool.columns] > 0.0]
    keys = (bounds.rank_K[columns], -bounds.high_K[columns], ~bounds.must_K[columns])
    return np.asarray(columns[np.lexsort(keys)])


def _numbers(
    pool: Pool, order: NDArray[np.int64], bounds: Bounds
) -> tuple[NDArray[np.int64], Array, Array]:
    """Numbers of the pool's domains that can take part; the least and most that they then hold."""
    low_N = np.concatenate([[0.0], np.cumsum(bounds.low_K[order])])
    high_N = np.concatenate([[0.0], np.cumsum(bounds.high_K[order])])
    n_must = int(bounds.must_K[order].sum())
    fits_N = (low_N <= pool.most + SLACK) & (high_N >= pool.least - SLACK)
    fits_N[:n_must] = False
    numbers = np.flatnonzero(fits_N)
    return (
        numbers,
        np.maximum(low_N[numbers], pool.least),
        np.minimum(high_N[numbers], pool.most),
    )


def _undominated(low_O: Array, high_O: Array) -> NDArray[np.int64]:
    """Options that hold more than every option that needs no more."""
    # Rounded, or options of equal needs that were added up in another order would all be kept.
    order = np.lexsort((-high_O, np.round(low_O, 12)))
    best_O = np.maximum.accumulate(high_O[order])
    more = np.concatenate([[True], high_O[order][1:] > best_O[:-1] + _SLACK])
    return np.asarray(order[more])
