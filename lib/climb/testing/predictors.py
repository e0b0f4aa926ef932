"""A real predictor of bowls, for tests of what is built on predictors.

Axes: T trials, K domains, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Predict, in_canonical_order


@dataclass(frozen=True, kw_only=True)
class BowlPredictor:
    """Least squares on weights and their squares: exact for a metric that is such a bowl."""

    spread: float = 0.01
    """Standard deviation that it claims everywhere."""

    def fit(self, weights_TK: Array, values_T: Array, noise_T: Array) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        _, (weights_TK, values_T, _) = in_canonical_order(weights_TK, values_T, noise_T)
        coefficients, *_ = np.linalg.lstsq(_columns(weights_TK), values_T, rcond=1e-9)

        def predict(weights_MK: Array) -> tuple[Array, Array]:
            return _columns(weights_MK) @ coefficients, np.full(len(weights_MK), self.spread)

        return predict


def _columns(weights_MK: Array) -> Array:
    return np.hstack([np.ones((len(weights_MK), 1)), weights_MK, np.square(weights_MK)])
