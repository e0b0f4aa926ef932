"""The arithmetic of a Gaussian process: most probable parameters, and what it says elsewhere.

Axes: T trials, K features, M points, P parameters. Features lie in about 0..1, values have mean 0
and spread 1. Parameters are log length scales (K), log noise variance, the mean, log variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

_JITTER = 1e-6
"""Variance added to the diagonal, so that repeated mixtures stay invertible."""

_LENGTH_SPREAD = float(np.sqrt(3.0))
"""Spread of the log-normal prior on length scales. Source: Hvarfner et al., arXiv 2402.02229."""

_NOISE_LOG = -4.0
"""Centre of the log-normal prior on the noise variance. Source: BoTorch's SingleTaskGP."""

_FITTED = 200
"""Trials that parameters are fitted to at most."""


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted process."""

    points_TK: Array
    """Where the trials are, divided by the length scales."""

    lengths_K: Array
    mean: float
    variance: float
    noise_T: Array
    """Variance of each trial's own noise, known and inferred."""

    values_T: Array
    lower_TT: Array
    """Cholesky factor of the trials' covariance."""

    alpha_T: Array

    @classmethod
    def most_probable(
        cls, points_TK: Array, values_T: Array, noise_T: Array, max_steps: int
    ) -> Self:
        """Fit by L-BFGS with exact gradients, from one fixed start: equal trials, equal process.

        Parameters come from at most `_FITTED` trials, evenly spread over the order given: the cost
        grows with the cube of their number, and so many leave little doubt about parameters.

        Args:
            points_TK: features.
            values_T: standardised values.
            noise_T: known variance of each value; more noise is inferred on top of it.
            max_steps: steps of the optimiser at most.
        """
        n_features = points_TK.shape[1]
        start = np.zeros(n_features + 3)
        start[:n_features] = max(
            np.sqrt(2.0) + 0.5 * np.log(n_features) - _LENGTH_SPREAD**2, np.log(0.5)
        )
        start[n_features] = _NOISE_LOG
        limits = [(np.log(0.025), 8.0)] * n_features + [(np.log(1e-4), 2.0), (-3, 3), (-5.0, 6.0)]
        some = np.linspace(0, len(values_T) - 1, min(len(values_T), _FITTED)).round().astype(int)
        found = minimize(
            _cost,
            start,
            args=(points_TK[some], values_T[some], noise_T[some]),
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={"maxiter": max_steps},
        ).x
        return cls._with(found, points_TK, values_T, noise_T)

    @classmethod
    def _with(cls, parameters_P: Array, points: Array, values_T: Array, noise_T: Array) -> Self:
        n_features = points.shape[1]
        lengths_K = np.exp(parameters_P[:n_features])
        own_T = noise_T + np.exp(parameters_P[n_features]) + _JITTER
        mean, variance = float(parameters_P[-2]), float(np.exp(parameters_P[-1]))
        scaled = points / lengths_K
        covariance = variance * _matern(_apart(scaled, scaled))[0] + np.diag(own_T)
        lower = cholesky(covariance, lower=True)
        alpha_T = cho_solve((lower, True), values_T - mean)
        return cls(scaled, lengths_K, mean, variance, own_T, values_T, lower, alpha_T)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise of the trial that was measured best."""
        return float(np.sqrt(self.noise_T.min()))

    def mean_at(self, points_MK: Array) -> Array:
        """Mean of the noiseless value at each point, shape (M,)."""
        return np.asarray(self.mean + self._covariance(points_MK) @ self.alpha_T)

    def at(self, points_MK: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless value at each point, shapes (M,)."""
        covariance_MT = self._covariance(points_MK)
        known_TM = solve_triangular(self.lower_TT, covariance_MT.T, lower=True)
        left_M = self.variance - np.square(known_TM).sum(axis=0)
        mean_M = self.mean + covariance_MT @ self.alpha_T
        return mean_M, np.sqrt(np.maximum(left_M, _JITTER * self.variance))

    def joint_at(self, points_MK: Array) -> tuple[Array, Array]:
        """Mean (M,) and covariance (M, M) of the noiseless values."""
        covariance_MT = self._covariance(points_MK)
        known_TM = solve_triangular(self.lower_TT, covariance_MT.T, lower=True)
        scaled_MK = points_MK / self.lengths_K
        prior_MM = self.variance * _matern(_apart(scaled_MK, scaled_MK))[0]
        return self.mean + covariance_MT @ self.alpha_T, prior_MM - known_TM.T @ known_TM

    def _covariance(self, points_MK: Array) -> Array:
        """Prior covariance of points and trials, shape (M, T)."""
        return self.variance * _matern(_apart(points_MK / self.lengths_K, self.points_TK))[0]

    def held_out(self) -> Array:
        """What each trial's value would be without itself, with the same parameters, (T,)."""
        inverse_TT = cho_solve((self.lower_TT, True), np.eye(len(self.alpha_T)))
        return np.asarray(self.values_T - self.alpha_T / np.diag(inverse_TT))


