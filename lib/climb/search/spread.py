"""How errors depend on the mixture: fitted to residuals and replicates, and used in intervals.

Observation noise may differ between mixtures by a large factor: 25 was reported for one set of
proxies (github.com/marin-community/marin, issue 2345). One noise for all mixtures makes the
intervals of mixtures with little noise too wide, and those of noisy mixtures too narrow.

So the standard deviation of a mixture's errors is multiplied by a factor that depends on the
mixture. The logarithm of the factor (the log factor) is a linear function of the weights, and each
domain has a slope.

    spread = Spread.fit(weights_DK, Errors(squared_D, ratio_D, degrees_D))
    std_M = spread.factor_at(weights_MK) * std_M

Axes: D distinct mixtures, M mixtures, K domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize

Array = NDArray[np.float64]

DEGREES_OF_FREEDOM = 4.0
"""Degrees of freedom of the Student t model of the errors. Its heavy tails keep a few outliers from
dominating a fit. Chosen on RegMix's training runs (docs/decisions/search.md)."""

SCALE = float(stats.norm.ppf(0.95) / stats.t.ppf(0.95, DEGREES_OF_FREEDOM))
"""Scale of the Student t, so that its 90 % interval equals that of a standard normal."""

MIN_MIXTURES = 20
"""With fewer distinct mixtures, errors are taken as independent of the mixture, without a test."""

SIGNIFICANCE = 0.01
"""Level of the permutation test: a dependence is used if its p-value is at most this."""

_ORDERS = 999
"""Number of random orders of the errors in the permutation test."""

_RANGE = (0.05, 0.95)
"""The log factor of every mixture is clipped to the range between these quantiles of the log
factors of the fitted mixtures, because the extreme values are overfitted."""

_PRIOR_STD = 0.7
"""Prior standard deviation of the log factor over mixtures. From it, the standard deviation of the
normal prior of the slopes is computed: it is the same for all domains, after their weights are
scaled to a standard deviation of 1."""

_LEVEL_STD = 1.0
"""Standard deviation of the normal prior on the log factor at the mean mixture."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors, and variances over replicates, each divided by its expected value."""

    squared_D: Array
    """Squared error of each mixture's prediction, divided by the expected variance of the error."""

    ratio_D: Array
    """Variance over the replicates of each mixture, divided by the pooled variance; 0 for a mixture
    without replicates."""

    degrees_D: Array
    """Degrees of freedom of the variance over replicates: their number minus one."""

    def evaluate(self, log_factor_D: Array) -> tuple[float, Array]:
        """Return the negative log likelihood of log factors, and its gradient, shape (D,)."""
        nu, precision_D = DEGREES_OF_FREEDOM, np.exp(-2.0 * log_factor_D)
        squared_D = self.squared_D * precision_D / SCALE**2
        ratio_D = self.ratio_D * precision_D
        cost_D = log_factor_D + 0.5 * (nu + 1.0) * np.log1p(squared_D / nu)
        cost_D += self.degrees_D * (log_factor_D + 0.5 * ratio_D)
        slope_D = 1.0 - (nu + 1.0) * squared_D / (nu + squared_D)
        slope_D += self.degrees_D * (1.0 - ratio_D)
        return float(cost_D.sum()), slope_D


@dataclass(frozen=True, eq=False)
class Spread:
    """Factor of the standard deviation of a mixture's errors: exp(level + slopes @ weights).

    The exponent is clipped to `log_range`.
    """

    level: float
    slope_K: Array
    """Change of the log factor per unit of weight."""

    log_range: tuple[float, float]
    """Range of the log factor of most trials; beyond it the factor is constant."""

    @classmethod
    def fit(cls, weights_DK: Array, errors: Errors) -> Self | None:
        """Fit the most probable slopes; None if the errors show no dependence on the weights.

        The test is a score test with permutations. Its statistic is the sum of the squared
        correlations of the score (the derivative of each error's log likelihood) with the weights.
        Errors depend on the weights if at most 1 % of random orders of the errors have a statistic
        at least as high as the real order. With fewer than `MIN_MIXTURES` mixtures, the result is
        None.

        Args:
            weights_DK: distinct mixtures.
            errors: of the same mixtures, relative to what is expected without this dependence.
        """
        std_K = weights_DK.std(axis=0)
        varies_K = std_K > 1e-9
        if len(weights_DK) < MIN_MIXTURES or not varies_K.any():
            return None
        mean_K = weights_DK[:, varies_K].mean(axis=0)
        features_DF = (weights_DK[:, varies_K] - mean_K) / std_K[varies_K]
        constant = _fit_parameters(features_DF[:, :0], errors)
        _, slope_D = errors.evaluate(np.full(len(weights_DK), constant[0]))
        if _compute_p_value(features_DF, slope_D) > SIGNIFICANCE:
            return None
        parameters = _fit_parameters(features_DF, errors)
        log_D = parameters[0] + features_DF @ parameters[1:]
        slope_K = np.zeros(weights_DK.shape[1])
        slope_K[varies_K] = parameters[1:] / std_K[varies_K]
        level = float(parameters[0] - mean_K @ slope_K[varies_K])
        low, high = np.quantile(log_D, _RANGE)
        return cls(level, slope_K, (float(low), float(high)))

    def factor_at(self, weights_MK: Array) -> Array:
        """Return the factor of each mixture's standard deviation, shape (M,)."""
        log_M = self.level + weights_MK @ self.slope_K
        return np.asarray(np.exp(np.clip(log_M, *self.log_range)))

    @property
    def ratio(self) -> float:
        """Ratio of the largest to the smallest factor within `log_range`."""
        low, high = self.log_range
        return float(np.exp(high - low))


def _fit_parameters(features_DF: Array, errors: Errors) -> Array:
    """Return the most probable level and slopes of standardized features, shape (1 + F,)."""
    n_features = features_DF.shape[1]
    prior_std = np.append(_LEVEL_STD, np.full(n_features, _PRIOR_STD / np.sqrt(max(n_features, 1))))

    def evaluate(parameters: Array) -> tuple[float, Array]:
        cost, slope_D = errors.evaluate(parameters[0] + features_DF @ parameters[1:])
        z = parameters / prior_std
        gradient = np.append(slope_D.sum(), slope_D @ features_DF) + z / prior_std
        return cost + 0.5 * float(z @ z), gradient

    return np.asarray(minimize(evaluate, np.zeros(1 + n_features), jac=True, method="L-BFGS-B").x)


def _compute_p_value(features_DF: Array, slope_D: Array) -> float:
    """Return the p-value of the permutation test.

    It is the share of orders of the errors in which they depend on the features at least as
    strongly as in the real order. The real order is included.
    """
    orders = np.tile(slope_D, (1 + _ORDERS, 1))
    random = np.random.default_rng(len(slope_D))
    random.permuted(orders[1:], axis=1, out=orders[1:])
    strength = np.square(orders @ features_DF).sum(axis=1)
    # An order counts as equally strong if its strength differs from that of the real order only by
    # rounding.
    n_stronger = int((strength[1:] >= strength[0] * (1.0 - 1e-9)).sum())
    return (1 + n_stronger) / (1 + _ORDERS)
