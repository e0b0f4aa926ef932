"""A CSV file of numbers that somebody else wrote: every cell checked, mistakes named by row."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb.errors import InputError
from climb.files import replacing

Array = NDArray[np.float64]

WEIGHT, METRIC = "weight.", "metric."
"""Prefixes of the columns that hold a domain's weight, and a metric."""

DRIFT = 0.01
"""Rows of weights that sum to 1 within this are normalised; printed decimals drift so far."""

_CELL = 40
"""Characters of a cell that a message shows."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A CSV file of numbers, every cell checked. Rows are counted from 1, after the header."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path, *, any_width: bool = False) -> Sheet:
        """Read a file whole; a line without any text is no row.

        Args:
            path: the file.
            any_width: keep rows of another width than the header, for a caller that names them.

        Raises:
            InputError: no such file, not text, no header, a column twice, or a row of another
                width.
        """
        try:
            text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
            # Strict: a quote that is never closed would swallow the rest of the file as one cell.
            lines = list(csv.reader(text, strict=True))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is not a CSV file in UTF-8: {error}") from error
        lines = [line for line in lines if any(cell.strip() for cell in line)]
        if not lines:
            raise InputError(f"{path} is empty; it needs a header row")
        columns = tuple(cell.strip() for cell in lines[0])
        broken = [name for name in columns if len(name.splitlines()) > 1]
        if broken:
            raise InputError(f"{path}: the header has a line break in {shown(broken[0])}")
        twice = sorted(name for name, count in Counter(columns).items() if count > 1)
        if twice:
            raise InputError(f"{path}: the header names {', '.join(map(repr, twice))} twice")
        sheet = cls(path, columns, tuple(tuple(line) for line in lines[1:]))
        if not any_width:
            sheet._refuse(
                [(n, fault) for n, row in sheet.numbered() if (fault := sheet.misfit(row))]
            )
        return sheet

    def numbered(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The rows with their numbers."""
        return enumerate(self.rows, start=1)

    def named(self, prefix: str) -> tuple[str, ...]:
        """What follows the prefix in the columns that have it."""
        return tuple(name.removeprefix(prefix) for name in self.columns if name.startswith(prefix))

    def place(self, name: str) -> int:
        """Where a column stands.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.columns:
            raise InputError(
                f"{self.path} has no column {name!r}; it has {', '.join(self.columns)}"
            )
        return self.columns.index(name)

    def misfit(self, row: Sequence[str]) -> str:
        """What is wrong with the width of a row; empty if nothing is."""
        if len(row) == len(self.columns):
            return ""
        return f"{len(row)} cells, but the header has {len(self.columns)}"

    def numbers(self, names: Sequence[str]) -> Array:
        """Columns as numbers, shape (rows, names).

        Raises:
            InputError: a column that is missing, or a cell that is not a finite number.
        """
        places = [self.place(name) for name in names]
        values = np.full((len(self.rows), len(names)), np.nan)
        faults = []
        for number, row in self.numbered():
            found = [finite(row[place]) for place in places]
            wrong = [i for i, value in enumerate(found) if value is None]
            if wrong:
                i = wrong[0]
                fault = f"column {names[i]!r} holds {shown(row[places[i]])}"
                faults.append((number, f"{fault}; it must be a finite number"))
            else:
                values[number - 1] = found
        self._refuse(faults)
        return values

    def mixtures(self, domains: Sequence[str]) -> Array:
        """The columns `weight.<domain>`, shape (rows, K); small drift from a sum of 1 is mended.

        Raises:
            InputError: other domains, or a row that is no mixture.
        """
        found = set(self.named(WEIGHT))
        if found != set(domains):
            missing, more = sorted(set(domains) - found), sorted(found - set(domains))
            raise InputError(
                f"{self.path}: its weight columns are of other domains "
                f"(missing: {', '.join(missing) or 'none'}; unknown: {', '.join(more) or 'none'})"
            )
        weights_MK = self.numbers([WEIGHT + domain for domain in domains])
        rows = list(enumerate(weights_MK.tolist(), start=1))
        self._refuse([(n, fault) for n, weights in rows if (fault := no_mixture(weights))])
        totals_M = np.array([total(weights) for _, weights in rows])
        weights_MK /= totals_M[:, None]
        return weights_MK

    def _refuse(self, faults: Sequence[tuple[int, str]]) -> None:
        refuse(self.path, len(self.rows), [(f"row {n}", fault) for n, fault in faults])


def refuse(path: Path, n_rows: int, faults: Sequence[tuple[str, str]], advice: str = "") -> None:
    """Raise what is wrong with rows of a file, if anything is: how many, and the first three.

    Args:
        path: the file.
        n_rows: how many rows it has.
        faults: which row, and what is wrong with it.
        advice: what would help.

    Raises:
        InputError: there are faults.
    """
    if faults:
        first = "; ".join(f"{row}: {fault}" for row, fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{path}: {len(faults)} of {n_rows} rows cannot be used: {first}{more}{advice}"
        )


def check_places(read: Sequence[Path], written: Sequence[Path]) -> None:
    """Refuse to write over a file that is read, or two results to one file.

    Raises:
        InputError: which of them it is.
    """
    sources = {path.resolve() for path in read}
    seen: set[Path] = set()
    for path in written:
        if path.resolve() in sources:
            raise InputError(f"{path} is a file that is read; write to another")
        if path.resolve() in seen:
            raise InputError(f"{path} would be written twice; name two different files")
        seen.add(path.resolve())


def finite(text: str) -> float | None:
    """A cell as a finite number, or None; Python's own digit groups (1_000) are no number here."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def total(weights: Sequence[float]) -> float:
    """The sum of weights, exact, so that the order of columns changes nothing."""
    try:
        return math.fsum(weights)
    except OverflowError:
        return math.inf


def no_mixture(weights: Sequence[float]) -> str:
    """Why weights are no mixture; empty if they are one, up to drift."""
    if min(weights) >= 0.0 and abs(total(weights) - 1.0) <= DRIFT:
        return ""
    return (
        f"weights sum to {total(weights):.6g} and the smallest is {min(weights):.6g}; a mixture "
        "is non-negative and sums to 1"
    )


def shown(text: str) -> str:
    """A cell as a message shows it: quoted, on one line, and not too long."""
    return repr(text if len(text) <= _CELL else text[:_CELL] + "...")


def write_numbers(path: Path, header: Sequence[str], values_MX: Array) -> None:
    """Write numbers with all their digits; whole ones without a point."""
    rows = [[cell(value) for value in row] for row in values_MX.tolist()]
    write_rows(path, header, rows)


def cell(value: float) -> float | int:
    """A number as it is written: whole ones without a point."""
    return int(value) if value.is_integer() else value


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        with replacing(path) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
