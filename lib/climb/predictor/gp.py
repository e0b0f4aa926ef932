"""A Gaussian process on a power of the weights, in NumPy.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from climb.predictor import Array, ExtraFeatures, Parameters, Predict
from climb.predictor.gaussian_process import GaussianProcess
from climb.predictor.sample import Sample, ScaledFeatures, Scaling, UnscaledPredict


@dataclass(frozen=True, kw_only=True)
class GPPredictor:
    """Matern-5/2 kernel on weight ^ power with a length scale per domain and MAP parameters.

    Extra features are further dimensions, each with its own length scale.

    Source:
        Priors on length scales and noise: BoTorch's SingleTaskGP (Hvarfner et al., arXiv
        2402.02229), whose fit takes thirty times as long. Power and kernel: chosen on RegMix's
        published training runs (see docs/decisions/predictor.md). A power of 1/3 ranks unseen
        runs better than a logarithm at 32, 64 and 112 trials.
    """

    power: float = 1.0 / 3.0
    """Exponent of the weights."""

    max_steps: int = 200
    """Maximum L-BFGS steps; a fit of 64 trials of 17 domains needs 40 to 100."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`."""
        return self.fit_with_leave_one_out(weights_TK, values_T, noise_T, extra)[0]

    def fit_with_leave_one_out(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> tuple[GPPredict, Array]:
        """Fit, and return the leave-one-out prediction of each trial (T,) as well.

        Hyperparameters are not fitted again for each left-out trial. Given the hyperparameters, the
        leave-one-out predictions are exact.
        """
        sample = Sample.from_trials(weights_TK, values_T, noise_T, extra)
        features_TF = sample.compute_features(self._raise_to_power)
        features = ScaledFeatures(self._raise_to_power, extra, Scaling.fit_min_max(features_TF))
        process = GaussianProcess.fit(
            features.scaling(features_TF), sample.values_T, sample.noise_var_T, self.max_steps
        )
        left_out_T = sample.restore(process.predict_leave_one_out())
        predict = GPPredict(process, features, sample.center, sample.scale, self.power)
        return predict, left_out_T

    def _raise_to_power(self, weights_MK: Array) -> Array:
        return weights_MK**self.power


@dataclass(frozen=True, eq=False)
class GPPredict(UnscaledPredict):
    """A fitted process as a function of weights."""

    model: GaussianProcess
    power: float

    def export(self) -> Parameters:
        """Return the parameters of the mean.

        f = (weights ^ power - offset) / feature_scale / lengths, and metric = center + scale *
        (prior_mean + variance * sum_t alpha_t matern52(|f - points_t|)). If the fit has extra
        features, the returned dictionary is empty, because the function that computes these
        features cannot be exported.
        """
        if self.features.extra is not None:
            return {}
        model, scaling = self.model, self.features.scaling
        return {
            "kind": "gaussian_process",
            "power": self.power,
            "offset": scaling.offset_F.tolist(),
            "feature_scale": scaling.scale_F.tolist(),
            "lengths": model.lengths_F.tolist(),
            "points": model.features_TF.tolist(),
            "alpha": model.alpha_T.tolist(),
            "prior_mean": model.prior_mean,
            "variance": model.variance,
            "center": self.center,
            "scale": self.scale,
        }
