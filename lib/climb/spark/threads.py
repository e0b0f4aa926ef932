"""The threads of a task (one per core that Spark reserved), and the freed memory that it keeps."""

from __future__ import annotations

import ctypes
import os
import sys

from pyspark import TaskContext

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, in malloc.h


def limit_threads() -> None:
    """Limit this Python worker to its task's cores; call this before and after loading a model.

    Libraries start a thread for each core of the machine, but other tasks use the other cores at
    the same time. With so many threads, all tasks are slower. Some libraries read the limit from an
    environment variable when they are loaded; torch has a function that sets it.
    """
    context = TaskContext.get()
    n_threads = max(1, context.cpus()) if context is not None else 1
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"
    # Spark sets OMP_NUM_THREADS to spark.task.cpus. But with a resource profile, a task may have
    # another number of cores.
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)


def keep_freed_memory() -> None:
    """Let this Python worker keep freed memory of up to 256 MiB, instead of returning it at once.

    A forward pass on a CPU frees and allocates its activations in every layer. By default glibc
    returns such large blocks to the system, which then clears the pages of each new block. Other C
    libraries are left as they are.

    Outside a Spark task, this function does nothing, because the setting would also apply to all
    other code in the process. For example, fastText's training reads memory that it has not
    initialized, and its result changes if this memory is not zero.
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
