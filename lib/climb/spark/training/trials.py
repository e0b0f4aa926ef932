"""Train many proxies at once: each is a Spark job of one task, started as soon as a slot is free.

There is one job per run. So its row is committed when the run ends, and other slots do not wait for
a slow run. A lost machine costs only the runs that were active on it. Spark retries a task whose
worker died, and the run continues from its own checkpoint. `climb.spark.failures` describes the
kinds of failure and what happens after each.
"""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from climb.errors import InfrastructureError, one_line
from climb.files import is_complete, mark_complete
from climb.progress import log
from climb.proxy import Proxy, ProxyRun
from climb.proxy.data import hold_local_shards
from climb.spark.device import get_task_device, has_own_gpu, release_gpu_memory
from climb.spark.failures import FailureKind, classify_failure, find_reason, is_worker_lost

NamedRun = tuple[str, ProxyRun]


@dataclass(frozen=True)
class Outcome:
    """The result of one run."""

    name: str
    status: Literal["finished", "failed", "lost"]
    """failed: a retry would fail too. lost: the worker died, and Spark's retries failed too."""

    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    kind: FailureKind | None = None
    """deterministic or resource if the run failed, infrastructure if it was lost."""


def train_runs(
    session: SparkSession, proxy: Proxy, runs: Sequence[NamedRun], slots: int
) -> Iterator[Outcome]:
    """Train the named runs, `slots` at a time, and yield each outcome when the run ends.

    A run that is alone on its device halves its micro-batch when memory runs out. If runs share a
    device, the rounding of one would then depend on the others. So runs that ran out of memory are
    repeated at the end, one at a time, and may halve their micro-batch then.

    If the caller stops, or an error ends the search, active runs are cancelled. Their checkpoints
    stay, and the next start continues them.

    Raises:
        ClimbError: a run found a mistake that the user can fix, such as a missing shard.
        RuntimeError: a run raised an unexpected exception; with the worker's traceback.
    """
    is_alone = slots <= 1 or len(runs) == 1
    first = list(runs)
    if not is_alone and not has_own_gpu(session):
        first = [(name, replace(run, halve_micro_batch=False)) for name, run in runs]
    repeated = set()
    for outcome in _train_parallel(session, proxy, first, slots):
        if outcome.kind == "resource" and not is_alone:
            repeated.add(outcome.name)
        else:
            yield _describe_memory(outcome)
    if repeated:
        log("trials", f"{len(repeated)} runs ran out of memory; repeating them one at a time")
        again = [run for run in runs if run[0] in repeated]
        yield from map(_describe_memory, _train_parallel(session, proxy, again, slots=1))


def _describe_memory(outcome: Outcome) -> Outcome:
    if outcome.kind != "resource":
        return outcome
    return replace(outcome, error=f"{outcome.error} (no other run was active)")


def _train_parallel(
    session: SparkSession, proxy: Proxy, runs: Sequence[NamedRun], slots: int
) -> Iterator[Outcome]:
    """Train the runs, `slots` at a time; cancel the active ones when the caller stops."""
    group, stop = f"climb-{uuid.uuid4()}", threading.Event()

    def start(name: str, run: ProxyRun) -> Outcome | None:
        if stop.is_set():
            return None
        try:
            return _submit(session, proxy, name, run, group)
        except BaseException:
            stop.set()  # here, since this thread starts the next run before the caller can react
            raise

    pool = ThreadPoolExecutor(max_workers=max(1, slots))
    task = inheritable_thread_target(session)(start)
    waiting: set[Future[Outcome | None]] = {pool.submit(task, name, run) for name, run in runs}
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            # Outcomes first: their rows are committed before an error ends the search.
            for future in sorted(done, key=lambda f: f.exception() is not None):
                if (outcome := future.result()) is not None:
                    yield outcome
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if waiting:
            session.sparkContext.cancelJobGroup(group)


def _submit(session: SparkSession, proxy: Proxy, name: str, run: ProxyRun, group: str) -> Outcome:
    """Run one Spark job of one task. If Spark gives up, this run is lost and the search goes on."""
    context = session.sparkContext
    context.setJobGroup(group, f"train {name}", interruptOnCancel=True)
    began = time.monotonic()
    try:
        [result] = context.parallelize([0], 1).map(lambda _: train_one(proxy, name, run)).collect()
    except Exception as error:
        # The session may have ended instead of the worker.
        if context._jsc.sc().isStopped() or not is_worker_lost(str(error)):
            raise
        seconds, reason = time.monotonic() - began, find_reason(str(error))
        return Outcome(name, "lost", seconds, error=reason, kind="infrastructure")
    if isinstance(result, Exception):
        raise result
    return result


def train_one(proxy: Proxy, name: str, run: ProxyRun) -> Outcome | Exception:
    """Train one run: the body of the task.

    Returns:
        The outcome, or the exception that stops the search. The task returns it instead of raising
        it, since Spark repeats a task that raises, and every repetition would end in the same way.

    Raises:
        InfrastructureError: Spark repeats the task, in another process or on another machine.
    """
    began = time.monotonic()
    try:
        with hold_local_shards(run) as local:
            metrics = proxy.train(local, get_task_device())
        if run.save is not None and not is_complete(Path(run.save)):  # a plug-in saved it
            mark_complete(Path(run.save))
    except Exception as error:
        kind = classify_failure(error)
        if kind is None:
            return error
        if kind == "infrastructure":
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise InfrastructureError(reason) from error
        if kind == "bug":
            lines = traceback.format_exc()
            return RuntimeError(f"run {name} raised an unexpected exception in a worker:\n{lines}")
        return Outcome(name, "failed", time.monotonic() - began, error=str(error), kind=kind)
    finally:
        release_gpu_memory()
    return Outcome(name, "finished", time.monotonic() - began, metrics)
