"""Several predictors in one: weights that held-out trials give them, and the spread of all.

Axes: T trials, K domains, P predictors, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, Extra, JointPredict, Predict, in_canonical_order
from climb.predictor.gp import GPPredictor
from climb.predictor.powerlaw import PowerLawPredictor


@dataclass(frozen=True, kw_only=True)
class StackPredictor:
    """A process and a power law, averaged with weights from trials that were held out.

    A process bends to any surface near the trials; a power law still holds far from them, and
    under noise, where a process has little left to bend to. Which of the two a metric follows, its
    own trials say: the share of the process is a least-squares fit, between 0 and 1, of measured
    values on what both predicted while those were held out. Few or noisy trials say little, so
    the share is drawn towards 0: where the trials cannot tell, the law answers.

    Source:
        Stacked regressions with non-negative weights: Breiman (1996). Members, folds and the pull
        were chosen on RegMix's published training runs, with and without noise added
        (DECISIONS.md).
    """

    share_spread: float = 0.15
    """How large the share of the process is expected to be: deviation of a normal prior about 0."""

    folds: int = 5
    """Parts of the trials that are held out in turn."""

    refit_below: int = 160
    """Trials from which the process holds each out in closed form, with the parameters that all
    trials chose. Few trials would be flattered so; many cost too much to refit. The law's closed
    form holds its parameters out as well."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit both members on every trial, and their shares on held-out ones."""
        _, trials = in_canonical_order(weights_TK, values_T, noise_T)
        process, held_T = GPPredictor().fit_held_out(*trials, extra)
        law, law_held_T = PowerLawPredictor().fit_held_out(*trials, extra)
        if len(held_T) < self.refit_below:
            held_T = self._held_out(*trials, extra)
        shares_P = self._shares(np.stack([held_T, law_held_T], axis=1), trials[1])
        return _StackPredict((process, law), shares_P)

    def _held_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None
    ) -> Array:
        """What the process predicts of each trial from the others' folds, shape (T,)."""
        # Repeats of one mixture are held out together, or a fit would have seen the answer.
        _, mixture_T = np.unique(np.round(weights_TK, 9), axis=0, return_inverse=True)
        mixture_T = mixture_T.reshape(-1)
        n_mixtures = int(mixture_T.max()) + 1
        n_folds = min(self.folds, n_mixtures)
        held_T = np.full(len(values_T), float(values_T.mean()))
        dealt_D = np.random.default_rng(n_mixtures).permutation(n_mixtures) % n_folds
        for fold in range(n_folds if n_mixtures > 1 else 0):
            out_T = dealt_D[mixture_T] == fold
            seen = (weights_TK[~out_T], values_T[~out_T], noise_T[~out_T])
            process, _ = GPPredictor().fit_held_out(*seen, extra)
            held_T[out_T] = process.mean(weights_TK[out_T])
        return held_T

    def _shares(self, held_TP: Array, values_T: Array) -> Array:
        """Most probable shares of the process and of the law."""
        apart_T = held_TP[:, 0] - held_TP[:, 1]
        off_T = values_T - held_TP[:, 1]
        error = float(np.square(values_T[:, None] - held_TP).mean(axis=0).min())
        doubt = error / self.share_spread**2
        power = float(apart_T @ apart_T) + doubt
        share = min(max(float(apart_T @ off_T) / power, 0.0), 1.0) if power > 0.0 else 0.0
        return np.array([share, 1.0 - share])


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
