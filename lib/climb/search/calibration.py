"""How far predictions can be believed, from mixtures that were held out in turn.

Axes: D distinct mixtures, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize

from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]


_TREND_SPREAD = 0.25
"""Deviation of a normal prior on the trend of errors, about no trend."""

_FREEDOM = 4.0
"""Of Student's t, which errors are taken to follow: a few runs are far off, and they shall not
decide how far off the others may be. Chosen on RegMix's training runs (DECISIONS.md)."""

_SCALE = float(stats.norm.ppf(0.95) / stats.t.ppf(0.95, _FREEDOM))
"""Of that t, so that 90 % of it lie where 90 % of a normal distribution with deviation 1 do."""

_LEVEL_SPREAD = 1.0
"""Deviation of a normal prior on the logarithm of the level, about none. Where seed noise covers
all errors, they say nothing about the level, and it must not fall to 0."""

_INFLATION = (0.1, 1000.0)
"""Bounds of real error over claimed spread, and of what the trend makes of it."""


@dataclass(frozen=True)
class Inflation:
    """Real error over claimed spread, which may differ between low and high predictions.

    Errors are rarely equal everywhere: losses scatter more where they are large. One factor for all
    would call the mixtures that a search is after less certain than they are. Intervals of 90 %
    are what it is made for: inflated spreads give them as normal deviations do.
    """

    level: float
    """At the mean prediction."""

    trend: float = 0.0
    """Change of its logarithm per deviation of the predictions."""

    centre: float = 0.0
    width: float = 1.0
    """Mean and deviation of the predictions of held-out mixtures."""

    reach: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest of those, in deviations from the mean: the trend ends there."""

    @classmethod
    def of(cls, off_D: Array, mean_D: Array, std_D: Array, noise_D: Array) -> Self:
        """Most probable level and trend, from errors `off_D` with seed noise in them."""
        width = float(mean_D.std()) if _vary(mean_D) else 1.0
        place_D = (mean_D - mean_D.mean()) / width
        unit = float(np.sqrt(np.square(off_D).mean() + np.square(std_D).mean())) or 1.0
        off_D, std_D, noise_D = off_D / unit, np.maximum(std_D / unit, 1e-9), noise_D / unit
        claimed = float(np.square(std_D).mean())
        error = float(np.square(off_D).mean() - np.square(noise_D).mean())
        low, high = np.log(_INFLATION)
        start = float(np.clip(0.5 * np.log(max(error, 1e-12) / claimed), low, high))
        found = minimize(
            _cost,
            np.array([start, 0.0]),
            args=(place_D, np.square(off_D), np.square(std_D), np.square(noise_D)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(low, high), (-1.0, 1.0)],
        ).x
        reach = (float(place_D.min()), float(place_D.max()))
        return cls(float(np.exp(found[0])), float(found[1]), float(mean_D.mean()), width, reach)

    def at(self, mean_M: Array) -> Array:
        """The factor at predictions, shape (M,)."""
        place_M = np.clip((mean_M - self.centre) / self.width, *self.reach)
        return np.asarray(np.clip(self.level * np.exp(self.trend * place_M), *_INFLATION))


def _cost(
    parameters: Array, place_D: Array, square_D: Array, claimed_D: Array, noise_D: Array
) -> tuple[float, Array]:
    """Minus the log posterior of level (its logarithm) and trend, and its gradient."""
    own_D = claimed_D * np.exp(2.0 * (parameters[0] + parameters[1] * place_D))
    variance_D = own_D + noise_D
    ratio_D = square_D / (_SCALE**2 * variance_D)
    cost = 0.5 * (np.log(variance_D) + (_FREEDOM + 1.0) * np.log1p(ratio_D / _FREEDOM)).sum()
    pull_D = 1.0 - (_FREEDOM + 1.0) * ratio_D / (_FREEDOM + ratio_D)
    pull_D *= own_D / variance_D
    spread = np.array([_LEVEL_SPREAD, _TREND_SPREAD])
    prior = parameters / spread
    gradient = np.array([pull_D.sum(), pull_D @ place_D]) + prior / spread
    return float(cost + 0.5 * prior @ prior), gradient


@dataclass(frozen=True)
class Calibration:
    """How far predictions can be believed, from mixtures that were held out in turn."""

    centre: float
    slope: float
    """Measured change per predicted change, 0 to 1: what is left of a prediction elsewhere."""

    slope_std: float
    inflation: Inflation
    rank: float
    """Spearman correlation of predicted and measured; NaN where either is constant."""

    @classmethod
    def of(cls, measured_D: Array, mean_D: Array, std_D: Array, noise_D: Array) -> Self:
        """Compare held-out predictions with what was measured.

        `noise_D` is the standard deviation of each measured value, 0 where unknown: then the
        spread that comes out covers seed noise too.
        """
        # A slope under 1 is what overfitting looks like; one above 1 is not to be relied on.
        slope, slope_std = 0.0, 0.0
        if _vary(mean_D):
            apart_D, real_D = mean_D - mean_D.mean(), measured_D - measured_D.mean()
            power = float(apart_D @ apart_D)
            raw = float(apart_D @ real_D) / power
            rest_D = real_D - raw * apart_D
            slope_std = float(np.sqrt(np.square(rest_D).sum() / (len(rest_D) - 2) / power))
            slope = min(max(raw, 0.0), 1.0)
        inflation = Inflation.of(measured_D - mean_D, mean_D, std_D, noise_D)
        rank = _rank(mean_D, measured_D)
        return cls(float(measured_D.mean()), slope, slope_std, inflation, rank)

    def applied(self, mean_M: Array, std_M: Array) -> tuple[Array, Array]:
        """Predictions as far as they can be believed."""
        believed_M = self.centre + self.slope * (mean_M - self.centre)
        return believed_M, self.inflation.at(mean_M) * std_M

    def new_run(self, mean_M: Array, std_M: Array, noise: float) -> Array:
        """Standard deviation of what one new run would measure, shape (M,)."""
        return np.asarray(np.hypot(self.inflation.at(mean_M) * std_M, noise))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A score that metrics make, and how far its predictions can be believed."""

    calibration: Calibration
    weights_Q: Array
    """What one unit more of each metric of the surrogate adds."""

    noise: float
    """Standard deviation of one run over seeds; 0 where no mixture was run twice."""

    inferred: float
    """Without repeats, the noise that the fits infer: it is part of what was calibrated."""

    predicted_D: Array
    measured_D: Array
    """The score of each mixture that was held out."""

    @classmethod
    def of(
        cls, surrogate: Surrogate, held: tuple[Array, Array], view: Objective, trials: Trials
    ) -> Self:
        """Judge a score by mixtures that were held out.

        Args:
            surrogate: fitted to `trials`.
            held: its mean and std of every metric of every mixture, while that was held out (D, Q).
            view: the score; it weighs no metric that the surrogate does not know.
            trials: with the seeds.
        """
        judged_D = surrogate.judged_D
        means_DQ, stds_DQ = (part_DQ[judged_D] for part_DQ in held)
        weights_Q = view.weights_Q[list(surrogate.objective.used)]
        noise_D, noise = surrogate.noise_of(trials, view)
        inferred = 0.0 if noise else surrogate.inferred_noise(view)
        measured_D = surrogate.repeats.means_DQ[judged_D] @ weights_Q
        mean_D, std_D = means_DQ @ weights_Q, np.hypot(stds_DQ @ np.abs(weights_Q), inferred)
        calibration = Calibration.of(measured_D, mean_D, std_D, noise_D[judged_D])
        return cls(calibration, weights_Q, noise, inferred, mean_D, measured_D)

    def new_run(self, means_MQ: Array, stds_MQ: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of what one new run of each mixture would measure, (M,)."""
        mean_M = means_MQ @ self.weights_Q
        std_M = np.hypot(stds_MQ @ np.abs(self.weights_Q), self.inferred)
        return mean_M, self.calibration.new_run(mean_M, std_M, self.noise)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Mixtures that were predicted by fits which had not seen them."""

    score: Calibrated
    quality: dict[str, float]
    """Spearman correlation of predicted and measured by metric, and of the score as `score`."""


def judge(surrogate: Surrogate, trials: Trials, predictor: Predictor, seed: int) -> HeldOut:
    """Hold mixtures out in turn: how the score's predictions came true, and the rank per metric."""
    held = surrogate.held_out(predictor, seed)
    judged_D, used = surrogate.judged_D, surrogate.objective.used
    means_DQ, real_DQ = held[0][judged_D], surrogate.repeats.means_DQ[judged_D]
    names = [surrogate.objective.metric_names[q] for q in used]
    quality = {name: _rank(means_DQ[:, q], real_DQ[:, q]) for q, name in enumerate(names)}
    score = Calibrated.of(surrogate, held, surrogate.objective, trials)
    return HeldOut(score, quality | {"score": score.calibration.rank})


def _rank(predicted_D: Array, measured_D: Array) -> float:
    """Spearman correlation; NaN where either is constant."""
    if not _vary(measured_D) or not _vary(predicted_D):
        return float("nan")
    return float(stats.spearmanr(predicted_D, measured_D).statistic)


def _vary(values_D: Array) -> bool:
    """Whether values differ by more than rounding."""
    return float(values_D.std()) > 1e-12 * max(1.0, abs(float(values_D.mean())))
