"""Gaussian processes and power laws that share parameters over metrics, with fitted shares.

Axes: T trials, D distinct mixtures, K domains, Q metrics, M mixtures, P members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from climb.mixture import SAME_DECIMALS
from climb.predictor import Array, Predict
from climb.predictor.metrics import DomainGroups
from climb.predictor.pooled_process import (
    MetricScales,
    PooledProcesses,
    PowerFeatures,
    append_sums,
)
from climb.predictor.shared_law import SharedLaw
from climb.predictor.shared_lengths import group_metrics
from climb.predictor.stack import StackPredict

_WIDENED = 0.2
"""The law's means stay in the range of the trials' values, wider by this share on each side."""


@dataclass(frozen=True, kw_only=True)
class PooledPredictor:
    """Average of a Gaussian process and a power law per metric; the shares are cross-validated.

    Metrics are grouped by correlation. The processes of a group share their length scales, and the
    laws of a group share their exponent. Features are the weights and the total weights of groups
    of domains. The process models the logarithm of a metric whose values are all positive.

    The share of the process is a least-squares fit, between 0 and 1, of measured values on both
    members' held-out predictions: one for all metrics, and one per metric that is drawn towards
    it.

    Source:
        Stacked regressions with non-negative weights: Breiman (1996). Groups of metrics, features
        and shares were chosen on training runs of RegMix and of Olmix
        (docs/decisions/predictor.md).
    """

    metric_groups: int = 8
    """Groups of metrics; with fewer metrics, each is a group."""

    power: float = 0.4
    """Exponent of the features of the process."""

    share_std: float = 0.15
    """Standard deviation of the normal prior of a metric's share around that of all metrics."""

    folds: int = 5
    """Folds of the cross-validation."""

    refit_below: int = 3000
    """With fewer values (trials times metrics), the processes are refitted for every fold. With
    more, leave-one-out predictions use the parameters of all trials, because many values determine
    them. The laws always use leave-one-out predictions."""

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
        return PooledPredicts(processes, laws, shares_Q)

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
        common = float(product_Q.sum() / max(float(square_Q.sum()), 1e-300))
        process_error_TQ = law_error_TQ - difference_TQ
        error_var_Q = np.minimum(
            np.square(law_error_TQ).mean(axis=0), np.square(process_error_TQ).mean(axis=0)
        )
        ridge_Q = error_var_Q / self.share_std**2 + 1e-300
        common = min(max(common, 0.0), 1.0)
        shares_Q = (product_Q + ridge_Q * common) / (square_Q + ridge_Q)
        return np.asarray(np.clip(shares_Q, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class PooledLaws:
    """The shared law in the unit of the metrics, with means near the range of the trials."""

    law: SharedLaw
    domain_groups: DomainGroups
    scales: MetricScales
    low_Q: Array
    high_Q: Array

    @classmethod
    def fit(
        cls, trials: tuple[Array, Array, Array], domain_groups: DomainGroups, groups_Q: Array
    ) -> tuple[Self, Array]:
        """Fit all metrics; return them and leave-one-out predictions (T, Q)."""
        weights_TK, values_TQ, noise_TQ = trials
        scales = MetricScales.fit(values_TQ, use_log=False)
        noise_var_TQ = np.square(scales.standardize_std(noise_TQ, values_TQ))
        law, left_out_TQ = SharedLaw.fit(
            append_sums(weights_TK, domain_groups),
            scales.standardize(values_TQ),
            noise_var_TQ,
            groups_Q,
        )
        low_Q, high_Q = values_TQ.min(axis=0), values_TQ.max(axis=0)
        margin_Q = _WIDENED * (high_Q - low_Q)
        laws = cls(law, domain_groups, scales, low_Q - margin_Q, high_Q + margin_Q)
        return laws, np.clip(scales.restore(left_out_TQ), laws.low_Q, laws.high_Q)

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q)."""
        means_MQ = self.law.predict_means(append_sums(weights_MK, self.domain_groups))
        return np.clip(self.scales.restore(means_MQ), self.low_Q, self.high_Q)


@dataclass(frozen=True, eq=False)
class LawPredict:
    """One metric of `PooledLaws`; see `climb.predictor.JointPredict`."""

    laws: PooledLaws
    q: int

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise."""
        return float(self.laws.scales.scale_Q[self.q] * self.laws.law.noise_Q[self.q])

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""
        mean_M, std_M = self.laws.law.predict(self.q, self._sum(weights_MK))
        return self._restore(mean_M), float(self.laws.scales.scale_Q[self.q]) * std_M

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,)."""
        return self._restore(self.laws.law.predict_mean(self.q, self._sum(weights_MK)))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""
        mean_M, root_MP = self.laws.law.predict_root(self.q, self._sum(weights_MK))
        root_MP = float(self.laws.scales.scale_Q[self.q]) * root_MP
        return self._restore(mean_M), root_MP @ root_MP.T

    def export(self) -> dict[str, Any]:
        """Return the parameters.

        v = weights, then the total weights of `domain_groups`;
        metric = clip(center + scale * sign * law(parameters, v), low, high).
        """
        laws, q = self.laws, self.q
        return laws.law.export(q) | {
            "domain_groups": [list(map(int, group)) for group in laws.domain_groups],
            "center": float(laws.scales.center_Q[q]),
            "scale": float(laws.scales.scale_Q[q]),
            "low": float(laws.low_Q[q]),
            "high": float(laws.high_Q[q]),
        }

    def _sum(self, weights_MK: Array) -> Array:
        return append_sums(weights_MK, self.laws.domain_groups)

    def _restore(self, mean_M: Array) -> Array:
        laws, q = self.laws, self.q
        value_M = laws.scales.center_Q[q] + laws.scales.scale_Q[q] * mean_M
        return np.asarray(np.clip(value_M, laws.low_Q[q], laws.high_Q[q]))


@dataclass(frozen=True, eq=False)
class PooledPredicts:
    """Fitted processes and laws of all metrics; see `climb.predictor.metrics.MetricsPredict`."""

    processes: PooledProcesses
    laws: PooledLaws
    shares_Q: Array
    """Share of the process in each metric."""

    @cached_property
    def predicts_Q(self) -> tuple[Predict, ...]:
        """One function per metric."""
        return tuple(
            StackPredict(
                (self.processes.select(q), LawPredict(self.laws, q)), np.array([share, 1.0 - share])
            )
            for q, share in enumerate(self.shares_Q.tolist())
        )

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q)."""
        process_MQ = self.processes.predict_means(weights_MK)
        law_MQ = self.laws.predict_means(weights_MK)
        return np.asarray(law_MQ + self.shares_Q * (process_MQ - law_MQ))
