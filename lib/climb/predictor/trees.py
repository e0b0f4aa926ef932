"""Shared parts of boosted trees: mean from one fit, standard deviation from bootstrap fits.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, ExtraFeatures
from climb.predictor.sample import FeatureMap, Sample, compute_extra_features

Rows = NDArray[np.int64]

Booster = Callable[[Array], Array]
"""features_MF -> scaled values_M."""

_MIN_STD = 1e-6
"""Lower bound of the predicted standard deviation, in standard deviations of the values."""


def fit_bootstrap(
    fit_booster: Callable[[Rows, int], Booster], rows: Rows, n: int, seed: int
) -> list[Booster]:
    """Fit n times, each with its own seed and on len(rows) rows drawn with replacement."""
    rng = np.random.default_rng([seed, len(rows)])
    drawn = [np.sort(rows[rng.integers(0, len(rows), size=len(rows))]) for _ in range(n)]
    return [fit_booster(sample, seed + 1 + member) for member, sample in enumerate(drawn)]


@dataclass(frozen=True, eq=False)
class TreesPredict:
    """Boosted trees in the unit of the metric; see `climb.predictor.Predict`."""

    booster: Booster
    """Fitted to all trials that are not held out for early stopping."""

    members: list[Booster]
    """Fitted to bootstrap samples."""

    feature_map: FeatureMap
    extra: ExtraFeatures | None
    sample: Sample

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict the booster's mean, and the standard deviation over the members, shapes (M,)."""
        extra_MF = compute_extra_features(self.extra, weights_MK)
        features_MF = np.hstack([self.feature_map(weights_MK), extra_MF])
        mean_M = self.booster(features_MF)
        std_M = np.stack([member(features_MF) for member in self.members]).std(axis=0, ddof=1)
        center, scale = self.sample.center, self.sample.scale
        return center + scale * mean_M, scale * np.maximum(std_M, _MIN_STD)
