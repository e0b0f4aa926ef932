"""Stacked regression of a Gaussian process, a power law and the mean, with cross-validated shares.

Axes: T trials, D distinct mixtures, K domains, P members (models that are averaged), M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.mixture import SAME_DECIMALS
from climb.predictor import (
    Array,
    ExportablePredict,
    ExtraFeatures,
    JointPredict,
    Parameters,
    Predict,
    sort_fit_inputs,
)
from climb.predictor.gp import GPPredictor
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.shrinkage import Shrinkage


@dataclass(frozen=True, kw_only=True)
class StackPredictor:
    """Average of a Gaussian process, a power law and the mean, weighted by cross-validation.

    The process fits any surface near the trials. The law is better far from the trials and under
    noise. The share of the process in the average of process and law is fitted by least squares:
    the average of their held-out predictions should be near the measured values. The fitted share
    is clipped to 0..1. A normal prior draws it towards 0, so few or noisy trials give the law more
    weight. The average is then shrunk towards the metric's mean (`climb.predictor.shrinkage`), so a
    metric that cannot be predicted has no influence on which mixtures a search prefers.

    Source:
        Stacked regressions with non-negative weights: Breiman (1996). Members, folds and the prior
        were chosen on RegMix's published training runs, with and without added noise
        (docs/decisions/predictor.md).
    """

    share_std: float = 0.15
    """Standard deviation of the normal prior on the share of the process; the prior's mean is 0."""

    folds: int = 5
    """Folds of the cross-validation."""

    refit_below: int = 160
    """With fewer trials than this, the process is refitted for every fold. Otherwise, its held-out
    predictions are leave-one-out predictions with the parameters of the fit to all trials: refits
    would be slow, and the bias is small. The held-out predictions of the law are always
    leave-one-out predictions."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit the members on all trials, and their shares on held-out predictions."""
        _, trials = sort_fit_inputs(weights_TK, values_T, noise_T)
        process, process_T = GPPredictor().fit_with_leave_one_out(*trials, extra)
        law, law_T = PowerLawPredictor().fit_with_leave_one_out(*trials, extra)
        if len(process_T) < self.refit_below:
            process_T = self._cross_validate(*trials, extra)
        held_out_TP = np.stack([process_T, law_T], axis=1)
        shares_P = self._fit_shares(held_out_TP, trials[1])
        columns = (held_out_TP @ shares_P, *trials[1:])
        shrinkage = Shrinkage.fit(*(column_T[:, None] for column_T in columns))
        slope, members = float(shrinkage.slopes_Q[0]), (process, law, shrinkage.select(0))
        return StackPredict(members, np.append(slope * shares_P, 1.0 - slope))

    def _cross_validate(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None
    ) -> Array:
        """Predict each trial with a process fitted to the other folds, shape (T,).

        All replicates of a mixture are in one fold.
        """
        _, mixture_T = np.unique(np.round(weights_TK, SAME_DECIMALS), axis=0, return_inverse=True)
        mixture_T = mixture_T.reshape(-1)
        n_mixtures = int(mixture_T.max()) + 1
        n_folds = min(self.folds, n_mixtures)
        predicted_T = np.full(len(values_T), float(values_T.mean()))
        fold_D = np.random.default_rng(n_mixtures).permutation(n_mixtures) % n_folds
        for fold in range(n_folds if n_mixtures > 1 else 0):
            out_T = fold_D[mixture_T] == fold
            training = (weights_TK[~out_T], values_T[~out_T], noise_T[~out_T])
            process, _ = GPPredictor().fit_with_leave_one_out(*training, extra)
            predicted_T[out_T] = process.mean(weights_TK[out_T])
        return predicted_T

    def _fit_shares(self, held_out_TP: Array, values_T: Array) -> Array:
        """Return the MAP shares of the process and of the law."""
        difference_T = held_out_TP[:, 0] - held_out_TP[:, 1]
        law_error_T = values_T - held_out_TP[:, 1]
        error_var = float(np.square(values_T[:, None] - held_out_TP).mean(axis=0).min())
        ridge = error_var / self.share_std**2
        denominator = float(difference_T @ difference_T) + ridge
        share = 0.0
        if denominator > 0.0:
            share = min(max(float(difference_T @ law_error_T) / denominator, 0.0), 1.0)
        return np.array([share, 1.0 - share])


@dataclass(frozen=True, eq=False)
class StackPredict:
    """The weighted average of the members' distributions; see `climb.predictor.JointPredict`."""

    members: tuple[JointPredict, ...]
    shares_P: Array

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise."""
        return float(self.shares_P @ [member.noise for member in self.members])

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,)."""
        predictions = [member(weights_MK) for member in self.members]
        means_PM = np.stack([mean for mean, _ in predictions])
        vars_PM = np.square(np.stack([std for _, std in predictions]))
        mean_M = self.shares_P @ means_PM
        # Disagreement of the members adds to the mean of their own variances.
        between_M = self.shares_P @ np.square(means_PM - mean_M)
        return mean_M, np.sqrt(self.shares_P @ vars_PM + between_M)

    def export(self) -> Parameters:
        """Return the shares and the parameters of the members."""
        members = [m.export() if isinstance(m, ExportablePredict) else {} for m in self.members]
        return {"kind": "stack", "shares": self.shares_P.tolist(), "members": members}

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,)."""
        return np.asarray(self.shares_P @ np.stack([m.mean(weights_MK) for m in self.members]))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean (M,) and covariance (M, M)."""
        predictions = [member.joint(weights_MK) for member in self.members]
        means_PM = np.stack([mean for mean, _ in predictions])
        mean_M = self.shares_P @ means_PM
        covariances_PMM = np.stack([covariance_MM for _, covariance_MM in predictions])
        covariance_MM = np.einsum("p,pmn->mn", self.shares_P, covariances_PMM)
        deviation_PM = means_PM - mean_M
        return mean_M, covariance_MM + (deviation_PM.T * self.shares_P) @ deviation_PM
