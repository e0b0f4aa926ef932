"""The training loop: steps from the last checkpoint on, losses, and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from climb.errors import InfrastructureError, TrialError
from climb.proxy import ProxyRun
from climb.proxy.batches import Batches
from climb.proxy.checkpoint import Checkpoints
from climb.proxy.curve import CurvePoint, build_curve
from climb.proxy.data import Stream
from climb.proxy.heartbeat import Heartbeat
from climb.proxy.processes import find_processes
from climb.proxy.recipe import Recipe
from climb.proxy.update import Updater

if TYPE_CHECKING:
    from torch import Tensor

LOSS_SHARE = 0.1
"""`train.loss` is the mean loss over this last share of the steps."""

STEPS_PER_READING = {"cpu": 1, "cuda": 16}
"""Steps between two readings of losses, by kind of device: reading waits for the GPU."""


class TrainingLoop:
    """A training run between its first and its last step."""

    n_steps: int
    """Number of steps of the whole run."""

    n_steps_here: int
    """Number of steps after which this run ends; `stop_tokens` may make it less than `n_steps`."""

    n_steps_done: int
    """Number of completed steps."""

    losses: list[float]
    """Loss of each completed step in nats; without those that were not read from the GPU yet."""

    made_with: Mapping[str, Any]
    """JSON values that determine the trained weights, besides recipe, run and device."""

    evaluations: dict[int, dict[str, float]]
    """Number of steps -> metrics of the model after these steps; from evaluations in training."""

    def __init__(
        self, recipe: Recipe, run: ProxyRun, stream: Stream, n_ids: int, model: Any
    ) -> None:
        model.train()
        self._recipe, self._run, self._stream, self._model = recipe, run, stream, model
        self._processes = find_processes(run)
        self._batches = Batches(
            stream, recipe.batch, n_ids, run.tokenizer.path, model.device, self._processes
        )
        self._updater = Updater(recipe, model, run.halve_micro_batch, self._processes)
        self.n_steps = self.n_steps_here = len(self._batches)
        if run.stop_tokens is not None:
            n_stop = run.stop_tokens // (recipe.batch * stream.length)
            self.n_steps_here = min(max(1, n_stop), self.n_steps)
        self.n_steps_done = 0
        self.losses, self.evaluations = [], {}
        self.made_with = {}
        self._unread: list[Any] = []
        self._heartbeat = Heartbeat(run.heartbeat)

    def run(
        self,
        checkpoints: Checkpoints,
        before_step: Callable[[TrainingLoop], None] | None = None,
    ) -> None:
        """Take the steps of this run from the last checkpoint on, and save checkpoints.

        Raises:
            TrialError, ComponentError, InfrastructureError: as for `take_step`.
            InfrastructureError: two processes see different checkpoints.
        """
        self._load(checkpoints)
        try:
            while self.n_steps_done < self.n_steps_here:
                if before_step is not None:
                    before_step(self)
                self.take_step()
                self._report()
                is_last = self.n_steps_done == self.n_steps_here
                if is_last or self.n_steps_done % self._run.checkpoint_steps == 0:
                    self.read_losses()  # in every process: all raise the same error
                    if self._processes.is_first:
                        checkpoints.save(self.state_dict())
        finally:
            self._batches.close()

    def _load(self, checkpoints: Checkpoints) -> None:
        """Load, in every process, the checkpoint that the first process finds."""
        state = checkpoints.load(self.n_steps_here)
        step = self._processes.share(0 if state is None else state["step"], self._model.device)
        if state is not None and state["step"] != step:
            state = checkpoints.load(step)
        found = 0 if state is None else state["step"]
        if found != step:
            own, first = (f"the checkpoint of step {n}" if n else "none" for n in (found, step))
            raise InfrastructureError(
                f"checkpoints in {self._run.checkpoints}: process {self._processes.rank} finds "
                f"{own}, but the first process finds {first}; every node must see the same files"
            )
        if state is not None:
            self.load_state_dict(state)

    def take_step(self) -> None:
        """Train on the next batch.

        Raises:
            TrialError: the loss is NaN or infinite. On a GPU, up to STEPS_PER_READING - 1 later
                steps may have been taken; the message names the step of the loss.
            ComponentError: a shard contains a token id that the tokenizer does not have.
            InfrastructureError: another process was lost.
        """
        self._updater.prepare(self._stream.length)
        step = self.n_steps_done
        self._processes.seed_step(self._run.seed, step)
        ids_BL, n_sequences = self._batches.read(step), self._batches.count_sequences(step)
        weights_B = self._weigh_sequences(ids_BL)
        loss = self._updater.take(ids_BL, self._compute_rate(step), n_sequences, weights_B)
        self._unread.append(loss)
        self.n_steps_done += 1
        is_last = self.n_steps_done == self.n_steps
        if is_last or len(self._unread) >= STEPS_PER_READING[self._model.device.type]:
            self.read_losses()

    def _weigh_sequences(self, ids_BL: Tensor) -> Tensor | None:
        """Return the factor of each sequence's loss in the next step, (B,); None: all are 1."""
        return None

    def _compute_rate(self, step: int) -> float:
        return self._recipe.compute_rate(step, self.n_steps, self._run.start is not None)

    def count_tokens(self, n_steps: int) -> int:
        """Count the tokens of the first n_steps steps."""
        return min(n_steps * self._recipe.batch, len(self._stream)) * self._stream.length

    def _report(self) -> None:
        """Report the progress towards the last step of this run."""
        tokens, total = (self.count_tokens(n) for n in (self.n_steps_done, self.n_steps_here))
        self._heartbeat.beat(tokens, total, self.losses[-1] if self.losses else None)

    def read_losses(self) -> None:
        """Read the losses of the last steps from the device.

        Raises:
            TrialError: a loss is NaN or infinite.
        """
        import torch

        unread = torch.stack(self._unread).tolist() if self._unread else []
        self._unread = []
        for loss in unread:
            if not math.isfinite(loss):
                raise TrialError(
                    f"the loss is {loss} at step {len(self.losses) + 1} of {self.n_steps}; "
                    f"a smaller learning_rate than {self._recipe.learning_rate} may help"
                )
            self.losses.append(loss)

    def compute_final_loss(self) -> float:
        """Average the loss over the last LOSS_SHARE of this run's steps, in nats."""
        n_last = max(1, round(LOSS_SHARE * self.n_steps_here))
        return sum(self.losses[-n_last:]) / n_last

    def build_curve(self) -> list[CurvePoint]:
        """Build the learning curve so far."""

        def describe(n_steps: int) -> tuple[int, float]:
            return self.count_tokens(n_steps), self._compute_rate(n_steps - 1)

        return build_curve(self.losses, self.evaluations, self._run.curve_steps, describe)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, and the losses so far.

        Raises:
            TrialError: a loss that was not read yet is NaN or infinite.
        """
        import torch

        self.read_losses()
        cuda = self._model.device.type == "cuda"
        state = {
            "step": self.n_steps_done,
            "losses": self.losses,
            "model": self._model.state_dict(),
            "optimizer": self._updater.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self._model.device) if cuda else None,
        }
        if self._updater.is_halved:
            state["micro_batch"] = self._updater.micro_batch
        if self.evaluations:
            state["evaluations"] = self.evaluations
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        import torch

        self.n_steps_done, self.losses = state["step"], state["losses"]
        self.evaluations = state.get("evaluations", {})
        self._updater.load(state["model"], state["optimizer"], state.get("micro_batch"))
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"], self._model.device)
