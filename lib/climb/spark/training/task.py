"""Train one run: the body of a Spark task, or of one of the processes that train a model."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from climb.errors import ClimbError, ComponentError, InfrastructureError, TrialError, one_line
from climb.files import is_complete, mark_complete
from climb.proxy import Proxy, ProxyRun
from climb.proxy.data import hold_local_shards
from climb.proxy.heartbeat import Heartbeat
from climb.spark.device import get_task_device, release_gpu_memory, track_gpu_memory
from climb.spark.failures import FailureKind, classify_failure
from climb.spark.threads import limit_threads


@dataclass(frozen=True)
class Outcome:
    """The result of one run."""

    name: str
    status: Literal["finished", "failed", "lost"]
    """failed: the loss or a metric became NaN, or memory ran out. lost: the worker died or the run
    hung, and retries failed too."""

    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    kind: FailureKind | None = None
    """deterministic or resource if the run failed, infrastructure if it was lost."""

    gpu_share: float | None = None
    """Share of its GPU's memory that the run needed; None: it used no GPU."""


def train_one(
    proxy: Proxy,
    name: str,
    run: ProxyRun,
    is_gpu_shared: bool = False,
    device: str | None = None,
) -> Outcome | Exception:
    """Train one run.

    Args:
        proxy: the model.
        name: of the run.
        run: what it trains on.
        is_gpu_shared: see `get_task_device`.
        device: `cpu`, `cuda:0`, ...; None: that of the Spark task.

    Returns:
        The outcome, or the exception that stops the search. The task does not raise this exception,
        since Spark repeats a task that raises, and every repetition would end in the same way.

    Raises:
        InfrastructureError: a device or a mount was lost; Spark repeats the task in another process
            or on another machine.
    """
    began = time.monotonic()
    try:
        Heartbeat(run.heartbeat).beat()
        limit_threads()
        device = device or get_task_device(is_gpu_shared)
        with hold_local_shards(run) as local, track_gpu_memory(device) as memory:
            metrics = _check_metrics(proxy.train(local, device), proxy, name)
        if run.save is not None and not is_complete(Path(run.save)):  # plug-ins do not mark it
            mark_complete(Path(run.save))
    except (Exception, SystemExit) as error:  # a plug-in may call sys.exit()
        return _describe_failure(error, name, time.monotonic() - began)
    finally:
        release_gpu_memory()
    seconds = time.monotonic() - began
    return Outcome(name, "finished", seconds, metrics, gpu_share=memory.share)


def _check_metrics(metrics: Any, proxy: Proxy, name: str) -> dict[str, float]:
    """Return the metrics of a run.

    Raises:
        ComponentError: `train` did not return numbers by name.
        TrialError: a metric is NaN or infinite.
    """
    where = f"run {name}: {type(proxy).__name__}.train"
    remedy = "it must return a dict from the name of a metric to a number; fix the plug-in"
    if not isinstance(metrics, Mapping):
        raise ComponentError(f"{where} returned {type(metrics).__name__}; {remedy}")
    for metric, value in metrics.items():
        if not (isinstance(metric, str) and isinstance(value, Real)):
            entry = f"{metric!r}: {type(value).__name__}"
            raise ComponentError(f"{where} returned an entry {entry}; {remedy}")
        if not math.isfinite(value):
            raise TrialError(f"metric {metric} is {float(value)} at the end of the run")
    return dict(metrics)


def _describe_failure(
    error: Exception | SystemExit, name: str, seconds: float
) -> Outcome | Exception:
    """Return what `train_one` returns for an exception, or raise an InfrastructureError."""
    kind = classify_failure(error)
    if kind is None:
        assert isinstance(error, ClimbError)
        return error
    if kind == "infrastructure":
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InfrastructureError(reason) from error
    if kind == "bug":
        lines = "".join(traceback.format_exception(error))
        return RuntimeError(f"run {name} raised an unexpected exception in a worker:\n{lines}")
    return Outcome(name, "failed", seconds, error=str(error), kind=kind)
