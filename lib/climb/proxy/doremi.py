"""The proxy of DoReMi: a training run whose result is a mixture.

The batches have about equally many sequences of each domain. In every step, the excess loss over a
reference model changes the domain weights (`climb.proxy.group_dro`). The loss of each sequence
is then weighted by the weight of its domain.

Axes: B sequences of a batch, L tokens of a sequence, K domains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from climb.errors import TrialError
from climb.files import read_digest, resolve, write_complete
from climb.proxy import ProxyRun
from climb.proxy.checkpoint import Checkpoints
from climb.proxy.data import Stream
from climb.proxy.group_dro import Array, DomainWeights, WeightsPoint, weigh_sequences
from climb.proxy.language_model import compute_next_token_losses
from climb.proxy.loop import TrainingLoop
from climb.proxy.training import TrainingRecipe, run_training

if TYPE_CHECKING:
    from torch import Tensor

CURVE_POINTS = 50
"""Approximate number of points of the curve, evenly over the run. The last step always has a
point."""


@dataclass(frozen=True, kw_only=True)
class DoremiProxy:
    """Trains the proxy of DoReMi and writes the curve of the domain weights; the model is not kept.

    It is a `Proxy`, so a run of it has the retries, the heartbeat and the checkpoints of a trial.
    """

    training: TrainingRecipe
    """Model, optimizer and schedule, as for trials."""

    reference: str
    """Folder of the reference model."""

    curve: str
    """File of the curve; it is written at the end, and is ignored unless it is complete."""

    step_size: float
    smoothing: float

    reports_progress: ClassVar[bool] = True

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train; return `train.loss`, the weighted loss.

        Args:
            run: the run, in which all domains have equal weights.
            device: `cpu`, `cuda:0`, ...

        Raises:
            ClimbError: as for `TrainingRecipe.train`.
        """
        return run_training(self.recipe, run, device, make_loop=self.make_loop)

    @property
    def recipe(self) -> TrainingRecipe:
        """The recipe `training` without compilation, because weighted losses are never compiled."""
        return replace(self.training, compile="eager")

    def make_loop(
        self, recipe: TrainingRecipe, run: ProxyRun, stream: Stream, n_ids: int, model: Any
    ) -> TrainingLoop:
        """Make the loop, with the reference model on the device of the model."""
        reference = recipe.open_start(self.reference, n_ids).to(model.device)
        loop = DoremiLoop(recipe, run, stream, n_ids, model)
        loop.set_reference(reference.eval().requires_grad_(False), self)
        return loop


class DoremiLoop(TrainingLoop):
    """A training run between its first and its last step, with its domain weights."""

    def set_reference(self, reference: Any, proxy: DoremiProxy) -> None:
        """Set the reference model and start the domain weights; to be called before the first step.

        Args:
            reference: the reference model, on the same device.
            proxy: settings of the weights, and the file of their curve.
        """
        self._reference, self._curve_path = reference, Path(proxy.curve)
        self._curve: list[WeightsPoint] = []
        settings = {"step_size": proxy.step_size, "smoothing": proxy.smoothing}
        self._weights = DomainWeights(len(self._stream.domains), **settings)
        digest = read_digest(resolve(proxy.reference))
        self.made_with = {"doremi": settings | {"reference": digest}}

    def run(
        self,
        checkpoints: Checkpoints,
        before_step: Callable[[TrainingLoop], None] | None = None,
    ) -> None:
        """Take the steps as `TrainingLoop.run` does, then write the curve.

        Raises:
            TrialError, ComponentError: as for `TrainingLoop.run`.
        """
        super().run(checkpoints, before_step)
        content = json.dumps([asdict(point) for point in self._curve], indent=1) + "\n"
        write_complete(self._curve_path, lambda: [content.encode()])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, and the curve so far."""
        curve = [asdict(point) for point in self._curve]
        return super().state_dict() | {"domains": self._weights.state_dict(), "curve": curve}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        super().load_state_dict(state)
        self._weights.load_state_dict(state["domains"])
        self._curve = [WeightsPoint(**point) for point in state["curve"]]

    def _weigh_sequences(self, ids_BL: Tensor) -> Tensor:
        """Update the domain weights, and return the factors of the losses.

        Raises:
            TrialError: an excess loss is NaN or infinite.
        """
        import torch

        first = self.n_steps_done * self._recipe.batch
        domain_B = self._stream.domain_S[first : first + len(ids_BL)]
        excess_B = self._measure_excess(ids_BL)
        if not np.isfinite(excess_B).all():
            raise TrialError(
                f"the excess loss over the reference model is NaN or infinite at step "
                f"{self.n_steps_done + 1} of {self.n_steps}; a smaller learning_rate than "
                f"{self._recipe.learning_rate} may help"
            )
        weights_K = self._weights.update(excess_B, domain_B)
        self._record()
        factor_B = weigh_sequences(weights_K, domain_B)
        return torch.from_numpy(factor_B).to(ids_BL.device, torch.float32)

    def _measure_excess(self, ids_BL: Tensor) -> Array:
        """Average max(loss - reference loss, 0) over the tokens of each sequence, shape (B,)."""
        import torch

        self._model.eval()
        with torch.no_grad():
            parts = [
                compute_next_token_losses(self._model, ids)
                - compute_next_token_losses(self._reference, ids)
                for ids in ids_BL.split(self._updater.micro_batch)
            ]
        self._model.train()
        excess_B: Array = torch.cat(parts).double().clamp(min=0.0).mean(dim=1).cpu().numpy()
        return excess_B

    def _record(self) -> None:
        """Add a point to the curve at regular steps and at the last step, but at no other step."""
        weights, step = self._weights, self._weights.n_steps
        if step % -(-self.n_steps // CURVE_POINTS) and step != self.n_steps:
            return

        def name(values_K: Array) -> dict[str, float]:
            return dict(zip(self._stream.domains, values_K.tolist(), strict=True))

        arrays = weights.weights_K, weights.averaged_K, weights.excess_K
        self._curve.append(WeightsPoint(step, *map(name, arrays)))
