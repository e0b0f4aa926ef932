"""Levenberg-Marquardt steps of many power laws at once; see `climb.predictor.shared_law`.

Axes: T trials, V features, Q metrics, M mixtures, P parameters: log coefficients (V), log base,
floor, log scale, log decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array

_COEFFICIENT_STD = 1.5
"""Prior standard deviation of a log coefficient, as in `climb.predictor.powerlaw`."""

_MAX_STEP = 3.0
"""Largest change of a parameter in one step."""

_TOLERANCE = 1e-7
"""A fit ends when a step lowers its cost by less than this share of 1 + cost."""

_MAX_DAMPING = 1e8
"""A fit ends when a step with more damping than this does not lower its cost."""


def raise_to_power(features_MV: Array, exponent: float) -> Array:
    """Return the powers of features, shape (M, V)."""
    return np.asarray(np.maximum(features_MV, 0.0) ** exponent)


def make_prior(n_features: int) -> tuple[Array, Array]:
    """Return mean and standard deviation of the prior on the parameters, shapes (P,)."""
    mean_P = np.append(np.full(n_features, -2.0), [-3.0, -2.0, 0.0, np.log(0.3)])
    std_P = np.append(np.full(n_features, _COEFFICIENT_STD), [2.0, 2.0, 2.0, 0.7])
    return mean_P, std_P


def evaluate_means(parameters_QP: Array, powers_MV: Array) -> Array:
    """Evaluate laws that have the same exponent, shape (Q, M)."""
    n_features = powers_MV.shape[1]
    base, floor, log_scale, log_decay = parameters_QP[:, n_features:].T[:, :, None]
    data_QM = np.exp(parameters_QP[:, :n_features]) @ powers_MV.T + np.exp(base)
    return np.asarray(floor + np.exp(log_scale - np.exp(log_decay) * np.log(data_QM)))


def evaluate(parameters_QP: Array, powers: list[Array]) -> tuple[Array, Array]:
    """Evaluate laws, shape (Q, M), and their derivatives, shape (Q, M, P)."""
    n_metrics, n_parameters = parameters_QP.shape
    n_mixtures, n_features = powers[0].shape
    base, floor, log_scale, log_decay = parameters_QP[:, n_features:].T[:, :, None]
    derivatives_QMP = np.empty((n_metrics, n_mixtures, n_parameters))
    terms_QMV = derivatives_QMP[:, :, :n_features]
    for q, powers_MV in enumerate(powers):
        np.multiply(powers_MV, np.exp(parameters_QP[q, :n_features]), out=terms_QMV[q])
    data_QM = terms_QMV.sum(axis=2) + np.exp(base)
    log_data_QM, decay = np.log(data_QM), np.exp(log_decay)
    loss_QM = np.exp(log_scale - decay * log_data_QM)
    by_data_QM = -decay * loss_QM / data_QM
    terms_QMV *= by_data_QM[:, :, None]
    derivatives_QMP[:, :, n_features] = by_data_QM * np.exp(base)
    derivatives_QMP[:, :, n_features + 1] = 1.0
    derivatives_QMP[:, :, n_features + 2] = loss_QM
    derivatives_QMP[:, :, n_features + 3] = -decay * log_data_QM * loss_QM
    return floor + loss_QM, derivatives_QMP


def compute_precision(derivatives_QTP: Array, noise_var_QT: Array) -> tuple[Array, Array]:
    """Return the precision of the parameters (Q, P, P), and the derivatives divided by the noise
    variances (Q, P, T)."""
    _, prior_std_P = make_prior(derivatives_QTP.shape[2] - 4)
    weighted_QPT = (derivatives_QTP / noise_var_QT[:, :, None]).transpose(0, 2, 1)
    return weighted_QPT @ derivatives_QTP + np.diag(prior_std_P**-2.0), weighted_QPT


def minimize_laws(
    start_QP: Array, powers: list[Array], values_QT: Array, noise_var_QT: Array, max_steps: int
) -> tuple[Array, Array, Array, Array]:
    """Fit all laws by Levenberg-Marquardt steps; each law has its own damping.

    Returns:
        Parameters (Q, P), means (Q, T), derivatives (Q, T, P) and costs (Q,). To each cost, the
        sum of the logarithms of the noise variances is added.
    """
    problem = _Problem(powers, values_QT, noise_var_QT)
    at_QP, active = start_QP.copy(), np.arange(len(start_QP))
    means_QT, derivatives_QTP = evaluate(at_QP, powers)
    cost_Q, damping_Q = problem.compute_cost(at_QP, means_QT, active), np.full(len(at_QP), 1e-2)
    for _ in range(max_steps):
        state = (at_QP[active], means_QT[active], derivatives_QTP[active])
        tried = problem.step(*state, damping_Q[active], active)
        means, derivatives = evaluate(tried, [powers[q] for q in active])
        cost = problem.compute_cost(tried, means, active)
        better = cost < cost_Q[active]
        has_ended = better & (cost_Q[active] - cost < _TOLERANCE * (1.0 + cost))
        has_ended |= ~better & (damping_Q[active] > _MAX_DAMPING)
        rows = active[better]
        at_QP[rows], means_QT[rows], cost_Q[rows] = tried[better], means[better], cost[better]
        derivatives_QTP[rows] = derivatives[better]
        damping_Q[active] *= np.where(better, 0.2, 6.0)
        active = active[~has_ended]
        if not len(active):
            break
    return at_QP, means_QT, derivatives_QTP, cost_Q + np.log(noise_var_QT).sum(axis=1)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The data of all metrics."""

    powers: list[Array]
    values_QT: Array
    noise_var_QT: Array

    @cached_property
    def prior(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the prior on the parameters, shapes (P,)."""
        return make_prior(self.powers[0].shape[1])

    def compute_cost(self, at_QP: Array, means_QT: Array, rows: NDArray[np.int64]) -> Array:
        """Return the cost of each law, infinity instead of NaN.

        A cost is the sum of the squared residuals and the squared distances of the parameters from
        their prior means, each divided by its variance.
        """
        prior_P, prior_std_P = self.prior
        square_QT = np.square(means_QT - self.values_QT[rows]) / self.noise_var_QT[rows]
        cost_Q = square_QT.sum(axis=1) + np.square((at_QP - prior_P) / prior_std_P).sum(axis=1)
        return np.where(np.isfinite(cost_Q), cost_Q, np.inf)

    def step(
        self,
        at_QP: Array,
        means_QT: Array,
        derivatives_QTP: Array,
        damping_Q: Array,
        rows: NDArray[np.int64],
    ) -> Array:
        """Make one damped Gauss-Newton step for the metrics `rows`; return new parameters."""
        prior_P, prior_std_P = self.prior
        precision_QPP, weighted_QPT = compute_precision(derivatives_QTP, self.noise_var_QT[rows])
        residual_QT1 = (means_QT - self.values_QT[rows])[:, :, None]
        gradient_QP = (weighted_QPT @ residual_QT1)[:, :, 0] + (at_QP - prior_P) / prior_std_P**2
        diagonal = np.arange(at_QP.shape[1])
        precision_QPP[:, diagonal, diagonal] *= 1.0 + damping_Q[:, None]
        step_QP = np.linalg.solve(precision_QPP, -gradient_QP[:, :, None])[:, :, 0]
        return np.asarray(at_QP + np.clip(step_QP, -_MAX_STEP, _MAX_STEP))
