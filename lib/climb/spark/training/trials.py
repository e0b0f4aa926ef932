"""Train many models at once: each is one Spark job, started as soon as a slot is free.

A job has one task per process of the model. There is one job per run. So a run's row is committed
when the run ends, and other slots do not wait for a slow run. A lost machine interrupts only the
runs that were active on it. On a cluster, Spark starts their tasks again, and they continue
from their checkpoints; in local mode, the next start continues them. `climb.spark.failures`
describes the kinds of failure and what happens after each.

A run that makes no progress for `hung_minutes` is ended and tried again, from its last checkpoint.
After HUNG_TRIES tries it counts as lost. If the caller stops, or an error ends `climb`, the Spark
jobs of the active runs are cancelled. The checkpoints of these runs stay, and the next start of
`climb` continues the runs.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from climb.errors import ClimbError, InfrastructureError, ResourceError, TrialError
from climb.progress import log
from climb.proxy import Proxy, ProxyRun
from climb.spark.device import shares_local_gpu
from climb.spark.failures import FailureKind, find_reason, is_worker_lost
from climb.spark.slots import Slots
from climb.spark.training.distributed import check_processes, train_distributed
from climb.spark.training.task import Outcome, train_one
from climb.spark.training.watch import RunDisplay, Watch, WatchSettings

NamedRun = tuple[str, ProxyRun]

REQUIRED_ERRORS: dict[FailureKind | None, type[ClimbError]] = {
    "deterministic": TrialError,
    "resource": ResourceError,
    "infrastructure": InfrastructureError,
}
"""Error to raise if a required model was not trained, by kind of failure."""

HUNG_TRIES = 3
"""A run counts as lost after this many tries. A try ends if the run hangs or loses one of several
processes. The next start of `climb` tries a lost run again."""


def train_runs(
    session: SparkSession,
    proxy: Proxy,
    runs: Sequence[NamedRun],
    slots: Slots,
    watch: WatchSettings | None = None,
) -> Iterator[Outcome]:
    """Train the named runs as `train_batches` does, and yield each outcome.

    Raises:
        ClimbError, RuntimeError: as for `train_batches`.
    """
    for batch in train_batches(session, proxy, runs, slots, watch):
        yield from batch


def train_batches(
    session: SparkSession,
    proxy: Proxy,
    runs: Sequence[NamedRun],
    slots: Slots,
    watch: WatchSettings | None = None,
) -> Iterator[list[Outcome]]:
    """Train the named runs, as many at a time as there are slots, and yield the outcomes.

    A batch has all runs that have ended since the last batch. So runs that end together are
    recorded in one commit, and their slots wait for this commit only.

    If a run has one process and a device of its own, it halves its micro-batch when memory runs
    out. On a shared device, other runs would decide whether a run halves its micro-batch, and so
    would change how its numbers are rounded. There, no run halves its micro-batch at first. Runs
    that fail for lack of memory are repeated at the end, one at a time, and may halve their
    micro-batch then. Runs of several processes never halve their micro-batch.

    Raises:
        ClimbError: a run failed because of a mistake that the user can fix, such as a missing
            shard.
        RuntimeError: a run raised an unexpected exception; the message has its traceback.
    """
    check_processes(proxy, slots.processes)
    is_alone = len(runs) == 1 or (slots.count <= 1 and slots.count_again is None)
    watch = _limit_watch(watch or WatchSettings(), proxy)
    runs = [(name, replace(run, heartbeat=f"{run.checkpoints}.progress")) for name, run in runs]
    if slots.processes > 1:  # each process would halve on its own, and gradients would not match
        runs = _forbid_halving(runs)
    first = runs if is_alone or slots.has_own_gpu else _forbid_halving(runs)
    repeated = set()
    for batch in _train_parallel(session, proxy, first, slots, watch):
        repeated |= {o.name for o in batch if o.kind == "resource" and not is_alone}
        if ended := [_describe_memory(o) for o in batch if o.name not in repeated]:
            yield ended
    if again := [run for run in runs if run[0] in repeated]:
        log("trials", f"{len(again)} runs ran out of memory; repeating them one at a time")
        alone = replace(slots, count=1, count_again=None)
        for batch in _train_parallel(session, proxy, again, alone, watch):
            yield [_describe_memory(outcome) for outcome in batch]


def train_required(
    session: SparkSession,
    proxy: Proxy,
    run: NamedRun,
    slots: Slots,
    watch: WatchSettings,
    what: str,
) -> float:
    """Train one model that all later work needs, and return the seconds.

    Args:
        session: of the cluster.
        proxy: the model.
        run: its name and what it trains on.
        slots: with whole GPUs, or with cores; the model takes one slot.
        watch: as for `train_runs`.
        what: name of the model in an error message.

    Raises:
        ClimbError: the model was not trained.
    """
    [outcome] = train_runs(session, proxy, [run], slots, watch)
    if outcome.status != "finished":
        error = REQUIRED_ERRORS[outcome.kind]
        raise error(f"{what} was not trained ({outcome.status}): {outcome.error}")
    return outcome.seconds


def _forbid_halving(runs: Sequence[NamedRun]) -> list[NamedRun]:
    return [(name, replace(run, halve_micro_batch=False)) for name, run in runs]


def _limit_watch(watch: WatchSettings, proxy: Proxy) -> WatchSettings:
    """Remove `hung_minutes` for a proxy that does not report progress."""
    reports = getattr(proxy, "reports_progress", False)
    return watch if reports else replace(watch, hung_minutes=None)


def _describe_memory(outcome: Outcome) -> Outcome:
    if outcome.kind != "resource":
        return outcome
    return replace(outcome, error=f"{outcome.error} (no other run was active)")


def _train_parallel(
    session: SparkSession,
    proxy: Proxy,
    runs: Sequence[NamedRun],
    slots: Slots,
    settings: WatchSettings,
) -> Iterator[list[Outcome]]:
    """Train the runs, one per slot; cancel the active ones when the caller stops.

    Outcomes are yielded before new runs are submitted, so the caller's commit gets free cores.
    """
    group = f"climb-{uuid.uuid4()}"
    pool = ThreadPoolExecutor(max(1, len(runs)))  # a thread for each run that can be active
    task = inheritable_thread_target(session)(partial(_submit, session, proxy, group, slots))
    todo, active, tries = deque(runs), dict[Future[Outcome], NamedRun](), Counter[str]()
    watch = Watch(settings, RunDisplay(settings.stage))
    try:
        while todo or active:
            count = slots.count_again() if slots.count_again is not None else slots.count
            while todo and len(active) < max(1, count):
                named = todo.popleft()
                watch.start(named[0], Path(named[1].heartbeat or ""))
                active[pool.submit(task, named)] = named
            done = _wait(session, group, active, watch, tries)
            ended = list[Outcome]()
            for future in [f for f in done if f.exception() is None]:
                was_ended = watch.stop((named := active.pop(future))[0])
                if outcome := _settle(future.result(), was_ended, slots, settings, tries):
                    ended.append(outcome)
                else:
                    todo.append(named)
            if ended:
                yield ended
            for future in done & active.keys():  # after the rows of other runs are committed
                future.result()  # raises
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, _ in active.values():
            session.sparkContext.cancelJobGroup(f"{group} {name}")
            watch.stop(name)


def _wait(
    session: SparkSession,
    group: str,
    active: Mapping[Future[Outcome], NamedRun],
    watch: Watch,
    tries: Counter[str],
) -> set[Future[Outcome]]:
    """Wait until a run ends; meanwhile show the progress of all, and end those that hang."""
    while True:
        done, _ = wait(active, timeout=watch.settings.poll_seconds, return_when=FIRST_COMPLETED)
        if done:
            return done
        for name in watch.poll():
            tries[name] += 1
            log(
                watch.settings.stage,
                f"{name} made no progress for {watch.settings.hung_minutes:g} minutes "
                f"(proxy.hung_minutes); try {tries[name]} of {HUNG_TRIES} is ended",
            )
            session.sparkContext.cancelJobGroup(f"{group} {name}")


def _settle(
    outcome: Outcome, was_ended: bool, slots: Slots, settings: WatchSettings, tries: Counter[str]
) -> Outcome | None:
    """Return the outcome of a run; None if it hung or lost a process, and is tried again.

    If a task is lost for another reason, Spark repeats it on a cluster, but not in local mode.
    """
    name = outcome.name
    if outcome.status != "lost" or not (was_ended or slots.processes > 1):
        return outcome
    if not was_ended:
        tries[name] += 1
        log(settings.stage, f"{name}: {outcome.error} (try {tries[name]} of {HUNG_TRIES})")
    if tries[name] < HUNG_TRIES:
        return None
    if not was_ended:
        return outcome
    reason = f"no progress for {settings.hung_minutes:g} minutes in the last of {HUNG_TRIES} tries"
    return replace(outcome, error=f"{reason} (proxy.hung_minutes)")


def _submit(
    session: SparkSession, proxy: Proxy, group: str, slots: Slots, named: NamedRun
) -> Outcome:
    """Run one Spark job. If Spark gives up, this run is lost and the others go on."""
    context, (name, run) = session.sparkContext, named
    context.setJobGroup(f"{group} {name}", f"train {name}", interruptOnCancel=True)
    began = time.monotonic()
    try:
        if slots.processes > 1:
            result = train_distributed(proxy, name, run, slots.has_own_gpu)
        else:
            result = _train_in_task(session, proxy, slots, named)
    except Exception as error:
        # The session may have ended instead of the worker.
        is_lost = isinstance(error, InfrastructureError) or is_worker_lost(str(error))
        if context._jsc.sc().isStopped() or not is_lost:
            raise
        seconds, reason = time.monotonic() - began, find_reason(str(error))
        return Outcome(name, "lost", seconds, error=reason, kind="infrastructure")
    if isinstance(result, Exception):
        raise result
    return result


def _train_in_task(
    session: SparkSession, proxy: Proxy, slots: Slots, named: NamedRun
) -> Outcome | Exception:
    """Train a run in a job of one task."""
    name, run = named
    is_gpu_shared = shares_local_gpu(session)

    def train(_: int) -> Outcome | Exception:
        return train_one(proxy, name, run, is_gpu_shared)

    task = session.sparkContext.parallelize([0], 1).map(train)
    profile = slots.profile
    [result] = (task if profile is None else task.withResources(profile)).collect()
    return result
