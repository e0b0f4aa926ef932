"""MAP parameters of one Gaussian process per metric; a group of metrics has common length scales.

Metrics of related tasks depend on the same domains. So the length scales of a group of metrics are
fitted to the values of the whole group: many values for few parameters. All other parameters are
fitted for each metric. The fit assumes, for each metric, that all trials have the same noise. So
one eigendecomposition of the kernel is enough for all metrics that are fitted together.

Axes: T trials, F features, Q metrics, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import eigh
from scipy.optimize import minimize

from climb.predictor import Array
from climb.predictor.gaussian_process import (
    JITTER,
    LOG_LENGTH_STD,
    LOG_NOISE_MEAN,
    MAX_FIT_TRIALS,
    differentiate_by_lengths,
    evaluate_matern,
    make_bounds,
    squared_distances,
    start_lengths,
)

ALL_STEPS, GROUP_STEPS = 100, 30
"""Maximum L-BFGS steps of the fit to all metrics, and of the fit to each group. The fit to a group
starts from the parameters of the fit to all metrics."""

GROUP_STD = 1.0
"""Standard deviation of the normal prior on a group's log length scales. The prior's mean is the
result of the fit to all metrics."""


@dataclass(frozen=True, eq=False)
class _Prior:
    """A normal prior on the log length scales."""

    mean_F: Array
    std: float
    is_log_normal: bool
    """If true, `cost` uses the density of the length scales, which is log-normal. If false, it uses
    the density of their logarithms, which is normal. The negative log densities differ by the sum
    of the log length scales."""

    def cost(self, log_lengths_F: Array) -> tuple[float, Array]:
        """Return the negative log density (up to a constant) and its gradient (F,)."""
        z_F = (log_lengths_F - self.mean_F) / self.std
        value, gradient_F = 0.5 * float(z_F @ z_F), z_F / self.std
        if self.is_log_normal:
            value, gradient_F = value + float(log_lengths_F.sum()), gradient_F + 1.0
        return value, gradient_F


def group_metrics(values_TQ: Array, n_groups: int) -> Array:
    """Group correlated metrics by Ward linkage of their standardized values.

    Returns:
        The group of each metric, shape (Q,), numbered from 1.
    """
    if values_TQ.shape[1] <= max(n_groups, 1):
        return np.arange(1, values_TQ.shape[1] + 1) if n_groups > 1 else np.array([1])
    return np.asarray(fcluster(linkage(values_TQ.T, method="ward"), n_groups, "maxclust"))


def fit_parameters(features_TF: Array, values_TQ: Array, groups_Q: Array) -> Array:
    """Fit length scales per group of metrics, and noise, mean and variance per metric.

    Args:
        features_TF: scaled features.
        values_TQ: standardized values.
        groups_Q: group of each metric.

    Returns:
        Parameters of `GaussianProcess.condition` for each metric, shape (Q, F + 3).
    """
    n_trials, n_features = features_TF.shape
    rows = np.linspace(0, n_trials - 1, min(n_trials, MAX_FIT_TRIALS)).round().astype(int)
    features_TF, values_TQ = features_TF[rows], values_TQ[rows]
    n_metrics = values_TQ.shape[1]
    start_QP = np.zeros((n_metrics, n_features + 3))
    start_QP[:, :n_features] = start_lengths(n_features)
    start_QP[:, n_features] = LOG_NOISE_MEAN
    wide = _Prior(
        np.full(n_features, np.sqrt(2.0) + 0.5 * np.log(n_features)), LOG_LENGTH_STD, True
    )
    all_QP = _fit_group(features_TF, values_TQ, start_QP, wide, ALL_STEPS)
    groups = np.unique(groups_Q)
    if len(groups) == 1:
        return all_QP
    own_QP = np.empty_like(all_QP)
    near = _Prior(all_QP[0, :n_features], GROUP_STD, False)
    for group in groups:
        part = groups_Q == group
        own_QP[part] = _fit_group(features_TF, values_TQ[:, part], all_QP[part], near, GROUP_STEPS)
    return own_QP


def _fit_group(
    features_TF: Array, values_TQ: Array, start_QP: Array, prior: _Prior, max_steps: int
) -> Array:
    """Fit one set of length scales, and the other parameters per metric; returns (Q, F + 3)."""
    n_features, n_metrics = features_TF.shape[1], values_TQ.shape[1]
    packed = np.concatenate([start_QP[0, :n_features], start_QP[:, n_features:].T.reshape(-1)])
    bounds = make_bounds(n_features)
    found = minimize(
        _negative_log_posterior,
        packed,
        args=(features_TF, values_TQ, prior),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds[:n_features] + [b for b in bounds[n_features:] for _ in range(n_metrics)],
        options={"maxiter": max_steps},
    ).x
    lengths_QF = np.tile(found[:n_features], (n_metrics, 1))
    return np.hstack([lengths_QF, found[n_features:].reshape(3, n_metrics).T])


def _negative_log_posterior(
    packed_P: Array, features_TF: Array, values_TQ: Array, prior: _Prior
) -> tuple[float, Array]:
    """Return the value (up to a constant) and its gradient.

    Parameters: log length scales (F), then log noise variance, mean, log variance (Q each).
    """
    n_features = features_TF.shape[1]
    log_lengths_F = packed_P[:n_features]
    log_noise_Q, mean_Q, log_variance_Q = packed_P[n_features:].reshape(3, -1)
    noise_Q, variance_Q = np.exp(log_noise_Q), np.exp(log_variance_Q)
    scaled_TF = features_TF / np.exp(log_lengths_F)
    kernel_TT, derivative_TT = evaluate_matern(squared_distances(scaled_TF, scaled_TF))
    eigenvalues_E, vectors_TE = eigh(kernel_TT, driver="evd")
    eigenvalues_E1 = np.maximum(eigenvalues_E, 0.0)[:, None]
    # In the basis of the kernel's eigenvectors, the covariance of every metric is diagonal.
    diagonal_EQ = eigenvalues_E1 * variance_Q + noise_Q + JITTER
    rotated_EQ = vectors_TE.T @ (values_TQ - mean_Q)
    solved_EQ = rotated_EQ / diagonal_EQ
    alpha_TQ = vectors_TE @ solved_EQ
    # d(value)/d(kernel) = -outer_TT / 2, summed over the metrics
    outer_TT = (alpha_TQ * variance_Q) @ alpha_TQ.T
    outer_TT -= (vectors_TE * (variance_Q / diagonal_EQ).sum(axis=1)) @ vectors_TE.T
    by_length_F = differentiate_by_lengths(scaled_TF, outer_TT * derivative_TT)
    excess_EQ = np.square(solved_EQ) - 1.0 / diagonal_EQ
    prior_value, prior_F = prior.cost(log_lengths_F)
    off_noise_Q = log_noise_Q - LOG_NOISE_MEAN
    priors = 0.5 * np.square(off_noise_Q) + log_noise_Q + 0.5 * np.square(log_variance_Q)
    misfit = 0.5 * (rotated_EQ * solved_EQ + np.log(diagonal_EQ)).sum()
    value = misfit + prior_value + priors.sum()
    gradient = np.concatenate(
        [
            2.0 * by_length_F + prior_F,
            -0.5 * noise_Q * excess_EQ.sum(axis=0) + off_noise_Q + 1.0,
            -alpha_TQ.sum(axis=0),
            -0.5 * variance_Q * (eigenvalues_E1 * excess_EQ).sum(axis=0) + log_variance_Q,
        ]
    )
    return float(value), gradient
