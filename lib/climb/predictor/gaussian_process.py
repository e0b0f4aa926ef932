"""Gaussian process regression with MAP parameters, on scaled features and values.

Axes: T trials, F features, M mixtures, P parameters. Features are about 0..1; values have mean 0
and standard deviation 1. Parameters: log length scales (F), log noise variance, mean, log variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, eigh, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

JITTER = 1e-6
"""Variance added to the diagonal, so that the covariance of replicates is invertible."""

LOG_LENGTH_STD = float(np.sqrt(3.0))
"""Standard deviation of the normal prior on the logarithm of length scales. Source: Hvarfner et
al., arXiv 2402.02229."""

LOG_NOISE_MEAN = -4.0
"""Mean of the normal prior on the logarithm of the noise variance. Source: BoTorch's
SingleTaskGP."""

MAX_FIT_TRIALS = 200
"""Maximum number of trials that parameters are fitted to."""


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A fitted process; see `climb.predictor.sample.ScaledModel`."""

    features_TF: Array
    """Features of the trials, divided by the length scales."""

    lengths_F: Array
    prior_mean: float
    variance: float
    noise_var_T: Array
    """Noise variance of each trial: the sum of the given one, the inferred one and `JITTER`."""

    values_T: Array
    lower_TT: Array
    """Cholesky factor of the trials' covariance."""

    alpha_T: Array

    @classmethod
    def fit(cls, features_TF: Array, values_T: Array, noise_var_T: Array, max_steps: int) -> Self:
        """Fit by L-BFGS with exact gradients from a fixed start, so the result is deterministic.

        Parameters come from at most `MAX_FIT_TRIALS` trials, at even intervals of the input order.
        Cost grows with the cube of the number of trials; 200 trials determine the parameters well.

        Args:
            features_TF: scaled features, shape (T, F).
            values_T: scaled values, shape (T,).
            noise_var_T: noise variance of each value; further noise is inferred.
            max_steps: maximum steps of the optimizer.
        """
        n_features = features_TF.shape[1]
        start = np.zeros(n_features + 3)
        start[:n_features] = start_lengths(n_features)
        start[n_features] = LOG_NOISE_MEAN
        n_fit = min(len(values_T), MAX_FIT_TRIALS)
        rows = np.linspace(0, len(values_T) - 1, n_fit).round().astype(int)
        parameters_P = minimize(
            _negative_log_posterior,
            start,
            args=(features_TF[rows], values_T[rows], noise_var_T[rows]),
            jac=True,
            method="L-BFGS-B",
            bounds=make_bounds(n_features),
            options={"maxiter": max_steps},
        ).x
        return cls.condition(parameters_P, features_TF, values_T, noise_var_T)

    @classmethod
    def condition(
        cls, parameters_P: Array, features_TF: Array, values_T: Array, noise_var_T: Array
    ) -> Self:
        """Condition the process with these parameters on all trials."""
        n_features = features_TF.shape[1]
        lengths_F = np.exp(parameters_P[:n_features])
        noise_var_T = noise_var_T + np.exp(parameters_P[n_features]) + JITTER
        mean, variance = float(parameters_P[-2]), float(np.exp(parameters_P[-1]))
        scaled_TF = features_TF / lengths_F
        kernel_TT = evaluate_matern(squared_distances(scaled_TF, scaled_TF))[0]
        lower_TT = cholesky(variance * kernel_TT + np.diag(noise_var_T), lower=True)
        alpha_T = cho_solve((lower_TT, True), values_T - mean)
        return cls(scaled_TF, lengths_F, mean, variance, noise_var_T, values_T, lower_TT, alpha_T)

    @property
    def noise(self) -> float:
        """Standard deviation of the observation noise of the least noisy trial."""
        return float(np.sqrt(self.noise_var_T.min()))

    def predict_mean(self, features_MF: Array) -> Array:
        """Predict the mean, shape (M,)."""
        return np.asarray(self.prior_mean + self._compute_covariance(features_MF) @ self.alpha_T)

    def predict(self, features_MF: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation without observation noise, shapes (M,)."""
        covariance_MT = self._compute_covariance(features_MF)
        explained_TM = solve_triangular(self.lower_TT, covariance_MT.T, lower=True)
        var_M = self.variance - np.square(explained_TM).sum(axis=0)
        mean_M = self.prior_mean + covariance_MT @ self.alpha_T
        return mean_M, np.sqrt(np.maximum(var_M, JITTER * self.variance))

    def predict_joint(self, features_MF: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M) without observation noise."""
        covariance_MT = self._compute_covariance(features_MF)
        explained_TM = solve_triangular(self.lower_TT, covariance_MT.T, lower=True)
        scaled_MF = features_MF / self.lengths_F
        prior_MM = self.variance * evaluate_matern(squared_distances(scaled_MF, scaled_MF))[0]
        mean_M = self.prior_mean + covariance_MT @ self.alpha_T
        return mean_M, prior_MM - explained_TM.T @ explained_TM

    def _compute_covariance(self, features_MF: Array) -> Array:
        """Return the prior covariance of mixtures and trials, shape (M, T)."""
        distances_MT = squared_distances(features_MF / self.lengths_F, self.features_TF)
        return self.variance * evaluate_matern(distances_MT)[0]

    def predict_leave_one_out(self) -> Array:
        """Predict each trial's value from the other trials, with the same parameters, (T,)."""
        inverse_TT = cho_solve((self.lower_TT, True), np.eye(len(self.alpha_T)))
        return np.asarray(self.values_T - self.alpha_T / np.diag(inverse_TT))


@dataclass(frozen=True, eq=False)
class SharedKernel:
    """Processes with the same trials and length scales, and so with the same kernel."""

    processes: tuple[GaussianProcess, ...]

    def compute(self, features_MF: Array) -> Array:
        """Compute the kernel of mixtures and trials, shape (M, T)."""
        first = self.processes[0]
        distances_MT = squared_distances(features_MF / first.lengths_F, first.features_TF)
        return evaluate_matern(distances_MT)[0]

    @cached_property
    def _spectrum(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of the trials' kernel."""
        points_TF = self.processes[0].features_TF
        values_E, vectors_TE = eigh(evaluate_matern(squared_distances(points_TF, points_TF))[0])
        return values_E, vectors_TE

    def predict(self, features_MF: Array) -> list[tuple[Array, Array]]:
        """Predict with every process; see `GaussianProcess.predict`.

        If, in each process, all trials have the same noise, one eigendecomposition serves all
        processes.
        """
        if any(np.ptp(process.noise_var_T) > 0.0 for process in self.processes):
            return [process.predict(features_MF) for process in self.processes]
        eigenvalues_E, vectors_TE = self._spectrum
        kernel_MT = self.compute(features_MF)
        square_ME = np.square(kernel_MT @ vectors_TE)
        predictions = []
        for process in self.processes:
            variance = process.variance
            precision_E = 1.0 / (variance * np.maximum(eigenvalues_E, 0.0) + process.noise_var_T[0])
            var_M = variance - variance**2 * (square_ME @ precision_E)
            mean_M = process.prior_mean + variance * (kernel_MT @ process.alpha_T)
            predictions.append((mean_M, np.sqrt(np.maximum(var_M, JITTER * variance))))
        return predictions


def start_lengths(n_features: int) -> float:
    """Return the initial log length scale of fits: log 0.5, or the log of the mode of the length
    scale's prior, whichever is larger."""
    mode = np.sqrt(2.0) + 0.5 * np.log(n_features) - LOG_LENGTH_STD**2
    return float(max(mode, np.log(0.5)))


def make_bounds(n_features: int) -> list[tuple[float, float]]:
    """Return the lower and the upper bound of each parameter."""
    return [(np.log(0.025), 8.0)] * n_features + [(np.log(1e-4), 2.0), (-3.0, 3.0), (-5.0, 6.0)]


def _negative_log_posterior(
    parameters_P: Array, features_TF: Array, values_T: Array, noise_var_T: Array
) -> tuple[float, Array]:
    """Return the negative log posterior (up to a constant) and its gradient."""
    n_trials, n_features = features_TF.shape
    log_lengths_F, log_noise, mean, log_variance = np.split(
        parameters_P, [n_features, n_features + 1, n_features + 2]
    )
    noise, variance = float(np.exp(log_noise[0])), float(np.exp(log_variance[0]))
    scaled_TF = features_TF / np.exp(log_lengths_F)
    kernel_TT, derivative_TT = evaluate_matern(squared_distances(scaled_TF, scaled_TF))
    lower_TT = cholesky(variance * kernel_TT + np.diag(noise_var_T + noise + JITTER), lower=True)
    residual_T = values_T - mean[0]
    alpha_T = cho_solve((lower_TT, True), residual_T)
    # d(value)/d(covariance) = -outer_TT / 2
    outer_TT = np.outer(alpha_T, alpha_T) - cho_solve((lower_TT, True), np.eye(n_trials))
    by_distance_TT = outer_TT * derivative_TT * variance
    by_length_F = differentiate_by_lengths(scaled_TF, by_distance_TT)
    off_prior_F = log_lengths_F - np.sqrt(2.0) - 0.5 * np.log(n_features)
    value = (
        0.5 * residual_T @ alpha_T
        + np.log(np.diag(lower_TT)).sum()
        + (0.5 * np.square(off_prior_F / LOG_LENGTH_STD) + log_lengths_F).sum()
        + 0.5 * (log_noise[0] - LOG_NOISE_MEAN) ** 2
        + log_noise[0]
        + 0.5 * log_variance[0] ** 2
    )
    gradient = np.empty_like(parameters_P)
    gradient[:n_features] = 2.0 * by_length_F + off_prior_F / LOG_LENGTH_STD**2 + 1.0
    gradient[n_features] = -0.5 * np.trace(outer_TT) * noise + log_noise[0] - LOG_NOISE_MEAN + 1.0
    gradient[-2] = -alpha_T.sum()
    gradient[-1] = -0.5 * (outer_TT * kernel_TT).sum() * variance + log_variance[0]
    return float(value), gradient


def differentiate_by_lengths(scaled_TF: Array, by_distance_TT: Array) -> Array:
    """Return, for each feature f, the sum over trials s and t of
    by_distance[s, t] * (scaled[s, f] - scaled[t, f])^2 / 2."""
    by_length_F = np.square(scaled_TF).T @ by_distance_TT.sum(axis=1)
    return np.asarray(by_length_F - (scaled_TF * (by_distance_TT @ scaled_TF)).sum(axis=0))


def evaluate_matern(distances_MT: Array) -> tuple[Array, Array]:
    """Return the Matern-5/2 kernel of squared distances and its derivative with respect to them."""
    root_MT = np.sqrt(5.0 * distances_MT)
    decay_MT = np.exp(-root_MT)
    kernel_MT = (1.0 + root_MT + root_MT * root_MT / 3.0) * decay_MT
    return kernel_MT, -(5.0 / 6.0) * (1.0 + root_MT) * decay_MT


def squared_distances(left_MF: Array, right_TF: Array) -> Array:
    """Return squared Euclidean distances between rows, shape (M, T)."""
    squares = np.square(left_MF).sum(axis=1)[:, None] + np.square(right_TF).sum(axis=1)
    return np.asarray(np.maximum(squares - 2.0 * left_MF @ right_TF.T, 0.0))
