"""For each of many metrics, an average of a Gaussian process and a power law.

The metrics of a group share parameters.

Axes: T trials, D distinct mixtures, K domains, Q metrics, M mixtures, P members (process, law,
and the metric's mean).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from climb.mixture import SAME_DECIMALS
from climb.predictor import Array, Predict
from climb.predictor.metrics import DomainGroups
from climb.predictor.pooled_law import LawPredict, PooledLaws
from climb.predictor.pooled_process import (
    MetricScales,
    PooledProcesses,
    PowerFeatures,
)
from climb.predictor.shared_lengths import group_metrics
from climb.predictor.shrinkage import Shrinkage
from climb.predictor.stack import StackPredict

_BLOCK = 512
"""Maximum number of mixtures predicted at once; it bounds the memory of the derivatives."""


@dataclass(frozen=True, kw_only=True)
class PooledPredictor:
    """Average of a Gaussian process and a power law per metric; the shares are cross-validated.

    Metrics are grouped by correlation. The processes of a group share their length scales, and the
    laws of a group share their exponent. Features are the weights and the total weights of groups
    of domains. The process models the logarithm of a metric whose values are all positive.

    The share of the process in the average is fitted by least squares: the average of the held-out
    predictions of process and law should be near the measured values. Each share is clipped to
    0..1. A common share is fitted to all metrics, then one share per metric, which is drawn towards
    the common one. The average is then shrunk towards the metric's mean, by the factor of
    `climb.predictor.shrinkage`. So a metric that cannot be predicted has no influence on which
    mixtures a search prefers.

    Source:
        Stacked regressions with non-negative weights: Breiman (1996). The features, the way of
        grouping the metrics, and the way of fitting the shares were chosen on training runs of
        RegMix and of Olmix (docs/decisions/predictor.md).
    """

    metric_groups: int = 8
    """Largest number of groups of metrics; with fewer metrics than this, each is a group."""

    power: float = 0.4
    """Exponent of the features of the process."""

    share_std: float = 0.15
    """Standard deviation of the normal prior on each metric's share. The prior's mean is the
    common share. The common share itself has a normal prior with mean 0 and the same standard
    deviation. In the fit of the common share, the term of this prior is added once for each metric.
    So the prior does not become weaker, relative to the values, if there are more metrics. Its mean
    of 0 favours the law, which is better far from the trials."""

    folds: int = 5
    """Folds of the cross-validation."""

    refit_below: int = 20_000
    """With fewer values than this (trials times metrics), the processes are refitted for every
    fold. Otherwise, their held-out predictions are leave-one-out predictions with the parameters of
    the fit to all trials. These predictions are a little too good, but refits would be slow. The
    held-out predictions of the laws are always leave-one-out predictions."""

    def fit(self, weights_TK: Array, values_T: Array, noise_T: Array) -> Predict:
        """Fit one metric of T trials; see `climb.predictor.Predictor`."""
        return self.fit_metrics(weights_TK, values_T[:, None], noise_T[:, None]).predicts_Q[0]

    def fit_metrics(
        self,
        weights_TK: Array,
        values_TQ: Array,
        noise_TQ: Array,
        domain_groups: DomainGroups = (),
    ) -> PooledPredicts:
        """Fit all metrics of T trials; see `climb.predictor.metrics.MetricsPredictor`."""
        order_T = np.lexsort((*noise_TQ.T[::-1], *values_TQ.T[::-1], *weights_TK.T[::-1]))
        trials = (weights_TK[order_T], values_TQ[order_T], noise_TQ[order_T])
        features = PowerFeatures.fit(trials[0], domain_groups, self.power)
        scaled_TQ = MetricScales.fit(trials[1], use_log=False).standardize(trials[1])
        groups_Q = group_metrics(scaled_TQ, self.metric_groups)
        processes = PooledProcesses.fit(features, trials, groups_Q)
        laws, law_TQ = PooledLaws.fit(trials, domain_groups, groups_Q)
        if values_TQ.size < self.refit_below:
            process_TQ = self._cross_validate(features, trials, groups_Q)
        else:
            process_TQ = processes.predict_leave_one_out()
        shares_Q = self._fit_shares(process_TQ, law_TQ, trials[1])
        held_out_TQ = law_TQ + shares_Q * (process_TQ - law_TQ)
        shrinkage = Shrinkage.fit(held_out_TQ, trials[1], trials[2])
        return PooledPredicts(processes, laws, shares_Q, shrinkage)

    def _cross_validate(
        self, features: PowerFeatures, trials: tuple[Array, Array, Array], groups_Q: Array
    ) -> Array:
        """Predict each value with processes fitted to the other folds, shape (T, Q).

        All replicates of a mixture are in one fold.
        """
        weights_TK, values_TQ, noise_TQ = trials
        _, mixture_T = np.unique(np.round(weights_TK, SAME_DECIMALS), axis=0, return_inverse=True)
        mixture_T = mixture_T.reshape(-1)
        n_mixtures = int(mixture_T.max()) + 1
        fold_D = np.random.default_rng(n_mixtures).permutation(n_mixtures)
        fold_D %= min(self.folds, n_mixtures)
        predicted_TQ = np.tile(values_TQ.mean(axis=0), (len(values_TQ), 1))
        for fold in range(int(fold_D.max()) + 1 if n_mixtures > 1 else 0):
            out_T = fold_D[mixture_T] == fold
            rest = (weights_TK[~out_T], values_TQ[~out_T], noise_TQ[~out_T])
            processes = PooledProcesses.fit(features, rest, groups_Q)
            predicted_TQ[out_T] = processes.predict_means(weights_TK[out_T])
        return predicted_TQ

    def _fit_shares(self, process_TQ: Array, law_TQ: Array, values_TQ: Array) -> Array:
        """Return the share of the process in each metric, shape (Q,)."""
        std_Q = values_TQ.std(axis=0)
        std_Q = np.where(std_Q > 0.0, std_Q, 1.0)
        difference_TQ = (process_TQ - law_TQ) / std_Q
        law_error_TQ = (values_TQ - law_TQ) / std_Q
        product_Q = (difference_TQ * law_error_TQ).sum(axis=0)
        square_Q = np.square(difference_TQ).sum(axis=0)
        process_error_TQ = law_error_TQ - difference_TQ
        error_var_Q = np.minimum(
            np.square(law_error_TQ).mean(axis=0), np.square(process_error_TQ).mean(axis=0)
        )
        ridge_Q = error_var_Q / self.share_std**2 + 1e-300
        common = float(product_Q.sum() / (square_Q + ridge_Q).sum())
        common = min(max(common, 0.0), 1.0)
        shares_Q = (product_Q + ridge_Q * common) / (square_Q + ridge_Q)
        return np.asarray(np.clip(shares_Q, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class PooledPredicts:
    """Fitted processes and laws of all metrics; see `climb.predictor.metrics.MetricsPredict`."""

    processes: PooledProcesses
    laws: PooledLaws
    shares_Q: Array
    """Share of the process in the average of process and law of each metric."""

    shrinkage: Shrinkage
    """Shrinks the average of process and law towards the metric's mean."""

    @cached_property
    def predicts_Q(self) -> tuple[Predict, ...]:
        """One function per metric."""
        predicts = []
        for q, (share, slope) in enumerate(
            zip(self.shares_Q, self.shrinkage.slopes_Q, strict=True)
        ):
            process, mean = self.processes.select(q), self.shrinkage.select(q)
            members = (process, LawPredict(self.laws, q), mean)
            shares_P = np.array([slope * share, slope * (1.0 - share), 1.0 - slope])
            predicts.append(StackPredict(members, shares_P))
        return tuple(predicts)

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q)."""
        process_MQ = self.processes.predict_means(weights_MK)
        law_MQ = self.laws.predict_means(weights_MK)
        average_MQ = law_MQ + self.shares_Q * (process_MQ - law_MQ)
        center_Q = self.shrinkage.constants.center_Q
        return np.asarray(center_Q + self.shrinkage.slopes_Q * (average_MQ - center_Q))

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q).

        The formulas are those of `StackPredict`. Here, they are applied to blocks of mixtures, and
        to all metrics at once.
        """
        blocks = [
            self._predict_block(weights_MK[start : start + _BLOCK])
            for start in range(0, max(len(weights_MK), 1), _BLOCK)
        ]
        means, stds = zip(*blocks, strict=True)
        return np.vstack(means), np.vstack(stds)

    def _predict_block(self, weights_MK: Array) -> tuple[Array, Array]:
        shape = (len(weights_MK), len(self.shares_Q))
        slopes_Q, constants = self.shrinkage.slopes_Q, self.shrinkage.constants
        members = (
            (slopes_Q * self.shares_Q, *self.processes.predict(weights_MK)),
            (slopes_Q * (1.0 - self.shares_Q), *self.laws.predict(weights_MK)),
            (
                1.0 - slopes_Q,
                np.broadcast_to(constants.center_Q, shape),
                np.broadcast_to(constants.error_Q, shape),
            ),
        )
        mean_MQ = sum((share_Q * means_MQ for share_Q, means_MQ, _ in members), np.zeros(shape))
        var_MQ = np.zeros(shape)
        for share_Q, means_MQ, stds_MQ in members:
            var_MQ += share_Q * (np.square(stds_MQ) + np.square(means_MQ - mean_MQ))
        return mean_MQ, np.sqrt(var_MQ)
