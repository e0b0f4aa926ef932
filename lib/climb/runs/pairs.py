"""Runs with their weights in one file and their metrics in another: join both by the run's name.

Every row without exactly one match in the other file is rejected with its reason.

The weights of a run can also come from a mixture script: a file that has the weights of only this
run (`climb.runs.curator`). The script then takes the place of a row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.errors import InputError
from climb.runs.rows import (
    DUPLICATE,
    INVALID_WIDTH,
    Location,
    RejectedRow,
    RunRow,
    collapse_whitespace,
)
from climb.runs.sheet import Sheet, find_mixture_error, list_names, parse_finite

NO_MATCH = "no match in the other file"
AMBIGUOUS_NAME = "run name is not unique"
MISSING_NAME = "run name missing"
INVALID_SCRIPT = "mixture script is invalid"


@dataclass(frozen=True)
class RunPart:
    """The part of a run that one file has: its weights, or its metrics."""

    location: Location
    key: str
    """The two parts of a run have the same key."""

    name: str
    """Name of the run in messages and in RUNS.csv."""

    cells: tuple[str, ...]
    error: str = ""
    """Why the mixture script of this part is invalid. Empty if the script is valid, or if the part
    is a row of a CSV file."""


def read_parts(
    sheet: Sheet, key: str, columns: Sequence[str], name: str | None = None
) -> tuple[list[RunPart], list[RejectedRow]]:
    """Read one part per row, with cells in the order of `columns`; reject rows of a wrong width.

    Args:
        sheet: a file read with `any_width`.
        key: the column to join by.
        columns: the columns to read.
        name: the column with the run's name; None uses the key as the name.

    Raises:
        InputError: a column is missing.
    """
    key_index, indices = sheet.find_column(key), [sheet.find_column(column) for column in columns]
    name_index = sheet.find_column(name) if name else key_index
    parts, rejected = [], []
    for number, row in sheet.enumerate_rows():
        location = Location(sheet.path.name, number)
        if error := sheet.find_width_error(row):
            run = row[key_index] if key_index < len(row) else ""
            rejected.append(RejectedRow(location, collapse_whitespace(run), INVALID_WIDTH, error))
            continue
        cells = tuple(row[i] for i in indices)
        run = collapse_whitespace(row[name_index])
        parts.append(RunPart(location, _normalize_key(row[key_index]), run, cells))
    return parts, rejected


def join_parts(
    weights: Sequence[RunPart], metrics: Sequence[RunPart]
) -> tuple[list[RunRow], list[RejectedRow]]:
    """Join the parts of each run.

    Returns:
        Runs in the order of `weights`, and the rejected parts with their reasons. If the mixture
        script of a run is invalid, the script is rejected, and `partner` of this rejection is the
        location of the run's row of metrics.
    """
    unique = [_drop_duplicates(side) for side in (weights, metrics)]
    rejected = [r for _, duplicates in unique for r in duplicates]
    by_key = [_group_by_key(side) for side, _ in unique]
    rows = []
    for one, other in (by_key, by_key[::-1]):
        for key, parts in one.items():
            n, partner = max(len(parts), len(other.get(key, ()))), None
            if n > 1:
                why = AMBIGUOUS_NAME, f"{n} rows of one of the two files have the run name {key!r}"
            elif key not in other:
                why = NO_MATCH, f"only this file has run {key!r}"
            elif parts[0].error:
                why, partner = (INVALID_SCRIPT, parts[0].error), other[key][0].location
            else:
                continue
            rejected += [RejectedRow(part.location, part.name, *why, partner) for part in parts]
    for key, (part, *more) in by_key[0].items():
        matches = by_key[1].get(key, [])
        if len(matches) == 1 and not more and not part.error:
            match = matches[0]
            rows.append(RunRow(part.name, part.cells, match.cells, part.location, match.location))
    return rows, rejected


def _group_by_key(side: Iterable[RunPart]) -> dict[str, list[RunPart]]:
    groups: dict[str, list[RunPart]] = {}
    for part in side:
        groups.setdefault(part.key, []).append(part)
    return groups


def check_file_order(
    weights: Sequence[RunPart], metrics: Sequence[RunPart], files: tuple[Path, Path]
) -> None:
    """Check that the file of mixtures comes first.

    Raises:
        InputError: only the second file contains mixtures.
    """
    if not _are_mixtures(weights) and _are_mixtures(metrics):
        raise InputError(
            f"{files[0]} does not contain mixtures, but {files[1]} does (its rows sum to 1); pass "
            "the file of mixtures first, then the file of metrics"
        )


def select_data_columns(sheet: Sheet, others: Collection[str]) -> list[str]:
    """Select the columns of weights or metrics: all except `others` and pandas' row numbers.

    Raises:
        InputError: no column is left.
    """
    selected = [c for c in sheet.columns if c not in others and not _is_row_number(c)]
    if not selected:
        raise InputError(
            f"{sheet.path} has only the columns {list_names(sheet.columns)}; expected one column "
            "per domain or metric"
        )
    return selected


def _is_row_number(column: str) -> bool:
    """Return whether a column has pandas' row numbers: its name is empty or like `Unnamed: 0`."""
    return not column or column.startswith("Unnamed:")


def _drop_duplicates(side: Iterable[RunPart]) -> tuple[list[RunPart], list[RejectedRow]]:
    """Reject parts without a key, and parts whose key and cells equal those of an earlier part."""
    unique: dict[tuple[str, tuple[str, ...]], RunPart] = {}
    rejected = []
    for part in side:
        if not part.key:
            found = "the run name is empty, so the row cannot be joined with the other file"
            rejected.append(RejectedRow(part.location, part.name, MISSING_NAME, found))
            continue
        same = unique.setdefault((part.key, part.cells), part)
        if same is not part:
            row = same.location.row
            found = f"the same cells as {f'row {row}' if row else same.location.file}"
            rejected.append(RejectedRow(part.location, part.name, DUPLICATE, found))
    return list(unique.values()), rejected


def _are_mixtures(side: Sequence[RunPart]) -> bool:
    """Return whether most rows are mixtures."""
    numbers = [[parse_finite(cell) for cell in part.cells] for part in side]
    valid = [
        row
        for row in numbers
        if None not in row and not find_mixture_error([w or 0.0 for w in row])
    ]
    return 2 * len(valid) > len(numbers)


def _normalize_key(cell: str) -> str:
    """Remove spaces around a name, and `.0` after an integer: pandas may write 1 as 1.0."""
    text = cell.strip()
    whole = re.fullmatch(r"(\d+)\.0", text)
    return whole[1] if whole else text
