"""How many threads a task may use: as many as Spark reserved for it, and no more."""

from __future__ import annotations

import os
import sys

from pyspark import TaskContext


def limit_threads() -> None:
    """Keep this Python worker to its task's cores; call it after the model is loaded.

    Libraries count the machine's cores, but as many tasks as it has cores run at once: with a
    thread per core in each of them, every one of them is slower.
    """
    context = TaskContext.get()
    n_threads = max(1, context.cpus()) if context is not None else 1
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)
