"""The run log and progress bars on the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def log(stage: str, text: str) -> None:
    """Print one line of the run log.

    Args:
        stage: name of the job.
        text: the line.
    """
    print(f"{stage:<8} {text}", flush=True)


@contextlib.contextmanager
def show_stages(quiet_seconds: float = 3.0) -> Iterator[None]:
    """Print to standard error what the search is doing, with the seconds since the start.

    The search reports its stages by `logging`. A command that ends within `quiet_seconds` prints
    nothing. If it takes longer, the stage at that time and every later one are printed.
    """
    handler = _StageHandler()
    logger = logging.getLogger("climb.search")
    timer = threading.Timer(quiet_seconds, handler.start)
    timer.daemon = True
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        logger.removeHandler(handler)
        logger.setLevel(level)


class _StageHandler(logging.Handler):
    """Prints nothing before `start`; then prints the current stage and every later one."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.is_started, self.last = time.monotonic(), False, ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take the next stage; a repetition of the current stage is not printed."""
        text = record.getMessage()
        if text == self.last:
            return
        self.last = text
        if self.is_started:
            self._print()

    def start(self) -> None:
        """Print from now on, beginning with the current stage."""
        self.acquire()
        self.is_started = True
        if self.last:
            self._print()
        self.release()

    def _print(self) -> None:
        print(f"{time.monotonic() - self.began:4.0f} s  {self.last}", file=sys.stderr, flush=True)


def show_progress(steps: Iterable[T], total: int, stage: str, unit: str) -> Iterator[T]:
    """Iterate over steps and show a progress bar with the estimated time left.

    Without a terminal there is no bar.

    Args:
        steps: what is iterated over.
        total: number of steps.
        stage: name of the job.
        unit: what one step is.
    """
    from tqdm import tqdm

    yield from tqdm(
        steps,
        total=total,
        desc=f"{stage:<8}",
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
    )
