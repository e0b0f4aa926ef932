"""Lines and bars on the terminal: what is done, how far it is, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def say(stage: str, text: str) -> None:
    """Print one line of a stage."""
    print(f"{stage:<8} {text}", flush=True)


def bar(steps: Iterable[T], total: int, stage: str, unit: str) -> Iterator[T]:
    """Show the steps' progress with an estimate of what is left; silent where output is a file."""
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
