"""Threads of a search: independent fits run in parallel, and linear algebra uses one thread.

Fits and predictions multiply many small matrices. Several threads for one product of two matrices
cost more than they save, and on a busy machine they wait for each other (figures:
docs/decisions/predictor.md). With one thread, the last bits of a result also do not depend on the
number of cores.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")


def use_one_blas_thread(function: Callable[P, Result]) -> Callable[P, Result]:
    """Decorate a function: while it runs, the linear algebra library has one thread."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Result:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return wrapped


@use_one_blas_thread
def map_fits(
    function: Callable[[Item], Result], items: Sequence[Item], is_thread_safe: bool
) -> list[Result]:
    """Call a function on every item, and return the results in the order of the items.

    Args:
        function: a fit. Fits can run in parallel threads, because the loops of NumPy and SciPy
            release the interpreter lock.
        items: the argument of each call.
        is_thread_safe: whether several calls may run at the same time.
    """
    n_threads = min(os.cpu_count() or 1, len(items)) if is_thread_safe else 1
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))
