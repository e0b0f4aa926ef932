"""A power law of effective data: the more a domain weighs, the less each further token gives.

    metric = floor + scale * (base + sum_k gift_k * weight_k ^ bend) ^ -fall

Axes: T trials, K domains, M mixtures, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from climb.predictor import Array, JointPredict, Predict, in_canonical_order

_NOISE_START = 0.15
"""Share of the spread that the first fit takes for noise."""

_REFITS = 2
"""Fits after the first, each with the noise that the last one left."""

_LEAST_NOISE = 1e-4
"""Variance that a fit leaves at least, as a share of the values' own."""


@dataclass(frozen=True, kw_only=True)
class PowerLawPredictor:
    """Most probable parameters under wide priors, with a spread from the curvature there.

    The spread is that of the parameters: where the law does not hold, its misfit is not in it. A
    search calibrates spreads on held-out trials, which shows it.

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

    def _prior(self, n_domains: int) -> tuple[Array, Array]:
        """Centre and spread of log gifts (K), log base, floor, log scale, log fall, log bend."""
        gifts_K = np.ones(n_domains)
        centre_P = np.append(-2.0 * gifts_K, [-3.0, -2.0, 0.0, np.log(0.3), np.log(self.bend)])
        width_P = np.append(self.gift_spread * gifts_K, [2.0, 2.0, 2.0, 0.7, self.bend_spread])
        return centre_P, width_P

    def fit(self, weights_TK: Array, values_T: Array, noise_T: Array) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_held_out(weights_TK, values_T, noise_T)[0]

    def fit_held_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array
    ) -> tuple[JointPredict, Array]:
        """Fit as something to be lowered and as something to be raised, and keep the likelier.

        Returns:
            The prediction, and what each trial is predicted to be without itself (T,), to first
            order; a whole fit per trial would say nearly the same.
        """
        order, trials = in_canonical_order(weights_TK, values_T, noise_T)
        centre, scale = float(trials[1].mean()), float(trials[1].std()) or 1.0
        values_T, known_T = (trials[1] - centre) / scale, np.square(trials[2] / scale)
        fits = [_Fit.start(self, trials[0], sign * values_T, known_T) for sign in (1.0, -1.0)]
        sign = -1.0 if fits[1].cost < fits[0].cost else 1.0
        fitted = fits[int(sign < 0.0)]
        for _ in range(_REFITS):
            fitted = fitted.again()
        held_T = np.empty_like(values_T)
        held_T[order] = centre + sign * scale * fitted.held_out()
        return _LawPredict(fitted, sign, centre, scale), held_T


@dataclass(frozen=True, eq=False)
class _LawPredict:
    """A fitted law in the units of the metric; see `climb.predictor.JointPredict`."""

    fitted: _Fit
    sign: float
    centre: float
    scale: float

    @property
    def noise(self) -> float:
        return self.scale * float(np.sqrt(self.fitted.noise_T.max()))

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, slopes_MP = _law(self.fitted.parameters_P, weights_MK)
        var_M = np.square(slopes_MP @ self.fitted.root_PP).sum(axis=1)
        return self._level(mean_M), self.scale * np.sqrt(np.maximum(var_M, 1e-12))

    def mean(self, weights_MK: Array) -> Array:
        return self._level(_law(self.fitted.parameters_P, weights_MK)[0])

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, slopes_MP = _law(self.fitted.parameters_P, weights_MK)
        spread_MP = self.scale * slopes_MP @ self.fitted.root_PP
        return self._level(mean_M), spread_MP @ spread_MP.T

    def _level(self, mean_M: Array) -> Array:
        return np.asarray(self.centre + self.sign * self.scale * mean_M)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit of the law to standardised values, and the noise that it leaves."""

    recipe: PowerLawPredictor
    weights_TK: Array
    values_T: Array
    known_T: Array
    """Known variance of each value."""

    parameters_P: Array
    covariance_PP: Array
    noise_T: Array
    """Variance that this fit assumed for each value."""

    left: float
    """Variance that it leaves unexplained, beyond what is known."""

    cost: float
    """Minus twice the log posterior, up to a constant."""

    @property
    def root_PP(self) -> Array:
        """A root of the covariance: root @ root.T gives it back."""
        root_PP: Array = np.linalg.cholesky(self.covariance_PP).astype(np.float64)
        return root_PP

    @classmethod
    def start(
        cls, recipe: PowerLawPredictor, weights_TK: Array, values_T: Array, known_T: Array
    ) -> _Fit:
        """Fit from the prior's centre."""
        centre_P, _ = recipe._prior(weights_TK.shape[1])
        noise_T = known_T + _NOISE_START**2
        return cls._at(recipe, weights_TK, values_T, known_T, centre_P, noise_T)

    def again(self) -> _Fit:
        """Fit from here, with the noise that this fit left."""
        noise_T = self.known_T + self.left
        return self._at(
            self.recipe, self.weights_TK, self.values_T, self.known_T, self.parameters_P, noise_T
        )

    @classmethod
    def _at(
        cls,
        recipe: PowerLawPredictor,
        weights_TK: Array,
        values_T: Array,
        known_T: Array,
        start_P: Array,
        noise_T: Array,
    ) -> _Fit:
        centre_P, width_P = recipe._prior(weights_TK.shape[1])
        trust_T = 1.0 / np.sqrt(noise_T)

        def misses(at_P: Array) -> Array:
            off_T = _law(at_P, weights_TK)[0] - values_T
            return np.concatenate([off_T * trust_T, (at_P - centre_P) / width_P])

        def slopes(at_P: Array) -> Array:
            return np.vstack([_law(at_P, weights_TK)[1] * trust_T[:, None], np.diag(1 / width_P)])

        found = least_squares(misses, start_P, jac=slopes, method="lm", max_nfev=recipe.max_steps)
        off_T, slope_TP = _law(found.x, weights_TK)
        curvature_PP = (slope_TP / noise_T[:, None]).T @ slope_TP + np.diag(width_P**-2.0)
        covariance_PP = np.linalg.inv(curvature_PP).astype(np.float64)
        # Parameters that the data decided, not the prior: they cost degrees of freedom.
        decided = len(centre_P) - float((np.diag(covariance_PP) / width_P**2).sum())
        freedom = max(len(values_T) - decided, 1.0)
        left = float(np.square(off_T - values_T).sum()) / freedom - float(known_T.mean())
        cost = float(np.square(found.fun).sum() + np.log(noise_T).sum())
        left = max(left, _LEAST_NOISE)
        return cls(
            recipe, weights_TK, values_T, known_T, found.x, covariance_PP, noise_T, left, cost
        )

    def held_out(self) -> Array:
        """What each value would be without itself, by the leverage that it has on its own fit."""
        mean_T, slope_TP = _law(self.parameters_P, self.weights_TK)
        lever_T = np.einsum("tp,pq,tq->t", slope_TP, self.covariance_PP, slope_TP) / self.noise_T
        off_T = (mean_T - self.values_T) / np.maximum(1.0 - lever_T, 0.05)
        return np.asarray(self.values_T + off_T)


def _law(parameters_P: Array, weights_MK: Array) -> tuple[Array, Array]:
    """The law at each mixture, and its slope by each parameter.

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
