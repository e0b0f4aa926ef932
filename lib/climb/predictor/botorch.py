"""BoTorch's Gaussian process on log weights.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from climb.errors import ComponentError
from climb.predictor import Array, ExtraFeatures, Predict
from climb.predictor.sample import EPSILON, Sample, ScaledFeatures, Scaling, UnscaledPredict

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP
    from torch import Tensor

_BATCH_SIZE = 1024
"""Maximum number of mixtures per posterior, which holds the covariance of all its mixtures."""

_MIN_NOISE_VAR = 1e-6
"""Lower bound of a noise variance that is passed to the model, as a share of the values' variance.
It keeps the covariance of replicates invertible."""


@dataclass(frozen=True, kw_only=True)
class BoTorchPredictor:
    """`SingleTaskGP` with its default priors, on log(weight + 0.001) scaled to the unit cube.

    The noise is fixed if it is known for every trial, and inferred otherwise. Extra features are
    further dimensions.

    Source:
        BoTorch (Balandat et al., arXiv 1910.06403); priors: Hvarfner et al., arXiv 2402.02229.
    """

    needs: ClassVar[tuple[str, ...]] = ("botorch",)
    """Packages that `fit` imports."""

    extra: ClassVar[str] = "botorch"
    """Extra of climb-mixture that installs these packages."""

    max_steps: int = 200
    """Maximum L-BFGS steps."""

    seed: int = 0
    """Seed of the starting points with which BoTorch retries a failed fit."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`.

        Raises:
            ComponentError: BoTorch could not fit the parameters.
        """
        from botorch.exceptions import ModelFittingError

        sample = Sample.from_trials(weights_TK, values_T, noise_T, extra)
        features_TF = sample.compute_features(_log_weights)
        features = ScaledFeatures(_log_weights, extra, Scaling.fit_min_max(features_TF))
        with _isolate_torch(self.seed, gradients=True):
            try:
                model = self._fit_model(features.scaling(features_TF), sample)
            except ModelFittingError as error:
                raise ComponentError(
                    f"BoTorch could not fit a Gaussian process to {len(values_T)} trials "
                    f"({error}); set search.predictor.use=climb.predictor.gp:GPPredictor, which "
                    "has another optimizer"
                ) from error
        return UnscaledPredict(_BoTorchModel(model), features, sample.center, sample.scale)

    def _fit_model(self, scaled_TF: Array, sample: Sample) -> SingleTaskGP:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        noise_var_T = np.maximum(sample.noise_var_T, _MIN_NOISE_VAR)
        model = SingleTaskGP(
            _to_tensor(scaled_TF),
            _to_tensor(sample.values_T[:, None]),
            _to_tensor(noise_var_T[:, None]) if (sample.noise_var_T > 0.0).all() else None,
            outcome_transform=None,
        )
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        options = {"maxiter": self.max_steps}
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": options})
        model.eval()
        return model


@dataclass(frozen=True, eq=False)
class _BoTorchModel:
    """A fitted BoTorch model; see `climb.predictor.sample.ScaledModel`."""

    model: SingleTaskGP

    @property
    def noise(self) -> float:
        # If the noise is fixed, each trial has its own noise variance. The variance of a reused run
        # (see `climb.predictor.Predictor.fit`) also includes the error of its mapping, so it is
        # larger than that of the observation noise. So the smallest variance is used.
        return float(self.model.likelihood.noise.detach().min().sqrt())

    def predict(self, features_MF: Array) -> tuple[Array, Array]:
        with _isolate_torch():
            posteriors = [self.model.posterior(batch) for batch in _split_batches(features_MF)]
            mean_M = np.concatenate([p.mean[:, 0].numpy() for p in posteriors])
            var_M = np.concatenate([p.variance[:, 0].numpy() for p in posteriors])
        return mean_M, np.sqrt(var_M)

    def predict_mean(self, features_MF: Array) -> Array:
        from gpytorch.settings import skip_posterior_variances

        with _isolate_torch(), skip_posterior_variances():
            batches = _split_batches(features_MF)
            return np.concatenate([self.model(batch).mean.numpy() for batch in batches])

    def predict_joint(self, features_MF: Array) -> tuple[Array, Array]:
        with _isolate_torch():
            posterior = self.model.posterior(_to_tensor(features_MF))
            covariance_MM = posterior.distribution.covariance_matrix.numpy()
            return posterior.mean[:, 0].numpy(), (covariance_MM + covariance_MM.T) / 2.0


def _log_weights(weights_MK: Array) -> Array:
    return np.asarray(np.log(weights_MK + EPSILON))


def _to_tensor(values: Array) -> Tensor:
    """Copy to memory that torch aligns: the last bits of a product can depend on alignment."""
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _split_batches(features_MF: Array) -> list[Tensor]:
    starts = range(0, max(len(features_MF), 1), _BATCH_SIZE)
    return [_to_tensor(features_MF[start : start + _BATCH_SIZE]) for start in starts]


@contextmanager
def _isolate_torch(seed: int = 0, gradients: bool = False) -> Iterator[None]:
    """Run torch in one thread with its own random state, and restore torch's state afterwards."""
    import torch
    from botorch.settings import validate_input_scaling

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.set_grad_enabled(gradients),
            validate_input_scaling(False),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
