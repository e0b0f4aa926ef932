"""The training loop: steps from the last checkpoint on, losses, and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from climb.errors import TrialError
from climb.proxy import ProxyRun
from climb.proxy.batches import Batches
from climb.proxy.checkpoint import Checkpoints
from climb.proxy.data import Stream
from climb.proxy.heartbeat import Heartbeat
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
    """Number of steps after which this run ends; fewer than `n_steps` with `stop_tokens`."""

    n_steps_done: int
    """Number of completed steps."""

    losses: list[float]
    """Loss of each completed step in nats; without those that were not read from the GPU yet."""

    made_with: Mapping[str, Any]
    """JSON values that determine the trained weights, besides recipe, run and device."""

    def __init__(
        self, recipe: Recipe, run: ProxyRun, stream: Stream, n_ids: int, model: Any
    ) -> None:
        model.train()
        self._recipe, self._run, self._stream, self._model = recipe, run, stream, model
        self._batches = Batches(stream, recipe.batch, n_ids, run.tokenizer.path, model.device)
        self._updater = Updater(recipe, model, run.halve_micro_batch)
        self.n_steps = self.n_steps_here = len(self._batches)
        if run.stop_tokens is not None:
            n_stop = run.stop_tokens // (recipe.batch * stream.length)
            self.n_steps_here = min(max(1, n_stop), self.n_steps)
        self.n_steps_done = 0
        self.losses = []
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
            TrialError, ComponentError: as for `take_step`.
        """
        state = checkpoints.load(self.n_steps_here)
        if state is not None:
            self.load_state_dict(state)
        try:
            while self.n_steps_done < self.n_steps_here:
                if before_step is not None:
                    before_step(self)
                self.take_step()
                self._report()
                is_last = self.n_steps_done == self.n_steps_here
                if is_last or self.n_steps_done % self._run.checkpoint_steps == 0:
                    checkpoints.save(self.state_dict())
        finally:
            self._batches.close()

    def take_step(self) -> None:
        """Train on the next batch.

        Raises:
            TrialError: the loss is NaN or infinite. On a GPU, up to STEPS_PER_READING - 1 later
                steps may have been taken; the message names the step of the loss.
            ComponentError: a shard contains a token id that the tokenizer does not have.
        """
        self._updater.prepare(self._stream.length)
        step = self.n_steps_done
        ids_BL = self._batches.read(step)
        rate = self._recipe.compute_rate(step, self.n_steps, self._run.start is not None)
        self._unread.append(self._updater.take(ids_BL, rate, self._weigh_sequences(ids_BL)))
        self.n_steps_done += 1
        is_last = self.n_steps_done == self.n_steps
        if is_last or len(self._unread) >= STEPS_PER_READING[self._model.device.type]:
            self.read_losses()

    def _weigh_sequences(self, ids_BL: Tensor) -> Tensor | None:
        """Return the factor of the loss of each sequence of the next step, (B,); None: 1."""
        return None

    def _report(self) -> None:
        """Report the progress towards the last step of this run."""
        length = self._stream.length
        tokens, total = (
            min(n_steps * self._recipe.batch, len(self._stream)) * length
            for n_steps in (self.n_steps_done, self.n_steps_here)
        )
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
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        import torch

        self.n_steps_done, self.losses = state["step"], state["losses"]
        self._updater.load(state["model"], state["optimizer"], state.get("micro_batch"))
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"], self._model.device)
