"""The progress of active trials in MLflow: tokens, loss and time left, while they are trained.

    with LiveRuns(store, cfg, setup) as live:
        study = replace(study, on_progress=live.update)
        search(study, on_round)                 # on_round calls live.finish(), then mirror(...)

A trial that takes longer than SECONDS_PER_UPDATE gets its run while it is trained, and `mirror`
completes the run after the round. A separate thread calls MLflow, so that a slow server delays no
trial.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from climb import tables
from climb.config import Config
from climb.proxy.heartbeat import RunProgress
from climb.tracking.client import MirroredSearch, attempt, open_mirrored
from climb.tracking.limits import limit_mlflow
from climb.tracking.uri import check_database
from climb.tracking.values import make_tags

if TYPE_CHECKING:
    from climb.spark.delta.store import Store
    from climb.spark.training.setup import TrainingSetup
    from climb.spark.training.study import PlannedTrial

SECONDS_PER_UPDATE = 30.0
"""Time between two updates, and before the first update of a trial."""


class LiveRuns:
    """The MLflow runs of active trials."""

    def __init__(self, store: Store, cfg: Config, setup: TrainingSetup) -> None:
        self._store, self._cfg, self._setup = store, cfg, setup
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[str | None] | None = None
        self._next = 0.0
        self._seen: dict[str, float] = {}
        self._mirrored: MirroredSearch | None = None
        self._parent = ""
        self._run_ids: dict[str, str] = {}

    def __enter__(self) -> LiveRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._pool.shutdown()

    def update(self, running: Sequence[tuple[PlannedTrial, RunProgress]]) -> None:
        """Start to log the progress of active trials, and return at once.

        Trials that have been active for less than SECONDS_PER_UPDATE are left out. A call does
        nothing if the last update is still running, or started less than SECONDS_PER_UPDATE ago.
        """
        now = time.monotonic()
        seen = {planned.trial_id: self._seen.get(planned.trial_id, now) for planned, _ in running}
        self._seen = seen
        due = [item for item in running if now - seen[item[0].trial_id] >= SECONDS_PER_UPDATE]
        is_busy = self._pending is not None and not self._pending.done()
        if is_busy or not due or now < self._next:
            return
        self._next = now + SECONDS_PER_UPDATE
        self._pending = self._pool.submit(attempt, self._cfg, lambda uri: self._log(uri, due))

    def finish(self) -> None:
        """Wait for the last update, so that `mirror` finds all runs."""
        if self._pending is not None:
            self._pending.result()
        self._pending = None

    def _log(self, uri: str, running: Sequence[tuple[PlannedTrial, RunProgress]]) -> None:
        from mlflow.entities import Metric

        if not self._store.exists(tables.TRIALS):  # the table's id identifies the runs
            return
        check_database(uri)
        with limit_mlflow():
            mirrored = self._open(uri)
            now = int(time.time() * 1000)
            for planned, progress in running:
                values = {
                    "progress.tokens": progress.tokens,
                    "progress.loss": progress.loss,
                    "progress.seconds_left": progress.seconds_left,
                }
                metrics = [
                    Metric(key, float(value), now, progress.tokens)
                    for key, value in values.items()
                    if value is not None
                ]
                run_id = self._ensure_run(mirrored, planned)
                mirrored.client.log_batch(run_id, metrics=metrics)

    def _open(self, uri: str) -> MirroredSearch:
        if self._mirrored is None:
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri)
            mirrored = open_mirrored(client, self._store, self._cfg, uri)
            self._parent = mirrored.ensure_parent()
            open_runs = [run for run in mirrored.find_runs("trial") if _is_open(run)]
            # Runs that an interrupted search has left open.
            self._run_ids = {r.data.tags["climb.trial_id"]: r.info.run_id for r in open_runs}
            self._mirrored = mirrored
        return self._mirrored

    def _ensure_run(self, mirrored: MirroredSearch, planned: PlannedTrial) -> str:
        """Return the id of a trial's run; the first call for a trial creates its run."""
        if planned.trial_id not in self._run_ids:
            tags = make_tags(
                {
                    "search": self._cfg.search.name,
                    "trial_id": planned.trial_id,
                    "method": planned.method,
                    "proxy": self._setup.recipe,
                    "corpus_digest": self._setup.corpus_digest,
                    "round": planned.round_,
                    "seed": planned.seed,
                    "error": None,
                }
            )
            self._run_ids[planned.trial_id] = mirrored.create_trial(self._parent, tags)
        return self._run_ids[planned.trial_id]


def _is_open(run: Any) -> bool:
    return run.info.status == "RUNNING" and "climb.trial_id" in run.data.tags
