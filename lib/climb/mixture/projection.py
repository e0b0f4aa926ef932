"""Projection of mixtures onto bounds: the nearest mixtures in KL divergence.

Axes: M mixtures, K domains, P pools, E edges. `climb.mixture.space.FeasibleSet.project` checks the
arrays and calls this arithmetic.

If only single domains have bounds, the nearest mixture in KL divergence (min sum w' log(w' / w)) is
w' = clip(factor * w, lower, upper), with the same factor for all domains. A pool is a set of
domains whose sum of weights has bounds too. In the nearest mixture, a pool whose sum is at a bound
has a factor of its own.

This module does not compute a factor for each pool. It narrows the bounds of the pool's domains,
which gives the same result. The new lower bounds are clip(factor * w, lower, upper) with the factor
at which they sum to the lower bound of the pool. The new upper bounds are computed in the same way,
from the upper bound of the pool. With the narrowed bounds, the same factor for all domains gives
exactly the nearest mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ZERO_BELOW = 1e-15
"""A weight below this counts as 0: it is less than one token of any corpus."""

ROUNDING = 1e-15
"""Rounding error that each domain may add to a sum of weights."""

_TINY_WEIGHT = 1e-120
"""Replaces the weight 0 of a domain that must get weight. It is so small that this domain gets
weight only when the domains with larger weights are at their upper bounds."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Domains whose sum of weights has bounds.

    All domains that are in no group form one more pool, with the bounds 0 and 1.
    """

    columns: NDArray[np.int64]
    lower: float
    upper: float

    @property
    def is_unbounded(self) -> bool:
        """Whether its bounds exclude nothing."""
        return self.lower <= 0.0 and self.upper >= 1.0


def project_onto_bounds(
    weights_MK: Array, natural_K: Array, lower_MK: Array, upper_MK: Array, pools: Sequence[Pool]
) -> Array:
    """Find the nearest mixtures, in KL divergence, under bounds of domains and of pools.

    A domain of weight 0 gets its lower bound. It gets no more as long as the domains with positive
    weights can take the rest of the mixture. If they cannot reach the lower bound of a pool or the
    total of 1, domains of weight 0 share what is missing in proportion to `natural_K`.

    Args:
        weights_MK: non-negative weights.
        natural_K: token shares.
        lower_MK: lower bounds of the weights.
        upper_MK: upper bounds of the weights. For each row, a mixture within the bounds of domains
            and pools exists.
        pools: every domain is in exactly one of them.

    Returns:
        Mixtures, shape (M, K).
    """
    weights_MK = np.where((weights_MK < ZERO_BELOW) | (upper_MK <= 0.0), 0.0, weights_MK)
    weights_MK = _replace_zeros(weights_MK, natural_K, lower_MK, upper_MK, pools)
    lower_MK, upper_MK = _narrow_bounds(weights_MK, lower_MK, upper_MK, pools)
    return scale_to_total(weights_MK, lower_MK, upper_MK)


def scale_to_total(
    weights_MK: Array, lower_MK: Array, upper_MK: Array, total: float = 1.0
) -> Array:
    """Compute clip(factor * weights, lower, upper) with the factor that gives each row the total.

    A row that has the total after clipping keeps the factor 1 exactly. If no factor gives the
    total, the row gets the weights of factor 0 or of an infinite factor: those whose sum is nearer
    to the total.
    """
    scaled_MK = np.clip(weights_MK, lower_MK, upper_MK)
    off_M = np.abs(scaled_MK.sum(axis=1) - total) > ROUNDING * weights_MK.shape[1]
    if off_M.any():
        scaled_MK[off_M] = _solve_factor(weights_MK[off_M], lower_MK[off_M], upper_MK[off_M], total)
    return scaled_MK


def _solve_factor(weights_MK: Array, lower_MK: Array, upper_MK: Array, total: float) -> Array:
    """Bisect for the interval of factors in which the sum reaches the total, then solve there.

    Edges are the factors at which a domain leaves its lower bound or reaches its upper bound.
    Between two edges, the sum is linear in the factor.
    """
    zero_MK = weights_MK <= 0.0
    upper_MK = np.where(zero_MK, lower_MK, upper_MK)
    weights_or_1_MK = np.where(zero_MK, 1.0, weights_MK)
    starts_MK, ends_MK = lower_MK / weights_or_1_MK, upper_MK / weights_or_1_MK
    edges_ME = np.sort(np.concatenate([starts_MK, ends_MK], axis=1), axis=1)
    row_M, last = np.arange(len(edges_ME)), edges_ME.shape[1] - 1
    below_M, above_M = np.zeros_like(row_M), np.full_like(row_M, last)
    for _ in range(last.bit_length()):
        middle_M = (below_M + above_M) // 2
        factor_M1 = edges_ME[row_M, middle_M][:, None]
        reached_M = np.clip(factor_M1 * weights_MK, lower_MK, upper_MK).sum(axis=1) >= total
        above_M, below_M = (
            np.where(reached_M, middle_M, above_M),
            np.where(reached_M, below_M, middle_M),
        )
    at_upper_MK = ends_MK <= edges_ME[row_M, below_M][:, None]
    at_lower_MK = starts_MK >= edges_ME[row_M, above_M][:, None]
    free_MK = ~at_upper_MK & ~at_lower_MK
    bound_MK = np.where(at_upper_MK, upper_MK, lower_MK)
    rest_M1 = total - np.where(free_MK, 0.0, bound_MK).sum(axis=1, keepdims=True)
    mass_M1 = np.where(free_MK, weights_MK, 0.0).sum(axis=1, keepdims=True)
    factor_M1 = np.divide(rest_M1, mass_M1, out=np.zeros_like(rest_M1), where=mass_M1 > 0.0)
    return np.where(free_MK, np.clip(factor_M1 * weights_MK, lower_MK, upper_MK), bound_MK)


def _replace_zeros(
    weights_MK: Array, natural_K: Array, lower_MK: Array, upper_MK: Array, pools: Sequence[Pool]
) -> Array:
    """Give a tiny weight to domains of weight 0 that must take a part of the mixture."""
    reach_MK = np.where(weights_MK > 0.0, upper_MK, lower_MK)
    reach_MP = np.stack([reach_MK[:, pool.columns].sum(axis=1) for pool in pools], axis=1)
    lower_P, upper_P = np.array([p.lower for p in pools]), np.array([p.upper for p in pools])
    tolerance = ROUNDING * len(natural_K)
    filled_MP = np.clip(reach_MP, lower_P, upper_P)
    short_M1 = filled_MP.sum(axis=1, keepdims=True) < 1.0 - tolerance
    lacks_MP = (reach_MP < lower_P - tolerance) | (short_M1 & (reach_MP < upper_P - tolerance))
    if not lacks_MP.any():
        return weights_MK
    tiny_K = _TINY_WEIGHT * np.maximum(natural_K, ZERO_BELOW)
    replaced_MK = weights_MK.copy()
    for p, pool in enumerate(pools):
        part_MK = weights_MK[:, pool.columns]
        needed_MK = lacks_MP[:, [p]] & (part_MK <= 0.0) & (upper_MK[:, pool.columns] > 0.0)
        replaced_MK[:, pool.columns] = np.where(needed_MK, tiny_K[pool.columns], part_MK)
    return replaced_MK


def _narrow_bounds(
    weights_MK: Array, lower_MK: Array, upper_MK: Array, pools: Sequence[Pool]
) -> tuple[Array, Array]:
    """Narrow the bounds of domains so that they imply the bounds of their pools."""
    if all(pool.is_unbounded for pool in pools):
        return lower_MK, upper_MK
    lower_MK, upper_MK = lower_MK.copy(), upper_MK.copy()
    for pool in pools:
        part = [a_MK[:, pool.columns] for a_MK in (weights_MK, lower_MK, upper_MK)]
        if pool.lower > 0.0:
            lower_MK[:, pool.columns] = scale_to_total(part[0], part[1], part[2], pool.lower)
        if pool.upper < 1.0:
            most_MK = scale_to_total(part[0], part[1], part[2], pool.upper)
            upper_MK[:, pool.columns] = np.maximum(most_MK, lower_MK[:, pool.columns])
    return lower_MK, upper_MK
