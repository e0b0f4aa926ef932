"""Level mixtures under bounds: what one domain may not take flows to the others in proportion.

Axes: M mixtures, K domains, P pools, E edges. `climb.mixture.FeasibleSet.project` is the door to
this; here is only the arithmetic, on arrays that were checked there.

The nearest mixture in KL divergence, min sum w' log(w' / w), multiplies all weights by one level,
but for those that a bound holds. Inside a pool whose sum is bounded the weights lie on that same
path, clip(level * w, low, high), only with a level that stops where the sum meets its bound. So a
bounded sum narrows the bounds of its domains - to the pool levelled to its least, and to its most -
and one level for all, under the narrowed bounds, is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DUST = 1e-15
"""A share below this is 0: it is less than one token of any corpus."""

ROUNDING = 1e-15
"""Times the number of domains: what adding up weights may be off by."""

_TRICKLE = 1e-120
"""Of a domain of weight 0 that must take something: so little beside DUST that it comes last."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Domains whose weights have a bounded sum; what is in no group is a pool from 0 to 1."""

    columns: NDArray[np.int64]
    least: float
    most: float

    @property
    def free(self) -> bool:
        """Whether its bounds say nothing."""
        return self.least <= 0.0 and self.most >= 1.0


def fill(
    weights_MK: Array, natural_K: Array, low_MK: Array, high_MK: Array, pools: Sequence[Pool]
) -> Array:
    """Level rows under bounds of domains and of pools: the nearest mixtures in KL divergence.

    A domain of weight 0 stays at 0, or at its low bound, while the others have room. Where they
    have not - in its pool for the pool's least, or altogether for the whole - such domains share
    the rest in proportion to `natural_K`.

    Args:
        weights_MK: non-negative.
        natural_K: shares.
        low_MK: smallest weights.
        high_MK: largest weights; together with the pools they leave a mixture in each row.
        pools: every domain is in one of them.
    """
    weights_MK = np.where((weights_MK < DUST) | (high_MK <= 0.0), 0.0, weights_MK)
    weights_MK = _trickled(weights_MK, natural_K, low_MK, high_MK, pools)
    low_MK, high_MK = _narrowed(weights_MK, low_MK, high_MK, pools)
    return level(weights_MK, low_MK, high_MK)


def level(weights_MK: Array, low_MK: Array, high_MK: Array, total: float = 1.0) -> Array:
    """clip(level * weights, low, high), with the level per row at which the row sums to `total`.

    Rows that sum to it already are returned as they are, to the bit. A row whose bounds do not
    reach `total` stops at the nearer of them.
    """
    levelled_MK = np.clip(weights_MK, low_MK, high_MK)
    off_M = np.abs(levelled_MK.sum(axis=1) - total) > ROUNDING * weights_MK.shape[1]
    if off_M.any():
        levelled_MK[off_M] = _levelled(weights_MK[off_M], low_MK[off_M], high_MK[off_M], total)
    return levelled_MK


def _levelled(weights_MK: Array, low_MK: Array, high_MK: Array, total: float) -> Array:
    """Find the stretch of levels between two bounds in which the sum meets the total, then solve.

    The sum is linear in the level between edges: the levels at which a domain leaves its low bound
    or meets its high one. Halving the sorted edges finds the stretch.
    """
    held_MK = weights_MK <= 0.0
    high_MK = np.where(held_MK, low_MK, high_MK)
    weights_or_1_MK = np.where(held_MK, 1.0, weights_MK)
    starts_MK, ends_MK = low_MK / weights_or_1_MK, high_MK / weights_or_1_MK
    edges_ME = np.sort(np.concatenate([starts_MK, ends_MK], axis=1), axis=1)
    row_M, last = np.arange(len(edges_ME)), edges_ME.shape[1] - 1
    below_M, above_M = np.zeros_like(row_M), np.full_like(row_M, last)
    for _ in range(last.bit_length()):
        middle_M = (below_M + above_M) // 2
        at_M1 = edges_ME[row_M, middle_M][:, None]
        enough_M = np.clip(at_M1 * weights_MK, low_MK, high_MK).sum(axis=1) >= total
        above_M, below_M = (
            np.where(enough_M, middle_M, above_M),
            np.where(enough_M, below_M, middle_M),
        )
    full_MK = ends_MK <= edges_ME[row_M, below_M][:, None]
    empty_MK = starts_MK >= edges_ME[row_M, above_M][:, None]
    free_MK = ~full_MK & ~empty_MK
    bound_MK = np.where(full_MK, high_MK, low_MK)
    rest_M1 = total - np.where(free_MK, 0.0, bound_MK).sum(axis=1, keepdims=True)
    mass_M1 = np.where(free_MK, weights_MK, 0.0).sum(axis=1, keepdims=True)
    level_M1 = np.divide(rest_M1, mass_M1, out=np.zeros_like(rest_M1), where=mass_M1 > 0.0)
    return np.where(free_MK, np.clip(level_M1 * weights_MK, low_MK, high_MK), bound_MK)


def _trickled(
    weights_MK: Array, natural_K: Array, low_MK: Array, high_MK: Array, pools: Sequence[Pool]
) -> Array:
    """Give a trace to domains of weight 0 that will have to take something."""
    room_MK = np.where(weights_MK > 0.0, high_MK, low_MK)
    room_MP = np.stack([room_MK[:, pool.columns].sum(axis=1) for pool in pools], axis=1)
    least_P, most_P = np.array([p.least for p in pools]), np.array([p.most for p in pools])
    tiny = ROUNDING * len(natural_K)
    taken_MP = np.clip(room_MP, least_P, most_P)
    short_M1 = taken_MP.sum(axis=1, keepdims=True) < 1.0 - tiny
    dry_MP = (room_MP < least_P - tiny) | (short_M1 & (room_MP < most_P - tiny))
    if not dry_MP.any():
        return weights_MK
    trickle_K = _TRICKLE * np.maximum(natural_K, DUST)
    trickled_MK = weights_MK.copy()
    for p, pool in enumerate(pools):
        part_MK = weights_MK[:, pool.columns]
        dry_MK = dry_MP[:, [p]] & (part_MK <= 0.0) & (high_MK[:, pool.columns] > 0.0)
        trickled_MK[:, pool.columns] = np.where(dry_MK, trickle_K[pool.columns], part_MK)
    return trickled_MK


def _narrowed(
    weights_MK: Array, low_MK: Array, high_MK: Array, pools: Sequence[Pool]
) -> tuple[Array, Array]:
    """Bounds of domains that keep the bounds of pools too: each pool at its least, and its most."""
    if all(pool.free for pool in pools):
        return low_MK, high_MK
    low_MK, high_MK = low_MK.copy(), high_MK.copy()
    for pool in pools:
        part = [a_MK[:, pool.columns] for a_MK in (weights_MK, low_MK, high_MK)]
        if pool.least > 0.0:
            low_MK[:, pool.columns] = level(part[0], part[1], part[2], pool.least)
        if pool.most < 1.0:
            most_MK = level(part[0], part[1], part[2], pool.most)
            high_MK[:, pool.columns] = np.maximum(most_MK, low_MK[:, pool.columns])
    return low_MK, high_MK
