"""Several predictors in one: weights that held-out trials give them, and the spread of all.

Axes: T trials, K domains, P predictors, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Extra, JointPredict, Predict
from climb.predictor.gp import GPPredictor
from climb.predictor.powerlaw import PowerLawPredictor


@dataclass(frozen=True, kw_only=True)
class StackPredictor:
    """A process and a power law, averaged with weights from held-out trials.

    A process bends to any surface near the trials; a power law still holds far from them. Which
    of the two a metric follows, its own held-out trials say.

    Source:
        Members and weights: measured on RegMix's published training runs (DECISIONS.md), where
        non-negative least squares (Breiman 1996) lost to inverse errors at 32 to 112 trials.
    """

    trust: float = 1.0
    """Power of the ratio of held-out errors that weights follow; 0 shares equally."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit every member on every trial, and their weights on held-out ones."""
        trials = (weights_TK, values_T, noise_T, extra)
        fits = [member.fit_held_out(*trials) for member in (GPPredictor(), PowerLawPredictor())]
        held_TP = np.stack([held_T for _, held_T in fits], axis=1)
        shares_P = _shares(held_TP, values_T, self.trust)
        return _StackPredict(tuple(fit for fit, _ in fits), shares_P)


@dataclass(frozen=True, eq=False)
class _StackPredict:
    """Members and their weights; see `climb.predictor.JointPredict`."""

    members: tuple[JointPredict, ...]
    shares_P: Array

    @property
    def noise(self) -> float:
        return float(self.shares_P @ [member.noise for member in self.members])

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        answers = [member(weights_MK) for member in self.members]
        means_PM = np.stack([mean for mean, _ in answers])
        vars_PM = np.square(np.stack([std for _, std in answers]))
        mean_M = self.shares_P @ means_PM
        # Members that disagree are unsure, whatever each of them claims.
        apart_M = self.shares_P @ np.square(means_PM - mean_M)
        return mean_M, np.sqrt(self.shares_P @ vars_PM + apart_M)

    def mean(self, weights_MK: Array) -> Array:
        return np.asarray(self.shares_P @ np.stack([m.mean(weights_MK) for m in self.members]))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        answers = [member.joint(weights_MK) for member in self.members]
        means_PM = np.stack([mean for mean, _ in answers])
        mean_M = self.shares_P @ means_PM
        covariance_MM = np.einsum("p,pmn->mn", self.shares_P, np.stack([c for _, c in answers]))
        off_PM = means_PM - mean_M
        return mean_M, covariance_MM + (off_PM.T * self.shares_P) @ off_PM


def _shares(held_TP: Array, values_T: Array, trust: float) -> Array:
    """Weights in inverse proportion to the mean squared error on held-out trials, to a power."""
    off_TP = np.sort(np.square(held_TP - values_T[:, None]), axis=0)
    error_P = off_TP.mean(axis=0) + 1e-12 * (float(values_T.var()) or 1.0)
    share_P = (error_P.min() / error_P) ** trust
    return np.asarray(share_P / share_P.sum())
