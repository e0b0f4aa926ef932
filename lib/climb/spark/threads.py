"""The threads of a task, as many as Spark reserved cores for it, and the memory that it keeps."""

from __future__ import annotations

import ctypes
import os
import sys

from pyspark import TaskContext

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, in malloc.h


def limit_threads() -> None:
    """Limit this Python worker to its task's cores; call it before and after a model is loaded.

    Libraries start a thread for each core of the machine, but a task runs on every core at the
    same time. With so many threads, all tasks are slower. Some libraries read their variable when
    they are loaded, and torch has a function.
    """
    context = TaskContext.get()
    n_threads = max(1, context.cpus()) if context is not None else 1
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"
    # Spark sets the second one to spark.task.cpus, which a resource profile overrides.
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)


def keep_freed_memory() -> None:
    """Let this Python worker keep freed memory of up to 256 MiB, instead of returning it at once.

    A forward pass on a CPU frees and allocates its activations in every layer. By default glibc
    returns blocks of this size to the system, which then clears the pages of each new block. Other
    C libraries are left as they are.

    Only a Spark task does so, because the setting belongs to the whole process. fastText's training
    reads memory that it has not initialized, and its result changes if that is not zero.
    """
    if TaskContext.get() is None or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    for threshold in (1 << 30, 1 << 25):  # some versions accept at most 32 MiB
        if libc.mallopt(_MMAP_THRESHOLD, threshold):
            libc.mallopt(_TRIM_THRESHOLD, 1 << 28)
            return
