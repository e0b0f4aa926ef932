"""Train many proxies at once: each is a Spark job of one task, taken up as soon as a slot is free.

One job a trial, so that its row is committed when it ends, a slow one idles nobody, and a lost
machine costs only what was in flight. Spark retries a task whose worker died; the run's own
checkpoint then makes it continue where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from climb.errors import ClimbError
from climb.proxy import Proxy, ProxyRun
from climb.spark.device import task_device


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    name: str
    status: str
    """`finished` or `failed`."""

    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def train_all(
    session: SparkSession, proxy: Proxy, runs: Sequence[tuple[str, ProxyRun]], slots: int
) -> Iterator[Outcome]:
    """Train the named runs, `slots` at a time, and yield each outcome when it is there."""
    with ThreadPoolExecutor(max_workers=max(1, slots)) as pool:
        task = inheritable_thread_target(session)(_submit)
        waiting: set[Future[Outcome]] = {
            pool.submit(task, session, proxy, name, run) for name, run in runs
        }
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            for future in waiting:
                future.cancel()


def _submit(session: SparkSession, proxy: Proxy, name: str, run: ProxyRun) -> Outcome:
    """One Spark job of one task; where Spark gives up on it, the run failed, not the search."""
    context = session.sparkContext
    context.setLocalProperty("spark.job.description", f"train {name}")
    try:
        outcomes = context.parallelize([0], 1).map(lambda _: train_one(proxy, name, run)).collect()
    except Exception as error:
        if context._jsc.sc().isStopped():  # the session ended, not the run: nothing to record
            raise
        reason = str(error).strip().splitlines()
        return Outcome(name, "failed", 0.0, error=f"lost: {reason[0] if reason else error!r}"[:500])
    return outcomes[0]  # type: ignore[no-any-return]


def train_one(proxy: Proxy, name: str, run: ProxyRun) -> Outcome:
    """The body of the task: train, and turn a ClimbError of the proxy into a failed outcome."""
    began = time.monotonic()
    try:
        metrics = proxy.train(run, task_device())
    except ClimbError as error:
        return Outcome(name, "failed", time.monotonic() - began, error=str(error))
    return Outcome(name, "finished", time.monotonic() - began, metrics)
