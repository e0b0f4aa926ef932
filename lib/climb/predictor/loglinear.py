"""Data mixing law: a floor plus an exponential of a linear function of the weights.

    metric = floor + scale * exp(sum_k slope_k * weight_k)

Axes: T trials, K domains, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array
from climb.predictor.parametric_law import LawPredictor, ParametricLaw

_FLOOR_GAPS = (0.3, 3.0)
"""Initial floors: distances below the smallest value, in standard deviations of the values."""

_MAX_EXPONENT = 30.0
"""Upper bound of the exponent, so that a bad step of a fit stays finite."""


@dataclass(frozen=True, kw_only=True)
class LogLinearPredictor(LawPredictor):
    """MAP parameters under wide priors; the posterior's curvature gives the standard deviation.

    The most probable of six fits is kept: three fits to the values, and three to their negatives.
    One of each three fits starts at the prior's mean. The other two start with two different
    floors; their other parameters start at a regression of log(value - floor) on the weights. The
    standard deviation of a prediction contains the uncertainty of the parameters, but not the
    misfit of the law. Extra features of a mixture add a linear term.

    Source:
        Data Mixing Laws (Ye et al., arXiv 2403.16952), eq. 1 for one validation domain. There, the
        floor is called c, the scale k and the slopes t. Priors: chosen on RegMix's published
        training runs (docs/decisions/predictor.md).
    """

    slope_std: float = 15.0
    """Prior standard deviation of a domain's slope. With a larger value, fits to few trials can
    diverge."""

    max_steps: int = 40
    """Maximum function evaluations of one fit."""

    def build_law(self, n_domains: int) -> ParametricLaw:
        """Return the law with its priors; see `log_linear_law` for the parameters."""
        mean_P = np.append(np.zeros(n_domains), [-2.0, np.log(2.0)])
        std_P = np.append(np.full(n_domains, self.slope_std), [2.0, 1.5])

        def make_starts(weights_TK: Array, values_T: Array) -> list[Array]:
            return [mean_P, *(_regress_logs(weights_TK, values_T, gap) for gap in _FLOOR_GAPS)]

        return ParametricLaw(log_linear_law, mean_P, std_P, make_starts, self.max_steps)


def log_linear_law(parameters_P: Array, weights_MK: Array) -> tuple[Array, Array]:
    """Evaluate the law (M,), and its derivatives with respect to the parameters (M, P).

    Parameters: slopes (K), floor, log scale.
    """
    slopes_K, floor, log_scale = parameters_P[:-2], parameters_P[-2], parameters_P[-1]
    exp_M1 = np.exp(np.minimum(log_scale + weights_MK @ slopes_K, _MAX_EXPONENT))[:, None]
    derivatives_MP = np.hstack([exp_M1 * weights_MK, np.ones_like(exp_M1), exp_M1])
    return floor + exp_M1[:, 0], derivatives_MP


def _regress_logs(weights_TK: Array, values_T: Array, gap: float) -> Array:
    """Fit the parameters for a fixed floor: log(value - floor) is linear in the weights."""
    floor = float(values_T.min()) - gap
    logs_T = np.log(values_T - floor)
    ridge_KK = weights_TK.T @ weights_TK + 0.1 * np.eye(weights_TK.shape[1])
    slopes_K = np.linalg.solve(ridge_KK, weights_TK.T @ (logs_T - logs_T.mean()))
    return np.append(slopes_K, [floor, logs_T.mean()])
