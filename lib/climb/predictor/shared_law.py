"""The power law of effective data for many metrics at once, with one exponent per group of metrics.

    metric = floor + scale * (base + sum_v coefficient_v * feature_v ^ exponent) ^ -decay

It is the law of `climb.predictor.powerlaw`. A batched Levenberg-Marquardt method fits it to all
metrics at the same time. A common exponent makes powers of the features the same for all
metrics of a group, so the sums over features are matrix products.

Axes: T trials, V features (weights and their sums), Q metrics, M mixtures, P parameters: log
coefficients (V), log base, floor, log scale, log decay.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, Parameters
from climb.predictor.law_steps import (
    compute_precision,
    evaluate,
    evaluate_means,
    make_prior,
    minimize_laws,
    raise_to_power,
)
from climb.predictor.parametric_law import INITIAL_NOISE, MIN_NOISE_VAR, MIN_PREDICTION_VAR

_LOG_EXPONENT, _LOG_EXPONENT_STD = float(np.log(0.6)), 0.2
"""Mean and standard deviation of the normal prior on a group's log exponent."""

_FIRST_STEPS, _REFIT_STEPS, _REFITS = 30, 20, 2
"""Maximum steps of the first fit and of each refit, and the number of refits. A refit uses the
noise estimated from the residuals of the previous fit."""


