"""Parametric laws of the weights: MAP fits; the posterior's curvature gives standard deviations.

Axes: T trials, K domains, M mixtures, F extra features, P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import least_squares

from climb.predictor import Array, ExtraFeatures, JointPredict, Parameters, Predict
from climb.predictor.sample import Sample, Scaling, compute_extra_features

INITIAL_NOISE = 0.15
"""The first fit assumes noise with this standard deviation, in addition to the known noise. The
values have standard deviation 1."""

_REFITS = 2
"""Number of fits after the first; each uses the noise estimated from the previous residuals."""

MIN_NOISE_VAR = 1e-4
"""Lower bound of the estimated noise variance, as a share of the values' variance."""

_EXTRA_SLOPE_STD = 1.0
"""Prior standard deviation of an extra feature's slope. Feature and metric are measured in standard
deviations over the trials."""

MIN_PREDICTION_VAR = 1e-12
"""Lower bound of a prediction's variance, as a share of the values' variance."""


@dataclass(frozen=True, eq=False)
class ParametricLaw:
    """A function of parameters and weights, with a normal prior on the parameters."""

    evaluate: Callable[[Array, Array], tuple[Array, Array]]
    """parameters_P, weights_MK -> the law at each mixture (M,), its derivatives (M, P)."""

    prior_mean_P: Array
    prior_std_P: Array
    make_starts: Callable[[Array, Array], Sequence[Array]]
    """weights_TK, values_T -> initial parameters of several fits; the most probable fit is kept."""

    max_steps: int
    """Maximum function evaluations of one fit."""


