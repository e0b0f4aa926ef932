"""Shrinkage of predictions towards a metric's mean; strong if predictions may be due to chance.

If the values of a metric are noise, a fit still finds mixtures that seem better. A search would
move towards them. So the deviation of predictions from the metric's mean is multiplied by a factor
between 0 and 1. The factor is usually 0 for a metric of pure noise, and hardly below 1 for a
metric that is predicted well.

Axes: T trials, Q metrics, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from climb.predictor import Array, Parameters

SLOPE_STD = 1.0
"""Standard deviation of the normal prior on the slope of measured values on held-out predictions.
The prior's mean is 1."""

CHANCE = 2.0
"""A slope becomes 0 if its square is at most this many times its squared standard error."""


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """Means of metrics, and factors that multiply the deviations of predictions from the means."""

    constants: ConstantMetrics
    slopes_Q: Array
    """Factor of each metric, 0 to 1."""

    @classmethod
    def fit(cls, held_out_TQ: Array, values_TQ: Array, noise_TQ: Array) -> Self:
        """Fit the slope of measured values on held-out predictions, and shrink it towards 0.

        The slope is fitted by least squares with a normal prior, and then clipped to 0..1. The
        clipped slope is multiplied by 1 - CHANCE / t^2, or by 0 if this factor or t is negative.
        Here t is the slope without the prior, divided by its standard error.

        Args:
            held_out_TQ: for each value, the prediction of a fit that did not use this value.
            values_TQ: measured values.
            noise_TQ: known standard deviation of each value.

        Source:
            The factor is that of the non-negative garrote: Breiman (1995). `CHANCE` was chosen in
            simulations with metrics of pure noise (docs/decisions/predictor.md).
        """
        constants, weights_TQ = ConstantMetrics.fit(held_out_TQ, values_TQ, noise_TQ)
        std_Q = np.where(constants.std_Q > 0.0, constants.std_Q, 1.0)
        predicted_TQ = (held_out_TQ - constants.center_Q) / std_Q
        real_TQ = (values_TQ - constants.center_Q) / std_Q
        product_Q = (weights_TQ * predicted_TQ * real_TQ).sum(axis=0)
        square_Q = (weights_TQ * np.square(predicted_TQ)).sum(axis=0) + 1e-300
        error_var_Q = (weights_TQ * np.square(real_TQ - predicted_TQ)).mean(axis=0)
        ridge_Q = error_var_Q / SLOPE_STD**2
        slopes_Q = np.clip((product_Q + ridge_Q) / (square_Q + ridge_Q), 0.0, 1.0)
        plain_Q = product_Q / square_Q
        rest_var_Q = (weights_TQ * np.square(real_TQ - plain_Q * predicted_TQ)).mean(axis=0)
        # chance = CHANCE / t^2, without a division by a residual of 0.
        chance_Q = CHANCE * rest_var_Q / (square_Q * np.square(plain_Q) + 1e-300)
        factor_Q = np.where(plain_Q > 0.0, np.maximum(1.0 - chance_Q, 0.0), 0.0)
        return cls(constants, slopes_Q * factor_Q)

    def select(self, q: int) -> ConstantPredict:
        """Return the mean of one metric as a prediction.

        The noise of this prediction is (1 - slope) times the standard deviation of the trials. If a
        metric is predicted well, its trials deviate from the mean because their mixtures differ,
        not because of noise.
        """
        constants, noise = self.constants, (1.0 - self.slopes_Q[q]) * self.constants.std_Q[q]
        center, error = float(constants.center_Q[q]), float(constants.error_Q[q])
        return ConstantPredict(center, error, float(noise))


@dataclass(frozen=True, eq=False)
class ConstantMetrics:
    """Predicts the mean of each metric for every mixture; deviations of trials count as noise."""

    center_Q: Array
    std_Q: Array
    """Standard deviation of the trials."""

    n_trials: int

    @classmethod
    def fit(cls, held_out_TQ: Array, values_TQ: Array, noise_TQ: Array) -> tuple[Self, Array]:
        """Take mean and standard deviation of the trials, weighted by their precision.

        Args:
            held_out_TQ: held-out predictions; their typical error counts as additional noise.
            values_TQ: measured values.
            noise_TQ: known standard deviation of each value.

        Returns:
            The constants, and the weight of each value (T, Q), 1 on average.
        """
        error_var_Q = np.median(np.square(values_TQ - held_out_TQ), axis=0) + 1e-300
        weights_TQ = 1.0 / (np.square(noise_TQ) + error_var_Q)
        weights_TQ /= weights_TQ.mean(axis=0)
        center_Q = (weights_TQ * values_TQ).mean(axis=0)
        var_Q = (weights_TQ * np.square(values_TQ - center_Q)).mean(axis=0)
        return cls(center_Q, np.sqrt(var_Q), len(values_TQ)), weights_TQ

    @property
    def error_Q(self) -> Array:
        """Standard error of every mean."""
        return np.asarray(self.std_Q / np.sqrt(self.n_trials))


@dataclass(frozen=True)
class ConstantPredict:
    """One metric of `ConstantMetrics`; see `climb.predictor.JointPredict`."""

    center: float
    error: float
    """Standard error of the mean, the same for all mixtures."""

    noise: float
    """Standard deviation of one trial's observation noise."""

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""
        return self.mean(weights_MK), np.full(len(weights_MK), self.error)

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,)."""
        return np.full(len(weights_MK), self.center)

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""
        n = len(weights_MK)
        return self.mean(weights_MK), np.full((n, n), self.error**2)

    def export(self) -> Parameters:
        """Return the parameters: metric = value."""
        return {"kind": "constant", "value": self.center}