@dataclass(frozen=True, eq=False)
class SharedLaw:
    """The laws of all metrics on standardized values."""

    parameters_QP: Array
    exponents_Q: Array
    signs_Q: Array
    """-1 for a metric whose negative has the more probable fit, such as a metric that rises with
    data; else 1."""

    roots_QPP: Array
    """For each metric, a root of the parameters' covariance: covariance = root @ root.T."""

    noise_Q: Array
    """Standard deviation of the observation noise of the least noisy trial, for each metric."""

    @classmethod
    def fit(
        cls, features_TV: Array, values_TQ: Array, noise_var_TQ: Array, groups_Q: Array
    ) -> tuple[Self, Array]:
        """Fit every metric and its negative, and keep the more probable fit.

        Args:
            features_TV: weights and sums of weights, each at least 0.
            values_TQ: standardized values.
            noise_var_TQ: noise variance of each value, 0 if unknown; further noise is inferred.
            groups_Q: group of each metric; the metrics of a group have the same exponent.

        Returns:
            The fit, and leave-one-out predictions (T, Q) to first order.
        """
        both = np.concatenate([values_TQ.T, -values_TQ.T])
        fits = _Fits.start(features_TV, both, np.concatenate([noise_var_TQ.T] * 2))
        n = values_TQ.shape[1]
        is_negative_Q = fits.cost_Q[n:] < fits.cost_Q[:n]
        fits = fits.select(np.where(is_negative_Q, np.arange(n) + n, np.arange(n)))
        for _ in range(_REFITS):
            fits = fits.refit(groups_Q)
        signs_Q = np.where(is_negative_Q, -1.0, 1.0)
        roots_QPP = fits.compute_roots()
        noise_Q = np.sqrt(fits.noise_var_QT.min(axis=1))
        law = cls(fits.parameters_QP, fits.exponents_Q, signs_Q, roots_QPP, noise_Q)
        return law, (signs_Q[:, None] * fits.predict_leave_one_out(roots_QPP)).T

    def predict_means(self, features_MV: Array) -> Array:
        """Predict standardized values, shape (M, Q)."""
        means_QM = np.empty((len(self.signs_Q), len(features_MV)))
        for exponent in np.unique(self.exponents_Q):
            part = self.exponents_Q == exponent
            powers_MV = raise_to_power(features_MV, exponent)
            means_QM[part] = evaluate_means(self.parameters_QP[part], powers_MV)
        return (self.signs_Q[:, None] * means_QM).T

    def predict_mean(self, q: int, features_MV: Array) -> Array:
        """Predict standardized values of one metric, shape (M,)."""
        powers_MV = raise_to_power(features_MV, self.exponents_Q[q])
        return np.asarray(
            self.signs_Q[q] * evaluate_means(self.parameters_QP[q : q + 1], powers_MV)[0]
        )

    def predict_root(self, q: int, features_MV: Array) -> tuple[Array, Array]:
        """Predict one metric: mean (M,), and a root of the covariance of its errors (M, P)."""
        powers_MV = raise_to_power(features_MV, self.exponents_Q[q])
        mean_1M, derivatives_1MP = evaluate(self.parameters_QP[q : q + 1], [powers_MV])
        return self.signs_Q[q] * mean_1M[0], derivatives_1MP[0] @ self.roots_QPP[q]

    def predict(self, q: int, features_MV: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of one metric, shapes (M,)."""
        mean_M, root_MP = self.predict_root(q, features_MV)
        var_M = np.square(root_MP).sum(axis=1)
        return mean_M, np.sqrt(np.maximum(var_M, MIN_PREDICTION_VAR))

    def predict_all(self, features_MV: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q)."""
        unique, index_Q = np.unique(self.exponents_Q, return_inverse=True)
        powers = [raise_to_power(features_MV, exponent) for exponent in unique]
        means_QM, derivatives_QMP = evaluate(self.parameters_QP, [powers[i] for i in index_Q])
        var_QM = np.square(derivatives_QMP @ self.roots_QPP).sum(axis=2)
        stds_QM = np.sqrt(np.maximum(var_QM, MIN_PREDICTION_VAR))
        return (self.signs_Q[:, None] * means_QM).T, stds_QM.T

    def export(self, q: int) -> Parameters:
        """Return the parameters of one metric: standardized value = sign * law(features)."""
        return {
            "kind": "power_law",
            "parameters": [*self.parameters_QP[q].tolist(), float(np.log(self.exponents_Q[q]))],
            "sign": float(self.signs_Q[q]),
        }


@dataclass(frozen=True, eq=False)
class _Fits:
    """One fit per metric, with the noise that it assumes."""

    features_TV: Array
    values_QT: Array
    known_var_QT: Array
    exponents_Q: Array
    noise_var_QT: Array
    parameters_QP: Array
    means_QT: Array
    derivatives_QTP: Array
    cost_Q: Array
    """Minus twice the log posterior, up to a constant."""

    @classmethod
    def start(cls, features_TV: Array, values_QT: Array, known_var_QT: Array) -> Self:
        """Fit from the prior's mean, with the initial noise and the prior's central exponent."""
        n_metrics = len(values_QT)
        prior_P, _ = make_prior(features_TV.shape[1])
        return cls._fit(
            (features_TV, values_QT, known_var_QT),
            np.full(n_metrics, np.exp(_LOG_EXPONENT)),
            known_var_QT + INITIAL_NOISE**2,
            np.tile(prior_P, (n_metrics, 1)),
            _FIRST_STEPS,
        )

    @classmethod
    def _fit(
        cls,
        data: tuple[Array, Array, Array],
        exponents_Q: Array,
        noise_var_QT: Array,
        start_QP: Array,
        max_steps: int,
    ) -> Self:
        features_TV, values_QT, known_var_QT = data
        unique, index_Q = np.unique(exponents_Q, return_inverse=True)
        powers = [raise_to_power(features_TV, exponent) for exponent in unique]
        fitted = minimize_laws(
            start_QP, [powers[i] for i in index_Q], values_QT, noise_var_QT, max_steps
        )
        return cls(features_TV, values_QT, known_var_QT, exponents_Q, noise_var_QT, *fitted)

    def select(self, rows: NDArray[np.int64]) -> Self:
        """Keep some of the fits."""
        metrics = [field.name for field in fields(self) if field.name != "features_TV"]
        return replace(self, **{name: getattr(self, name)[rows] for name in metrics})

    def refit(self, groups_Q: Array) -> Self:
        """Fit again, with improved exponents and the noise estimated from this fit's residuals."""
        noise_var_QT = self.known_var_QT + self._estimate_residual_var()[:, None]
        data = (self.features_TV, self.values_QT, self.known_var_QT)
        exponents_Q = self._improve_exponents(groups_Q)
        return self._fit(data, exponents_Q, noise_var_QT, self.parameters_QP, _REFIT_STEPS)

    def compute_roots(self) -> Array:
        """Return roots of the parameters' covariances, shape (Q, P, P)."""
        lower_QPP = np.linalg.cholesky(
            compute_precision(self.derivatives_QTP, self.noise_var_QT)[0]
        )
        identity = np.broadcast_to(np.eye(lower_QPP.shape[1]), lower_QPP.shape)
        return np.asarray(np.linalg.solve(lower_QPP, identity).transpose(0, 2, 1))

    def predict_leave_one_out(self, roots_QPP: Array) -> Array:
        """Return leave-one-out predictions (Q, T) to first order.

        The residual of each value is divided by 1 minus the value's leverage on the fit.
        """
        leverage_QT = np.square(self.derivatives_QTP @ roots_QPP).sum(axis=2) / self.noise_var_QT
        error_QT = (self.means_QT - self.values_QT) / np.maximum(1.0 - leverage_QT, 0.05)
        return np.asarray(self.values_QT + error_QT)

    def _estimate_residual_var(self) -> Array:
        """Estimate the noise variance beyond the known one, shape (Q,)."""
        _, prior_std_P = make_prior(self.features_TV.shape[1])
        var_QP = np.square(self.compute_roots()).sum(axis=2)
        # Degrees of freedom of a fit: the number of parameters that the data determine.
        fitted_Q = var_QP.shape[1] - (var_QP / prior_std_P**2).sum(axis=1)
        n_trials = self.values_QT.shape[1]
        scale_Q = n_trials / np.maximum(n_trials - fitted_Q, 1.0)
        # Some trials may be reused runs of an earlier domain set. The noise given for them is often
        # too large. So the estimate gives most weight to the values whose given noise is smallest.
        share_QT = self.noise_var_QT**-2.0
        share_QT /= share_QT.sum(axis=1, keepdims=True)
        square_QT = np.square(self.means_QT - self.values_QT)
        excess_QT = scale_Q[:, None] * square_QT - self.known_var_QT
        return np.asarray(np.maximum((share_QT * excess_QT).sum(axis=1), MIN_NOISE_VAR))

    def _improve_exponents(self, groups_Q: Array) -> Array:
        """Return exponents (Q,) after one Newton step of each group's log exponent.

        The curvature assumes that the other parameters are refitted to the new exponent.
        """
        n_features = self.features_TV.shape[1]
        log_TV = np.log(np.maximum(self.features_TV, 1e-12))
        exponents_Q = self.exponents_Q.copy()
        precision_QPP = compute_precision(self.derivatives_QTP, self.noise_var_QT)[0]
        residual_QT = (self.means_QT - self.values_QT) / self.noise_var_QT
        for group in np.unique(groups_Q):
            part = np.flatnonzero(groups_Q == group)
            log_exponent = float(np.log(exponents_Q[part[0]]))
            gradient = (log_exponent - _LOG_EXPONENT) / _LOG_EXPONENT_STD**2
            curvature = _LOG_EXPONENT_STD**-2.0
            for q in part:
                # d(law)/d(log coefficient) * exponent * log(feature), summed over the features
                by_exponent_T = exponents_Q[q] * np.einsum(
                    "tv,tv->t", self.derivatives_QTP[q, :, :n_features], log_TV
                )
                weighted_T = by_exponent_T / self.noise_var_QT[q]
                cross_P = self.derivatives_QTP[q].T @ weighted_T
                gradient += float(by_exponent_T @ residual_QT[q])
                curvature += float(by_exponent_T @ weighted_T)
                curvature -= float(cross_P @ np.linalg.solve(precision_QPP[q], cross_P))
            step = np.clip(-gradient / max(curvature, 1e-9), -0.3, 0.3)
            exponents_Q[part] = np.exp(np.clip(log_exponent + step, np.log(0.25), 0.0))
        return exponents_Q
