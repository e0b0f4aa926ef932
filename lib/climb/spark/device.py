"""The device that a task computes on. Spark assigns GPUs, but a task can see all of them."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyspark import TaskContext
from pyspark.sql import SparkSession

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Device files of the drivers of NVIDIA, of WSL (Linux in Windows), and of AMD."""

CONTEXT_BYTES = 2**30
"""Memory of a process on a GPU besides torch's tensors: its CUDA context, libraries and kernels.
An upper estimate, not measured here."""

GPU_AMOUNTS = ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount")


def get_task_device(is_gpu_shared: bool = False) -> str:
    """Return the device of this task, which `choose_device` selects.

    Args:
        is_gpu_shared: `shares_local_gpu` of the session; tasks cannot ask the session.
    """
    context = TaskContext.get()
    if context is None:
        return "cpu"
    gpu = context.resources().get("gpu")
    address = gpu.addresses[0] if gpu is not None and gpu.addresses else None
    device = choose_device(address, os.environ.get("CUDA_VISIBLE_DEVICES"), is_gpu_shared)
    if device != "cpu":
        # cuBLAS reads this at its first use in a process; deterministic training needs it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return device


def choose_device(address: str | None, visible: str | None, is_gpu_shared: bool) -> str:
    """Choose the device of a task; CUDA numbers the visible GPUs from 0.

    Args:
        address: of the GPU that Spark assigned; None if it assigned none.
        visible: CUDA_VISIBLE_DEVICES of the process; None or empty if it hides nothing.
        is_gpu_shared: whether a task without an assigned GPU may use the first visible one.

    Returns:
        `cuda:INDEX`, or `cpu` for a task without a GPU. If the address is not among the visible
        devices, the platform has hidden the GPUs of other tasks; then the first visible GPU is the
        assigned one.
    """
    if address is None:
        return "cuda:0" if is_gpu_shared else "cpu"
    if visible:
        names = [name.strip() for name in visible.split(",")]
        return f"cuda:{names.index(address) if address in names else 0}"
    return f"cuda:{address if address.isdigit() else 0}"


def is_local(master: str) -> bool:
    """Whether executors run in the driver's process. With `local-cluster`, they do not."""
    return master == "local" or master.startswith("local[")


def uses_sql_plugin(session: SparkSession) -> bool:
    """Whether the plug-in of RAPIDS runs operators of Spark SQL on GPUs."""
    conf = session.sparkContext.getConf()
    is_loaded = "com.nvidia.spark.SQLPlugin" in str(conf.get("spark.plugins", ""))
    return is_loaded and str(session.conf.get("spark.rapids.sql.enabled", "true")) != "false"


def shares_local_gpu(session: SparkSession) -> bool:
    """Whether the tasks of local mode use a GPU that Spark does not schedule.

    Local mode schedules no GPUs. Single-node compute of Databricks is local mode too.
    """
    context = session.sparkContext
    conf = context.getConf()
    if not is_local(str(context.master)) or any(
        float(conf.get(key, "0") or 0) for key in GPU_AMOUNTS
    ):
        return False
    return has_visible_gpu()


@functools.cache
def has_visible_gpu() -> bool:
    """Whether CUDA finds a GPU.

    Importing torch takes seconds, so the device file of a GPU driver is looked for first.
    """
    if not any(Path(path).exists() for path in GPU_DRIVERS):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@dataclass
class GpuMemory:
    """Share of a GPU's memory that this process needed; None: it did not use the GPU."""

    share: float | None = None


@contextlib.contextmanager
def track_gpu_memory(device: str) -> Iterator[GpuMemory]:
    """Measure the peak GPU memory of this process inside the `with` block, through torch.

    The share is set at the end of the block: the memory that torch reserved, plus CONTEXT_BYTES.
    """
    torch = sys.modules.get("torch") if device != "cpu" else None
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(device)  # a reused process has earlier peaks
    memory = GpuMemory()
    yield memory
    torch = sys.modules.get("torch") if device != "cpu" else None
    if torch is not None and torch.cuda.is_initialized():
        reserved = torch.cuda.max_memory_reserved(device)
        total = torch.cuda.get_device_properties(device).total_memory
        memory.share = (reserved + CONTEXT_BYTES) / total if reserved else None


def release_gpu_memory() -> None:
    """Free unused GPU memory that torch keeps in this process, so that other runs can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
