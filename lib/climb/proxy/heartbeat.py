"""The progress of a run, in a small file that the driver reads while the run goes on.

    heartbeat = Heartbeat(run.heartbeat)
    heartbeat.beat(n_tokens, run.n_tokens, loss)     # after a step; most calls only read a clock

A file works on every cluster, because every run already needs a shared folder for its checkpoints.
Spark's accumulators cannot replace the file: Spark sends the accumulators of a Python task to the
driver only when the task ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from climb.files import write_file

SECONDS_PER_BEAT = 5.0
"""Shortest time between two writes. A write takes about 10 ms on a local disk."""


@dataclass(frozen=True)
class RunProgress:
    """The state of a run when it last made progress."""

    beat: str
    """Differs between any two writes, even if nothing else changed."""

    tokens: int = 0
    """Tokens that were trained on."""

    total: int = 0
    """Tokens of the run; 0 before the first step."""

    loss: float | None = None
    """The last loss that was read from the device, in nats."""

    seconds_left: float | None = None
    """Estimated time until the last step."""

    @property
    def share(self) -> float:
        """Share of the tokens that were trained on, from 0 to 1."""
        return self.tokens / self.total if self.total else 0.0


class Heartbeat:
    """Writes the progress of one run, from one process."""

    def __init__(self, path: str | None) -> None:
        """Prepare writing; nothing is written before the first beat.

        Args:
            path: file; None writes nothing.
        """
        self._path = None if path is None else Path(path)
        self._writer, self._n_beats = f"{os.getpid()}-{secrets.token_hex(4)}", 0
        self._last = -math.inf
        self._first: tuple[float, int] | None = None

    def beat(self, tokens: int = 0, total: int = 0, loss: float | None = None) -> None:
        """Report progress, unless the last write was less than SECONDS_PER_BEAT ago.

        Args:
            tokens: tokens trained on so far, including those before the loaded checkpoint.
            total: tokens of the run.
            loss: the last loss that was read.
        """
        now = time.monotonic()
        if self._path is None or now - self._last < SECONDS_PER_BEAT:
            return
        self._last = now
        self._n_beats += 1
        left = self._estimate_seconds_left(now, tokens, total)
        progress = RunProgress(f"{self._writer}-{self._n_beats}", tokens, total, loss, left)
        content = json.dumps(asdict(progress)).encode()
        with contextlib.suppress(OSError):  # the run does not depend on this file
            write_file(self._path, lambda: [content])

    def _estimate_seconds_left(self, now: float, tokens: int, total: int) -> float | None:
        if self._first is None and tokens:
            self._first = now, tokens
        if self._first is None or tokens <= self._first[1]:
            return None
        return (now - self._first[0]) / (tokens - self._first[1]) * (total - tokens)


def read_progress(path: Path) -> RunProgress | None:
    """Read the progress of a run; None if there is none yet, or a write is not complete."""
    try:
        return RunProgress(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
