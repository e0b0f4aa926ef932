"""The curve of a metric over model size N and training tokens D: E + A N^-a + B D^-b.

Source:
    Hoffmann et al. (arXiv 2203.15556), eq. 2. The average over exponents is our addition, because
    two or three sizes do not determine the exponents.

Axes: S settings (pairs of N and D), Q metrics, G pairs of exponents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SAME_SIZE = 0.01
"""Relative difference of parameters below which two models have the same size."""

UNKNOWN = 1.0
"""Value for the model size or the tokens of runs that do not state them. It is the same for all
such runs, so that it has no effect."""

_SIZE_EXPONENT, _TOKEN_EXPONENT, _EXPONENT_STD = 0.34, 0.28, 0.15
"""Means of the normal priors of a and b (values of Hoffmann et al.), and the standard deviation of
both priors."""

_EXPONENTS_G2 = np.array(
    [(a, b) for a in np.linspace(0.1, 0.9, 9) for b in np.linspace(0.05, 0.95, 19)]
)

_MIN_ERROR = 1e-3
"""Smallest residual standard deviation of a fit, as a share of the metric's root mean square."""


@dataclass(frozen=True)
class Scale:
    """A model size and a number of training tokens; `UNKNOWN` where no run states it."""

    params: float
    tokens: float

    def __str__(self) -> str:
        """Return for example '3.1e+08 parameters and 2e+10 tokens'."""
        parts = [(self.params, "parameters"), (self.tokens, "tokens")]
        return " and ".join(f"{value:.3g} {unit}" for value, unit in parts if value != UNKNOWN)


@dataclass(frozen=True, eq=False)
class ScaleCurves:
    """The curves of all metrics, averaged over plausible exponents."""

    unit: Scale
    """Scale at which N^-a and D^-b are 1."""

    coefficients_G3Q: Array
    """E, A and B for each pair of exponents."""

    inverse_G33: Array
    """Covariance of the coefficients if the residual variance is 1."""

    var_GQ: Array
    """Residual variance."""

    weights_GQ: Array
    """Posterior probability of each pair of exponents."""

    @classmethod
    def fit(cls, params_S: Array, tokens_S: Array, means_SQ: Array, weights_S: Array) -> Self:
        """Fit by weighted least squares for every pair of exponents.

        Args:
            params_S: model size of each setting.
            tokens_S: tokens of each setting.
            means_SQ: mean of each metric at each setting, without the effects of mixtures.
            weights_S: weight of each setting; their mean is 1.
        """
        unit = Scale(float(np.exp(np.log(params_S).mean())), float(np.exp(np.log(tokens_S).mean())))
        # If all sizes, or all tokens, are equal, the curve has no term for them.
        varies_3 = np.array([True, varies(params_S), varies(tokens_S)])
        n_free = max(len(means_SQ) - int(varies_3.sum()), 1)
        # The lower bound of the residual variance is a share of the metric's mean square. If the
        # mean square is 0, the bound is the same share of 1.
        size_Q = np.square(means_SQ).mean(axis=0)
        floor_Q = _MIN_ERROR**2 * np.where(size_Q > 0.0, size_Q, 1.0) * n_free
        coefficients, inverses, variances, costs = [], [], [], []
        for exponents_2 in _EXPONENTS_G2:
            terms_S3 = varies_3 * _compute_terms(params_S, tokens_S, unit, exponents_2)
            precision_33 = (terms_S3.T * weights_S) @ terms_S3
            inverse_33 = np.linalg.inv(precision_33 + np.diag(np.where(varies_3, 1e-9, 1.0)))
            solved_3Q = inverse_33 @ (terms_S3.T * weights_S) @ means_SQ
            squares_Q = weights_S @ np.square(means_SQ - terms_S3 @ solved_3Q) + floor_Q
            z_2 = (exponents_2 - (_SIZE_EXPONENT, _TOKEN_EXPONENT)) / _EXPONENT_STD
            coefficients.append(solved_3Q)
            inverses.append(inverse_33 * np.outer(varies_3, varies_3))
            variances.append(squares_Q / n_free)
            costs.append(0.5 * n_free * np.log(squares_Q) + 0.5 * float(z_2 @ z_2))
        costs_GQ = np.stack(costs)
        weights_GQ = np.exp(costs_GQ.min(axis=0) - costs_GQ)
        weights_GQ /= weights_GQ.sum(axis=0)
        return cls(
            unit, np.stack(coefficients), np.stack(inverses), np.stack(variances), weights_GQ
        )

    def predict(self, params_S: Array, tokens_S: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric at other scales, shapes (S, Q)."""
        means, variances = [], []
        for g, exponents_2 in enumerate(_EXPONENTS_G2):
            terms_S3 = _compute_terms(params_S, tokens_S, self.unit, exponents_2)
            means.append(terms_S3 @ self.coefficients_G3Q[g])
            part_S = np.einsum("si,ij,sj->s", terms_S3, self.inverse_G33[g], terms_S3)
            variances.append(part_S[:, None] * self.var_GQ[g])
        means_GSQ, vars_GSQ = np.stack(means), np.stack(variances)
        mean_SQ = np.einsum("gq,gsq->sq", self.weights_GQ, means_GSQ)
        vars_GSQ += np.square(means_GSQ - mean_SQ)
        return mean_SQ, np.sqrt(np.einsum("gq,gsq->sq", self.weights_GQ, vars_GSQ))


def varies(values: Array) -> bool:
    """Return whether sizes or tokens differ by more than `SAME_SIZE`."""
    return float(values.max()) > (1.0 + SAME_SIZE) * float(values.min())


def _compute_terms(params_S: Array, tokens_S: Array, unit: Scale, exponents_2: Array) -> Array:
    """Return 1, N^-a and D^-b, with N and D divided by `unit`, shape (S, 3)."""
    a, b = exponents_2
    size_S, data_S = (params_S / unit.params) ** -a, (tokens_S / unit.tokens) ** -b
    return np.stack([np.ones_like(size_S), size_S, data_S], axis=1)
