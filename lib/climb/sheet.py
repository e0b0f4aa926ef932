"""A CSV file of numbers that somebody else wrote: every cell checked, mistakes named by row."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
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


@dataclass(frozen=True, eq=False)
class Sheet:
    """A CSV file of numbers, every cell checked."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path) -> Sheet:
        """Read a file whole.

        Raises:
            InputError: no such file, not text, no header, a column twice, or a row of another
                width.
        """
        try:
            lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is not a CSV file in UTF-8: {error}") from error
        lines = [line for line in lines if any(cell.strip() for cell in line)]
        if not lines:
            raise InputError(f"{path} is empty; it needs a header row")
        columns = tuple(cell.strip() for cell in lines[0])
        twice = sorted(name for name, count in Counter(columns).items() if count > 1)
        if twice:
            raise InputError(f"{path}: the header names {', '.join(map(repr, twice))} twice")
        for number, line in enumerate(lines[1:], start=1):
            if len(line) != len(columns):
                raise InputError(
                    f"{path}, row {number}: {len(line)} cells, but the header has {len(columns)}"
                )
        return cls(path, columns, tuple(tuple(line) for line in lines[1:]))

    def named(self, prefix: str) -> tuple[str, ...]:
        """What follows the prefix in the columns that have it."""
        return tuple(name.removeprefix(prefix) for name in self.columns if name.startswith(prefix))

    def numbers(self, names: Sequence[str]) -> Array:
        """Columns as numbers, shape (rows, names).

        Raises:
            InputError: a column that is missing, or a cell that is not a finite number.
        """
        for name in names:
            if name not in self.columns:
                raise InputError(
                    f"{self.path} has no column {name!r}; it has {', '.join(self.columns)}"
                )
        places = [self.columns.index(name) for name in names]
        values = [
            [
                self._number(number, name, row[place])
                for name, place in zip(names, places, strict=True)
            ]
            for number, row in enumerate(self.rows, start=1)
        ]
        return np.array(values, dtype=np.float64).reshape(len(self.rows), len(names))

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
        for number, weights_K in enumerate(weights_MK, start=1):
            total = math.fsum(weights_K)  # exact, so that the order of columns changes nothing
            if weights_K.min() < 0.0 or abs(total - 1.0) > DRIFT:
                raise InputError(
                    f"{self.path}, row {number}: weights sum to {total:.6g} and the smallest is "
                    f"{weights_K.min():.6g}; a mixture is non-negative and sums to 1"
                )
            weights_K /= total
        return weights_MK

    def _number(self, row: int, name: str, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise InputError(
                f"{self.path}, row {row}: column {name!r} holds {cell!r}; it must be a finite "
                "number"
            )
        return value


def write_numbers(path: Path, header: Sequence[str], values_MX: Array) -> None:
    """Write numbers with all their digits; whole ones without a point."""
    rows = [[_cell(value) for value in row] for row in values_MX.tolist()]
    write_rows(path, header, rows)


def _cell(value: float) -> float | int:
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
