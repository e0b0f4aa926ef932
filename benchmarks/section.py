"""A section of RESULTS.md: tables, bars and notes of one benchmark, as JSON and as Markdown.

    section = Section("speed", "Search: seconds of fits", bars=(Bar("fit", 2.6, at_most=60.0),))
    run_section(lambda args: section)  # the last line of a benchmark script

Scripts only measure. `bench.py` stores each section in benchmarks/results/NAME.json and renders
RESULTS.md from all of them, so a run of one section does not change the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MEASURED_CODE = ("lib", "jobs", "conf", "demo", "benchmarks/*.py")
"""Measured paths: if they have uncommitted changes, the section says so next to the commit."""

_LINE = 100
_ROUNDING = 1e-12
"""Largest relative difference from a bar that counts as rounding."""


@dataclass(frozen=True)
class Bar:
    """A limit for a figure, set before the measurement."""

    name: str
    found: float
    at_least: float | None = None
    at_most: float | None = None
    form: str = ".3f"
    """Format specification of the figure and its limits."""

    std_error: float | None = None
    """Standard error of the figure, if the script estimates it."""

    @property
    def excess(self) -> float:
        """Distance of the figure outside its limits; 0 inside, NaN for a figure that is NaN."""
        lower = -math.inf if self.at_least is None else self.at_least
        upper = math.inf if self.at_most is None else self.at_most
        if math.isnan(self.found):
            return math.nan
        return max(lower - self.found, self.found - upper, 0.0)

    @property
    def is_missed(self) -> bool:
        """Whether the figure is outside its limits by more than rounding."""
        limits = [abs(limit) for limit in (self.at_least, self.at_most) if limit is not None]
        return not self.excess <= _ROUNDING * max(1.0, *limits)

    def describe_limits(self) -> str:
        """The limits in words."""
        if self.at_least is None:
            return f"at most {self.at_most:{self.form}}"
        if self.at_most is None:
            return f"at least {self.at_least:{self.form}}"
        return f"{self.at_least:{self.form}} to {self.at_most:{self.form}}"

    def describe_figure(self) -> str:
        """The figure, with its standard error if it is estimated."""
        error = "" if self.std_error is None else f" (standard error {self.std_error:{self.form}})"
        return f"{self.found:{self.form}}{error}"

    def describe_miss(self) -> str:
        """One sentence: the bar, its limits, the figure, and its distance from the limits."""
        sentence = (
            f"Bar missed: {self.name}: wanted {self.describe_limits()}, "
            f"found {self.describe_figure()}"
        )
        if math.isnan(self.excess):
            return f"{sentence}."
        excess = f"{self.excess:{self.form}}"
        if excess.endswith("%"):
            excess = f"{excess[:-1]} percentage points"
        is_small = self.std_error is not None and self.excess < self.std_error
        remark = ", which is less than one standard error" if is_small else ""
        return f"{sentence}; missed by {excess}{remark}."


@dataclass(frozen=True)
class Table:
    """A Markdown table of text cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{row} does not match {self.columns}"


