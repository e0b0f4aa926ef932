"""Repeats of a long benchmark, kept in a file: one that was stopped continues at its next start."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from section import describe_commit

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "pieces"


def take_repeats(
    name: str, n: int, measure: Callable[[], list[float]], deadline: float
) -> list[list[float]]:
    """Measure n times, without those that an earlier start at the same commit has measured.

    Exits with status 0 if the deadline (of time.monotonic) stops the start of further repeats.

    Args:
        name: of the benchmark.
        n: number of repeats.
        measure: returns the figures of one repeat.
        deadline: of the last start of a repeat.
    """
    file = CACHE / f"{name}-{describe_commit().replace(' ', '-')}.json"
    taken: list[list[float]] = json.loads(file.read_text()) if file.is_file() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    while len(taken) < n:
        if time.monotonic() > deadline:
            print(f"stopped after {len(taken)} of {n} repeats; start it again to continue")
            sys.exit(0)
        taken.append(measure())
        file.write_text(json.dumps(taken))
    file.unlink(missing_ok=True)
    return taken[:n]
