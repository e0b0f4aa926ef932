"""Fitting a law of the weights: most probable parameters, and a spread from the curvature there.

Axes: T trials, K domains, M mixtures, F extra features, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import least_squares

from climb.predictor import Array, Extra, JointPredict
from climb.predictor.sample import Sample, Scaling, extra_columns

_NOISE_START = 0.15
"""Share of the spread that the first fit takes for noise."""

_REFITS = 2
"""Fits after the first, each with the noise that the last one left."""

_LEAST_NOISE = 1e-4
"""Variance that a fit leaves at least, as a share of the values' own."""

_EXTRA_SPREAD = 1.0
"""Prior on the slope by an extra feature: change per spread of the feature, in spreads."""


@dataclass(frozen=True, eq=False)
class Law:
    """A function with unknown parameters, and what is believed of them before any trial."""

    at: Callable[[Array, Array], tuple[Array, Array]]
    """parameters_P, weights_MK -> the law at each mixture (M,), its slope by each parameter."""

    centre_P: Array
    width_P: Array
    starts: Callable[[Array, Array], Sequence[Array]]
    """weights_TK, values_T -> parameters to start from; the likeliest end is kept."""

    max_steps: int
    """Evaluations of one fit at most."""


def fit_law(law: Law, sample: Sample, extra: Extra | None) -> tuple[JointPredict, Array]:
    """Fit as something to be lowered and as something to be raised, and keep the likelier.

    Extra features add a linear term, its slopes under a prior of their own.

    Returns:
        The prediction, and what each trial is predicted to be without itself (T,), to first
        order; a whole fit per trial would say nearly the same.
    """
    scaling = Scaling.to_standard(sample.extra_TF)
    columns_TF = scaling(sample.extra_TF)
    fits = []
    for sign in (1.0, -1.0):
        values_T = sign * sample.values_T
        task = _Task(law, sample.weights_TK, columns_TF, values_T, sample.known_T)
        starts = law.starts(sample.weights_TK, values_T)
        fits.append(min((_Fit.start(task, start_P) for start_P in starts), key=_cost))
    sign = -1.0 if fits[1].cost < fits[0].cost else 1.0
    fitted = fits[int(sign < 0.0)]
    for _ in range(_REFITS):
        fitted = fitted.again()
    held_T = sample.as_given(sign * fitted.held_out())
    return _LawPredict(fitted, extra, scaling, sign, sample.centre, sample.scale), held_T


@dataclass(frozen=True, eq=False)
class _LawPredict:
    """A fitted law in the units of the metric; see `climb.predictor.JointPredict`."""

    fitted: _Fit
    extra: Extra | None
    scaling: Scaling
    sign: float
    centre: float
    scale: float

    @property
    def noise(self) -> float:
        return self.scale * float(np.sqrt(self.fitted.noise_T.min()))

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, slopes_MP = self._law(weights_MK)
        var_M = np.square(slopes_MP @ self.fitted.root_PP).sum(axis=1)
        return self._level(mean_M), self.scale * np.sqrt(np.maximum(var_M, 1e-12))

    def mean(self, weights_MK: Array) -> Array:
        return self._level(self._law(weights_MK)[0])

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, slopes_MP = self._law(weights_MK)
        spread_MP = self.scale * slopes_MP @ self.fitted.root_PP
        return self._level(mean_M), spread_MP @ spread_MP.T

    def _law(self, weights_MK: Array) -> tuple[Array, Array]:
        columns_MF = self.scaling(extra_columns(self.extra, weights_MK))
        return self.fitted.task.at(self.fitted.parameters_P, weights_MK, columns_MF)

    def _level(self, mean_M: Array) -> Array:
        return np.asarray(self.centre + self.sign * self.scale * mean_M)


