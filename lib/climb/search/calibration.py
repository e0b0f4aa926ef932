"""Calibration of predictions by cross-validation: slope, inflation factor, rank correlation.

The inflation factor is the real standard deviation of prediction errors, divided by the predicted
one. It depends on the predicted value. The level is the factor at the mean of the predictions. The
trend is the change of the factor's logarithm per standard deviation of the predictions.

Axes: D distinct mixtures, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize

from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.spread import DEGREES_OF_FREEDOM, SCALE, Errors, Spread
from climb.search.surrogate import Surrogate, group_scores
from climb.search.trials import Replicates, Trials

Array = NDArray[np.float64]

_TREND_STD = 0.25
"""Standard deviation of the normal prior on the trend; the mean of the prior is 0."""

_LEVEL_STD = 1.0
"""Standard deviation of the normal prior on the log of the level; the mean of the prior is 0.
Without this prior, the fitted level would be at its lower bound if the errors are no larger than
seed noise."""

_FACTOR_BOUNDS = (0.1, 1000.0)
"""Bounds of the inflation factor, and of the level."""


@dataclass(frozen=True)
class Inflation:
    """The inflation factor as a function of the predicted value.

    Errors are often larger where losses are larger. So a constant factor would overestimate the
    uncertainty of the best mixtures. Errors are modeled by a Student t distribution, scaled to have
    the same 90 % interval as a normal distribution.
    """

    level: float
    """Factor at the mean prediction."""

    trend: float = 0.0
    """Change of the log factor per standard deviation of the predictions."""

    center: float = 0.0
    scale: float = 1.0
    """Mean and standard deviation of the cross-validated predictions."""

    clip_range: tuple[float, float] = (0.0, 0.0)
    """Range of the standardized predictions, beyond which the factor is constant."""

    @classmethod
    def fit(cls, error_D: Array, mean_D: Array, std_D: Array, noise_D: Array) -> Self:
        """Fit the most probable level and trend.

        Args:
            error_D: measured minus predicted, shape (D,).
            mean_D: predicted means.
            std_D: predicted standard deviations.
            noise_D: standard deviation of each measured value; 0 if unknown.
        """
        scale = float(mean_D.std()) if _varies(mean_D) else 1.0
        position_D = (mean_D - mean_D.mean()) / scale
        unit = float(np.sqrt(np.square(error_D).mean() + np.square(std_D).mean())) or 1.0
        error_D, std_D, noise_D = error_D / unit, np.maximum(std_D / unit, 1e-9), noise_D / unit
        predicted_var = float(np.square(std_D).mean())
        real_var = float(np.square(error_D).mean() - np.square(noise_D).mean())
        low, high = np.log(_FACTOR_BOUNDS)
        start = float(np.clip(0.5 * np.log(max(real_var, 1e-12) / predicted_var), low, high))
        log_level, trend = minimize(
            _negative_log_posterior,
            np.array([start, 0.0]),
            args=(position_D, np.square(error_D), np.square(std_D), np.square(noise_D)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(low, high), (-1.0, 1.0)],
        ).x
        clip_range = (float(position_D.min()), float(position_D.max()))
        return cls(float(np.exp(log_level)), float(trend), float(mean_D.mean()), scale, clip_range)

    def factor_at(self, mean_M: Array) -> Array:
        """Return the factor at predicted means, shape (M,)."""
        position_M = np.clip((mean_M - self.center) / self.scale, *self.clip_range)
        return np.asarray(np.clip(self.level * np.exp(self.trend * position_M), *_FACTOR_BOUNDS))


def _negative_log_posterior(
    parameters: Array, position_D: Array, error_var_D: Array, predicted_var_D: Array, noise_D: Array
) -> tuple[float, Array]:
    """Return the value (up to a constant) and its gradient; parameters are log level and trend."""
    inflated_D = predicted_var_D * np.exp(2.0 * (parameters[0] + parameters[1] * position_D))
    variance_D = inflated_D + noise_D
    ratio_D = error_var_D / (SCALE**2 * variance_D)
    nu = DEGREES_OF_FREEDOM
    cost = 0.5 * (np.log(variance_D) + (nu + 1.0) * np.log1p(ratio_D / nu)).sum()
    slope_D = 1.0 - (nu + 1.0) * ratio_D / (nu + ratio_D)
    slope_D *= inflated_D / variance_D
    prior_std = np.array([_LEVEL_STD, _TREND_STD])
    z = parameters / prior_std
    gradient = np.array([slope_D.sum(), slope_D @ position_D]) + z / prior_std
    return float(cost + 0.5 * z @ z), gradient


@dataclass(frozen=True)
class Calibration:
    """Linear regression of measured values on cross-validated predictions, and the inflation."""

    center: float
    """Mean of the measured values."""

    slope: float
    """Regression slope, clipped to 0..1; it shrinks predictions toward `center`."""

    slope_std: float
    inflation: Inflation
    spearman: float
    """Rank correlation of predicted and measured values; NaN if either is constant."""

    spread: Spread | None = None
    """How errors depend on the mixture; None if no dependence was found."""

    @classmethod
    def fit(cls, measured_D: Array, mean_D: Array, std_D: Array, noise_D: Array) -> Self:
        """Compare cross-validated predictions with measured values.

        Args:
            measured_D: measured values, shape (D,).
            mean_D: predicted means.
            std_D: predicted standard deviations.
            noise_D: standard deviation of each measured value; if 0, the calibrated standard
                deviation includes seed noise.
        """
        # Overfitting shows as a slope below 1; a slope above 1 is not trusted.
        slope, slope_std = 0.0, 0.0
        if _varies(mean_D):
            predicted_D, real_D = mean_D - mean_D.mean(), measured_D - measured_D.mean()
            sum_of_squares = float(predicted_D @ predicted_D)
            raw = float(predicted_D @ real_D) / sum_of_squares
            residual_D = real_D - raw * predicted_D
            residual_var = np.square(residual_D).sum() / (len(residual_D) - 2)
            slope_std = float(np.sqrt(residual_var / sum_of_squares))
            slope = min(max(raw, 0.0), 1.0)
        inflation = Inflation.fit(measured_D - mean_D, mean_D, std_D, noise_D)
        spearman = _compute_spearman(mean_D, measured_D)
        return cls(float(measured_D.mean()), slope, slope_std, inflation, spearman)

    def find_spread(self, scored: Replicates, mean_D: Array, std_D: Array) -> Calibration:
        """Return this calibration with the dependence of the errors on the mixture, if any.

        Args:
            scored: the mixtures that `fit` compared, with the score as their only metric.
            mean_D: predicted means.
            std_D: predicted standard deviations.
        """
        expected_D = np.hypot(self.inflation.factor_at(mean_D) * std_D, scored.noise_DQ[:, 0])
        squared_D = np.square(scored.means_DQ[:, 0] - mean_D)
        squared_D /= np.maximum(np.square(expected_D), 1e-12 * squared_D.mean() + 1e-300)
        degrees_D = (scored.counts_D - 1).astype(np.float64)
        noise = float(scored.known_noise_Q[0])
        ratio_D = np.zeros_like(degrees_D)
        if noise:
            ratio_D = scored.squares_DQ[:, 0] / np.maximum(degrees_D, 1.0) / noise**2
        spread = Spread.fit(scored.weights_DK, Errors(squared_D, ratio_D, degrees_D))
        return dataclasses.replace(self, spread=spread)

    def apply(self, weights_MK: Array, mean_M: Array, std_M: Array) -> tuple[Array, Array]:
        """Shrink predicted means by the slope and inflate their standard deviations, (M,)."""
        calibrated_M = self.center + self.slope * (mean_M - self.center)
        return calibrated_M, self.inflate(weights_MK, mean_M) * std_M

    def inflate(self, weights_MK: Array, mean_M: Array) -> Array:
        """Return the ratio of real standard deviations to predicted ones, shape (M,)."""
        return self.spread_at(weights_MK) * self.inflation.factor_at(mean_M)

    def compute_new_run_std(
        self, weights_MK: Array, mean_M: Array, std_M: Array, noise: float
    ) -> Array:
        """Return the standard deviation of what one new run would measure, shape (M,)."""
        std_M = np.hypot(self.inflation.factor_at(mean_M) * std_M, noise)
        return np.asarray(self.spread_at(weights_MK) * std_M)

    def spread_at(self, weights_MK: Array) -> Array:
        """Return the factor of each mixture's standard deviation, (M,); 1 if `spread` is None."""
        return (
            np.ones(len(weights_MK)) if self.spread is None else self.spread.factor_at(weights_MK)
        )


