"""Read CSV files of numbers: check every cell, and report errors by row."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb.errors import InputError
from climb.files import MAX_CELL_CHARS

Array = NDArray[np.float64]

csv.field_size_limit(MAX_CELL_CHARS)

WEIGHT, METRIC = "weight.", "metric."
"""Prefixes of the columns of domain weights and of metrics."""

SUM_TOLERANCE = 0.01
"""Weights that sum to 1 within this tolerance are normalized: their decimals may be rounded."""

SIGN_TOLERANCE = 1e-6
"""Weights from minus this value to 0 count as 0: a solver with the bound 0 returns such values."""

_MAX_CELL_CHARS = 40
"""Maximum number of characters of a cell that a message shows."""

_MAX_NAMES = 20
"""Maximum number of names in a list that a message shows."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A CSV file as text."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...]
    """The number of each row in the file, counted from 1 after the header."""

    @classmethod
    def read(cls, path: Path, *, any_width: bool = False, any_names: bool = False) -> Sheet:
        """Read a whole file; lines without text are skipped, but counted.

        Args:
            path: the file.
            any_width: keep rows whose width differs from the header, and rows of empty cells; the
                caller rejects them.
            any_names: accept repeated column names; the caller merges or refuses them.

        Raises:
            InputError: the file is missing, is not a CSV file in UTF-8 or has no header; a column
                name is not unique or has a line break; or a row has a different width.
        """
        lines = list(itertools.dropwhile(lambda line: not _has_text(line), _read_lines(path)))
        if not lines:
            raise InputError(f"{path} is empty; the first line must be a header of column names")
        columns = tuple(cell.strip() for cell in lines[0])
        broken = [name for name in columns if len(name.splitlines()) > 1]
        if broken:
            raise InputError(
                f"{path}: the column name {quote_cell(broken[0])} in the header contains a line "
                "break; remove it"
            )
        rows = {
            number: tuple(line)
            for number, line in enumerate(lines[1:], start=1)
            if _has_text(line) or (any_width and len(line) > 1)
        }
        sheet = cls(path, columns, tuple(rows.values()), tuple(rows))
        if not any_names:
            sheet.check_names()
        if not any_width:
            sheet._raise_for_rows(
                [(n, e) for n, row in sheet.enumerate_rows() if (e := sheet.find_width_error(row))]
            )
        return sheet

    def check_names(self) -> None:
        """Check that column names are unique.

        Raises:
            InputError: a name is not unique.
        """
        # Columns without a name are never read; pandas writes such a column for its index.
        counts = Counter(name for name in self.columns if name)
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise InputError(
                f"{self.path}: the header contains duplicate column names: "
                f"{', '.join(map(repr, repeated))}; each name must be unique"
            )

    def enumerate_rows(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Iterate over pairs of row number and row."""
        return zip(self.numbers, self.rows, strict=True)

    def select_names(self, prefix: str) -> tuple[str, ...]:
        """Select the columns that start with a prefix, and return their names without it."""
        return tuple(name.removeprefix(prefix) for name in self.columns if name.startswith(prefix))

    def find_column(self, name: str) -> int:
        """Return the index of a column.

        Raises:
            InputError: the column is missing.
        """
        if name not in self.columns:
            raise InputError(
                f"{self.path} has no column {name!r}; its columns are {list_names(self.columns)}"
            )
        return self.columns.index(name)

    def find_width_error(self, row: Sequence[str]) -> str:
        """Describe what is wrong with the width of a row; empty if it is valid."""
        n_cells, n_columns = len(row), len(self.columns)
        if n_cells == n_columns:
            return ""
        fix = "; quote cells that contain a comma" if n_cells > n_columns else ""
        return f"{n_cells} cells, but the header has {n_columns} columns{fix}"

    def read_numbers(self, names: Sequence[str]) -> Array:
        """Read columns as numbers, shape (rows, names).

        Raises:
            InputError: a column is missing, or a cell is not a finite number.
        """
        indices = [self.find_column(name) for name in names]
        values = np.full((len(self.rows), len(names)), np.nan)
        errors = []
        for row_index, (number, row) in enumerate(self.enumerate_rows()):
            parsed = [parse_finite(row[index]) for index in indices]
            invalid = [i for i, value in enumerate(parsed) if value is None]
            if invalid:
                i = invalid[0]
                errors.append((number, describe_cell(f"column {names[i]!r}", row[indices[i]])))
            else:
                values[row_index] = parsed
        self._raise_for_rows(errors)
        return values

    def read_mixtures(self, domains: Sequence[str]) -> Array:
        """Read the columns `weight.<domain>`, shape (rows, K), and normalize each row to sum 1.

        Raises:
            InputError: the columns do not match the domains, or a row is not a mixture.
        """
        found = set(self.select_names(WEIGHT))
        if found != set(domains):
            raise InputError(
                f"{self.path}: the weight columns do not match the domains of the runs "
                f"({compare_names(found, domains)}); add or rename columns weight.<domain>"
            )
        weights_MK = self.read_numbers([WEIGHT + domain for domain in domains])
        rows = list(zip(self.numbers, weights_MK.tolist(), strict=True))
        self._raise_for_rows([(n, e) for n, weights in rows if (e := find_mixture_error(weights))])
        return np.array([normalize(weights) for _, weights in rows]).reshape(weights_MK.shape)

    def _raise_for_rows(self, errors: Sequence[tuple[int, str]]) -> None:
        raise_for_rows(self.path, len(self.rows), [(f"row {n}", error) for n, error in errors])


def _has_text(line: Sequence[str]) -> bool:
    return any(cell.strip() for cell in line)


def _read_lines(path: Path) -> list[list[str]]:
    try:
        text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
        # Without strict, a quote that is never closed turns the rest of the file into one cell.
        return list(csv.reader(text, strict=True))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 encoding: {error}") from error
    except csv.Error as error:
        raise InputError(
            f"{path} is not a valid CSV file: {error}; check for a quote that is not closed"
        ) from error


def raise_for_rows(
    path: Path, n_rows: int, errors: Sequence[tuple[str, str]], fix: str = ""
) -> None:
    """Raise an error that counts the invalid rows of a file and describes the first three.

    Args:
        path: the file.
        n_rows: number of data rows in the file.
        errors: pairs of row label and description of the error; nothing is raised if empty.
        fix: what to do, appended to the message.

    Raises:
        InputError: there are errors.
    """
    if errors:
        first = "; ".join(f"{row}: {error}" for row, error in errors[:3])
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        raise InputError(
            f"{path}: {len(errors)} of {n_rows} rows are invalid (the header is row 0): "
            f"{first}{more}{fix}"
        )


def list_names(names: Iterable[str]) -> str:
    """Join names for a message; long lists are cut."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def compare_names(found: Iterable[str], expected: Iterable[str]) -> str:
    """Describe which names are missing and which are unexpected."""
    found, expected = set(found), set(expected)
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    return (
        f"missing: {list_names(missing) or 'none'}; unexpected: {list_names(unexpected) or 'none'}"
    )


def parse_finite(text: str) -> float | None:
    """Parse a cell as a finite number; None if it is not one, or has digit groups (1_000)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def sum_exactly(weights: Sequence[float]) -> float:
    """Sum weights without rounding errors, so that the order of columns does not matter."""
    try:
        return math.fsum(weights)
    except OverflowError:
        return math.inf


def normalize(weights: Sequence[float]) -> tuple[float, ...]:
    """Set weights below 0 (see `SIGN_TOLERANCE`) to 0, and divide all by their sum."""
    positive = [max(weight, 0.0) for weight in weights]
    whole = sum_exactly(positive)
    return tuple(weight / whole for weight in positive)


def find_mixture_error(weights: Sequence[float]) -> str:
    """Describe why weights are not a mixture; empty for a mixture, within `SUM_TOLERANCE`."""
    if min(weights) < -SIGN_TOLERANCE:
        return f"the smallest weight is {min(weights):.6g}; weights must be 0 or more"
    if abs(sum_exactly(weights) - 1.0) > SUM_TOLERANCE:
        return (
            f"weights sum to {sum_exactly(weights):.6g}; they must sum to 1, with an error of less "
            f"than {SUM_TOLERANCE:g}"
        )
    return ""


def describe_cell(column: str, text: str) -> str:
    """Describe a cell that is not a finite number; `column` is the label of its column."""
    if not text.strip():
        return f"{column} is empty; expected a finite number"
    return f"{column} contains {quote_cell(text)}; expected a finite number"


def quote_cell(text: str) -> str:
    """Quote a cell for a message, on one line and cut to `_MAX_CELL_CHARS`."""
    return repr(text if len(text) <= _MAX_CELL_CHARS else text[:_MAX_CELL_CHARS] + "...")