@dataclass(frozen=True, eq=False)
class _Task:
    """A law, and the trials that it is fitted to; parameters are the law's, then slopes (F)."""

    law: Law
    weights_TK: Array
    columns_TF: Array
    values_T: Array
    known_T: Array
    """Known variance of each value."""

    @property
    def centre_P(self) -> Array:
        return np.append(self.law.centre_P, np.zeros(self.columns_TF.shape[1]))

    @property
    def width_P(self) -> Array:
        return np.append(self.law.width_P, np.full(self.columns_TF.shape[1], _EXTRA_SPREAD))

    def at(self, at_P: Array, weights_MK: Array, columns_MF: Array) -> tuple[Array, Array]:
        """Law and linear term at each mixture, and the slope by each parameter."""
        own_P, slopes_F = np.split(at_P, [len(self.law.centre_P)])
        mean_M, slopes_MP = self.law.at(own_P, weights_MK)
        return mean_M + columns_MF @ slopes_F, np.hstack([slopes_MP, columns_MF])

    def at_trials(self, at_P: Array) -> tuple[Array, Array]:
        return self.at(at_P, self.weights_TK, self.columns_TF)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit of the law to scaled values, and the noise that it leaves."""

    task: _Task
    parameters_P: Array
    root_PP: Array
    """A root of the parameters' covariance: root @ root.T."""

    noise_T: Array
    """Variance that this fit assumed for each value."""

    left: float
    """Variance that it leaves unexplained, beyond what is known."""

    cost: float
    """Minus twice the log posterior, up to a constant."""

    @classmethod
    def start(cls, task: _Task, start_P: Array) -> _Fit:
        """Fit from given parameters of the law, the extra features without effect."""
        start_P = np.append(start_P, np.zeros(task.columns_TF.shape[1]))
        return cls._at(task, start_P, task.known_T + _NOISE_START**2)

    def again(self) -> _Fit:
        """Fit from here, with the noise that this fit left."""
        return self._at(self.task, self.parameters_P, self.task.known_T + self.left)

    @classmethod
    def _at(cls, task: _Task, start_P: Array, noise_T: Array) -> _Fit:
        centre_P, width_P = task.centre_P, task.width_P
        trust_T = 1.0 / np.sqrt(noise_T)

        def misses(at_P: Array) -> Array:
            off_T = task.at_trials(at_P)[0] - task.values_T
            return np.concatenate([off_T * trust_T, (at_P - centre_P) / width_P])

        def slopes(at_P: Array) -> Array:
            return np.vstack([task.at_trials(at_P)[1] * trust_T[:, None], np.diag(1 / width_P)])

        found = least_squares(misses, start_P, jac=slopes, method="lm", max_nfev=task.law.max_steps)
        off_T, slope_TP = task.at_trials(found.x)
        curvature_PP = (slope_TP / noise_T[:, None]).T @ slope_TP + np.diag(width_P**-2.0)
        lower_PP = cholesky(curvature_PP, lower=True)
        root_PP = solve_triangular(lower_PP, np.eye(len(lower_PP)), lower=True).T
        # Parameters that the data decided, not the prior: they cost degrees of freedom.
        decided = len(centre_P) - float((np.square(root_PP).sum(axis=1) / width_P**2).sum())
        scale = len(noise_T) / max(len(noise_T) - decided, 1.0)
        # Doubtful values may lie nearer than they claim; they must not speak for the sure ones.
        share_T = noise_T**-2.0 / (noise_T**-2.0).sum()
        left = float(share_T @ (scale * np.square(off_T - task.values_T) - task.known_T))
        cost = float(np.square(found.fun).sum() + np.log(noise_T).sum())
        return cls(task, found.x, root_PP, noise_T, max(left, _LEAST_NOISE), cost)

    def held_out(self) -> Array:
        """What each value would be without itself, by the leverage that it has on its own fit."""
        mean_T, slope_TP = self.task.at_trials(self.parameters_P)
        lever_T = np.square(slope_TP @ self.root_PP).sum(axis=1) / self.noise_T
        off_T = (mean_T - self.task.values_T) / np.maximum(1.0 - lever_T, 0.05)
        return np.asarray(self.task.values_T + off_T)


def _cost(fit: _Fit) -> float:
    return fit.cost
