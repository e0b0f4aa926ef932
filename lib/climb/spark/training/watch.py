"""Watch active runs from the driver: show their progress, and find those that hang.

Every run writes a heartbeat (`climb.proxy.heartbeat`). The driver compares heartbeats by content
and measures time by its own clock, so the clocks of other machines do not matter.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from climb.progress import log
from climb.proxy.heartbeat import RunProgress, read_progress

MAX_POLL_SHARE = 0.05
"""Largest share of the driver's time that polls take."""

QUARTER, LINE_SECONDS = 0.25, 60.0
"""Without a terminal, a line is printed after each quarter of a run, at most one per minute."""

Observe = Callable[[Mapping[str, RunProgress]], None]
"""Gets the progress of all active runs by name."""


@dataclass(frozen=True)
class WatchSettings:
    """How runs are watched."""

    stage: str = "trials"
    """Name of the job, for lines and bars."""

    hung_minutes: float | None = None
    """A run without progress for this long counts as hung; None: no limit."""

    observe: Observe | None = None
    """Called after every poll, in the driver's thread; it must return at once."""

    poll_seconds: float = 2.0
    """Time between two polls; longer if the mount of the files is slow."""


@dataclass
class _Watched:
    path: Path
    progress: RunProgress | None = None
    changed: float = 0.0
    is_hung: bool = False


@dataclass
class Watch:
    """The active runs of `train_runs`."""

    settings: WatchSettings
    display: RunDisplay
    clock: Callable[[], float] = time.monotonic
    _runs: dict[str, _Watched] = field(default_factory=dict)
    _next: float = 0.0

    def start(self, name: str, path: Path) -> None:
        """Watch a run that is about to be submitted; delete its earlier heartbeat."""
        with contextlib.suppress(OSError):
            path.unlink()
        self._runs[name] = _Watched(path)

    def stop(self, name: str) -> bool:
        """Stop watching a run that has ended, and delete its heartbeat; return whether it hung."""
        run = self._runs.pop(name)
        with contextlib.suppress(OSError):
            run.path.unlink()
        self.display.remove(name)
        return run.is_hung

    def poll(self) -> list[str]:
        """Read and show the heartbeats if it is time; return the names of newly hung runs.

        The time without progress is measured from a run's first heartbeat. Before that, the run may
        wait for a machine.
        """
        began = self.clock()
        if began < self._next:
            return []
        hung = []
        for name, run in self._runs.items():
            progress = read_progress(run.path)
            if progress is not None and progress != run.progress:
                run.progress, run.changed = progress, began
            elif run.progress is not None and self._is_too_long(began - run.changed):
                hung += [name] if not run.is_hung else []
                run.is_hung = True
        running = {n: run.progress for n, run in self._runs.items() if run.progress is not None}
        self.display.update(running)
        if self.settings.observe is not None:
            self.settings.observe(running)
        taken = self.clock() - began
        self._next = began + max(self.settings.poll_seconds, taken / MAX_POLL_SHARE)
        return hung

    def _is_too_long(self, seconds: float) -> bool:
        minutes = self.settings.hung_minutes
        return minutes is not None and seconds > 60.0 * minutes


class RunDisplay:
    """Shows active runs: a bar each on a terminal, else a line for every quarter of a run."""

    def __init__(self, stage: str, is_terminal: bool | None = None) -> None:
        self._stage = stage
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._bars: dict[str, tuple[int, Any]] = {}
        """Name of a run -> (line of its bar, the bar). Line 1 is the first line below the bar of
        `show_progress`, which counts the runs that have ended."""
        self._printed: dict[str, tuple[float, float]] = {}

    def update(self, running: Mapping[str, RunProgress]) -> None:
        """Show the progress of all active runs by name."""
        for name, progress in running.items():
            if not progress.total:
                continue
            if self._is_terminal:
                self._draw(name, progress)
            else:
                self._print(name, progress)

    def remove(self, name: str) -> None:
        """Remove a run that has ended."""
        self._printed.pop(name, None)
        if name in self._bars:
            self._bars.pop(name)[1].close()

    def _draw(self, name: str, progress: RunProgress) -> None:
        from tqdm import tqdm

        if name not in self._bars:
            used = {line for line, _ in self._bars.values()}
            line = min(set(range(1, len(used) + 2)) - used)
            if line > shutil.get_terminal_size().lines - 3:
                return
            bar = tqdm(
                total=progress.total,
                desc=f"  {name[:16]}",
                unit="tok",
                unit_scale=True,
                position=line,
                leave=False,
                file=sys.stderr,
            )
            self._bars[name] = line, bar
        _, bar = self._bars[name]
        bar.n = progress.tokens
        bar.set_postfix_str(_describe_loss(progress))

    def _print(self, name: str, progress: RunProgress) -> None:
        now = time.monotonic()
        share, printed = self._printed.setdefault(name, (0.0, now))
        if progress.share >= share + QUARTER and now - printed >= LINE_SECONDS:
            self._printed[name] = progress.share // QUARTER * QUARTER, now
            log(self._stage, f"{name[:16]}: {describe_progress(progress)}")


def describe_progress(progress: RunProgress) -> str:
    """Describe the progress of a run: tokens, loss, time left."""
    parts = [f"{progress.tokens:,} of {progress.total:,} tokens ({progress.share:.0%})"]
    parts += [_describe_loss(progress)] if progress.loss is not None else []
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return ", ".join(parts)


def _describe_loss(progress: RunProgress) -> str:
    return "" if progress.loss is None else f"loss {progress.loss:.3f}"
