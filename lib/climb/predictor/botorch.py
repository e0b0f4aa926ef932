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
from climb.predictor import Array, Extra, Predict
from climb.predictor.sample import EPSILON, InUnits, Points, Sample, Scaling

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP
    from torch import Tensor

_BLOCK = 1024
"""Mixtures asked at once: a posterior holds their whole covariance."""

_LEAST_NOISE = 1e-6
"""Known variance of a value at least, in squared spreads: repeated mixtures stay invertible."""


@dataclass(frozen=True, kw_only=True)
class BoTorchPredictor:
    """`SingleTaskGP` with its own priors, on log(weight + 0.001) scaled to the unit cube.

    The noise is taken as given where every trial's is known, and inferred otherwise. Extra
    features are further dimensions.

    Source:
        BoTorch (Balandat et al., arXiv 1910.06403); priors: Hvarfner et al., arXiv 2402.02229.
    """

    needs: ClassVar[tuple[str, ...]] = ("botorch",)
    """Packages that it imports when it is used."""

    max_steps: int = 200
    """L-BFGS steps."""

    seed: int = 0
    """Of the points from which a fit that failed is tried again."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit on T trials; see `climb.predictor.Predictor`.

        Raises:
            ComponentError: BoTorch found no parameters.
        """
        from botorch.exceptions import ModelFittingError

        sample = Sample.of(weights_TK, values_T, noise_T, extra)
        columns_TF = sample.columns(_logs)
        points = Points(_logs, extra, Scaling.to_unit(columns_TF))
        with _alone(self.seed, gradients=True):
            try:
                model = self._fitted(points.scaling(columns_TF), sample)
            except ModelFittingError as error:
                raise ComponentError(
                    f"BoTorch found no parameters for {len(values_T)} trials ({error}); "
                    f"climb.predictor.gp:GPPredictor is a process with another optimiser"
                ) from error
        return InUnits(_Process(model), points, sample.centre, sample.scale)

    def _fitted(self, points_TF: Array, sample: Sample) -> SingleTaskGP:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        known_T = np.maximum(sample.known_T, _LEAST_NOISE)
        model = SingleTaskGP(
            _tensor(points_TF),
            _tensor(sample.values_T[:, None]),
            _tensor(known_T[:, None]) if (sample.known_T > 0.0).all() else None,
            outcome_transform=None,
        )
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        options = {"maxiter": self.max_steps}
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": options})
        model.eval()
        return model


@dataclass(frozen=True, eq=False)
class _Process:
    """A fitted BoTorch model; see `climb.predictor.sample.Fitted`."""

    model: SingleTaskGP

    @property
    def noise(self) -> float:
        return float(self.model.likelihood.noise.detach().max().sqrt())

    def at(self, points_MF: Array) -> tuple[Array, Array]:
        with _alone():
            answers = [self.model.posterior(block) for block in _blocks(points_MF)]
            mean_M = np.concatenate([a.mean[:, 0].numpy() for a in answers])
            var_M = np.concatenate([a.variance[:, 0].numpy() for a in answers])
        return mean_M, np.sqrt(var_M)

    def mean_at(self, points_MF: Array) -> Array:
        from gpytorch.settings import skip_posterior_variances

        with _alone(), skip_posterior_variances():
            return np.concatenate([self.model(b).mean.numpy() for b in _blocks(points_MF)])

    def joint_at(self, points_MF: Array) -> tuple[Array, Array]:
        with _alone():
            answer = self.model.posterior(_tensor(points_MF))
            covariance_MM = answer.distribution.covariance_matrix.numpy()
            return answer.mean[:, 0].numpy(), (covariance_MM + covariance_MM.T) / 2.0


def _logs(weights_MK: Array) -> Array:
    return np.asarray(np.log(weights_MK + EPSILON))


def _tensor(values: Array) -> Tensor:
    """A copy: torch aligns its own memory, on which the last bits of a product can depend."""
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _blocks(points_MF: Array) -> list[Tensor]:
    starts = range(0, max(len(points_MF), 1), _BLOCK)
    return [_tensor(points_MF[start : start + _BLOCK]) for start in starts]


@contextmanager
def _alone(seed: int = 0, gradients: bool = False) -> Iterator[None]:
    """One thread and random numbers of its own; afterwards torch is as it was."""
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
