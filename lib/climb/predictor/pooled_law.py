"""Power laws of many metrics in the unit of the metrics; see `climb.predictor.shared_law`.

Axes: T trials, K domains, Q metrics, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from climb.predictor import Array, Parameters
from climb.predictor.metrics import DomainGroups
from climb.predictor.pooled_process import MetricScales, append_sums
from climb.predictor.shared_law import SharedLaw

_WIDENED = 0.2
"""The law's means stay in the range of the trials' values, widened at each end by this share
of the range."""


@dataclass(frozen=True, eq=False)
class PooledLaws:
    """The shared law in the unit of the metrics. Its means stay near the trials' values."""

    law: SharedLaw
    domain_groups: DomainGroups
    scales: MetricScales
    low_Q: Array
    high_Q: Array

    @classmethod
    def fit(
        cls, trials: tuple[Array, Array, Array], domain_groups: DomainGroups, groups_Q: Array
    ) -> tuple[Self, Array]:
        """Fit all metrics; return the laws and leave-one-out predictions (T, Q)."""
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

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q)."""
        means_MQ, stds_MQ = self.law.predict_all(append_sums(weights_MK, self.domain_groups))
        means_MQ = np.clip(self.scales.restore(means_MQ), self.low_Q, self.high_Q)
        return means_MQ, self.scales.scale_Q * stds_MQ


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

    def export(self) -> Parameters:
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
