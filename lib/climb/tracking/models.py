"""The target models of a search in MLflow: a run for each, with its learning curve.

    mirror_models(store, cfg)       # after job `train`, and with the report

Metrics of the curve (`curve.loss`, `curve.learning_rate`, `curve.<task>.<metric>`) are logged with
their training steps. `metric.<task>.<metric>` is the value at the end of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from climb import tables
from climb.config import Config
from climb.files import write_if_changed
from climb.mixture.weights import is_same_mixture
from climb.tracking.client import MirroredSearch, attempt, log_values, open_mirrored
from climb.tracking.limits import limit_mlflow
from climb.tracking.mirrored import digest_models, is_up_to_date, locate_models_marker
from climb.tracking.uri import check_database
from climb.tracking.values import make_key

if TYPE_CHECKING:
    from climb.spark.delta.store import Store


@dataclass(frozen=True)
class ModelRun:
    """The run of one target model, before it is logged."""

    model: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Sequence[tuple[str, float, int]]
    """Key, value and step of each metric."""

    ended_ms: int
    seconds: float


def mirror_models(store: Store, cfg: Config) -> str | None:
    """Log the target models that MLflow does not have yet. Never raises.

    Returns:
        One line that says what was logged; None if tracking is off or failed, or if a
        table is missing.
    """
    return attempt(cfg, lambda uri: _update(store, cfg, uri))


def _update(store: Store, cfg: Config, uri: str) -> str | None:
    if not all(store.exists(t) for t in (tables.TRIALS, tables.MIXTURES, tables.EVALUATIONS)):
        return None
    read = (tables.MIXTURES, tables.EVALUATIONS, tables.LEARNING_CURVES)
    versions = {table.name: store.history.read_version(table) for table in read}
    marker, state = locate_models_marker(cfg), digest_models(cfg, uri, versions)
    if is_up_to_date(marker, state, uri):
        return "MLflow has all target models"
    mixtures = store.read_rows(tables.MIXTURES, search=cfg.search.name)
    has_curves = store.exists(tables.LEARNING_CURVES)
    runs = make_model_runs(
        store.read_rows(tables.EVALUATIONS),
        store.read_rows(tables.LEARNING_CURVES) if has_curves else [],
        {row["method"]: row["weights"] for row in mixtures},
    )
    check_database(uri)
    with limit_mlflow():
        from mlflow import MlflowClient

        mirrored = open_mirrored(MlflowClient(tracking_uri=uri), store, cfg, uri)
        logged = log_missing_models(mirrored, mirrored.ensure_parent(), runs)
    write_if_changed(marker, state.encode())
    return f"MLflow: {logged} target models logged, {len(runs) - logged} already logged"


def make_model_runs(
    evaluations: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
    mixtures: Mapping[str, Mapping[str, float]],
) -> list[ModelRun]:
    """Make a run for each model that was trained on a mixture of a search.

    Args:
        evaluations: rows of table `evaluations`.
        curves: rows of table `learning_curves`.
        mixtures: method -> weights, of the search.
    """
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in evaluations:
        models.setdefault(row["model"], []).append(row)
    points: dict[str, list[Mapping[str, Any]]] = {}
    for row in curves:
        points.setdefault(row["model"], []).append(row)
    found = []
    for name, rows in sorted(models.items()):
        method = _find_method(rows[0]["weights"], mixtures)
        if method is not None:
            found.append(_make_run(method, rows, points.get(name, [])))
    return found


def _find_method(
    weights: Mapping[str, float], mixtures: Mapping[str, Mapping[str, float]]
) -> str | None:
    """Return the first method with this mixture; None if the search has no such mixture."""
    return next((m for m, other in mixtures.items() if is_same_mixture(weights, other)), None)


def _make_run(
    method: str, rows: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]
) -> ModelRun:
    first = rows[0]
    params = {"tokens": str(first["n_tokens"]), "seed": str(first["seed"])}
    params |= {f"weight.{name}": f"{w:.6f}" for name, w in sorted(first["weights"].items())}
    metrics = [("seconds", float(first["seconds"] or 0.0), 0)]
    metrics += [(f"metric.{row['metric']}", row["value"], 0) for row in rows]
    for point in sorted(points, key=lambda point: point["step"]):
        values = {"loss": point["loss"], "learning_rate": point["learning_rate"]}
        values |= point["metrics"] or {}
        metrics += [(f"curve.{name}", value, point["step"]) for name, value in values.items()]
    tags = {
        "climb.model": first["model"],
        "climb.method": method,
        "climb.recipe": first["recipe"],
        "climb.corpus_digest": first["corpus_digest"],
        "mlflow.runName": f"target {method} seed {first['seed']} {first['model'][-6:]}",
    }
    return ModelRun(
        model=first["model"],
        params={make_key(name): value for name, value in params.items()},
        tags=tags,
        metrics=[(make_key(name), float(value), step) for name, value, step in metrics],
        ended_ms=int(first["finished"].timestamp() * 1000),
        seconds=float(first["seconds"] or 0.0),
    )


def log_missing_models(mirrored: MirroredSearch, parent: str, runs: Sequence[ModelRun]) -> int:
    """Log each target model that has no ended run in MLflow.

    If a crash left the run of a model open, the model is logged to this run, and the run is ended.

    Args:
        mirrored: the runs of the search.
        parent: id of the run of the search.
        runs: the runs of all target models of the search.

    Returns:
        The number of runs that were logged.
    """
    existing = {run.data.tags.get("climb.model"): run.info for run in mirrored.find_runs("model")}
    missing = [
        run for run in runs if run.model not in existing or existing[run.model].status == "RUNNING"
    ]
    for run in missing:
        if run.model in existing:
            run_id = str(existing[run.model].run_id)
        else:
            kind = {"climb.kind": "model", "climb.search": mirrored.search}
            tags = {**run.tags, **kind, "mlflow.parentRunId": parent}
            started = run.ended_ms - int(1000 * run.seconds)
            run_id = mirrored.create_run(tags, start_time=started)
        log_values(mirrored.client, run_id, run.params, run.metrics, run.ended_ms)
        mirrored.client.set_terminated(run_id, "FINISHED", end_time=run.ended_ms)
    return len(missing)
