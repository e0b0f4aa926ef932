"""Power law of effective data: the more weight a domain has, the less its further tokens help.

    metric = floor + scale * (base + sum_k coefficient_k * weight_k ^ exponent) ^ -decay

Axes: K domains, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array
from climb.predictor.parametric_law import LawPredictor, ParametricLaw


@dataclass(frozen=True, kw_only=True)
class PowerLawPredictor(LawPredictor):
    """MAP parameters under wide priors; the posterior's curvature gives the standard deviation.

    The standard deviation of a prediction contains the uncertainty of the parameters, but not the
    misfit of the law. A search calibrates the standard deviations on held-out errors, which include
    the misfit. Extra features of a mixture add a linear term.

    Source:
        The form is like that of scaling laws of mixed data. The paper Data Mixing Laws (arXiv
        2403.16952) has another form: an exponential function of the weights. Form, priors and
        `exponent` were chosen on RegMix's published training runs (docs/decisions/predictor.md).
    """

    exponent: float = 0.5
    """Centre of the prior on the exponent of the weights."""

    exponent_std: float = 0.1
    """Prior standard deviation of the log exponent."""

    coefficient_std: float = 1.5
    """Prior standard deviation of a domain's log coefficient."""

    max_steps: int = 40
    """Maximum function evaluations of one fit."""

    def build_law(self, n_domains: int) -> ParametricLaw:
        """Return the law with its priors; see `power_law` for the parameters."""
        ones_K = np.ones(n_domains)
        mean_P = np.append(-2.0 * ones_K, [-3.0, -2.0, 0.0, np.log(0.3), np.log(self.exponent)])
        std_P = np.append(self.coefficient_std * ones_K, [2.0, 2.0, 2.0, 0.7, self.exponent_std])
        return ParametricLaw(power_law, mean_P, std_P, lambda *_: [mean_P], self.max_steps)


def power_law(parameters_P: Array, weights_MK: Array) -> tuple[Array, Array]:
    """Evaluate the law (M,), and its derivatives with respect to the parameters (M, P).

    Parameters: log coefficients (K), log base, floor, log scale, log decay, log exponent.
    """
    n_domains = weights_MK.shape[1]
    floor, log_scale = parameters_P[n_domains + 1], parameters_P[n_domains + 2]
    decay, exponent = np.exp(parameters_P[n_domains + 3]), np.exp(parameters_P[n_domains + 4])
    logs_MK = np.log(np.maximum(weights_MK, 1e-12))
    terms_MK = np.exp(parameters_P[:n_domains] + exponent * logs_MK) * (weights_MK > 0.0)
    base = np.exp(parameters_P[n_domains])
    data_M = terms_MK.sum(axis=1) + base
    loss_M = np.exp(log_scale - decay * np.log(data_M))
    by_data_M1 = (-decay * loss_M / data_M)[:, None]
    derivatives_MP = np.hstack(
        [
            by_data_M1 * terms_MK,
            by_data_M1 * base,
            np.ones((len(data_M), 1)),
            loss_M[:, None],
            (-decay * np.log(data_M) * loss_M)[:, None],
            by_data_M1 * exponent * (terms_MK * logs_MK).sum(axis=1, keepdims=True),
        ]
    )
    return floor + loss_M, derivatives_MP
