"""A power law of effective data: the more a domain weighs, the less each further token gives.

    metric = floor + scale * (base + sum_k gift_k * weight_k ^ bend) ^ -fall

Axes: T trials, K domains, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Extra, JointPredict, Predict
from climb.predictor.law import Law, fit_law
from climb.predictor.sample import Sample


@dataclass(frozen=True, kw_only=True)
class PowerLawPredictor:
    """Most probable parameters under wide priors, with a spread from the curvature there.

    The spread is that of the parameters: where the law does not hold, its misfit is not in it. A
    search calibrates spreads on held-out trials, which shows it. Extra features add a linear term.

    Source:
        The form follows scaling laws of mixed data (Data Mixing Laws, arXiv 2403.16952, has an
        exponential of the weights instead); form, priors and `bend` were chosen on RegMix's
        published training runs (DECISIONS.md).
    """

    bend: float = 0.5
    """Centre of the prior on the exponent of a domain's weight."""

    bend_spread: float = 0.1
    """Spread of the logarithm of that exponent."""

    gift_spread: float = 1.5
    """Spread of the logarithm of what a domain gives."""

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
        """Parameters: log gifts (K), log base, floor, log scale, log fall, log bend."""
        gifts_K = np.ones(n_domains)
        centre_P = np.append(-2.0 * gifts_K, [-3.0, -2.0, 0.0, np.log(0.3), np.log(self.bend)])
        width_P = np.append(self.gift_spread * gifts_K, [2.0, 2.0, 2.0, 0.7, self.bend_spread])
        return Law(power_law, centre_P, width_P, lambda *_: [centre_P], self.max_steps)


def power_law(parameters_P: Array, weights_MK: Array) -> tuple[Array, Array]:
    """The law at each mixture (M,), and its slope by each parameter (M, P).

    Parameters: log gifts (K), log base, floor, log scale, log fall, log bend.
    """
    n_domains = weights_MK.shape[1]
    floor, log_scale = parameters_P[n_domains + 1], parameters_P[n_domains + 2]
    fall, bend = np.exp(parameters_P[n_domains + 3]), np.exp(parameters_P[n_domains + 4])
    logs_MK = np.log(np.maximum(weights_MK, 1e-12))
    given_MK = np.exp(parameters_P[:n_domains] + bend * logs_MK) * (weights_MK > 0.0)
    base = np.exp(parameters_P[n_domains])
    data_M = given_MK.sum(axis=1) + base
    part_M = np.exp(log_scale - fall * np.log(data_M))
    by_data_M1 = (-fall * part_M / data_M)[:, None]
    slopes_MP = np.hstack(
        [
            by_data_M1 * given_MK,
            by_data_M1 * base,
            np.ones((len(data_M), 1)),
            part_M[:, None],
            (-fall * np.log(data_M) * part_M)[:, None],
            by_data_M1 * bend * (given_MK * logs_MK).sum(axis=1, keepdims=True),
        ]
    )
    return floor + part_M, slopes_MP
