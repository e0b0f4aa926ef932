"""MLflow in one place: a mirror of the tables, never on the critical path.

    mirror(store, cfg)       # after every round, at the end of the search, and with the report

A parent run per search, a child per trial. Every child has the same flat, numeric keys: params
`weight.<domain>` and `tokens`, metrics `score`, `metric.<name>`, `round`, `seed` and `seconds`, so
that the compare page's table and parallel coordinates need no setting up. The parent has the
answer: metrics `weight.<domain>`, `score` and `gain.*`, then `quality.<metric>`, `noise.<metric>`,
`signal.<metric>`, `further.worth` and `further.n_trials`, NaN where unknown; and `effects.csv`,
what one percent more of each domain does. What is missing on the server is found by tag and logged;
a server that is down costs one line, and the next call mends it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb import tables
from climb.config import Config
from climb.errors import one_line
from climb.files import is_uri, replacing
from climb.progress import say
from climb.tracked import Answer, Run, answer_of, runs_of

if TYPE_CHECKING:
    from climb.spark.store import Store

PER_BATCH = 100
"""Params and tags that MLflow takes in one call."""

QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""A server that is down must not hold the search up; what the user has set stays."""

PATIENCE = 600.0
"""Seconds after a failure in which this process does not try again."""

_failed_at: dict[str, float] = {}
_said: set[str] = set()


def mirror(store: Store, cfg: Config) -> str | None:
    """Log what MLflow does not have yet. Never raises.

    Returns:
        One line saying what was logged; None where tracking is off, failed, or has no trials yet.
    """
    uri = tracking_uri(cfg)
    if uri is None:
        if cfg.tracking.enabled:
            _say_once(
                f"MLflow is off: {cfg.storage.root} is no local path, so there is no place for "
                "an sqlite file; set tracking.uri"
            )
        return None
    if time.monotonic() - _failed_at.get(uri, -PATIENCE) < PATIENCE:
        return None
    try:
        return _mirror(store, cfg, uri)
    except Exception as error:
        _failed_at[uri] = time.monotonic()
        reason = _shown(one_line(error, 1_000))[:160]
        say("mlflow", f"warning: {_shown(uri)} was not updated, a later start will: {reason}")
        return None


def tracking_uri(cfg: Config) -> str | None:
    """Where runs are logged; None where that is nowhere."""
    if not cfg.tracking.enabled:
        return None
    if cfg.tracking.uri is not None:
        return cfg.tracking.uri
    if is_uri(cfg.storage.root):
        return None
    return f"sqlite:///{Path(cfg.storage.root).absolute()}/mlflow.db"


def how_to_open(cfg: Config) -> str:
    """The command, or the address, that shows the runs."""
    uri = tracking_uri(cfg)
    if uri is None:
        return "off (tracking.enabled, tracking.uri)"
    if not uri.startswith("sqlite:"):
        return _shown(uri)
    beside = Path(sys.executable).with_name("mlflow")
    program = str(beside) if beside.exists() else "mlflow"
    return f"{shlex.quote(program)} server --workers 1 --backend-store-uri {shlex.quote(uri)}"


