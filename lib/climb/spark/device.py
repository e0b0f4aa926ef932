"""The device that a task computes on. Spark assigns GPUs, but a task can see all of them."""

from __future__ import annotations

import gc
import sys

from pyspark import TaskContext


def get_task_device() -> str:
    """Return `cuda:<address>` of the GPU that Spark assigned to this task; `cpu` without one."""
    context = TaskContext.get()
    if context is None:
        return "cpu"
    gpu = context.resources().get("gpu")
    return f"cuda:{gpu.addresses[0]}" if gpu is not None and gpu.addresses else "cpu"


def release_gpu_memory() -> None:
    """Return this process's unused GPU memory, which torch keeps, so that other runs can use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
