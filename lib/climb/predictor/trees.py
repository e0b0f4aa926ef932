"""What boosted trees share: a mean from one fit, a spread from fits on bootstrap samples.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, Extra
from climb.predictor.sample import Columns, Sample, extra_columns

Rows = NDArray[np.int64]

Boosted = Callable[[Array], Array]
"""features_MF -> values_M, in spreads of the values that were fitted."""

_LEAST_STD = 1e-6
"""Spread that is claimed at least, in spreads of the values."""


def bootstrap(
    boost: Callable[[Rows, int], Boosted], rows: Rows, n: int, seed: int
) -> list[Boosted]:
    """Fit n times on as many rows, drawn with replacement; each fit has a seed of its own."""
    rng = np.random.default_rng([seed, len(rows)])
    drawn = [np.sort(rows[rng.integers(0, len(rows), size=len(rows))]) for _ in range(n)]
    return [boost(some, seed + 1 + member) for member, some in enumerate(drawn)]


@dataclass(frozen=True, eq=False)
class TreesPredict:
    """Trees in the units of the metric; see `climb.predictor.Predict`."""

    whole: Boosted
    members: list[Boosted]
    own: Columns
    extra: Extra | None
    sample: Sample

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean of the fit on all trials, and how far the others are apart, shapes (M,)."""
        columns_MF = np.hstack([self.own(weights_MK), extra_columns(self.extra, weights_MK)])
        mean_M = self.whole(columns_MF)
        apart_M = np.stack([member(columns_MF) for member in self.members]).std(axis=0, ddof=1)
        centre, scale = self.sample.centre, self.sample.scale
        return centre + scale * mean_M, scale * np.maximum(apart_M, _LEAST_STD)