def _shown(uri: str) -> str:
    """Text without the user and password that a URI in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", uri)


def _mirror(store: Store, cfg: Config, uri: str) -> str | None:
    if not store.exists(tables.TRIALS):
        return None
    report = Path(cfg.report.path) if cfg.report.path else store.files("report.html")
    state = _state(store, cfg, uri, report)
    marker = store.files("mlflow.mirrored")
    if _is_done(marker, state, uri):  # importing MLflow alone takes seconds
        return "MLflow up to date"
    answer = _answer(store, cfg)
    rows = [
        {**row, **answer.parts.get(row["trial_id"], {})}
        for row in store.rows(tables.TRIALS)
        if row["search"] == cfg.search.name or row["trial_id"] in answer.parts
    ]
    runs = runs_of(rows, cfg.search)
    with _quietly():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, cfg, uri)
        parent = _parent(client, experiment, cfg.search.name)
        logged = _log_missing(client, experiment, parent, cfg.search.name, runs)
        _log_answer(client, parent, answer, [report, *_figures(store)])
    with replacing(marker) as stream:
        stream.write(state.encode())
    return f"MLflow: {logged} runs logged, {len(runs) - logged} known"


def _state(store: Store, cfg: Config, uri: str, report: Path) -> str:
    """Digest of everything that a mirrored state follows from; a URI may hold a password."""
    state = {
        "uri": uri,
        "experiment": cfg.tracking.experiment,
        "search": cfg.search.name,
        "objective": [cfg.search.objective, cfg.search.scale, cfg.search.down_weight],
        "trials": store.version(tables.TRIALS),
        "mixtures": store.version(tables.MIXTURES),
        "report": hashlib.sha256(report.read_bytes()).hexdigest() if report.exists() else None,
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _is_done(marker: Path, state: str, uri: str) -> bool:
    kept = not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()
    return kept and marker.exists() and marker.read_text() == state


def _answer(store: Store, cfg: Config) -> Answer:
    """The found mixture of the table `mixtures`, where there is one yet."""
    if not store.exists(tables.MIXTURES):
        return Answer()
    rows = store.rows(tables.MIXTURES, search=cfg.search.name)
    found = next((row for row in rows if row["method"] == "found"), None)
    if found is None:
        return Answer()
    made_from = store.made_from(tables.MIXTURES, f"search = '{cfg.search.name}'") or {}
    versions = {
        **made_from.get("read", {}),
        "trials": store.version(tables.TRIALS),
        "mixtures": store.version(tables.MIXTURES),
    }
    return answer_of(found, cfg.search.objective, versions)


def _experiment(client: Any, cfg: Config, uri: str) -> str:
    known = client.get_experiment_by_name(cfg.tracking.experiment)
    if known is not None:
        return str(known.experiment_id)
    folder = None
    if uri.startswith("sqlite:"):  # MLflow would put artifacts below the working directory
        folder = (Path(cfg.storage.root).absolute() / "mlartifacts").as_uri()
    return str(client.create_experiment(cfg.tracking.experiment, artifact_location=folder))


def _known(client: Any, experiment: str, kind: str, search: str) -> list[Any]:
    """Runs of one search by kind, all pages. Its name is compared here: it may hold quotes."""
    found, token = [], None
    while True:
        where = f"tags.\"climb.kind\" = '{kind}'"
        page = client.search_runs([experiment], where, max_results=1000, page_token=token)
        found += [run for run in page if run.data.tags.get("climb.search") == search]
        token = page.token
        if not token:
            return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def _parent(client: Any, experiment: str, search: str) -> str:
    """The run of this search; made where there is none."""
    known = _known(client, experiment, "search", search)
    if known:
        return str(known[0].info.run_id)
    tags = {"climb.kind": "search", "climb.search": search, "mlflow.runName": f"search {search}"}
    return str(client.create_run(experiment, tags=tags).info.run_id)


def _log_missing(client: Any, experiment: str, parent: str, search: str, runs: list[Run]) -> int:
    """Log the trials that no finished run is tagged with; a run that a crash left open is ended."""
    ended, left_open = set(), {}
    for run in _known(client, experiment, "trial", search):
        trial_id = run.data.tags.get("climb.trial_id")
        if run.info.status == "RUNNING":
            left_open[trial_id] = run.info.run_id
        else:
            ended.add(trial_id)
    missing = [run for run in runs if run.trial_id not in ended]
    for run in missing:
        run_id = left_open.get(run.trial_id)
        if run_id is None:
            tags = {**run.tags, "climb.kind": "trial", "mlflow.parentRunId": parent}
            began = run.ended_ms - int(1000 * run.seconds)
            run_id = client.create_run(experiment, start_time=began, tags=tags).info.run_id
        _log_values(client, run_id, run)
        status = "FINISHED" if run.finished else "FAILED"
        client.set_terminated(run_id, status, end_time=run.ended_ms)
    return len(missing)


def _log_values(client: Any, run_id: str, run: Run) -> None:
    """Params and metrics in as few calls as MLflow allows."""
    from mlflow.entities import Metric, Param

    params = [Param(key, value) for key, value in run.params.items()]
    metrics = [Metric(key, value, run.ended_ms, 0) for key, value in run.metrics.items()]
    client.log_batch(run_id, metrics=metrics, params=params[:PER_BATCH])
    for start in range(PER_BATCH, len(params), PER_BATCH):
        client.log_batch(run_id, params=params[start : start + PER_BATCH])


def _figures(store: Store) -> list[Path]:
    """The report's drawings, as the job `report` left them."""
    return sorted(store.files("figures").glob("*.svg"))


def _log_answer(client: Any, parent: str, answer: Answer, files: list[Path]) -> None:
    """What the parent run says: only what differs from what it says already."""
    from mlflow.entities import Metric, RunTag

    run, now = client.get_run(parent), int(time.time() * 1000)
    told = run.data
    metrics = [
        Metric(key, value, now, answer.step)
        for key, value in answer.metrics.items()
        if not _same(told.metrics.get(key), value)
    ]
    tags = [RunTag(k, v) for k, v in answer.tags.items() if told.tags.get(k) != v]
    if metrics or tags:
        client.log_batch(parent, metrics=metrics, tags=tags)
    for name, text in answer.files.items():
        client.log_text(parent, text, name)
    if answer.files and run.info.status == "RUNNING":
        client.set_terminated(parent, "FINISHED")
    for path in files:
        if path.exists():
            folder = path.parent.name if path.suffix == ".svg" else None
            client.log_artifact(parent, str(path), folder)


def _same(known: float | None, value: float) -> bool:
    """NaN stands for what is unknown, and is told once as any number."""
    return known == value or (known is not None and math.isnan(known) and math.isnan(value))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Short time-outs and no chatter, while MLflow is called; the user's settings win."""
    set_here = {key: value for key, value in QUICK.items() if key not in os.environ}
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow", "urllib3")]
    levels = [logger.level for logger in loggers]
    os.environ.update(set_here)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for key in set_here:
            os.environ.pop(key, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        say("mlflow", text)
