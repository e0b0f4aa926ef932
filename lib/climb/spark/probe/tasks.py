"""What tasks see: their GPU, their cores, their packages, and whether a resource profile works."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import pandas as pd
from pyspark import TaskContext, inheritable_thread_target
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from climb.spark.device import GPU_AMOUNTS, choose_device
from climb.spark.executors import count_registered
from climb.spark.probe.rows import Row, ask

T = TypeVar("T")

MOST_SECONDS = 120
"""Tasks that do not end within this time are cancelled. Without this limit, a test could hang,
because Spark waits for free cores without a time limit."""

NAMES = (
    "python",
    *("climb-mixture", "pyspark", "delta-spark", "numpy", "scipy", "pandas", "pyarrow", "pydantic"),
    *("tokenizers", "torch", "transformers", "safetensors", "sentence-transformers"),
    *("scikit-learn", "xgboost", "mlflow", "mlflow-skinny"),
)


def run_limited(session: SparkSession, function: Callable[[], T]) -> T:
    """Run jobs of Spark, and cancel them after `MOST_SECONDS`.

    Raises:
        TimeoutError: they did not end in time.
    """
    group = f"climb-probe-{os.getpid()}"

    def run() -> T:
        session.sparkContext.setJobGroup(group, "probe", interruptOnCancel=True)
        return function()

    pool = ThreadPoolExecutor(max_workers=1)
    future = pool.submit(inheritable_thread_target(session)(run))
    try:
        result: T = future.result(timeout=MOST_SECONDS)
        return result
    except TimeoutError:
        session.sparkContext.cancelJobGroup(group)
        raise TimeoutError(f"no result after {MOST_SECONDS} s; cancelled") from None
    finally:
        pool.shutdown(wait=False)


def run_on_executors(session: SparkSession, function: Callable[[], T]) -> list[T]:
    """Call a function in twice as many tasks as there are executors, and return all results."""
    context = session.sparkContext
    n = 2 * count_registered(context)
    tasks = context.parallelize(range(n), n).map(lambda _: function())
    found: list[T] = run_limited(session, tasks.collect)
    return found


def describe_task() -> str:
    """Describe the GPU and the cores of this task."""
    context = TaskContext.get()
    assert context is not None
    gpu = context.resources().get("gpu")
    addresses = list(gpu.addresses) if gpu is not None else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    device = choose_device(addresses[0] if addresses else None, visible, is_gpu_shared=False)
    return (
        f"{socket.gethostname()}: addresses {addresses}, CUDA_VISIBLE_DEVICES {visible}, "
        f"{_describe_cuda(device)}, {context.cpus()} cores, OMP_NUM_THREADS "
        f"{os.environ.get('OMP_NUM_THREADS')}, {os.cpu_count()} cores in the machine"
    )


def _describe_cuda(device: str) -> str:
    """Describe the device; compute one number on it if it is a GPU and torch is installed."""
    try:
        import torch
    except ImportError:
        return f"{device} (no torch)"
    if device == "cpu":
        return f"cpu (torch sees {torch.cuda.device_count()} GPUs)"
    try:
        name = torch.cuda.get_device_name(device)
        return f"{device} = {name}, sum {torch.ones(3, device=device).sum().item():g}"
    except (RuntimeError, AssertionError) as error:
        return f"{device} fails: {str(error).splitlines()[0]}"


def probe_tasks(session: SparkSession) -> list[Row]:
    """Ask what tasks see without a profile, and with one on an RDD and on a DataFrame."""

    def describe() -> str:
        return "; ".join(sorted(set(run_on_executors(session, describe_task))))

    return [
        ask("tasks", "GPU and cores of a task", describe),
        ask("tasks", "profile on an RDD", lambda: _run_profile_of_rdd(session)),
        ask("tasks", "profile on mapInPandas", lambda: _run_profile_of_frame(session)),
    ]


def _build_profile(session: SparkSession) -> ResourceProfile:
    """Build a profile of all cores of an executor, and of a whole GPU if executors have one."""
    conf = session.sparkContext.getConf()
    requests = TaskResourceRequests().cpus(int(conf.get("spark.executor.cores", "2")))
    if any(float(conf.get(key, "0") or 0) for key in GPU_AMOUNTS):
        requests = requests.resource("gpu", 1)
    return ResourceProfileBuilder().require(requests).build


def _run_profile_of_rdd(session: SparkSession) -> str:
    profile = _build_profile(session)
    tasks = session.sparkContext.parallelize([0], 1).map(lambda _: describe_task())
    return run_limited(session, tasks.withResources(profile).collect)[0]


def _run_profile_of_frame(session: SparkSession) -> str:
    def describe(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for _ in batches:
            yield pd.DataFrame({"task": [describe_task()]})

    profile = _build_profile(session)
    frame = session.range(1).repartition(1).mapInPandas(describe, "task STRING", profile=profile)
    return str(run_limited(session, frame.collect)[0]["task"])


def list_versions() -> dict[str, str]:
    """Return the version of Python and of every package; packages that are missing are left out."""
    found = {"python": sys.version.split()[0]}
    for name in NAMES[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def probe_packages(session: SparkSession) -> list[Row]:
    """Compare the versions of the driver with those of the executors; a difference is an error."""
    remote: list[dict[str, str]] = []

    def look() -> str:
        remote.extend(run_on_executors(session, list_versions))
        return f"{len(remote)} tasks"

    listed = ask("packages", "executors list their packages", look)
    compare = partial(_compare_versions, list_versions(), remote)
    return [listed, *(ask("packages", name, partial(compare, name)) for name in NAMES)]


def _compare_versions(driver: dict[str, str], remote: list[dict[str, str]], name: str) -> str:
    """Return the version of a package.

    Raises:
        ValueError: an executor has another version than the driver.
    """
    here = driver.get(name, "missing")
    others = sorted({found.get(name, "missing") for found in remote})
    if others != [here]:
        raise ValueError(f"driver {here}, executors {', '.join(others) or 'unknown'}")
    return here
