"""The runs of a search in MLflow, which mirror the tables. A failure of MLflow stops no job.

    mirror(store, cfg)       # after every round, at the end of the search, and with the report

There is one parent run per search and one child run per trial. Every child has the same flat,
numeric keys: params `weight.<domain>` and `tokens`, metrics `score`, `metric.<name>`, `round`,
`seed` and `seconds`. So the table and the parallel coordinates of MLflow's compare page work
without configuration. The parent has the recommendation, and how reliable it is (`values.py` has
the keys). Tags identify the runs that the server has; missing runs are logged. If the server is
down, a warning is printed. What is missing is then logged by the first call after RETRY_AFTER
seconds, or by a later process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb import tables
from climb.config import Config
from climb.config.uris import hide_credentials
from climb.errors import PreflightError, one_line
from climb.files import write_if_changed
from climb.progress import log
from climb.search import SearchResult
from climb.search.trials import RECOMMENDED
from climb.tracking.limits import limit_mlflow
from climb.tracking.mirrored import digest_state, is_up_to_date, locate_marker, locate_report
from climb.tracking.parent import update_parent
from climb.tracking.uri import check_database, resolve_tracking_uri
from climb.tracking.values import (
    ChildRun,
    ParentRun,
    make_child_runs,
    make_parent_run,
    select_trials,
)

if TYPE_CHECKING:
    from climb.spark.delta.store import Store

PARAMS_PER_BATCH, METRICS_PER_BATCH = 100, 1000
"""Maximum numbers of params and metrics in one MLflow call."""

RETRY_AFTER = 600.0
"""Seconds that this process waits after a failure before it tries again."""

_failed_at: dict[str, float] = {}
_logged: set[str] = set()


def mirror(store: Store, cfg: Config) -> str | None:
    """Log what MLflow does not have yet. Never raises.

    Returns:
        One line that says what was logged; None if tracking is off or failed, or if there
        is no table `trials`.
    """
    return attempt(cfg, lambda uri: _update(store, cfg, uri))


def attempt(cfg: Config, update: Callable[[str], str | None]) -> str | None:
    """Call `update(uri)`; after a failure, warn, and call nothing for RETRY_AFTER seconds.

    Returns:
        What `update` returned; None if tracking is off or failed.
    """
    uri = resolve_tracking_uri(cfg)
    if uri is None:
        if cfg.tracking.enabled:
            _log_once(
                f"MLflow is off: storage.root is {cfg.storage.root}, and an SQLite file needs a "
                "local path; set tracking.uri"
            )
        return None
    if time.monotonic() - _failed_at.get(uri, -RETRY_AFTER) < RETRY_AFTER:
        return None
    try:
        return update(uri)
    except Exception as error:
        _failed_at[uri] = time.monotonic()
        reason = hide_credentials(one_line(error, 1_000))[:160]
        retry = f"; the next try is after {RETRY_AFTER / 60:g} minutes, or at the next start"
        remedy = "" if isinstance(error, PreflightError) else retry
        log("mlflow", f"warning: {hide_credentials(uri)} was not updated{remedy}: {reason}")
        return None


def _update(store: Store, cfg: Config, uri: str) -> str | None:
    if not store.exists(tables.TRIALS):
        return None
    read = {t.name: store.history.read_version(t) for t in (tables.TRIALS, tables.MIXTURES)}
    report, marker, state = locate_report(cfg), locate_marker(cfg), digest_state(cfg, uri, read)
    if is_up_to_date(marker, state, uri):  # importing MLflow takes seconds
        return "MLflow is up to date"
    parent_run = _read_parent(store, cfg)
    rows = select_trials(store.read_rows(tables.TRIALS), cfg.search.name, parent_run.plan)
    runs = make_child_runs(rows, cfg.search)
    check_database(uri)
    with limit_mlflow():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        mirrored = open_mirrored(client, store, cfg, uri)
        parent = mirrored.ensure_parent()
        stopped = [name for name, p in parent_run.plan.items() if p.stopped_at is not None]
        logged = mirrored.log_missing_trials(parent, runs, stopped)
        files = [report, *_list_figures(store)] if cfg.tracking.artifacts else []
        update_parent(client, parent, parent_run, files)
    write_if_changed(marker, state.encode())
    return f"MLflow: {logged} runs logged, {len(runs) - logged} already logged"


def open_mirrored(client: Any, store: Store, cfg: Config, uri: str) -> MirroredSearch:
    """Open the runs of the configured search; table `trials` must exist."""
    experiment = ensure_experiment(client, cfg, uri)
    owner = store.history.read_table_id(tables.TRIALS)
    return MirroredSearch(client, experiment, cfg.search.name, owner)


def _read_parent(store: Store, cfg: Config) -> ParentRun:
    """Read the result from table `mixtures`; empty if there is none yet."""
    if not store.exists(tables.MIXTURES):
        return ParentRun()
    name = cfg.search.name
    rows = store.read_rows(tables.MIXTURES, search=name, method=RECOMMENDED)
    if not rows:
        return ParentRun()
    result = SearchResult.from_json(rows[0]["result"] or "", f"table mixtures, search {name!r}")
    inputs = store.history.read_inputs(tables.MIXTURES, f"search = '{name}'")
    versions = {
        **(inputs["read"] if inputs else {}),
        "trials": store.history.read_version(tables.TRIALS),
        "mixtures": store.history.read_version(tables.MIXTURES),
    }
    return make_parent_run(result, versions)


def ensure_experiment(client: Any, cfg: Config, uri: str) -> str:
    """Find, restore or create the configured experiment; return its id."""
    existing = client.get_experiment_by_name(cfg.tracking.experiment)
    if existing is not None:
        if existing.lifecycle_stage != "active":  # a new one of this name cannot be created
            client.restore_experiment(existing.experiment_id)
            log("mlflow", f"experiment {cfg.tracking.experiment!r} was deleted; it is restored")
        return str(existing.experiment_id)
    folder = None
    if uri.startswith("sqlite:"):  # MLflow's default folder is below the working directory
        folder = (Path(cfg.storage.root).absolute() / "mlartifacts").as_uri()
    return str(client.create_experiment(cfg.tracking.experiment, artifact_location=folder))


@dataclass(frozen=True)
class MirroredSearch:
    """The runs of one search of one store. Another store may have a search of the same name."""

    client: Any
    experiment: str
    search: str
    store: str
    """Id of table `trials`, which does not change when the table's folder is moved."""

    def find_runs(self, kind: str) -> list[Any]:
        """Find all runs of one kind.

        This function compares the names of searches itself, because MLflow's filters cannot match a
        name with quotes.
        """
        runs, token = [], None
        while True:
            where = f"tags.\"climb.kind\" = '{kind}' and tags.\"climb.store\" = '{self.store}'"
            page = self.client.search_runs(
                [self.experiment], where, max_results=1000, page_token=token
            )
            runs += [run for run in page if run.data.tags.get("climb.search") == self.search]
            token = page.token
            if not token:
                return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def create_run(self, tags: Mapping[str, str], **options: Any) -> str:
        """Create a run of this store."""
        tags = {**tags, "climb.store": self.store}
        run = self.client.create_run(self.experiment, tags=tags, **options)
        return str(run.info.run_id)

    def ensure_parent(self) -> str:
        """Find or create the run of the search."""
        existing = self.find_runs("search")
        if existing:
            return str(existing[0].info.run_id)
        name = f"search {self.search}"
        kind = {"climb.kind": "search", "climb.search": self.search, "mlflow.runName": name}
        return self.create_run(kind)

    def create_trial(self, parent: str, tags: Mapping[str, str], **options: Any) -> str:
        """Create the run of a trial."""
        kind = {"climb.kind": "trial", "mlflow.parentRunId": parent}
        return self.create_run({**tags, **kind}, **options)

    def log_missing_trials(self, parent: str, runs: list[ChildRun], stopped: Sequence[str]) -> int:
        """Log each trial that has no ended run in MLflow, and return how many were logged.

        If a trial has an open run, the trial is logged to this run, and the run is ended. An ended
        run whose score has changed gets the new score. `stopped` has the ids of the trials that
        halving stopped. If such a trial has an open run, the run ends as killed.
        """
        ended, left_open = {}, {}
        for run in self.find_runs("trial"):
            trial_id = run.data.tags.get("climb.trial_id")
            if run.info.status == "RUNNING":
                left_open[trial_id] = run.info.run_id
            else:
                ended[trial_id] = run
        for run in runs:
            if run.trial_id in ended:
                self._update_score(ended[run.trial_id], run)
        missing = [run for run in runs if run.trial_id not in ended]
        for run in missing:
            run_id = left_open.get(run.trial_id)
            if run_id is None:
                started = run.ended_ms - int(1000 * run.seconds)
                run_id = self.create_trial(parent, run.tags, start_time=started)
            metrics = [(key, value, 0) for key, value in run.metrics.items()]
            log_values(self.client, run_id, run.params, metrics, run.ended_ms)
            status = "FINISHED" if run.finished else "FAILED"
            self.client.set_terminated(run_id, status, end_time=run.ended_ms)
        for trial_id in left_open.keys() & stopped:
            self.client.set_terminated(left_open[trial_id], "KILLED")
        return len(missing)

    def _update_score(self, logged: Any, run: ChildRun) -> None:
        """Log the score of an ended run if it has changed, and is known now.

        The score of a trial changes if the objective changes. If metrics are divided by their
        noise, the score also changes whenever another trial changes the estimate of the noise.
        """
        score, old = run.metrics["score"], logged.data.metrics.get("score", math.nan)
        if not math.isnan(score) and not math.isclose(score, old, rel_tol=1e-12):
            # MLflow shows the newest value. Of two values with equal step and time, it shows the
            # larger one, so this value gets a later time.
            time_ms = max(run.ended_ms + 1, int(1000 * time.time()))
            log_values(self.client, logged.info.run_id, {}, [("score", score, 0)], time_ms)


def log_values(
    client: Any,
    run_id: str,
    params: Mapping[str, str],
    metrics: Iterable[tuple[str, float, int]],
    time_ms: int,
) -> None:
    """Log params and metrics in as few calls as MLflow allows.

    Args:
        client: MlflowClient.
        run_id: id of the run.
        params: values by key.
        metrics: key, value and step of each.
        time_ms: time of the metrics.
    """
    from mlflow.entities import Metric, Param

    left = [Param(key, value) for key, value in params.items()]
    values = [Metric(key, value, time_ms, step) for key, value, step in metrics]
    while left or values:
        client.log_batch(run_id, metrics=values[:METRICS_PER_BATCH], params=left[:PARAMS_PER_BATCH])
        left, values = left[PARAMS_PER_BATCH:], values[METRICS_PER_BATCH:]


def _list_figures(store: Store) -> list[Path]:
    """List the figures that the job `report` has written."""
    return sorted(store.locate_file("figures").glob("*.svg"))


def _log_once(text: str) -> None:
    if text not in _logged:
        _logged.add(text)
        log("mlflow", text)