@dataclass(frozen=True, eq=False)
class CalibratedScore:
    """A score (a weighted sum of metrics) and the calibration of its predictions."""

    calibration: Calibration
    weights_Q: Array
    """Weight of each metric of the surrogate."""

    noise: float
    """Standard deviation of one run over seeds; 0 without replicates."""

    inferred_noise: float
    """Standard deviation of one run over seeds, as the predictors infer it. If `noise` is above 0,
    `noise` is used instead, and this field is 0. The calibration is fitted to predicted standard
    deviations that include this field, so `predict_new_run` adds it before the inflation."""

    predicted_D: Array
    measured_D: Array
    """Score of each validation mixture: cross-validated prediction, and measured value."""

    @classmethod
    def fit(
        cls, surrogate: Surrogate, held_out: tuple[Array, Array], view: Objective, trials: Trials
    ) -> Self:
        """Calibrate a score by cross-validated predictions.

        Args:
            surrogate: fitted to `trials`.
            held_out: means and stds of `Surrogate.predict_held_out`, each (D, Q).
            view: objective that defines the score; it uses only metrics of the surrogate.
            trials: source of the noise over seeds, with the domains in the surrogate's order.
        """
        validation_D = surrogate.validation_D
        means_DQ, stds_DQ = (part_DQ[validation_D] for part_DQ in held_out)
        weights_Q = view.weights_Q[list(surrogate.objective.weighted_columns)]
        scored = group_scores(trials, view).select(validation_D)
        noise = float(scored.known_noise_Q[0])
        inferred = 0.0 if noise else surrogate.infer_noise(view)
        measured_D = surrogate.replicates.means_DQ[validation_D] @ weights_Q
        mean_D, std_D = means_DQ @ weights_Q, np.hypot(stds_DQ @ np.abs(weights_Q), inferred)
        calibration = Calibration.fit(measured_D, mean_D, std_D, scored.noise_DQ[:, 0])
        calibration = calibration.find_spread(scored, mean_D, std_D)
        return cls(calibration, weights_Q, noise, inferred, mean_D, measured_D)

    def predict_new_run(
        self, weights_MK: Array, means_MQ: Array, stds_MQ: Array
    ) -> tuple[Array, Array]:
        """Predict what one new run of each mixture would measure: mean and std, shapes (M,)."""
        mean_M = means_MQ @ self.weights_Q
        std_M = np.hypot(stds_MQ @ np.abs(self.weights_Q), self.inferred_noise)
        return mean_M, self.calibration.compute_new_run_std(weights_MK, mean_M, std_M, self.noise)


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Result of a cross-validation."""

    score: CalibratedScore
    quality: dict[str, float]
    """Metric -> Spearman correlation of its predicted and measured values. The key `score` has the
    correlation of the score."""


def cross_validate(
    surrogate: Surrogate, trials: Trials, predictor: Predictor, seed: int
) -> CrossValidation:
    """Cross-validate the surrogate: calibration of its score, rank correlation of every metric."""
    held_out = surrogate.predict_held_out(predictor, seed)
    validation_D, used = surrogate.validation_D, surrogate.objective.weighted_columns
    means_DQ = held_out[0][validation_D]
    measured_DQ = surrogate.replicates.means_DQ[validation_D]
    names = [surrogate.objective.metric_names[q] for q in used]
    quality = {
        name: _compute_spearman(means_DQ[:, q], measured_DQ[:, q]) for q, name in enumerate(names)
    }
    score = CalibratedScore.fit(surrogate, held_out, surrogate.objective, trials)
    return CrossValidation(score, quality | {"score": score.calibration.spearman})


def _compute_spearman(predicted_D: Array, measured_D: Array) -> float:
    """Return the Spearman correlation; NaN if either is constant."""
    if not _varies(measured_D) or not _varies(predicted_D):
        return float("nan")
    return float(stats.spearmanr(predicted_D, measured_D).statistic)


def _varies(values_D: Array) -> bool:
    """Return whether values differ by more than rounding."""
    return float(values_D.std()) > 1e-12 * max(1.0, abs(float(values_D.mean())))
