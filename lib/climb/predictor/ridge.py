"""Ridge regression on weights and log weights.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from climb.predictor import Array, ExtraFeatures, Predict
from climb.predictor.sample import (
    Sample,
    ScaledFeatures,
    Scaling,
    UnscaledPredict,
    concat_raw_and_log,
)

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV


@dataclass(frozen=True, kw_only=True)
class RidgePredictor:
    """Linear in weights, log weights and extra features; leave-one-out error selects the penalty.

    The standard deviation of a prediction contains the uncertainty of the coefficients, whose prior
    is the penalty. It does not contain the misfit of the linear model: the misfit counts as noise.
    A search calibrates these standard deviations on held-out errors, which include the misfit.
    """

    penalties: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-8, 7))
    """Penalties to try, for features and values of standard deviation 1."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit on T trials; noisy trials get less weight. See `climb.predictor.Predictor`."""
        from sklearn.linear_model import RidgeCV

        sample = Sample.from_trials(weights_TK, values_T, noise_T, extra)
        features_TF = sample.compute_features(concat_raw_and_log)
        features = ScaledFeatures(concat_raw_and_log, extra, Scaling.fit_standard(features_TF))
        scaled_TF = features.scaling(features_TF)
        ridge = RidgeCV(alphas=self.penalties)
        ridge.fit(scaled_TF, sample.values_T, sample.sample_weight_T)
        model = _LinearModel.from_ridge(ridge, scaled_TF, sample)
        return UnscaledPredict(model, features, sample.center, sample.scale)


@dataclass(frozen=True, eq=False)
class _LinearModel:
    """A linear model with the covariance of its parameters; see `ScaledModel`."""

    intercept: float
    """Predicted mean at `center_F`, the weighted mean of the trials' features."""

    intercept_var: float
    slopes_F: Array
    center_F: Array
    lower_FF: Array
    """Cholesky factor of P * noise ** 2, where P is the precision matrix of the slopes."""

    noise: float

    @classmethod
    def from_ridge(cls, ridge: RidgeCV, scaled_TF: Array, sample: Sample) -> _LinearModel:
        weight_T = sample.sample_weight_T
        center_F = np.average(scaled_TF, axis=0, weights=weight_T)
        centered_TF = (scaled_TF - center_F) * np.sqrt(weight_T)[:, None]
        penalty_FF = ridge.alpha_ * np.eye(len(center_F))
        lower_FF = np.linalg.cholesky(centered_TF.T @ centered_TF + penalty_FF)
        # Effective degrees of freedom of the intercept and the penalized slopes.
        whitened_FT = solve_triangular(lower_FF, centered_TF.T, lower=True)
        n_fitted = 1.0 + float(np.square(whitened_FT).sum())
        residual_T = sample.values_T - ridge.predict(scaled_TF)
        degrees_of_freedom = max(len(residual_T) - n_fitted, 1.0)
        noise = float(np.sqrt(weight_T @ np.square(residual_T) / degrees_of_freedom))
        intercept = float(ridge.predict(center_F[None])[0])
        intercept_var = noise**2 / float(weight_T.sum())
        return cls(intercept, intercept_var, np.asarray(ridge.coef_), center_F, lower_FF, noise)

    def predict_mean(self, features_MF: Array) -> Array:
        return np.asarray(self.intercept + (features_MF - self.center_F) @ self.slopes_F)

    def predict(self, features_MF: Array) -> tuple[Array, Array]:
        var_M = np.square(self._compute_root(features_MF)).sum(axis=0) + self.intercept_var
        return self.predict_mean(features_MF), np.sqrt(var_M)

    def predict_joint(self, features_MF: Array) -> tuple[Array, Array]:
        root_FM = self._compute_root(features_MF)
        return self.predict_mean(features_MF), root_FM.T @ root_FM + self.intercept_var

    def _compute_root(self, features_MF: Array) -> Array:
        """Return `root`: root.T @ root is the part of the covariance that is due to the slopes."""
        centered_MF = features_MF - self.center_F
        return np.asarray(self.noise * solve_triangular(self.lower_FF, centered_MF.T, lower=True))
