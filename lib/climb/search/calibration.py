"""How far predictions can be believed, from mixtures that were held out in turn.

Axes: D distinct mixtures, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from climb.predictor import Predictor
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far predictions can be believed, from mixtures that were held out in turn."""

    centre: float
    slope: float
    """Measured change per predicted change, 0 to 1: what is left of a prediction elsewhere."""

    slope_std: float
    inflation: float
    """Real error over claimed spread."""

    rank: float
    """Spearman correlation of predicted and measured; NaN where either is constant."""

    @classmethod
    def of(cls, measured_D: Array, mean_D: Array, std_D: Array, noise_D: Array) -> Self:
        """Compare held-out predictions with what was measured.

        `noise_D` is the standard deviation of each measured value, 0 where unknown: then the
        spread that comes out covers seed noise too.
        """
        off_D = measured_D - mean_D
        centre = float(mean_D.mean())
        power = float(np.square(mean_D - centre).sum())
        # A slope under 1 is what overfitting looks like; one above 1 is not to be relied on.
        slope, slope_std, rank = 0.0, 0.0, float("nan")
        if power > 1e-24 * max(1.0, centre**2):
            raw = float(((mean_D - centre) * (measured_D - measured_D.mean())).sum()) / power
            rest_D = measured_D - measured_D.mean() - raw * (mean_D - centre)
            slope_std = float(np.sqrt(np.square(rest_D).sum() / (len(rest_D) - 2) / power))
            slope = min(max(raw, 0.0), 1.0)
            if np.ptp(measured_D) > 0.0:
                rank = float(stats.spearmanr(mean_D, measured_D).statistic)
        claimed = max(float(np.square(std_D).mean()), 1e-300)
        error = float(np.square(off_D).mean() - np.square(noise_D).mean())
        inflation = float(np.sqrt(np.clip(error / claimed, 0.1, 100.0)))
        return cls(float(measured_D.mean()), slope, slope_std, inflation, rank)

    def applied(self, mean_M: Array, std_M: Array) -> tuple[Array, Array]:
        """Predictions as far as they can be believed."""
        return self.centre + self.slope * (mean_M - self.centre), self.inflation * std_M

    def new_run(self, std_M: Array, noise: float) -> Array:
        """Standard deviation of what one new run would measure, shape (M,)."""
        return np.asarray(np.hypot(self.inflation * std_M, noise))


def judge(
    surrogate: Surrogate, trials: Trials, predictor: Predictor, seed: int
) -> tuple[Calibration, dict[str, float]]:
    """Hold mixtures out in turn: how the score's predictions came true, and the rank per metric."""
    judged_D = surrogate.judged_D
    means_DQ, stds_DQ = (held_DQ[judged_D] for held_DQ in surrogate.held_out(predictor, seed))
    real_DQ, noise_DQ = surrogate.repeats.means_DQ[judged_D], surrogate.repeats.noise_DQ[judged_D]
    names = [surrogate.objective.metric_names[q] for q in surrogate.objective.used]
    quality = {
        name: Calibration.of(real_DQ[:, q], means_DQ[:, q], stds_DQ[:, q], noise_DQ[:, q]).rank
        for q, name in enumerate(names)
    }
    noise_D, noise = surrogate.noise_of(trials, surrogate.objective)
    # Without repeats the noise that the fits infer is part of what held-out runs calibrate.
    inferred = 0.0 if noise else surrogate.inferred_noise(surrogate.objective)
    mean_D, std_D = surrogate.combine(means_DQ, stds_DQ)
    real_D, noise_D = real_DQ @ surrogate.signs_Q, noise_D[judged_D]
    calibration = Calibration.of(real_D, mean_D, np.hypot(std_D, inferred), noise_D)
    quality["score"] = calibration.rank
    return calibration, quality
