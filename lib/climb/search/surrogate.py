"""Predictors of all metrics that matter, put together into a score with an honest spread.

Axes: T trials, D distinct mixtures, K domains, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

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
        """Mean and spread of every metric as the predictors say, shapes (M, Q).

        Raises:
            ComponentError: a predictor answered with a wrong shape, NaN, or a negative spread.
        """
        answers = [_checked(predict, weights_MK) for predict in self.predicts_Q]
        means, stds = zip(*answers, strict=True)
        return np.stack(means, axis=1), np.stack(stds, axis=1)

    def score(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean and spread of the score, shapes (M,); the spread is not calibrated yet."""
        return self.combine(*self.metrics(weights_MK))

    def means(self, weights_MK: Array) -> Array:
        """Mean of every metric, shape (M, Q), without the spread, which costs more."""
        means = [
            predict.mean(weights_MK)
            if isinstance(predict, JointPredict)
            else predict(weights_MK)[0]
            for predict in self.predicts_Q
        ]
        return np.stack(means, axis=1)

    def mean(self, weights_MK: Array) -> Array:
        """Mean of the score alone, shape (M,): what climbing asks thousands of times."""
        return np.asarray(self.means(weights_MK) @ self.signs_Q)

    def difference_stds(self, one_K: Array, others_MK: Array) -> Array:
        """Spread of every metric's difference between one mixture and others, shape (M, Q).

        Errors that two mixtures share cancel out, where a predictor knows of them.
        """
        every_MK = np.vstack([one_K[None], others_MK])
        spread_QM = []
        for predict in self.predicts_Q:
            if isinstance(predict, JointPredict):
                covariance_MM = predict.joint(every_MK)[1]
                own_M, shared_M = np.diag(covariance_MM), covariance_MM[0]
            else:
                own_M = np.square(predict(every_MK)[1])
                shared_M = np.zeros_like(own_M)
            across_M = own_M[0] + own_M[1:] - 2.0 * shared_M[1:]
            spread_QM.append(np.sqrt(np.maximum(across_M, 0.0)))
        return np.stack(spread_QM, axis=1)

    def difference_std(self, one_K: Array, other_K: Array) -> float:
        """Spread of the difference of two mixtures' scores; metrics' errors are taken as one."""
        spread_1Q = self.difference_stds(one_K, other_K[None])
        return float(np.abs(self.signs_Q) @ spread_1Q[0])

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
    for name, values, least in (("mean", mean_M, -np.inf), ("std", std_M, 0.0)):
        wrong = ~(np.isfinite(values) & (values >= least))
        if values.shape != (len(weights_MK),) or wrong.any():
            raise ComponentError(
                f"the predictor's {name} has shape {values.shape} with {int(wrong.sum())} values "
                f"not finite or below {least:g} for {len(weights_MK)} mixtures; it must have shape "
                f"{(len(weights_MK),)} and be finite"
            )
    return mean_M, std_M
