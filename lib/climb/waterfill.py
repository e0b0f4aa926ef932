"""Level mixtures under caps: what one domain may not take flows to the others in proportion.

Axes: M mixtures, K domains. `climb.mixture.FeasibleSet.project` is the door to this; here is
only the arithmetic, on arrays that were checked there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DUST = 1e-15
"""A share below this is 0: it is less than one token of any corpus."""

_WIDTH = 80.0
"""Levels lie within e^-80 .. e^80: a weight of DUST times a share of 1e-12 still reaches a cap."""

_HALVINGS = 120
"""Halvings of that bracket until nothing is left of it in double precision."""


def fill(weights_MK: Array, natural_K: Array, caps_K: Array) -> Array:
    """Level rows under the caps: the nearest in KL divergence among mixtures under the caps.

    A domain of weight 0 stays at 0 while the others have room; when they have not, domains of
    weight 0 share the rest in proportion to `natural_K`.
    """
    weights_MK = np.where((weights_MK < DUST) | (caps_K <= 0.0), 0.0, weights_MK)
    room_M1 = np.where(weights_MK > 0.0, caps_K, 0.0).sum(axis=1, keepdims=True)
    trickle_K = DUST * np.maximum(natural_K, DUST)
    weights_MK = np.where((room_M1 < 1.0) & (weights_MK <= 0.0), trickle_K, weights_MK)
    return level(weights_MK, np.zeros_like(weights_MK), np.broadcast_to(caps_K, weights_MK.shape))


def drop_small(weights_MK: Array, caps_K: Array, least: float) -> Array:
    """Set weights under `least` to 0, and level the others again between `least` and their caps.

    Where those left could not hold the whole, the next largest stay too, at `least` or more.
    """
    used_MK = (weights_MK >= least * (1.0 - 1e-9)) & (caps_K >= least)
    short_M = np.where(used_MK, caps_K, 0.0).sum(axis=1) < 1.0 - 1e-12
    for row in np.flatnonzero(short_M):
        used_MK[row] = _enough(weights_MK[row], caps_K, least)
    return level(weights_MK, np.where(used_MK, least, 0.0), np.where(used_MK, caps_K, 0.0))


def most_that_fits(caps_K: Array, least: float) -> float:
    """The largest total of a mixture whose weights are 0 or between `least` and their caps."""
    largest_K = np.sort(caps_K[caps_K >= least])[::-1]
    most_domains = len(largest_K) if least <= 0.0 else int(np.floor(1.0 / least + 1e-9))
    return float(largest_K[:most_domains].sum())


def _enough(weights_K: Array, caps_K: Array, least: float) -> NDArray[np.bool_]:
    """The largest weights whose caps hold a mixture; the largest caps if those are too many."""
    for keys in ((-caps_K, -weights_K), (-weights_K, -caps_K)):
        order = np.lexsort(keys)
        order = order[caps_K[order] >= least]
        n_enough = int(np.argmax(np.cumsum(caps_K[order]) >= 1.0 - 1e-9)) + 1
        if n_enough * least <= 1.0 + 1e-9:
            break
    used_K = np.zeros(len(caps_K), dtype=np.bool_)
    used_K[order[:n_enough]] = True
    return used_K


def level(weights_MK: Array, low_MK: Array, high_MK: Array) -> Array:
    """clip(level * weights, low, high), with the level per row at which the row sums to 1.

    Rows that sum to 1 already are returned as they are, to the bit.
    """
    levelled_MK = np.clip(weights_MK, low_MK, high_MK)
    off_M = np.abs(levelled_MK.sum(axis=1) - 1.0) > 4e-16 * weights_MK.shape[1]
    weights, low, high = weights_MK[off_M], low_MK[off_M], high_MK[off_M]
    below = np.full((len(weights), 1), -_WIDTH)
    above = -below
    for _ in range(_HALVINGS):
        middle = (below + above) / 2.0
        too_low = np.clip(np.exp(middle) * weights, low, high).sum(axis=1, keepdims=True) < 1.0
        below, above = np.where(too_low, middle, below), np.where(too_low, above, middle)
    clipped = np.clip(np.exp(above) * weights, low, high)
    free = (clipped > low) & (clipped < high)
    # The bisected level leaves an error in the last digits: the free weights take it.
    held = np.where(free, clipped, 0.0).sum(axis=1, keepdims=True)
    rest = 1.0 - np.where(free, 0.0, clipped).sum(axis=1, keepdims=True)
    scale = np.divide(rest, held, out=np.ones_like(held), where=held > 0.0)
    levelled_MK[off_M] = np.where(free, np.clip(clipped * scale, low, high), clipped)
    return levelled_MK