@dataclass(frozen=True)
class Section:
    """Result of one benchmark. `name` is the file name, `title` the heading in RESULTS.md."""

    name: str
    title: str
    text: str = ""
    """What was measured: sizes, repeats, unit."""

    tables: tuple[Table, ...] = ()
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences that the script computes from the figures."""

    date: str = ""
    commit: str = ""
    machine: str = ""
    command: str = ""
    minutes: float | None = None

    @property
    def missed(self) -> tuple[Bar, ...]:
        """The bars that were missed."""
        return tuple(bar for bar in self.bars if bar.is_missed)


def to_json(section: Section) -> str:
    """The section as JSON text."""
    return json.dumps(dataclasses.asdict(section), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Section:
    """The section that `to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    tables = [
        Table(tuple(table["columns"]), tuple(map(tuple, table["rows"])), table["title"])
        for table in values["tables"]
    ]
    bars = [Bar(**bar) for bar in values["bars"]]
    notes = tuple(values["notes"])
    return Section(**values | {"tables": tuple(tables), "bars": tuple(bars), "notes": notes})


def render(section: Section) -> str:
    """The section as Markdown, with a line for every missed bar."""
    parts = [f"## {section.title}"]
    if section.text:
        parts.append(_wrap(section.text))
    for table in section.tables:
        if table.title:
            parts.append(f"### {table.title}")
        parts.append(render_table(table))
    if section.bars:
        rows = [
            (bar.name, bar.describe_limits(), bar.describe_figure(), _verdict(bar))
            for bar in section.bars
        ]
        parts.append(_render_table(("bar", "wanted", "found", "result"), rows))
    parts += [_wrap(f"**{bar.describe_miss()}**") for bar in section.missed]
    if section.notes:
        parts.append("\n".join(_wrap(note, "* ") for note in section.notes))
    if section.date:
        parts.append(_wrap(_describe_origin(section)))
    return "\n\n".join(parts) + "\n"


def render_results(sections: Sequence[Section], not_measured: Iterable[str] = ()) -> str:
    """RESULTS.md: an overview of all sections, then each of them.

    Args:
        sections: in the order of the page.
        not_measured: names of benchmarks without figures.
    """
    head = (
        "`benchmarks/bench.py` writes this page from benchmarks/results/*.json; `make bench` runs "
        "all benchmarks, `python benchmarks/bench.py NAME` runs one. Do not edit the page. A "
        "section keeps its figures until its benchmark runs again; its commit is the code that was "
        "measured."
    )
    rows = [(f"`{s.name}`", s.title, s.date, s.commit, _count_bars(s)) for s in sections]
    columns = ("name", "section", "measured", "commit", "bars")
    parts = ["# Results", _wrap(head), _render_table(columns, rows)]
    absent = [f"`{name}`" for name in not_measured]
    if absent:
        parts.append(_wrap(f"Not measured: {', '.join(absent)}."))
    return "\n\n".join(parts) + "\n\n" + "\n".join(render(section) for section in sections)


def run_section(
    measure: Callable[[argparse.Namespace], Section], parser: argparse.ArgumentParser | None = None
) -> None:
    """Measure, print the section, and exit with status 1 if a bar is missed.

    This call is the last line of a script. Options of every script: `--quick` measures a tiny
    version, which only shows that the script runs. Its figures mean nothing, and the exit status
    is 0. `--output FILE` writes the section.

    Args:
        measure: called with the parsed command line; `quick` is True for the tiny version.
        parser: has the arguments of this script, if there are any.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = sys.modules["__main__"].__doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a tiny version; figures mean nothing")
    parser.add_argument("--output", type=Path, help="write the section as JSON to this file")
    args = parser.parse_args()
    start = time.monotonic()
    measured = measure(args)
    section = dataclasses.replace(
        measured,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=describe_commit(),
        machine=describe_machine(),
        command=f"python benchmarks/bench.py {measured.name}{' --quick' if args.quick else ''}",
        minutes=round((time.monotonic() - start) / 60.0, 1),
    )
    print(render(section), flush=True)
    if args.output is not None:
        args.output.write_text(to_json(section))
    sys.exit(int(bool(section.missed) and not args.quick))


def render_table(table: Table) -> str:
    """The table as Markdown, without its title."""
    return _render_table(table.columns, table.rows)


def describe_machine() -> str:
    """Cores, architecture and Python version."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def describe_commit() -> str:
    """The commit that is checked out; a remark if the measured code differs from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changes = _git("status", "--porcelain", "--", *MEASURED_CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with local changes" if changes else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _verdict(bar: Bar) -> str:
    return "**missed**" if bar.is_missed else "met"


def _count_bars(section: Section) -> str:
    if not section.bars:
        return "none"
    met = len(section.bars) - len(section.missed)
    text = f"{met} of {len(section.bars)} met"
    return f"**{text}**" if section.missed else text


def _describe_origin(section: Section) -> str:
    minutes = "" if section.minutes is None else f", {section.minutes:g} minutes"
    return (
        f"Measured on {section.date} with `{section.command}` at commit {section.commit} "
        f"({section.machine}{minutes})."
    )


def _render_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _wrap(text: str, bullet: str = "") -> str:
    indent = " " * len(bullet)
    return textwrap.fill(
        text, _LINE, initial_indent=bullet, subsequent_indent=indent, break_on_hyphens=False
    )
