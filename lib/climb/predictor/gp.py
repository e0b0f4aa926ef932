"""A Gaussian process on a power of the weights, in NumPy.

Axes: T trials, K domains, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb.predictor import Array, JointPredict, Predict, in_canonical_order
from climb.predictor.process import Process


@dataclass(frozen=True, kw_only=True)
class GPPredictor:
    """Matern-5/2 with a length scale per domain on weight ^ power, most probable parameters.

    Source:
        Priors on length scales and noise: BoTorch's SingleTaskGP (Hvarfner et al., arXiv
        2402.02229), whose fit of 13 metrics takes a minute where this takes a second. The power
        and the kernel: measured on RegMix's published training runs (DECISIONS.md); a third
        ranks unseen runs better than a logarithm at 32, 64 and 112 trials.
    """

    power: float = 1.0 / 3.0
    max_steps: int = 200
    """L-BFGS steps; a fit of 64 trials of 17 domains needs 40 to 100."""

    def fit(self, weights_TK: Array, values_T: Array, noise_T: Array) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_held_out(weights_TK, values_T, noise_T)[0]

    def fit_held_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array
    ) -> tuple[JointPredict, Array]:
        """Fit, and say what each trial is predicted to be without itself (T,).

        The second is exact for the parameters that all trials chose together.
        """
        order, trials = in_canonical_order(weights_TK, values_T, noise_T)
        centre, scale = float(trials[1].mean()), float(trials[1].std()) or 1.0
        features_TK = trials[0] ** self.power
        low_K, width_K = features_TK.min(axis=0), np.ptp(features_TK, axis=0)
        width_K = np.where(width_K > 1e-9, width_K, 1.0)
        process = Process.most_probable(
            (features_TK - low_K) / width_K,
            (trials[1] - centre) / scale,
            np.square(trials[2] / scale),
            self.max_steps,
        )
        held_T = np.empty_like(values_T)
        held_T[order] = centre + scale * process.held_out()
        return _GPPredict(process, self.power, low_K, width_K, centre, scale), held_T


@dataclass(frozen=True, eq=False)
class _GPPredict:
    """A fitted process in the units of weights and metric; see `climb.predictor.JointPredict`."""

    process: Process
    power: float
    low_K: Array
    width_K: Array
    centre: float
    scale: float

    @property
    def noise(self) -> float:
        return self.scale * float(np.sqrt(self.process.noise_T.max()))

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, std_M = self.process.at(self._points(weights_MK))
        return self.centre + self.scale * mean_M, self.scale * std_M

    def mean(self, weights_MK: Array) -> Array:
        return self.centre + self.scale * self.process.mean_at(self._points(weights_MK))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        mean_M, covariance_MM = self.process.joint_at(self._points(weights_MK))
        return self.centre + self.scale * mean_M, self.scale**2 * covariance_MM

    def _points(self, weights_MK: Array) -> Array:
        return np.asarray((weights_MK**self.power - self.low_K) / self.width_K)
