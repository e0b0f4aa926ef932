"""The run log and progress bars on the terminal."""

from __future__ import annotations

import sys
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
