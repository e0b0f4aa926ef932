"""The fidelities of a search: train their components, and measure mixtures, each only once.

A component is a trial on a single domain, and the search keeps its model. Some fidelities use the
models of all components to measure each mixture. The name of a component depends on the recipe and
on the data. The folder of its model is used only if the folder is complete. The row of the
component in `trials` is committed when its training ends. The metrics of the measured mixtures are
in a file whose name depends on everything that could change the metrics. So a search that was
interrupted finds the components and the measurements again.

Axes: D measured mixtures, K domains, Q metrics.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb import tables
from climb.config import build, recipe_of
from climb.errors import ComponentError
from climb.fidelity import Fidelity, FidelityInputs
from climb.files import is_complete, write_complete
from climb.mixture import SAME_DECIMALS
from climb.objective import Objective
from climb.progress import log, show_progress
from climb.proxy import ProxyRun
from climb.proxy.data import hold_local_shards
from climb.proxy.metrics import list_metrics
from climb.search.fidelities import Fidelities, MeasuredFidelity
from climb.search.rounds import sample_measured
from climb.spark.device import get_task_device, release_gpu_memory, shares_local_gpu
from climb.spark.failures import classify_failure
from climb.spark.slots import plan_slots
from climb.spark.threads import limit_threads
from climb.spark.training.setup import (
    TrainingSetup,
    digest_values,
    ensure_base_checkpoint,
)
from climb.spark.training.sharing import train_trials
from climb.spark.training.study import Study
from climb.spark.training.task import Outcome
from climb.spark.training.trials import REQUIRED_ERRORS
from climb.spark.training.watch import WatchSettings

Array = NDArray[np.float64]

COMPONENT = "component"
"""In table `trials`, the method of the rows that are components. No plan contains this method."""

COMPONENT_SEED = 0
"""Seed of every component. One seed is enough, because all mixtures are measured with the same
components."""


def add_fidelities(study: Study) -> Study:
    """Return the study with the estimates of its fidelities; without fidelities, the study itself.

    Raises:
        ClimbError: a component was not trained, or a mixture cannot be measured.
    """
    specs = study.cfg.search.fidelities
    if not specs:
        return study
    objective = Objective.parse(study.cfg.search.objective, list_metrics(study.setup.targets))
    weights = {
        name: float(objective.weights_Q[q])
        for name, q in zip(objective.weighted_names, objective.weighted_columns, strict=True)
    }
    measured = []
    for spec in specs:
        fidelity = build(spec, Fidelity)
        components = _train_components(study, fidelity)
        measured.append(_measure_mixtures(study, fidelity, components))
    fidelities = Fidelities.fit(study.space.domains, weights, measured)
    return replace(study, problem=replace(study.problem, fidelities=fidelities))


def _train_components(study: Study, fidelity: Fidelity) -> dict[str, str]:
    """Train the components that are missing; return domain -> folder."""
    if fidelity.component_tokens == 0:
        return {}
    setup = replace(study.setup, n_tokens=fidelity.component_tokens, targets=())
    runs = dict(build_component(setup, domain) for domain in study.space.domains)
    recorded = _read_recorded(study, setup)
    todo = {
        name: run
        for name, run in runs.items()
        if name not in recorded or not is_complete(Path(str(run.save)))
    }
    if todo:
        _train(study, setup, todo, recorded)
    return {domain: str(run.save) for run in runs.values() for domain in run.weights}


def _read_recorded(study: Study, setup: TrainingSetup) -> set[str]:
    """Read the names of the components that have a row."""
    if not study.store.exists(tables.TRIALS):
        return set()
    rows = study.store.read_rows(tables.TRIALS, proxy=setup.recipe)
    return {row["trial_id"] for row in rows}


def build_component(setup: TrainingSetup, domain: str) -> tuple[str, ProxyRun]:
    """Build the name and the run of a component."""
    weights = {domain: 1.0}
    name = setup.name_run(weights, COMPONENT_SEED)
    run = setup.build_run(weights, COMPONENT_SEED)
    return name, replace(run, save=str(setup.files / "components" / name))


def _train(
    study: Study, setup: TrainingSetup, todo: Mapping[str, ProxyRun], recorded: Collection[str]
) -> None:
    """Train components; when one ends, commit its row unless the row is recorded already.

    Raises:
        ClimbError: a component failed or was lost; the next start trains those that are missing.
    """
    session, cfg = study.store.session, study.cfg.spark
    ensure_base_checkpoint(study.store, study.setup, plan_slots(session, cfg))
    share = len(todo) * setup.n_tokens / study.setup.n_tokens
    log(
        "search",
        f"training {len(todo)} components; together they read as many tokens as {share:.1f} trials",
    )
    watch = WatchSettings("search", setup.hung_minutes)
    batches = train_trials(study.store, cfg, setup.recipe, setup.proxy, list(todo.items()), watch)
    outcomes = chain.from_iterable(batches)
    for outcome in show_progress(outcomes, len(todo), "search", "component"):
        row = _make_component_row(setup, todo[outcome.name], outcome)
        if outcome.name not in recorded:  # otherwise only its folder was missing
            study.store.append(study.store.create_frame([row], tables.TRIALS), tables.TRIALS)


def _make_component_row(setup: TrainingSetup, run: ProxyRun, outcome: Outcome) -> tables.Row:
    """Build a row of `trials`. Its `search` is NULL, because several searches share a component.

    Raises:
        ClimbError: the component was not trained.
    """
    if outcome.status != "finished":
        raise REQUIRED_ERRORS[outcome.kind](
            f"the component of {', '.join(run.weights)} was not trained ({outcome.status}): "
            f"{outcome.error}"
        )
    return dict.fromkeys(tables.TRIALS.column_names) | {
        "trial_id": outcome.name,
        "method": COMPONENT,
        "seed": run.seed,
        "proxy": setup.recipe,
        "corpus_digest": setup.corpus_digest,
        "weights": dict(run.weights),
        "metrics": outcome.metrics,
        "status": outcome.status,
        "n_tokens": run.n_tokens,
        "seconds": outcome.seconds,
        "gpu_share": outcome.gpu_share,
        "finished": datetime.now(UTC),
    }


def _measure_mixtures(
    study: Study, fidelity: Fidelity, components: Mapping[str, str]
) -> MeasuredFidelity:
    """Measure mixtures of the feasible set, or read the file that an earlier start has written."""
    problem, setup = study.problem, study.setup
    names = fidelity.list_metrics(setup.build_run(setup.natural, COMPONENT_SEED))
    weights_DK = sample_measured(fidelity.mixtures, problem)
    made_with = [recipe_of(fidelity), setup.recipe, setup.corpus_digest, setup.base_folder.name]
    key = digest_values(
        [made_with, list(study.space.domains), weights_DK.round(SAME_DECIMALS).tolist()]
    )
    path = setup.files / "fidelities" / f"{type(fidelity).__name__}-{key}.json"
    if not is_complete(path):
        metrics_DQ = _measure_in_tasks(study, fidelity, components, weights_DK)
        _check_metrics(fidelity, names, metrics_DQ, weights_DK)
        content = json.dumps({"metrics": names, "values": metrics_DQ.tolist()}).encode()
        write_complete(path, lambda: [content])
    values = json.loads(path.read_bytes())["values"]
    return MeasuredFidelity(names, weights_DK, np.array(values, dtype=np.float64))


def _measure_in_tasks(
    study: Study, fidelity: Fidelity, components: Mapping[str, str], weights_DK: Array
) -> Array:
    """Measure mixtures in parallel, one part for each slot; return metrics of shape (D, Q).

    Raises:
        ClimbError: the measurement failed because of a mistake that the user can fix.
    """
    session, cfg, setup = study.store.session, study.cfg.spark, study.setup
    inputs = FidelityInputs(
        domains=study.space.domains,
        run=setup.build_run(setup.natural, COMPONENT_SEED),
        base_tokens=setup.base_tokens,
        components=components,
        sequence=getattr(setup.proxy, "sequence", None),
    )
    if components:
        ensure_base_checkpoint(study.store, setup, plan_slots(session, cfg))
    slots = plan_slots(session, cfg, cfg.trials_per_gpu or 1)
    parts = np.array_split(weights_DK, min(max(1, slots.count), len(weights_DK)))
    is_gpu_shared = shares_local_gpu(session)
    log("search", f"measuring {len(weights_DK)} mixtures with {type(fidelity).__name__}")

    def measure(part_DK: Array) -> Array | Exception:
        return measure_part(fidelity, inputs, part_DK, is_gpu_shared)

    tasks = session.sparkContext.parallelize(parts, len(parts)).map(measure)
    results = (tasks if slots.profile is None else tasks.withResources(slots.profile)).collect()
    measured: list[Array] = []
    for result in results:
        if isinstance(result, Exception):
            raise result
        measured.append(result)
    return np.concatenate(measured)


def measure_part(
    fidelity: Fidelity, inputs: FidelityInputs, weights_MK: Array, is_gpu_shared: bool
) -> Array | Exception:
    """Measure some mixtures: the body of a task.

    Returns:
        The metrics (M, Q), or the exception that stops the search. If the task raised this
        exception, Spark would repeat the task, and the repetition would fail too.

    Raises:
        Exception: a worker, device or mount was lost; Spark repeats the task.
    """
    try:
        limit_threads()
        with hold_local_shards(inputs.run) as local:
            measure = fidelity.load(replace(inputs, run=local), get_task_device(is_gpu_shared))
            return measure(weights_MK)
    except Exception as error:
        kind = classify_failure(error)
        if kind == "infrastructure":
            raise
        if kind == "bug":
            lines = traceback.format_exc()
            return RuntimeError(f"{fidelity} raised an unexpected exception in a worker:\n{lines}")
        return error
    finally:
        release_gpu_memory()


def _check_metrics(
    fidelity: Fidelity, names: Sequence[str], metrics_DQ: Array, weights_DK: Array
) -> None:
    shape = (len(weights_DK), len(names))
    if metrics_DQ.shape != shape:
        raise ComponentError(
            f"the metrics of {fidelity} have shape {metrics_DQ.shape}; they must have shape "
            f"{shape}, one column for each name of list_metrics (search.fidelities)"
        )
    invalid = [names[q] for q in np.flatnonzero(~np.isfinite(metrics_DQ).all(axis=0))]
    if invalid:
        raise ComponentError(
            f"{fidelity} measured values that are not finite: {', '.join(invalid)} "
            "(search.fidelities)"
        )
