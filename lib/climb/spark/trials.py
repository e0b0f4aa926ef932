"""Train many proxies at once: each is a Spark job of one task, taken up as soon as a slot is free.

One job a trial, so that its row is committed when it ends, a slow one idles nobody, and a lost
machine costs only what was in flight. Spark retries a task whose worker died; the run's own
checkpoint then makes it continue where it was.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from climb.errors import TrialError
from climb.proxy import Proxy, ProxyRun
from climb.spark.device import task_device
from climb.spark.failures import climb_error, last_line


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    name: str
    status: Literal["finished", "failed", "lost"]
    """failed: by itself, and it would fail again. lost: its worker died as often as Spark tries."""

    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def train_all(
    session: SparkSession, proxy: Proxy, runs: Sequence[tuple[str, ProxyRun]], slots: int
) -> Iterator[Outcome]:
    """Train the named runs, `slots` at a time, and yield each outcome when it is there.

    When whoever takes the outcomes stops, or an error ends the search, running trials are
    cancelled: their checkpoints stay, and the next start continues them.

    Raises:
        ClimbError: a run met something that a person can mend: a shard or target file is missing.
    """
    group = f"climb-{uuid.uuid4()}"
    pool = ThreadPoolExecutor(max_workers=max(1, slots))
    task = inheritable_thread_target(session)(_submit)
    waiting: set[Future[Outcome]] = {
        pool.submit(task, session, proxy, name, run, group) for name, run in runs
    }
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if waiting:
            session.sparkContext.cancelJobGroup(group)


def _submit(session: SparkSession, proxy: Proxy, name: str, run: ProxyRun, group: str) -> Outcome:
    """One Spark job of one task; where Spark gives up on it, the run is lost, not the search."""
    context = session.sparkContext
    context.setJobGroup(group, f"train {name}", interruptOnCancel=True)
    began = time.monotonic()
    try:
        outcomes = context.parallelize([0], 1).map(lambda _: train_one(proxy, name, run)).collect()
    except Exception as error:
        if context._jsc.sc().isStopped():  # the session ended, not the run
            raise
        if (mended := climb_error(str(error))) is not None:
            raise mended from error
        return Outcome(name, "lost", time.monotonic() - began, error=last_line(str(error)))
    return outcomes[0]  # type: ignore[no-any-return]


def train_one(proxy: Proxy, name: str, run: ProxyRun) -> Outcome:
    """The body of the task: train, and turn a run that failed by itself into an outcome."""
    began = time.monotonic()
    try:
        metrics = proxy.train(run, task_device())
    except TrialError as error:
        return Outcome(name, "failed", time.monotonic() - began, error=str(error))
    return Outcome(name, "finished", time.monotonic() - began, metrics)
