"""Runs whose weights stand in one place and whose metrics in another: the two put together.

A row of either file that has no partner, or no single one, is named and counted, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.errors import InputError
from climb.rows import DUPLICATE, WIDTH, Place, Rejected, RunRow, one_line_name
from climb.sheet import Sheet, finite, no_mixture

NO_PARTNER = "no partner in the other file"
TWICE = "run named twice"
NAMELESS = "run without a name"
UNREADABLE = "mixture file cannot be read"


@dataclass(frozen=True)
class Half:
    """What one file says about a run."""

    at: Place
    run: str
    """What the two files are joined by."""

    name: str
    """What people call the run."""

    cells: tuple[str, ...]
    fault: str = ""
    """Why this half cannot be read, where that is known already."""


def halves(
    sheet: Sheet, key: str, columns: Sequence[str], name: str | None = None
) -> tuple[list[Half], list[Rejected]]:
    """One half per row, its cells in the order of `columns`; rows of another width are rejected.

    Args:
        sheet: a file read with `any_width`.
        key: the column that names the run.
        columns: the columns that are taken.
        name: a column with a name for people; without one the key is the name.

    Raises:
        InputError: the column `key` is missing.
    """
    place, places = sheet.place(key), [sheet.place(column) for column in columns]
    title = sheet.place(name) if name else place
    found, rejected = [], []
    for number, row in sheet.numbered():
        at = Place(sheet.path.name, number)
        if fault := sheet.misfit(row):
            called = row[place] if place < len(row) else ""
            rejected.append(Rejected(at, one_line_name(called), WIDTH, fault))
            continue
        cells = tuple(row[p] for p in places)
        found.append(Half(at, _plain(row[place]), one_line_name(row[title]), cells))
    return found, rejected


def join(weights: Sequence[Half], metrics: Sequence[Half]) -> tuple[list[RunRow], list[Rejected]]:
    """Put halves of one run together.

    Returns:
        Runs in the order of the weights, and every half that is part of none, with its reason.
    """
    kept = [_distinct(side) for side in (weights, metrics)]
    rejected = [r for _, left_out in kept for r in left_out]
    by_run = [_by_run(side) for side, _ in kept]
    rows = []
    for one, other in (by_run, by_run[::-1]):
        for run, found in one.items():
            n = max(len(found), len(other.get(run, ())))
            if n > 1:
                why = TWICE, f"{n} rows of one file are of run {run!r}, with other numbers each"
            elif run not in other:
                why = NO_PARTNER, f"run {run!r} is in this file only"
            elif found[0].fault:
                why = UNREADABLE, found[0].fault
            else:
                continue
            rejected += [Rejected(half.at, half.name, *why) for half in found]
    for run, (half, *more) in by_run[0].items():
        partners = by_run[1].get(run, [])
        if len(partners) == 1 and not more and not half.fault:
            rows.append(RunRow(half.name, half.cells, partners[0].cells, half.at, partners[0].at))
    return rows, rejected


def _by_run(side: Iterable[Half]) -> dict[str, list[Half]]:
    found: dict[str, list[Half]] = {}
    for half in side:
        found.setdefault(half.run, []).append(half)
    return found


def check_order(weights: Sequence[Half], metrics: Sequence[Half], files: tuple[Path, Path]) -> None:
    """Refuse two files that were given the wrong way round.

    Raises:
        InputError: the rows of the second file are mixtures, and those of the first are not.
    """
    if not _are_mixtures(weights) and _are_mixtures(metrics):
        raise InputError(
            f"{files[0]}: its rows are no mixtures, but those of {files[1]} sum to 1: the file of "
            "mixtures comes first, then the file of metrics"
        )


def data_columns(sheet: Sheet, known: Collection[str]) -> list[str]:
    """The columns that hold numbers of runs: all but known ones and a table's own row numbers.

    Raises:
        InputError: there are none.
    """
    found = [c for c in sheet.columns if c not in known and not _is_row_number(c)]
    if not found:
        raise InputError(
            f"{sheet.path} has no columns beside {', '.join(sheet.columns)}; one per domain or "
            "metric is needed"
        )
    return found


def _is_row_number(column: str) -> bool:
    """pandas writes its row numbers under an empty header, and reads them as `Unnamed: 0`."""
    return not column or column.startswith("Unnamed:")


def _distinct(side: Iterable[Half]) -> tuple[list[Half], list[Rejected]]:
    """Halves without nameless ones and without copies of a row, cell by cell."""
    kept: dict[tuple[str, tuple[str, ...]], Half] = {}
    rejected = []
    for half in side:
        if not half.run:
            rejected.append(Rejected(half.at, half.name, NAMELESS, "nothing to join it by"))
            continue
        same = kept.setdefault((half.run, half.cells), half)
        if same is not half:
            found = f"the same cells as row {same.at.row}"
            rejected.append(Rejected(half.at, half.name, DUPLICATE, found))
    return list(kept.values()), rejected


def _are_mixtures(side: Sequence[Half]) -> bool:
    """Whether most rows are mixtures."""
    numbers = [[finite(cell) for cell in half.cells] for half in side]
    good = [row for row in numbers if None not in row and not no_mixture([w or 0.0 for w in row])]
    return 2 * len(good) > len(numbers)


def _plain(cell: str) -> str:
    """A run's name to join by; a whole number is the same with and without `.0`."""
    text = cell.strip()
    whole = re.fullmatch(r"(\d+)\.0", text)
    return whole[1] if whole else text
