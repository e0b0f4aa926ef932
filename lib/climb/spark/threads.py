"""The threads of a task: as many as Spark reserved cores for it."""

from __future__ import annotations

import os
import sys

from pyspark import TaskContext


def limit_threads() -> None:
    """Limit this Python worker to its task's cores; call it after the model is loaded.

    Libraries start a thread for each core of the machine, but a task runs on every core at the
    same time. With so many threads, all tasks are slower.
    """
    context = TaskContext.get()
    n_threads = max(1, context.cpus()) if context is not None else 1
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)