class LawPredictor(ABC):
    """A predictor that fits a `ParametricLaw`."""

    @abstractmethod
    def build_law(self, n_domains: int) -> ParametricLaw:
        """Return the law for mixtures of `n_domains` domains."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_with_leave_one_out(weights_TK, values_T, noise_T, extra)[0]

    def fit_with_leave_one_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> tuple[JointPredict, Array]:
        """Fit, and return the leave-one-out prediction of each trial (T,), to first order."""
        sample = Sample.from_trials(weights_TK, values_T, noise_T, extra)
        return fit_law(self.build_law(weights_TK.shape[1]), sample, extra)


def fit_law(
    law: ParametricLaw, sample: Sample, extra: ExtraFeatures | None
) -> tuple[JointPredict, Array]:
    """Fit the law to the values and to their negatives, and keep the more probable fit.

    Extra features add a linear term with its own prior.

    Returns:
        The fitted function, and leave-one-out predictions (T,) to first order. The latter are close
        to predictions by separate fits, each without one trial.
    """
    scaling = Scaling.fit_standard(sample.extra_TF)
    extra_TF = scaling(sample.extra_TF)
    fits = []
    for sign in (1.0, -1.0):
        values_T = sign * sample.values_T
        problem = _FitProblem(law, sample.weights_TK, extra_TF, values_T, sample.noise_var_T)
        starts = law.make_starts(sample.weights_TK, values_T)
        fits.append(min((_Fit.start(problem, start_P) for start_P in starts), key=_get_cost))
    sign = -1.0 if fits[1].cost < fits[0].cost else 1.0
    fit = fits[int(sign < 0.0)]
    for _ in range(_REFITS):
        fit = fit.refit()
    left_out_T = sample.restore(sign * fit.predict_leave_one_out())
    return _LawPredict(fit, extra, scaling, sign, sample.center, sample.scale), left_out_T


@dataclass(frozen=True, eq=False)
class _LawPredict:
    """A fitted law in the unit of the metric; see `climb.predictor.JointPredict`."""

    fit: _Fit
    extra: ExtraFeatures | None
    scaling: Scaling
    sign: float
    center: float
    scale: float

    @property
    def noise(self) -> float:
        return self.scale * float(np.sqrt(self.fit.noise_var_T.min()))

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, derivatives_MP = self._evaluate(weights_MK)
        var_M = np.square(derivatives_MP @ self.fit.root_PP).sum(axis=1)
        return self._unscale(mean_M), self.scale * np.sqrt(np.maximum(var_M, MIN_PREDICTION_VAR))

    def export(self) -> Parameters:
        """Return the law's parameters: metric = center + sign * scale * law(parameters, weights).

        Empty for a fit with extra features: the function that computes them cannot be exported.
        """
        if self.extra is not None:
            return {}
        return {
            "kind": self.fit.problem.law.evaluate.__name__,
            "parameters": self.fit.parameters_P.tolist(),
            "sign": self.sign,
            "center": self.center,
            "scale": self.scale,
        }

    def mean(self, weights_MK: Array) -> Array:
        return self._unscale(self._evaluate(weights_MK)[0])

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, derivatives_MP = self._evaluate(weights_MK)
        root_MP = self.scale * derivatives_MP @ self.fit.root_PP
        return self._unscale(mean_M), root_MP @ root_MP.T

    def _evaluate(self, weights_MK: Array) -> tuple[Array, Array]:
        extra_MF = self.scaling(compute_extra_features(self.extra, weights_MK))
        return self.fit.problem.evaluate(self.fit.parameters_P, weights_MK, extra_MF)

    def _unscale(self, mean_M: Array) -> Array:
        return np.asarray(self.center + self.sign * self.scale * mean_M)


@dataclass(frozen=True, eq=False)
class _FitProblem:
    """A law and its trials. Parameters: those of the law, then the slopes of extra features."""

    law: ParametricLaw
    weights_TK: Array
    extra_TF: Array
    values_T: Array
    noise_var_T: Array
    """Noise variance of each value, 0 if unknown."""

    @property
    def prior_mean_P(self) -> Array:
        return np.append(self.law.prior_mean_P, np.zeros(self.extra_TF.shape[1]))

    @property
    def prior_std_P(self) -> Array:
        return np.append(self.law.prior_std_P, np.full(self.extra_TF.shape[1], _EXTRA_SLOPE_STD))

    def evaluate(
        self, parameters_P: Array, weights_MK: Array, extra_MF: Array
    ) -> tuple[Array, Array]:
        """Return the sum of law and linear term at each mixture, and the derivatives of the sum."""
        law_P, slopes_F = np.split(parameters_P, [len(self.law.prior_mean_P)])
        mean_M, derivatives_MP = self.law.evaluate(law_P, weights_MK)
        return mean_M + extra_MF @ slopes_F, np.hstack([derivatives_MP, extra_MF])

    def evaluate_trials(self, parameters_P: Array) -> tuple[Array, Array]:
        return self.evaluate(parameters_P, self.weights_TK, self.extra_TF)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit of the law to scaled values, and the noise estimated from its residuals."""

    problem: _FitProblem
    parameters_P: Array
    root_PP: Array
    """A root of the parameters' covariance: covariance = root @ root.T."""

    noise_var_T: Array
    """Noise variance that this fit assumes for each value."""

    residual_var: float
    """Estimated noise variance in addition to the known one, from the residuals of this fit."""

    cost: float
    """Minus twice the log posterior, up to a constant."""

    @classmethod
    def start(cls, problem: _FitProblem, start_P: Array) -> _Fit:
        """Fit from initial parameters of the law, with slopes of 0 for extra features."""
        start_P = np.append(start_P, np.zeros(problem.extra_TF.shape[1]))
        return cls._fit(problem, start_P, problem.noise_var_T + INITIAL_NOISE**2)

    def refit(self) -> _Fit:
        """Fit again from this fit's parameters, with the noise estimated from its residuals."""
        noise_var_T = self.problem.noise_var_T + self.residual_var
        return self._fit(self.problem, self.parameters_P, noise_var_T)

    @classmethod
    def _fit(cls, problem: _FitProblem, start_P: Array, noise_var_T: Array) -> _Fit:
        mean_P, std_P = problem.prior_mean_P, problem.prior_std_P
        inverse_std_T = 1.0 / np.sqrt(noise_var_T)

        def compute_residuals(at_P: Array) -> Array:
            residual_T = problem.evaluate_trials(at_P)[0] - problem.values_T
            return np.concatenate([residual_T * inverse_std_T, (at_P - mean_P) / std_P])

        def compute_jacobian(at_P: Array) -> Array:
            derivatives_TP = problem.evaluate_trials(at_P)[1]
            return np.vstack([derivatives_TP * inverse_std_T[:, None], np.diag(1 / std_P)])

        solution = least_squares(
            compute_residuals,
            start_P,
            jac=compute_jacobian,
            method="lm",
            max_nfev=problem.law.max_steps,
        )
        mean_T, derivatives_TP = problem.evaluate_trials(solution.x)
        weighted_TP = derivatives_TP / noise_var_T[:, None]
        precision_PP = weighted_TP.T @ derivatives_TP + np.diag(std_P**-2.0)
        lower_PP = cholesky(precision_PP, lower=True)
        root_PP = solve_triangular(lower_PP, np.eye(len(lower_PP)), lower=True).T
        # Degrees of freedom of the fit: the number of parameters that the data determine.
        n_fitted = len(mean_P) - float((np.square(root_PP).sum(axis=1) / std_P**2).sum())
        scale = len(noise_var_T) / max(len(noise_var_T) - n_fitted, 1.0)
        # Some trials may be reused runs of an earlier domain set. The noise given for them is often
        # too large. So the estimate gives most weight to the values whose given noise is smallest.
        share_T = noise_var_T**-2.0 / (noise_var_T**-2.0).sum()
        excess_T = scale * np.square(mean_T - problem.values_T) - problem.noise_var_T
        residual_var = max(float(share_T @ excess_T), MIN_NOISE_VAR)
        cost = float(np.square(solution.fun).sum() + np.log(noise_var_T).sum())
        return cls(problem, solution.x, root_PP, noise_var_T, residual_var, cost)

    def predict_leave_one_out(self) -> Array:
        """Return leave-one-out predictions (T,) to first order.

        The residual of each value is divided by 1 minus the value's leverage on the fit.
        """
        mean_T, derivatives_TP = self.problem.evaluate_trials(self.parameters_P)
        leverage_T = np.square(derivatives_TP @ self.root_PP).sum(axis=1) / self.noise_var_T
        error_T = (mean_T - self.problem.values_T) / np.maximum(1.0 - leverage_T, 0.05)
        return np.asarray(self.problem.values_T + error_T)


def _get_cost(fit: _Fit) -> float:
    return fit.cost
