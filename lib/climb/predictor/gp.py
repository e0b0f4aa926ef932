"""A Gaussian process on a power of the weights, in NumPy.

Axes: T trials, K domains, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

from climb.predictor import Array, Extra, JointPredict, Predict
from climb.predictor.process import Process
from climb.predictor.sample import InUnits, Points, Sample, Scaling


@dataclass(frozen=True, kw_only=True)
class GPPredictor:
    """Matern-5/2 with a length scale per domain on weight ^ power, most probable parameters.

    Extra features are further dimensions, each with a length scale of its own.

    Source:
        Priors on length scales and noise: BoTorch's SingleTaskGP (Hvarfner et al., arXiv
        2402.02229), whose fit takes thirty times as long. The power and the kernel: measured on
        RegMix's published training runs (DECISIONS.md); a third ranks unseen runs better than a
        logarithm at 32, 64 and 112 trials.
    """

    power: float = 1.0 / 3.0
    max_steps: int = 200
    """L-BFGS steps; a fit of 64 trials of 17 domains needs 40 to 100."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_held_out(weights_TK, values_T, noise_T, extra)[0]

    def fit_held_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> tuple[JointPredict, Array]:
        """Fit, and say what each trial is predicted to be without itself (T,).

        The second is exact for the parameters that all trials chose together.
        """
        sample = Sample.of(weights_TK, values_T, noise_T, extra)
        columns_TF = sample.columns(self._powers)
        points = Points(self._powers, extra, Scaling.to_unit(columns_TF))
        process = Process.most_probable(
            points.scaling(columns_TF), sample.values_T, sample.known_T, self.max_steps
        )
        held_T = sample.as_given(process.held_out())
        return InUnits(process, points, sample.centre, sample.scale), held_T

    def _powers(self, weights_MK: Array) -> Array:
        return weights_MK**self.power
