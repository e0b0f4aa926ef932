"""The data mixing law: a floor, and an exponential of what each domain's share takes off or adds.

    metric = floor + scale * exp(sum_k slope_k * weight_k)

Axes: T trials, K domains, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Extra, JointPredict, Predict
from climb.predictor.law import Law, fit_law
from climb.predictor.sample import Sample

_GAPS = (0.3, 3.0)
"""Starts: the floor lies so far below the least value, in spreads of the values."""

_LARGEST = 30.0
"""Exponent at which the law is cut off, so that a bad step of a fit stays finite."""


@dataclass(frozen=True, kw_only=True)
class LogLinearPredictor:
    """Most probable parameters under wide priors, with a spread from the curvature there.

    The best of three fits is kept: one starts at the prior's centre, the others at a regression of
    log(value - floor) on the weights for two floors. As with the power law, the spread is that
    of the parameters, without the law's misfit. Extra features add a linear term.

    Source:
        Data Mixing Laws (Ye et al., arXiv 2403.16952), eq. 1 for one validation domain: c, k and t
        there are floor, scale and slopes here. Priors: chosen on RegMix's published training runs
        (DECISIONS.md).
    """

    slope_spread: float = 15.0
    """Spread of a domain's slope around 0; wider ones explode far from few trials."""

    max_steps: int = 40
    """Evaluations of one fit at most."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_held_out(weights_TK, values_T, noise_T, extra)[0]

    def fit_held_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> tuple[JointPredict, Array]:
        """Fit, and say what each trial is predicted to be without itself (T,), to first order."""
        sample = Sample.of(weights_TK, values_T, noise_T, extra)
        return fit_law(self._law(weights_TK.shape[1]), sample, extra)

    def _law(self, n_domains: int) -> Law:
        """Parameters: slopes (K), floor, log scale."""
        centre_P = np.append(np.zeros(n_domains), [-2.0, np.log(2.0)])
        width_P = np.append(np.full(n_domains, self.slope_spread), [2.0, 1.5])

        def starts(weights_TK: Array, values_T: Array) -> list[Array]:
            return [centre_P, *(_start(weights_TK, values_T, gap) for gap in _GAPS)]

        return Law(log_linear_law, centre_P, width_P, starts, self.max_steps)


def log_linear_law(parameters_P: Array, weights_MK: Array) -> tuple[Array, Array]:
    """The law at each mixture (M,), and its slope by each parameter (M, P).

    Parameters: slopes (K), floor, log scale.
    """
    slopes_K, floor, log_scale = parameters_P[:-2], parameters_P[-2], parameters_P[-1]
    part_M1 = np.exp(np.minimum(log_scale + weights_MK @ slopes_K, _LARGEST))[:, None]
    slopes_MP = np.hstack([part_M1 * weights_MK, np.ones_like(part_M1), part_M1])
    return floor + part_M1[:, 0], slopes_MP


def _start(weights_TK: Array, values_T: Array, gap: float) -> Array:
    """Parameters where the floor is known: the logarithm of what is above it is linear."""
    floor = float(values_T.min()) - gap
    logs_T = np.log(values_T - floor)
    ridge_KK = weights_TK.T @ weights_TK + 0.1 * np.eye(weights_TK.shape[1])
    slopes_K = np.linalg.solve(ridge_KK, weights_TK.T @ (logs_T - logs_T.mean()))
    return np.append(slopes_K, [floor, logs_T.mean()])
