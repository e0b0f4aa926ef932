"""Independent fits at the same time, each with one thread of the linear algebra library."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_fits(
    function: Callable[[Item], Result], items: Sequence[Item], is_thread_safe: bool
) -> list[Result]:
    """Call a function on every item, and return the results in the order of the items.

    A fit multiplies many small matrices. Several threads for one product cost more than they save,
    and on a busy machine they wait for each other: fits of 110 metrics took ten times as long
    (docs/decisions/predictor.md). With one thread, the last bits of a result also do not depend on
    the number of cores.

    Args:
        function: a fit; NumPy and SciPy release the interpreter lock in their loops.
        items: its arguments.
        is_thread_safe: whether several calls may run at the same time.
    """
    from threadpoolctl import threadpool_limits

    n_threads = min(os.cpu_count() or 1, len(items)) if is_thread_safe else 1
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))
