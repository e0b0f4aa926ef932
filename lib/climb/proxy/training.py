"""The training recipe of a proxy, and the loop that follows it: resumable at every checkpoint."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ComponentError, ConfigError, TrialError
from climb.files import resolve
from climb.proxy import ProxyRun
from climb.proxy.checkpoint import Checkpoints, run_digest
from climb.proxy.data import Stream, sequences
from climb.proxy.evaluate import measure
from climb.proxy.language_model import (
    Precision,
    add_gradients,
    memory_errors,
    open_model,
    reproducible,
)

TOKENIZER_FILE = "tokenizer.json"

LOSS_SHARE = 0.1
"""`train.loss` is the mean over this share of the steps, the last ones."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(ABC):
    """How a proxy is optimised: AdamW, warm-up/stable/decay.

    A run from the beginning warms up and stays at the full rate, so that it ends in the stable
    phase; a run that continues it decays linearly. CLIMB's proxies continue a checkpoint of the
    stable phase in the same way.

    Source:
        CLIMB (arXiv 2504.13161), section 4; the schedule: MiniCPM (arXiv 2404.06395).
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """Packages that it imports when it is used."""

    sequence: int
    """Tokens of a training sequence, and the most that the model looks at."""

    batch: int
    """Sequences of a step."""

    learning_rate: float
    """The full rate, reached after the warm-up."""

    warmup_share: float = 0.1
    """Share of the steps in which the rate rises from 0, in both kinds of run. A continued run
    begins with an empty optimiser: without a warm-up its loss ends 0.03 nats higher than with 15 %
    of the steps, and a kept optimiser would gain less than another 0.02 (0.42 M parameters)."""

    final_share: float = 0.0
    """Share of the full rate at the end of a continued run. Linear decay to zero: Defazio et al.,
    arXiv 2310.07831; Bergsma et al., arXiv 2502.15938."""

    weight_decay: float = 0.1
    """Of matrices, not of norms. GPT-3 (arXiv 2005.14165)."""

    beta2: float = 0.95
    """Second moment's memory. GPT-3; beta1 is 0.9."""

    max_gradient_norm: float = 1.0
    """Longer gradients are shortened to it. GPT-3."""

    precision: Precision = "auto"
    """auto: bfloat16 matrix products on a GPU, float32 on a CPU. Weights are always float32."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and (value < 0 or not math.isfinite(value)):
                raise ConfigError(f"{type(self).__name__}.{field.name} is {value}; it must be >= 0")
        for name in ("sequence", "batch", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{type(self).__name__}.{name} must be positive")
        if self.sequence < 2:
            raise ConfigError(f"{type(self).__name__}.sequence is 1; the least is 2")

    def rate(self, step: int, steps: int, continued: bool) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = min(1.0, (step + 1) / max(1, round(self.warmup_share * steps)))
        decay = 1.0 - (1.0 - self.final_share) * step / steps if continued else 1.0
        return self.learning_rate * warmup * decay

    @abstractmethod
    def fresh(self, n_ids: int) -> Any:
        """The model that a run without a start begins with, for n_ids token ids."""

    def continued(self, start: str, n_ids: int) -> Any:
        """The model that a run with a start begins with."""
        return open_model(resolve(start), n_ids)

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train, measure and return `<task>.<metric>` and `train.loss`.

        Raises:
            TrialError: the loss became NaN or infinite, or memory ran out.
            ComponentError: a shard is wrong.
            ConfigError: the run is shorter than a sequence, or model and tokenizer do not fit.
            InputError: a target's file cannot be read.
        """
        return train(self, run, device)


def train(recipe: TrainingRecipe, run: ProxyRun, device: str) -> dict[str, float]:
    """Train a recipe's model from where its last checkpoint stands, measure and save it."""
    import torch

    stage = "base" if run.start is None else "continued"
    if run.n_tokens < recipe.sequence:
        raise ConfigError(f"a run of {run.n_tokens} tokens; one sequence has {recipe.sequence}")
    n_sequences = run.n_tokens // recipe.sequence
    stream = sequences(run.weights, run.shards, n_sequences, recipe.sequence, run.seed, stage)
    name = hashlib.sha256(f"{stage} {run.seed}".encode()).digest()
    with (
        reproducible(device, int.from_bytes(name[:7], "big"), recipe.precision),
        memory_errors(f"{type(recipe).__name__} on {device}"),
    ):
        n_ids = _n_ids(run.tokenizer)
        model = recipe.fresh(n_ids) if run.start is None else recipe.continued(run.start, n_ids)
        course = _Course(recipe, run, stream, n_ids, model.to(torch.device(device)))
        checkpoints = Checkpoints(run.checkpoints, run_digest(recipe, run, device))
        course.restore(checkpoints.load())
        while course.step < course.steps:
            course.advance()
            if course.step % run.checkpoint_steps == 0 or course.step == course.steps:
                checkpoints.save(course.state())
        metrics = measure(model, run.targets, run.tokenizer, recipe.sequence)
        if run.save is not None:
            save_model(model, run.tokenizer, Path(run.save))
    checkpoints.remove()
    last = max(1, round(LOSS_SHARE * course.steps))
    return metrics | {"train.loss": sum(course.losses[-last:]) / last}


class _Course:
    """A training run somewhere between its first and its last step."""

    def __init__(
        self, recipe: TrainingRecipe, run: ProxyRun, stream: Stream, n_ids: int, model: Any
    ) -> None:
        import torch

        self.recipe, self.run, self.stream, self.n_ids, self.model = (
            recipe,
            run,
            stream,
            n_ids,
            model,
        )
        self.steps = -(-len(stream) // recipe.batch)
        self.step = 0
        self.losses: list[float] = []
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2), fused=True)
        model.train()

    def advance(self) -> None:
        """Take one step.

        Raises:
            TrialError: the loss is NaN or infinite.
            ComponentError: a shard holds an unknown token id.
        """
        import torch

        first = self.step * self.recipe.batch
        ids_BL = self.stream.batch(first, min(first + self.recipe.batch, len(self.stream)))
        if ids_BL.max() >= self.n_ids:
            raise ComponentError(
                f"step {self.step + 1}: a shard holds token id {ids_BL.max()}, but the tokenizer "
                f"{self.run.tokenizer} ends at {self.n_ids - 1}; run `climb pack` again"
            )
        rate = self.recipe.rate(self.step, self.steps, self.run.start is not None)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss = float(add_gradients(self.model, torch.from_numpy(ids_BL).to(self.model.device)))
        self.step += 1
        if not math.isfinite(loss):
            raise TrialError(
                f"the loss is {loss} at step {self.step} of {self.steps}; "
                f"a smaller learning_rate than {self.recipe.learning_rate} may help"
            )
        self.losses.append(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimiser.step()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the losses so far."""
        import torch

        cuda = self.model.device.type == "cuda"
        return {
            "step": self.step,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.model.device) if cuda else None,
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a state; None changes nothing."""
        import torch

        if state is None:
            return
        self.step, self.losses = state["step"], state["losses"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"], self.model.device)


def save_model(model: Any, tokenizer: str, folder: Path) -> None:
    """Write a Hugging Face checkpoint with its tokenizer.json: whole, or not at all."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed right here
    partial.mkdir(parents=True)
    try:
        model.save_pretrained(partial)
        shutil.copyfile(resolve(tokenizer), partial / TOKENIZER_FILE)
        for path in (*partial.iterdir(), partial):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _n_ids(tokenizer: str) -> int:
    """One more than the largest token id."""
    from tokenizers import Tokenizer

    return 1 + max(Tokenizer.from_file(tokenizer).get_vocab().values())
