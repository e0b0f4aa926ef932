"""Train a proxy: its training recipe, and the training loop, which resumes from checkpoints."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ComponentError, ConfigError, TrialError
from climb.files import resolve
from climb.proxy import ProxyRun
from climb.proxy.checkpoint import Checkpoints, compute_run_digest
from climb.proxy.data import Stream, plan_stream
from climb.proxy.evaluate import TRAIN_LOSS, measure
from climb.proxy.language_model import (
    Precision,
    accumulate_gradients,
    convert_memory_errors,
    make_reproducible,
    open_model,
    save_model,
)
from climb.tokenizer import TokenizerFile

LOSS_SHARE = 0.1
"""`train.loss` is the mean loss over this last share of the steps."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(ABC):
    """Optimizer and schedule of a proxy: AdamW with warm-up, stable phase and decay.

    A base run warms up and then keeps the full learning rate, so that it ends in the stable phase.
    A continued run decays linearly. CLIMB's proxies continue a checkpoint of the stable phase in
    the same way.

    Source:
        CLIMB (arXiv 2504.13161), section 4; the schedule: MiniCPM (arXiv 2404.06395).
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """Packages that `train` imports."""

    sequence: int
    """Tokens of a training sequence, and maximum input of the model."""

    batch: int
    """Sequences per step."""

    learning_rate: float
    """The full learning rate, reached after the warm-up."""

    warmup_share: float = 0.1
    """Share of the steps in which the rate rises from 0, in both kinds of run. A continued run
    starts with a new optimizer state. Measured with 0.42 M parameters: without warm-up, its final
    loss is 0.03 nats higher than with 15 % warm-up; keeping the optimizer state lowers the loss by
    less than 0.02 nats more."""

    final_share: float = 0.0
    """Share of the full rate at the end of a continued run. Linear decay to zero: Defazio et al.,
    arXiv 2310.07831; Bergsma et al., arXiv 2502.15938."""

    weight_decay: float = 0.1
    """Weight decay of matrices; norms have none. GPT-3 (arXiv 2005.14165)."""

    beta2: float = 0.95
    """AdamW's beta2, from GPT-3; beta1 is 0.9."""

    max_gradient_norm: float = 1.0
    """Gradients are clipped to this norm. GPT-3."""

    precision: Precision = "auto"
    """auto: bfloat16 matrix products on a GPU, float32 on a CPU. Weights are always float32."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and (value < 0 or not math.isfinite(value)):
                raise ConfigError(
                    f"{type(self).__name__}.{field.name} is {value}; it must be finite and >= 0"
                )
        for name in ("sequence", "batch", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(
                    f"{type(self).__name__}.{name} is {getattr(self, name)}; it must be > 0"
                )
        if self.sequence < 2:
            raise ConfigError(f"{type(self).__name__}.sequence is 1; it must be at least 2")

    def compute_rate(self, step: int, steps: int, continued: bool) -> float:
        """Compute the learning rate of a step.

        Args:
            step: counted from 0.
            steps: number of steps of the run.
            continued: whether the run continues a base checkpoint.
        """
        warmup = min(1.0, (step + 1) / max(1, round(self.warmup_share * steps)))
        decay = 1.0 - (1.0 - self.final_share) * step / steps if continued else 1.0
        return self.learning_rate * warmup * decay

    @abstractmethod
    def create_model(self, n_ids: int) -> Any:
        """Create the initial model of a base run, for a tokenizer of n_ids token ids."""

    def open_start(self, start: str, n_ids: int) -> Any:
        """Open the base checkpoint `start` of a continued run."""
        return open_model(resolve(start), n_ids)

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train, measure and return `<task>.<metric>` and `train.loss`.

        Raises:
            TrialError: the loss became NaN or infinite.
            ResourceError: memory ran out.
            ComponentError: a shard is invalid.
            ConfigError: the run is shorter than a sequence, or model and tokenizer do not match.
            InputError: the file of a target cannot be read.
        """
        return run_training(self, run, device)