def _cost(
    parameters_P: Array, points_TK: Array, values_T: Array, noise_T: Array
) -> tuple[float, Array]:
    """Minus the log posterior of the parameters (up to a constant), and its gradient."""
    n_trials, n_features = points_TK.shape
    logs_K, log_noise, mean, log_variance = np.split(
        parameters_P, [n_features, n_features + 1, n_features + 2]
    )
    noise, variance = float(np.exp(log_noise[0])), float(np.exp(log_variance[0]))
    scaled_TK = points_TK / np.exp(logs_K)
    kernel_TT, slope_TT = _matern(_apart(scaled_TK, scaled_TK))
    lower = cholesky(variance * kernel_TT + np.diag(noise_T + noise + _JITTER), lower=True)
    rest_T = values_T - mean[0]
    alpha_T = cho_solve((lower, True), rest_T)
    # d(cost)/d(covariance) = -pull / 2
    pull_TT = np.outer(alpha_T, alpha_T) - cho_solve((lower, True), np.eye(n_trials))
    bent_TT = pull_TT * slope_TT * variance
    spread_K = np.square(scaled_TK).T @ bent_TT.sum(axis=1)
    spread_K -= (scaled_TK * (bent_TT @ scaled_TK)).sum(axis=0)
    lengths_off_K = logs_K - np.sqrt(2.0) - 0.5 * np.log(n_features)
    cost = (
        0.5 * rest_T @ alpha_T
        + np.log(np.diag(lower)).sum()
        + (0.5 * np.square(lengths_off_K / _LENGTH_SPREAD) + logs_K).sum()
        + 0.5 * (log_noise[0] - _NOISE_LOG) ** 2
        + log_noise[0]
        + 0.5 * log_variance[0] ** 2
    )
    gradient = np.empty_like(parameters_P)
    gradient[:n_features] = 2.0 * spread_K + lengths_off_K / _LENGTH_SPREAD**2 + 1.0
    gradient[n_features] = -0.5 * np.trace(pull_TT) * noise + log_noise[0] - _NOISE_LOG + 1.0
    gradient[-2] = -alpha_T.sum()
    gradient[-1] = -0.5 * (pull_TT * kernel_TT).sum() * variance + log_variance[0]
    return float(cost), gradient


def _matern(apart_MT: Array) -> tuple[Array, Array]:
    """Matern-5/2 of squared distances, and its derivative by them."""
    root_MT = np.sqrt(5.0 * apart_MT)
    decay_MT = np.exp(-root_MT)
    kernel_MT = (1.0 + root_MT + root_MT * root_MT / 3.0) * decay_MT
    return kernel_MT, -(5.0 / 6.0) * (1.0 + root_MT) * decay_MT


def _apart(left_MK: Array, right_TK: Array) -> Array:
    """Squared distances between rows."""
    squares = np.square(left_MK).sum(axis=1)[:, None] + np.square(right_TK).sum(axis=1)
    return np.asarray(np.maximum(squares - 2.0 * left_MK @ right_TK.T, 0.0))
