"""Train a proxy: create or open its model, train it from the last checkpoint, measure it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ConfigError
from climb.files import resolve
from climb.proxy import ProxyRun
from climb.proxy.checkpoint import Checkpoints, compute_run_digest
from climb.proxy.curve import CurvePoint, write_curve
from climb.proxy.data import Stream, plan_stream
from climb.proxy.evaluate import measure
from climb.proxy.heartbeat import Heartbeat
from climb.proxy.language_model import convert_errors, make_reproducible
from climb.proxy.loop import TrainingLoop
from climb.proxy.metrics import TRAIN_LOSS
from climb.proxy.model_files import open_model, save_model
from climb.proxy.processes import find_processes
from climb.proxy.recipe import Recipe
from climb.tokenizer import TokenizerFile

MakeLoop = Callable[["TrainingRecipe", ProxyRun, Stream, int, Any], TrainingLoop]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(Recipe, ABC):
    """A model and the recipe of its training."""

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """Packages that `train` imports."""

    extra: ClassVar[str] = "proxy"
    """Extra of climb-mixture that installs these packages."""

    reports_progress: ClassVar[bool] = True
    """Whether `train` writes heartbeats."""

    supports_processes: ClassVar[bool] = True
    """Whether several processes can train one model."""

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
        ClimbError: as for `TrainingRecipe.train`; in several processes also InfrastructureError.
    """
    stage = "base" if run.start is None else "continued"
    stream = _plan_stream(recipe, run, stage)
    seed = _hash_seed(stage, run.seed)
    with (
        make_reproducible(device, seed, recipe.precision, recipe.deterministic),
        convert_errors(f"{type(recipe).__name__} on {device}"),
    ):
        model, loop = _start(recipe, run, device, stream, make_loop)
        digest = compute_run_digest(recipe, run, device, loop.made_with)
        checkpoints = Checkpoints(run.checkpoints, digest)
        loop.run(checkpoints, _evaluate_before_step(recipe, run, model, before_step))
        loss, points = loop.compute_final_loss(), loop.build_curve()
        del loop  # frees the memory of gradients and of the compiled copy
        metrics = _measure_targets(recipe, run, model)
        _write_curve(run, points, metrics)
        if run.save is not None:
            save_model(model, run.tokenizer, Path(run.save))
    if run.stop_tokens is None and find_processes(run).is_first:
        checkpoints.remove()
    return metrics | {TRAIN_LOSS: loss}


def _start(
    recipe: TrainingRecipe, run: ProxyRun, device: str, stream: Stream, make_loop: MakeLoop
) -> tuple[Any, TrainingLoop]:
    """Build the initial model on the device, and the loop that trains it."""
    n_ids = _count_token_ids(run.tokenizer)
    model = _build_initial_model(recipe, run, n_ids).to(device)
    return model, make_loop(recipe, run, stream, n_ids, model)


def _measure_targets(
    recipe: TrainingRecipe, run: ProxyRun, model: Any, n_tokens: int | None = None
) -> dict[str, float]:
    """Measure the model on the targets of the run, with a heartbeat before each target."""
    heartbeat, metrics = Heartbeat(run.heartbeat), dict[str, float]()
    total = run.stop_tokens or run.n_tokens
    for target in run.targets:
        heartbeat.beat(total if n_tokens is None else n_tokens, total)
        metrics |= measure(model, [target], run.tokenizer, recipe.sequence)
    return metrics


def _evaluate_before_step(
    recipe: TrainingRecipe,
    run: ProxyRun,
    model: Any,
    before_step: Callable[[TrainingLoop], None] | None,
) -> Callable[[TrainingLoop], None] | None:
    """Extend `before_step` by the evaluations during training, for the learning curve."""
    every = run.evaluate_steps
    if every is None:
        return before_step

    def evaluate(loop: TrainingLoop) -> None:
        n_steps = loop.n_steps_done
        if n_steps and n_steps % every == 0 and n_steps not in loop.evaluations:
            n_tokens = loop.count_tokens(n_steps)
            loop.evaluations[n_steps] = _measure_targets(recipe, run, model, n_tokens)
            model.train()
        if before_step is not None:
            before_step(loop)

    return evaluate


def _write_curve(run: ProxyRun, points: list[CurvePoint], metrics: dict[str, float]) -> None:
    """Write the learning curve of a run, with the final metrics at its last point."""
    if run.curve is not None:
        write_curve(run.curve, [*points[:-1], replace(points[-1], metrics=metrics)])


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
