"""Standardized fit inputs, feature scaling, and predictions in the unit of the metric.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError
from climb.predictor import Array, ExtraFeatures, sort_fit_inputs

EPSILON = 1e-3
"""Added to weights before their logarithm: weights far below EPSILON have the same effect as 0."""

FeatureMap = Callable[[Array], Array]
"""weights_MK -> features_MF."""

_CONSTANT = 1e-9
"""Values or features that vary by at most this share of their magnitude count as constant."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Trials in sorted order, their values scaled to mean 0 and standard deviation 1."""

    weights_TK: Array
    extra_TF: Array
    """Extra features of the trials, shape (T, 0) without any."""

    values_T: Array
    noise_var_T: Array
    """Noise variance of each scaled value, 0 if unknown."""

    center: float
    scale: float
    """Mean and standard deviation of the values in the metric's unit. The scale is 1 if all values
    are equal."""

    order_T: NDArray[np.int64]
    """Indices that sorted the trials."""

    @classmethod
    def from_trials(
        cls, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None
    ) -> Self:
        """Sort and scale the arguments of `Predictor.fit`.

        Raises:
            ComponentError: `extra` returned a wrong shape or a value that is not finite.
        """
        order_T, (weights_TK, values_T, noise_T) = sort_fit_inputs(weights_TK, values_T, noise_T)
        center, scale = float(values_T.mean()), float(values_T.std())
        if scale <= _CONSTANT * abs(center):
            scale = 1.0
        return cls(
            weights_TK,
            # Computed in sorted order: the last bits of a matrix product may depend on the order.
            compute_extra_features(extra, weights_TK),
            (values_T - center) / scale,
            np.square(noise_T / scale),
            center,
            scale,
            order_T,
        )

    @property
    def sample_weight_T(self) -> Array:
        """Weight of each trial in a regression: 1 / (1 + noise variance)."""
        return np.asarray(1.0 / (1.0 + self.noise_var_T))

    def compute_features(self, feature_map: FeatureMap) -> Array:
        """Return unscaled features of the trials: functions of the weights, then the extra ones."""
        return np.hstack([feature_map(self.weights_TK), self.extra_TF])

    def restore(self, values_T: Array) -> Array:
        """Convert scaled values of the sorted trials to the metric's unit and the input order."""
        restored_T = np.empty_like(values_T)
        restored_T[self.order_T] = self.center + self.scale * values_T
        return restored_T


def compute_extra_features(extra: ExtraFeatures | None, weights_MK: Array) -> Array:
    """Return the extra features of each mixture, shape (M, F); F is 0 without `extra`.

    Raises:
        ComponentError: a wrong shape, or a value that is not finite.
    """
    if extra is None:
        return np.empty((len(weights_MK), 0))
    extra_MF = np.asarray(extra(weights_MK), dtype=np.float64)
    if extra_MF.ndim != 2 or len(extra_MF) != len(weights_MK):
        raise ComponentError(
            f"`extra` returned shape {extra_MF.shape} for {len(weights_MK)} mixtures; it must "
            f"return ({len(weights_MK)}, number of features)"
        )
    if not np.isfinite(extra_MF).all():
        row = int(np.argmax(~np.isfinite(extra_MF).all(axis=1)))
        raise ComponentError(
            f"`extra` returned {extra_MF[row].tolist()} for mixture {row}; extra features must be "
            "finite"
        )
    return extra_MF


@dataclass(frozen=True, eq=False)
class Scaling:
    """Subtracts an offset from every feature, and divides by a scale (1 for constant features)."""

    offset_F: Array
    scale_F: Array

    @classmethod
    def fit_min_max(cls, features_TF: Array) -> Self:
        """Scale the trials to 0..1 in every feature."""
        return cls._fit(features_TF, features_TF.min(axis=0), np.ptp(features_TF, axis=0))

    @classmethod
    def fit_standard(cls, features_TF: Array) -> Self:
        """Scale the trials to mean 0 and standard deviation 1 in every feature."""
        return cls._fit(features_TF, features_TF.mean(axis=0), features_TF.std(axis=0))

    @classmethod
    def _fit(cls, features_TF: Array, offset_F: Array, scale_F: Array) -> Self:
        min_scale_F = _CONSTANT * np.abs(features_TF).max(axis=0)
        return cls(offset_F, np.where(scale_F > min_scale_F, scale_F, 1.0))

    def __call__(self, features_MF: Array) -> Array:
        """Scale features of any mixtures.

        Raises:
            ComponentError: the number of features differs from that of the fit.
        """
        if features_MF.shape[1] != len(self.offset_F):
            raise ComponentError(
                f"a prediction has {features_MF.shape[1]} features, but the fit had "
                f"{len(self.offset_F)}; predict mixtures of the fit's domains, and let `extra` "
                "always return the same number of features"
            )
        return np.asarray((features_MF - self.offset_F) / self.scale_F)


@dataclass(frozen=True, eq=False)
class ScaledFeatures:
    """Computes scaled features from weights: functions of the weights, then the extra ones."""

    feature_map: FeatureMap
    extra: ExtraFeatures | None
    scaling: Scaling

    def __call__(self, weights_MK: Array) -> Array:
        """Return scaled features, shape (M, F)."""
        extra_MF = compute_extra_features(self.extra, weights_MK)
        return self.scaling(np.hstack([self.feature_map(weights_MK), extra_MF]))


class ScaledModel(Protocol):
    """A model of scaled values, fitted on scaled features."""

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise."""

    def predict(self, features_MF: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""

    def predict_mean(self, features_MF: Array) -> Array:
        """Predict the mean alone, shape (M,)."""

    def predict_joint(self, features_MF: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""


@dataclass(frozen=True, eq=False)
class UnscaledPredict:
    """A `JointPredict` made of a `ScaledModel`: from weights, it predicts in the metric's unit."""

    model: ScaledModel
    features: ScaledFeatures

    center: float
    scale: float

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise."""
        return self.scale * self.model.noise

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""
        mean_M, std_M = self.model.predict(self.features(weights_MK))
        return self.center + self.scale * mean_M, self.scale * std_M

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,)."""
        return self.center + self.scale * self.model.predict_mean(self.features(weights_MK))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""
        mean_M, covariance_MM = self.model.predict_joint(self.features(weights_MK))
        return self.center + self.scale * mean_M, self.scale**2 * covariance_MM


def concat_raw_and_log(weights_MK: Array) -> Array:
    """Return weights and log weights, shape (M, 2 K), to resolve both large and small shares."""
    return np.hstack([weights_MK, np.log(weights_MK + EPSILON)])
