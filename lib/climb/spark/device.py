"""The device that a task computes on. Spark assigns GPUs, but a task can see all of them."""

from __future__ import annotations

import gc
import os
import sys

from pyspark import TaskContext
from pyspark.sql import SparkSession


def get_task_device() -> str:
    """Return `cuda:<address>` of the GPU that Spark assigned to this task; `cpu` without one."""
    context = TaskContext.get()
    if context is None:
        return "cpu"
    gpu = context.resources().get("gpu")
    if gpu is None or not gpu.addresses:
        return "cpu"
    # Before the first use of cuBLAS in this process, which reads it: training needs it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return f"cuda:{gpu.addresses[0]}"


def has_own_gpu(session: SparkSession) -> bool:
    """Whether Spark assigns at least one whole GPU to every task, so that tasks share none."""
    amount = session.sparkContext.getConf().get("spark.task.resource.gpu.amount", "0")
    return float(amount or 0.0) >= 1.0


def release_gpu_memory() -> None:
    """Return this process's unused GPU memory, which torch keeps, so that other runs can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
