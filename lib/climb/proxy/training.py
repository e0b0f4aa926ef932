"""Train a proxy: create or open its model, train it from the last checkpoint, measure it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ConfigError
from climb.files import resolve
from climb.proxy import ProxyRun
from climb.proxy.checkpoint import Checkpoints, compute_run_digest
from climb.proxy.data import Stream, plan_stream
from climb.proxy.evaluate import measure
from climb.proxy.heartbeat import Heartbeat
from climb.proxy.language_model import (
    convert_errors,
    make_reproducible,
    open_model,
    save_model,
)
from climb.proxy.loop import TrainingLoop
from climb.proxy.metrics import TRAIN_LOSS
from climb.proxy.recipe import Recipe
from climb.tokenizer import TokenizerFile

MakeLoop = Callable[["TrainingRecipe", ProxyRun, Stream, int, Any], TrainingLoop]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(Recipe, ABC):
    """A model and the recipe of its training."""

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """Packages that `train` imports."""

    extra: ClassVar[str] = "proxy"
    """Extra of climb-mixture that installs them."""

    reports_progress: ClassVar[bool] = True
    """Whether `train` writes heartbeats."""

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
    make_loop: MakeLoop = TrainingLoop,
) -> dict[str, float]:
    """Train from the last checkpoint, measure the model and save it.

    Args:
        recipe: model and optimizer.
        run: data, number of tokens, seed and folders.
        device: `cpu`, `cuda:0`, ...
        before_step: called with the loop before each step; an exception from it ends the run.
        make_loop: makes the loop from recipe, run, stream, number of token ids, and model.

    Raises:
        ClimbError: as for `TrainingRecipe.train`.
    """
    stage = "base" if run.start is None else "continued"
    stream = _plan_stream(recipe, run, stage)
    seed = _hash_seed(stage, run.seed)
    with (
        make_reproducible(device, seed, recipe.precision, recipe.deterministic),
        convert_errors(f"{type(recipe).__name__} on {device}"),
    ):
        n_ids = _count_token_ids(run.tokenizer)
        model = _build_initial_model(recipe, run, n_ids).to(device)
        loop = make_loop(recipe, run, stream, n_ids, model)
        digest = compute_run_digest(recipe, run, device, loop.made_with)
        checkpoints = Checkpoints(run.checkpoints, digest)
        loop.run(checkpoints, before_step)
        loss = loop.compute_final_loss()
        del loop  # frees the memory of gradients and of the compiled copy
        metrics = _measure_targets(model, recipe, run)
        if run.save is not None:
            save_model(model, run.tokenizer, Path(run.save))
    if run.stop_tokens is None:
        checkpoints.remove()
    return metrics | {TRAIN_LOSS: loss}


def _measure_targets(model: Any, recipe: TrainingRecipe, run: ProxyRun) -> dict[str, float]:
    """Measure the model on the targets of the run, with a heartbeat before each."""
    heartbeat, metrics = Heartbeat(run.heartbeat), dict[str, float]()
    n_tokens = run.stop_tokens or run.n_tokens
    for target in run.targets:
        heartbeat.beat(n_tokens, n_tokens)
        metrics |= measure(model, [target], run.tokenizer, recipe.sequence)
    return metrics


def _hash_seed(stage: str, seed: int) -> int:
    name = hashlib.sha256(f"{stage} {seed}".encode()).digest()
    return int.from_bytes(name[:7], "big")


def _build_initial_model(recipe: TrainingRecipe, run: ProxyRun, n_ids: int) -> Any:
    if run.start is None:
        return recipe.create_model(n_ids)
    return recipe.open_start(run.start, n_ids)


def _plan_stream(recipe: TrainingRecipe, run: ProxyRun, stage: str) -> Stream:
    if run.n_tokens < recipe.sequence:
        raise ConfigError(
            f"the run has {run.n_tokens} tokens; it must have at least one sequence of "
            f"{recipe.sequence} tokens; raise base_tokens, trial_tokens or tokens (sections proxy "
            "and train), or lower sequence"
        )
    n_sequences = run.n_tokens // recipe.sequence
    return plan_stream(run.weights, run.shards, n_sequences, recipe.sequence, run.seed, stage)


def _count_token_ids(tokenizer: TokenizerFile) -> int:
    """Return the largest token id plus one."""
    return 1 + max(tokenizer.open().get_vocab().values())
