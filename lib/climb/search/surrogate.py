"""Predictors of all metrics that matter, put together into a score with an honest spread.

Axes: T trials, D distinct mixtures, K domains, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from climb.errors import ComponentError, SearchError
from climb.objective import Objective
from climb.predictor import JointPredict, Predict, Predictor
from climb.search.trials import Repeats, Trials

Array = NDArray[np.float64]

FEWEST = 4
"""Distinct mixtures below which nothing can be fitted and held out."""

_FOLDS = 5
"""Parts of the trials that are held out in turn."""


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


@dataclass(frozen=True, eq=False)
class Surrogate:
    """What takes the place of training a proxy: weights -> metrics -> score."""

    objective: Objective
    repeats: Repeats
    """Distinct mixtures with the metrics of the objective alone."""

    predicts_Q: tuple[Predict, ...]
    signs_Q: Array
    """What each metric adds to the score per unit."""

    @classmethod
    def fit(cls, trials: Trials, objective: Objective, predictor: Predictor) -> Self:
        """Fit one predictor per metric that the objective weighs.

        Raises:
            SearchError: fewer than 4 distinct mixtures.
            ComponentError: the predictor answered with NaN or a wrong shape.
        """
        repeats = trials.repeats().columns(objective.used)
        if len(repeats.counts_D) < FEWEST:
            raise SearchError(
                f"{len(repeats.counts_D)} distinct mixtures were trained to the end; a predictor "
                f"needs {FEWEST} or more (10 and more to be worth asking)"
            )
        signs_Q = objective.weights_Q[list(objective.used)]
        every_D = np.arange(len(repeats.counts_D))
        return cls(objective, repeats, _fit(repeats, every_D, predictor), signs_Q)

    @property
    def judged_D(self) -> NDArray[np.bool_]:
        """Mixtures that predictions are judged by: those run in these domains, if they are enough.

        A run of other domains that is not as predicted may be its own doubt.
        """
        here_D: NDArray[np.bool_] = self.repeats.doubt_D == 0.0
        return here_D if here_D.sum() >= FEWEST else np.ones_like(here_D)

    def metrics(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean and spread of every metric as the predictors say, shapes (M, Q)."""
        answers = [_checked(predict, weights_MK) for predict in self.predicts_Q]
        means, stds = zip(*answers, strict=True)
        return np.stack(means, axis=1), np.stack(stds, axis=1)

    def score(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean and spread of the score, shapes (M,); the spread is not calibrated yet."""
        return self.combine(*self.metrics(weights_MK))

    def mean(self, weights_MK: Array) -> Array:
        """Mean of the score alone, shape (M,): what climbing asks thousands of times."""
        means = [
            predict.mean(weights_MK)
            if isinstance(predict, JointPredict)
            else predict(weights_MK)[0]
            for predict in self.predicts_Q
        ]
        return np.asarray(np.stack(means, axis=1) @ self.signs_Q)

    def difference_std(self, one_K: Array, other_K: Array) -> float:
        """Spread of the difference of two mixtures' scores; errors that they share cancel out."""
        pair_2K = np.stack([one_K, other_K])
        spread_Q = []
        for predict in self.predicts_Q:
            if isinstance(predict, JointPredict):
                covariance_22 = predict.joint(pair_2K)[1]
            else:
                covariance_22 = np.diag(np.square(predict(pair_2K)[1]))
            across = float(np.trace(covariance_22) - 2.0 * covariance_22[0, 1])
            spread_Q.append(np.sqrt(max(across, 0.0)))
        return float(np.abs(self.signs_Q) @ spread_Q)

    def inferred_noise(self, view: Objective) -> float:
        """Noise of one run's score as the fits infer it; 0 where no predictor says.

        What a fit infers holds its own misfit too, which differs from metric to metric: metrics
        are taken as independent here.
        """
        noise_Q = [p.noise if isinstance(p, JointPredict) else 0.0 for p in self.predicts_Q]
        return float(np.linalg.norm(view.weights_Q[list(self.objective.used)] * noise_Q))

    def combine(self, means_MQ: Array, stds_MQ: Array) -> tuple[Array, Array]:
        """From metrics to the score. Errors of metrics are taken as fully correlated."""
        return means_MQ @ self.signs_Q, stds_MQ @ np.abs(self.signs_Q)

    def held_out(self, predictor: Predictor, seed: int) -> tuple[Array, Array]:
        """Predict every distinct mixture from fits that did not see it: mean and std, (D, Q).

        Repeats of one mixture are held out together, or a fit would have seen the answer.
        """
        weights_DK = self.repeats.weights_DK
        folds_D = np.random.default_rng([seed, len(weights_DK)]).permutation(len(weights_DK))
        folds_D %= min(_FOLDS, len(weights_DK))
        means_DQ = np.empty_like(self.repeats.means_DQ)
        stds_DQ = np.empty_like(means_DQ)
        for fold in range(int(folds_D.max()) + 1):
            out = folds_D == fold
            predicts = _fit(self.repeats, np.flatnonzero(~out), predictor)
            for column, predict in enumerate(predicts):
                answer = _checked(predict, weights_DK[out])
                means_DQ[out, column], stds_DQ[out, column] = answer
        return means_DQ, stds_DQ

    def noise_of(self, trials: Trials, view: Objective) -> tuple[Array, float]:
        """Noise of a score over seeds, pooled over repeats: of each mixture's mean, and of one run.

        Both are 0 where no mixture was run twice.
        """
        scores_T1 = view.score(trials.metrics_TQ)[:, None]
        scored = trials.with_metrics(("score",), scores_T1).repeats()
        # The order of mixtures is the fit's own, whatever the trials' order of domains.
        counts_D, doubt_D = self.repeats.counts_D, self.repeats.doubt_D
        here = dataclasses.replace(scored, counts_D=counts_D, doubt_D=doubt_D)
        return here.noise_DQ[:, 0], float(np.nan_to_num(scored.noise_Q[0], nan=0.0))


def _fit(repeats: Repeats, rows: NDArray[np.int64], predictor: Predictor) -> tuple[Predict, ...]:
    noise_DQ = repeats.noise_DQ
    return tuple(
        predictor.fit(repeats.weights_DK[rows], repeats.means_DQ[rows, q], noise_DQ[rows, q])
        for q in range(repeats.means_DQ.shape[1])
    )


def _checked(predict: Predict, weights_MK: Array) -> tuple[Array, Array]:
    mean_M, std_M = predict(weights_MK)
    for name, values in (("mean", mean_M), ("std", std_M)):
        if values.shape != (len(weights_MK),) or not np.isfinite(values).all():
            raise ComponentError(
                f"the predictor's {name} has shape {values.shape} with "
                f"{int((~np.isfinite(values)).sum())} values not finite for {len(weights_MK)} "
                f"mixtures; it must have shape {(len(weights_MK),)} and be finite"
            )
    return mean_M, std_M
