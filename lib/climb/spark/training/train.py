"""Train the target model on the mixtures of a search, with several seeds each, and measure it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from climb import tables
from climb.config import Config
from climb.errors import InfrastructureError
from climb.files import is_complete
from climb.progress import log, show_progress
from climb.spark.delta.store import Store
from climb.spark.slots import plan_process_slots
from climb.spark.training.results import (
    PlannedModel,
    commit_curves,
    read_data_versions,
    write_model_card,
)
from climb.spark.training.setup import TrainingSetup, ensure_base_checkpoint
from climb.spark.training.task import Outcome
from climb.spark.training.trials import train_runs
from climb.spark.training.watch import WatchSettings

SECONDS_PER_COMMIT = 60.0
"""Minimum seconds between two commits of learning curves. Only the last commit may come sooner."""


def train_mixtures(store: Store, cfg: Config, setup: TrainingSetup) -> tuple[int, int, int]:
    """Train a model for each mixture of the search and each seed, unless the model is recorded.

    See `train_planned`.
    """
    return train_planned(store, cfg, setup, _plan_models(store, cfg, setup))


def train_planned(
    store: Store, cfg: Config, setup: TrainingSetup, planned: Mapping[str, PlannedModel]
) -> tuple[int, int, int]:
    """Train the planned models (name of the run -> model) that are not recorded yet.

    A recorded model is trained again if its folder exists but is not complete. A model's card is
    written before its rows in `evaluations`, and its learning curve after them.

    Returns:
        How many models were trained now, how many failed, and how many were recorded already. A
        model without a row is trained again at the next start.

    Raises:
        InfrastructureError: workers were lost; the models of the other workers are recorded.
        ClimbError: training the base checkpoint failed, a run failed because of a mistake of the
            user, or the cluster cannot run the configured processes.
        RuntimeError: a run raised an unexpected exception; the message has its traceback.
    """
    done = _list_done(store, planned)
    todo = {name: model for name, model in planned.items() if name not in done}
    n_failed, lost = _train_models(store, cfg, setup, todo) if todo else (0, [])
    recorded = _read_recorded(store) if todo else done
    commit_curves(store, {name: planned[name] for name in planned.keys() & recorded})
    if lost:
        raise InfrastructureError(
            f"{len(lost)} of {len(todo)} target models are not recorded, because their workers "
            f"were lost; the first error: {lost[0].error}; start the job again to train them"
        )
    return len(todo) - n_failed, n_failed, len(planned) - len(todo)


def has_all_models(store: Store, cfg: Config, setup: TrainingSetup) -> bool:
    """Whether the search has mixtures, and `train` would train none of their models."""
    if not store.exists(tables.MIXTURES):
        return False
    planned = _plan_models(store, cfg, setup)
    return bool(planned) and planned.keys() == _list_done(store, planned)


def _list_done(store: Store, planned: Mapping[str, PlannedModel]) -> set[str]:
    """List the models that are recorded, and whose folder is complete or does not exist.

    Earlier versions of climb kept no models, and a user may delete a folder that is not needed.
    """
    recorded = _read_recorded(store)
    return {name for name in planned.keys() & recorded if not _is_cut_short(planned[name])}


def _is_cut_short(model: PlannedModel) -> bool:
    """Whether the folder of a kept model exists, but is not complete."""
    folder = None if model.run.save is None else Path(model.run.save)
    return folder is not None and folder.exists() and not is_complete(folder)


def _read_recorded(store: Store) -> set[str]:
    """Read the names of the recorded models."""
    if not store.exists(tables.EVALUATIONS):
        return set()
    return {row["model"] for row in store.read_rows(tables.EVALUATIONS)}


def _plan_models(store: Store, cfg: Config, setup: TrainingSetup) -> dict[str, PlannedModel]:
    """Plan every mixture with every seed, by name of the run.

    The models are ordered by seed, then by mixture. So an interrupted job usually has a
    model of every mixture for the first seeds.
    """
    mixtures = store.read_rows(tables.MIXTURES, search=cfg.search.name)
    return {
        setup.name_run(row["weights"], seed): PlannedModel(
            cfg.search.name, row["method"], seed, setup.build_run(row["weights"], seed)
        )
        for seed in range(cfg.train.seeds)
        for row in mixtures
    }


def _train_models(
    store: Store, cfg: Config, setup: TrainingSetup, todo: dict[str, PlannedModel]
) -> tuple[int, list[Outcome]]:
    """Train these models and append their rows; return how many failed, and the lost runs."""
    n_failed, lost = 0, list[Outcome]()
    slots = plan_process_slots(store.session, cfg.spark, setup.processes)
    ensure_base_checkpoint(store, setup, slots)
    runs = [(name, model.run) for name, model in todo.items()]
    watch = WatchSettings("train", setup.hung_minutes)
    outcomes = train_runs(store.session, setup.proxy, runs, slots, watch)
    versions = read_data_versions(store)
    done, due = dict[str, PlannedModel](), time.monotonic() + SECONDS_PER_COMMIT
    for outcome in show_progress(outcomes, len(runs), "train", "model"):
        model = todo[outcome.name]
        if outcome.status != "finished":
            if outcome.status == "lost":
                lost.append(outcome)
            else:
                n_failed += 1
            log("train", f"{model.method} seed {model.seed} {outcome.status}: {outcome.error}")
            continue
        write_model_card(setup, model, outcome.metrics, versions)
        rows = _build_evaluation_rows(outcome, model, setup)
        store.append(store.create_frame(rows, tables.EVALUATIONS), tables.EVALUATIONS)
        done[outcome.name] = model
        if time.monotonic() > due:
            commit_curves(store, done)
            due = time.monotonic() + SECONDS_PER_COMMIT
    return n_failed, lost


def _build_evaluation_rows(
    outcome: Outcome, model: PlannedModel, setup: TrainingSetup
) -> list[tables.Row]:
    """Build a model's rows of `evaluations`, one per metric."""
    model_columns = {
        "model": outcome.name,
        "method": model.method,
        "seed": model.seed,
        "recipe": setup.recipe,
        "corpus_digest": setup.corpus_digest,
        "weights": model.run.weights,
        "n_tokens": setup.n_tokens,
        "seconds": outcome.seconds,
        "finished": datetime.now(UTC),
    }
    return [
        {**model_columns, "metric": metric, "value": value}
        for metric, value in sorted(outcome.metrics.items())
    ]
