"""Gaussian processes of many metrics on one set of features, in the unit of the metrics.

Axes: T trials, K domains, F features (powers of the weights and of their sums), Q metrics,
M mixtures, G groups of metrics with equal length scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, Parameters
from climb.predictor.gaussian_process import (
    GaussianProcess,
    SharedKernel,
)
from climb.predictor.metrics import DomainGroups
from climb.predictor.sample import Scaling
from climb.predictor.shared_lengths import fit_parameters


@dataclass(frozen=True, eq=False)
class MetricScales:
    """Standardizes metrics, or their logarithms where `is_log_Q` is true."""

    is_log_Q: NDArray[np.bool_]
    center_Q: Array
    scale_Q: Array

    @classmethod
    def fit(cls, values_TQ: Array, use_log: bool) -> Self:
        """Derive mean and standard deviation of each metric from its values.

        With `use_log`, metrics whose values are all positive are converted to logarithms first.
        """
        is_log_Q = np.asarray((values_TQ > 0.0).all(axis=0) & use_log)
        level_TQ = _take_log(values_TQ, is_log_Q)
        center_Q, scale_Q = level_TQ.mean(axis=0), level_TQ.std(axis=0)
        # The standard deviation of logarithms is already relative to the size of the values.
        is_constant_Q = scale_Q <= 1e-9 * np.where(is_log_Q, 1.0, np.abs(values_TQ).max(axis=0))
        return cls(is_log_Q, center_Q, np.where(is_constant_Q, 1.0, scale_Q))

    def standardize(self, values_TQ: Array) -> Array:
        """Return standardized values, shape (T, Q)."""
        return np.asarray((_take_log(values_TQ, self.is_log_Q) - self.center_Q) / self.scale_Q)

    def standardize_std(self, std_TQ: Array, values_TQ: Array) -> Array:
        """Convert standard deviations of values to standardized units, to first order, (T, Q)."""
        slope_TQ = np.where(self.is_log_Q, 1.0 / np.where(self.is_log_Q, values_TQ, 1.0), 1.0)
        return np.asarray(std_TQ * slope_TQ / self.scale_Q)

    def restore(self, standardized_MQ: Array) -> Array:
        """Return values in the unit of the metrics, shape (M, Q)."""
        level_MQ = self.center_Q + self.scale_Q * standardized_MQ
        return np.where(self.is_log_Q, np.exp(np.where(self.is_log_Q, level_MQ, 0.0)), level_MQ)

    def select(self, q: int) -> MetricScales:
        """Return the scale of one metric."""
        part = slice(q, q + 1)
        return MetricScales(self.is_log_Q[part], self.center_Q[part], self.scale_Q[part])


def _take_log(values_TQ: Array, is_log_Q: NDArray[np.bool_]) -> Array:
    return np.where(is_log_Q, np.log(np.where(is_log_Q, values_TQ, 1.0)), values_TQ)


@dataclass(frozen=True, eq=False)
class PowerFeatures:
    """Powers of the weights and of the total weights of groups, scaled to 0..1 over the trials."""

    domain_groups: DomainGroups
    power: float
    scaling: Scaling

    @classmethod
    def fit(cls, weights_TK: Array, domain_groups: DomainGroups, power: float) -> Self:
        """Fit the scaling to the features of the trials."""
        sums_TV = append_sums(weights_TK, domain_groups)
        return cls(domain_groups, power, Scaling.fit_min_max(sums_TV**power))

    def __call__(self, weights_MK: Array) -> Array:
        """Return the features of mixtures, shape (M, F)."""
        return self.scaling(append_sums(weights_MK, self.domain_groups) ** self.power)


def append_sums(weights_MK: Array, domain_groups: DomainGroups) -> Array:
    """Return weights and the total weight of every group, shape (M, K + groups)."""
    sums = [weights_MK[:, list(group)].sum(axis=1, keepdims=True) for group in domain_groups]
    return np.hstack([weights_MK, *sums])


@dataclass(frozen=True, eq=False)
class PooledProcesses:
    """One process per metric; the processes of a group of metrics have the same length scales."""

    features: PowerFeatures
    scales: MetricScales
    groups_Q: Array
    processes_Q: tuple[GaussianProcess, ...]

    @classmethod
    def fit(
        cls,
        features: PowerFeatures,
        trials: tuple[Array, Array, Array],
        groups_Q: Array,
    ) -> Self:
        """Fit all metrics.

        Args:
            features: computes the features of mixtures.
            trials: weights (T, K), values (T, Q), and standard deviations of the values (T, Q).
            groups_Q: group of each metric.
        """
        weights_TK, values_TQ, noise_TQ = trials
        scales = MetricScales.fit(values_TQ, use_log=True)
        scaled_TQ = scales.standardize(values_TQ)
        noise_var_TQ = np.square(scales.standardize_std(noise_TQ, values_TQ))
        features_TF = features(weights_TK)
        quiet = _select_quiet(noise_var_TQ.mean(axis=1))
        parameters_QP = fit_parameters(features_TF[quiet], scaled_TQ[quiet], groups_Q)
        return cls(
            features,
            scales,
            groups_Q,
            tuple(
                GaussianProcess.condition(
                    parameters_QP[q], features_TF, scaled_TQ[:, q], noise_var_TQ[:, q]
                )
                for q in range(len(groups_Q))
            ),
        )

    @cached_property
    def _kernels(self) -> tuple[tuple[NDArray[np.int64], SharedKernel], ...]:
        """Metrics of each group, and their kernel."""
        groups = [np.flatnonzero(self.groups_Q == group) for group in np.unique(self.groups_Q)]
        return tuple(
            (columns, SharedKernel(tuple(self.processes_Q[q] for q in columns)))
            for columns in groups
        )

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q)."""
        features_MF = self.features(weights_MK)
        means_MQ = np.empty((len(weights_MK), len(self.processes_Q)))
        for columns, kernel in self._kernels:
            alpha_TQ = np.stack([p.variance * p.alpha_T for p in kernel.processes], axis=1)
            prior_Q = np.array([p.prior_mean for p in kernel.processes])
            means_MQ[:, columns] = prior_Q + kernel.compute(features_MF) @ alpha_TQ
        return self.scales.restore(means_MQ)

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q)."""
        features_MF = self.features(weights_MK)
        means_MQ = np.empty((len(weights_MK), len(self.processes_Q)))
        stds_MQ = np.empty_like(means_MQ)
        for columns, kernel in self._kernels:
            for q, (mean_M, std_M) in zip(columns, kernel.predict(features_MF), strict=True):
                predict = self.select(int(q))
                means_MQ[:, q] = predict.restore(mean_M)
                stds_MQ[:, q] = predict.get_slope(mean_M) * std_M
        return means_MQ, stds_MQ

    def predict_leave_one_out(self) -> Array:
        """Return leave-one-out predictions (T, Q), with the parameters of the fit to all trials."""
        left_out = [process.predict_leave_one_out() for process in self.processes_Q]
        return self.scales.restore(np.stack(left_out, axis=1))

    def select(self, q: int) -> ProcessPredict:
        """Return the function of one metric."""
        return ProcessPredict(self.features, self.scales.select(q), self.processes_Q[q])


_QUIET_VAR, _MIN_QUIET = 0.05, 40
"""Length scales are fitted to the trials with little noise. The noise of a trial is measured as
follows. For each metric, the noise variance is divided by the metric's variance over the trials.
The noise of the trial is the mean of these quotients over the metrics. A trial has little noise if
this mean is at most `_QUIET_VAR`. If there are fewer such trials than `_MIN_QUIET`, length scales
are fitted to the `_MIN_QUIET` least noisy trials."""


def _select_quiet(noise_var_T: Array) -> Array:
    """Return indices of the trials that length scales are fitted to, in input order."""
    order_T = np.argsort(noise_var_T, kind="stable")
    n_quiet = max(int((noise_var_T <= _QUIET_VAR).sum()), min(_MIN_QUIET, len(order_T)))
    return np.sort(order_T[:n_quiet])


@dataclass(frozen=True, eq=False)
class ProcessPredict:
    """One metric in its unit; see `climb.predictor.JointPredict`."""

    features: PowerFeatures
    scales: MetricScales
    process: GaussianProcess

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise, in the unit of the metric.

        If the process models the logarithm of the metric, this noise is proportional to the
        metric's value. It is then returned for the geometric mean of the trials' values.
        """
        return float(self.get_slope(np.zeros(1))[0] * self.process.noise)

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""
        mean_M, std_M = self.process.predict(self.features(weights_MK))
        return self.restore(mean_M), self.get_slope(mean_M) * std_M

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,)."""
        return self.restore(self.process.predict_mean(self.features(weights_MK)))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""
        mean_M, covariance_MM = self.process.predict_joint(self.features(weights_MK))
        slope_M = self.get_slope(mean_M)
        return self.restore(mean_M), covariance_MM * np.outer(slope_M, slope_M)

    def export(self) -> Parameters:
        """Return the parameters of the mean.

        v = weights, then the total weights of `domain_groups`;
        f = (v ^ power - offset) / feature_scale / lengths;
        level = center + scale * (prior_mean + variance * sum_t alpha_t matern52(|f - points_t|));
        metric = exp(level) if `log`, else level.
        """
        model, scaling = self.process, self.features.scaling
        return {
            "kind": "gaussian_process",
            "power": self.features.power,
            "domain_groups": [list(map(int, group)) for group in self.features.domain_groups],
            "offset": scaling.offset_F.tolist(),
            "feature_scale": scaling.scale_F.tolist(),
            "lengths": model.lengths_F.tolist(),
            "points": model.features_TF.tolist(),
            "alpha": model.alpha_T.tolist(),
            "prior_mean": model.prior_mean,
            "variance": model.variance,
            "center": float(self.scales.center_Q[0]),
            "scale": float(self.scales.scale_Q[0]),
            "log": bool(self.scales.is_log_Q[0]),
        }

    def restore(self, mean_M: Array) -> Array:
        """Convert standardized values to the unit of the metric, shape (M,)."""
        return self.scales.restore(mean_M[:, None])[:, 0]

    def get_slope(self, mean_M: Array) -> Array:
        """Return the change of the metric per standardized unit, shape (M,)."""
        is_log, scale = bool(self.scales.is_log_Q[0]), float(self.scales.scale_Q[0])
        return scale * self.restore(mean_M) if is_log else np.full(len(mean_M), scale)
