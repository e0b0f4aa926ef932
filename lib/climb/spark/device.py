"""Which device a task computes on. Spark assigns GPUs; it does not hide the others from a task."""

from __future__ import annotations

from pyspark import TaskContext


def task_device() -> str:
    """`cuda:<address>` of the GPU that Spark gave this task; `cpu` where it gave none."""
    context = TaskContext.get()
    if context is None:
        return "cpu"
    gpu = context.resources().get("gpu")
    return f"cuda:{gpu.addresses[0]}" if gpu is not None and gpu.addresses else "cpu"
