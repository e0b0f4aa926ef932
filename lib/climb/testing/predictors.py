"""A simple exact predictor, for tests of code that uses predictors.

Axes: T trials, K domains, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Predict, sort_fit_inputs


@dataclass(frozen=True, kw_only=True)
class BowlPredictor:
    """Least squares on weights and their squares: exact for metrics that are linear in these."""

    std: float = 0.01
    """Predicted standard deviation of every mixture."""

    def fit(self, weights_TK: Array, values_T: Array, noise_T: Array) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        _, (weights_TK, values_T, _) = sort_fit_inputs(weights_TK, values_T, noise_T)
        coefficients, *_ = np.linalg.lstsq(_compute_features(weights_TK), values_T, rcond=1e-9)

        def predict(weights_MK: Array) -> tuple[Array, Array]:
            mean_M = _compute_features(weights_MK) @ coefficients
            return mean_M, np.full(len(weights_MK), self.std)

        return predict


def _compute_features(weights_MK: Array) -> Array:
    return np.hstack([np.ones((len(weights_MK), 1)), weights_MK, np.square(weights_MK)])