def run_training(
    recipe: TrainingRecipe,
    run: ProxyRun,
    device: str,
    before_step: Callable[[TrainingLoop], None] | None = None,
) -> dict[str, float]:
    """Train from the last checkpoint, measure the model and save it.

    Args:
        recipe: model and optimizer.
        run: data, number of tokens, seed and folders.
        device: `cpu`, `cuda:0`, ...
        before_step: called with the loop before each step; an exception from it ends the run.

    Raises:
        ClimbError: as for `TrainingRecipe.train`.
    """
    import torch

    stage = "base" if run.start is None else "continued"
    stream = _plan_stream(recipe, run, stage)
    name = hashlib.sha256(f"{stage} {run.seed}".encode()).digest()
    with (
        make_reproducible(device, int.from_bytes(name[:7], "big"), recipe.precision),
        convert_memory_errors(f"{type(recipe).__name__} on {device}"),
    ):
        n_ids = _count_token_ids(run.tokenizer)
        if run.start is None:
            model = recipe.create_model(n_ids)
        else:
            model = recipe.open_start(run.start, n_ids)
        loop = TrainingLoop(recipe, run, stream, n_ids, model.to(torch.device(device)))
        checkpoints = Checkpoints(run.checkpoints, compute_run_digest(recipe, run, device))
        loop.run(checkpoints, before_step)
        metrics = measure(model, run.targets, run.tokenizer, recipe.sequence)
        if run.save is not None:
            save_model(model, run.tokenizer.path, Path(run.save))
    checkpoints.remove()
    return metrics | {TRAIN_LOSS: loop.compute_final_loss()}


def _plan_stream(recipe: TrainingRecipe, run: ProxyRun, stage: str) -> Stream:
    if run.n_tokens < recipe.sequence:
        raise ConfigError(
            f"the run has {run.n_tokens} tokens; it must have at least one sequence of "
            f"{recipe.sequence} tokens; raise base_tokens, trial_tokens or tokens (sections proxy "
            "and train), or lower sequence"
        )
    n_sequences = run.n_tokens // recipe.sequence
    return plan_stream(run.weights, run.shards, n_sequences, recipe.sequence, run.seed, stage)


class TrainingLoop:
    """A training run between its first and its last step."""

    n_steps: int
    """Number of steps of the run."""

    n_steps_done: int
    """Number of completed steps."""

    losses: list[float]
    """Loss of each completed step, in nats."""

    def __init__(
        self, recipe: TrainingRecipe, run: ProxyRun, stream: Stream, n_ids: int, model: Any
    ) -> None:
        import torch

        self._recipe, self._run, self._stream = recipe, run, stream
        self._n_ids, self._model = n_ids, model
        self.n_steps = -(-len(stream) // recipe.batch)
        self.n_steps_done = 0
        self.losses = []
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2), fused=True)
        model.train()

    def run(
        self,
        checkpoints: Checkpoints,
        before_step: Callable[[TrainingLoop], None] | None = None,
    ) -> None:
        """Take all steps from the last checkpoint on, and save checkpoints.

        Raises:
            TrialError, ComponentError: as for `take_step`.
        """
        state = checkpoints.load()
        if state is not None:
            self.load_state_dict(state)
        while self.n_steps_done < self.n_steps:
            if before_step is not None:
                before_step(self)
            self.take_step()
            is_last = self.n_steps_done == self.n_steps
            if is_last or self.n_steps_done % self._run.checkpoint_steps == 0:
                checkpoints.save(self.state_dict())

    def take_step(self) -> None:
        """Train on the next batch.

        Raises:
            TrialError: the loss is NaN or infinite.
            ComponentError: a shard contains a token id that the tokenizer does not have.
        """
        import torch

        step, recipe = self.n_steps_done, self._recipe
        first = step * recipe.batch
        ids_BL = self._stream.read_batch(first, min(first + recipe.batch, len(self._stream)))
        if ids_BL.max() >= self._n_ids:
            raise ComponentError(
                f"step {step + 1}: a shard contains token id {ids_BL.max()}, but the largest id "
                f"of {self._run.tokenizer.path} is {self._n_ids - 1}; run `climb pack` again"
            )
        rate = recipe.compute_rate(step, self.n_steps, self._run.start is not None)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        ids = torch.from_numpy(ids_BL).to(self._model.device)
        loss = float(accumulate_gradients(self._model, ids))
        self.n_steps_done += 1
        if not math.isfinite(loss):
            raise TrialError(
                f"the loss is {loss} at step {self.n_steps_done} of {self.n_steps}; "
                f"a smaller learning_rate than {recipe.learning_rate} may help"
            )
        self.losses.append(loss)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), recipe.max_gradient_norm)
        self._optimizer.step()

    def compute_final_loss(self) -> float:
        """Average the loss over the last LOSS_SHARE of the steps, in nats."""
        n_last = max(1, round(LOSS_SHARE * self.n_steps))
        return sum(self.losses[-n_last:]) / n_last

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, and the losses so far."""
        import torch

        cuda = self._model.device.type == "cuda"
        return {
            "step": self.n_steps_done,
            "losses": self.losses,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self._model.device) if cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        import torch

        self.n_steps_done, self.losses = state["step"], state["losses"]
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"], self._model.device)


def _count_token_ids(tokenizer: TokenizerFile) -> int:
    """Return the largest token id plus one."""
    return 1 + max(tokenizer.open().get_vocab().values())
