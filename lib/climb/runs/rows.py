"""Runs from other projects: check every row, and report every invalid row with its reason.

Readers of formats build a `RunTable` of text, and reject rows that they cannot assign to a run.
They do not check the values of the rows that they accept: only `validate_runs` does this check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from climb.runs.sheet import (
    SIGN_TOLERANCE,
    describe_cell,
    find_mixture_error,
    list_names,
    normalize,
    parse_finite,
    quote_cell,
)

MISSING_WEIGHT = "weight missing"
INVALID_WEIGHT = "weight is not a finite number"
NEGATIVE_WEIGHT = "negative weight"
INVALID_SUM = "weights do not sum to 1"
MISSING_METRIC = "metric missing"
INVALID_METRIC = "metric is not a finite number"
INVALID_SEED = "seed is not an integer"
INVALID_SCALE = "params or tokens is not a positive number"
INVALID_WIDTH = "wrong number of cells"
DUPLICATE = "exact duplicate"
NO_MIXTURE = "no mixture"
NOT_A_TRIAL = "not a trial"
DIVERGED = "diverged"

LEFT_OUT = {
    DUPLICATE: "exact duplicate rows",
    NO_MIXTURE: "rows without a mixture",
    NOT_A_TRIAL: "rows that are not trials",
    DIVERGED: "rows of diverged runs",
}
"""Reasons for which the CSV commands ignore a row and print a note. Other invalid rows are an
error."""

DIVERGED_FACTOR = 1e6
"""A run has diverged if the absolute value of a metric is more than this many times the median
absolute value over all runs."""

_MAX_SEED = 2**53
"""Integers up to this value are exact even if a program wrote the cell as a float."""

RUN, SEED, PARAMS, TOKENS = "run", "seed", "params", "tokens"
"""Optional columns beside weights and metrics: the name of a run, its seed, the parameters of its
model, and its training tokens. Rows of one run with different tokens are its checkpoints."""

SCORE = "score"
"""Reserved metric name: the value of the objective."""


@dataclass(frozen=True)
class Location:
    """A file and a row of it, counted from 1 after the header; row 0 means the whole file."""

    file: str
    row: int


@dataclass(frozen=True)
class RejectedRow:
    """A row that is not a valid run, with the run's name, the reason and what was found."""

    location: Location
    name: str
    reason: str
    found: str
    partner: Location | None = None
    """The weights and the metrics of a run may be in two files. Then `location` is the run's row in
    one file, and `partner` is its row in the other. None if there is no such row, or if it is
    unknown."""


@dataclass(frozen=True)
class RunRow:
    """One run as text, not yet validated."""

    name: str
    weights: tuple[str, ...]
    """In the order of the table's domains."""

    metrics: tuple[str, ...]
    """In the order of the table's metrics."""

    weights_location: Location
    metrics_location: Location
    seed: str | None = None
    """The cell in column `seed`; None if the table does not have this column. In the same way,
    `params` and `tokens` are the cells in the columns `params` and `tokens`."""

    params: str | None = None
    tokens: str | None = None

    def reject_weights(self, reason: str, found: str) -> RejectedRow:
        """Return the rejected row for an error in the weights, or in the whole run."""
        return self._reject(self.weights_location, self.metrics_location, reason, found)

    def reject_metrics(self, reason: str, found: str) -> RejectedRow:
        """Return the rejected row for an error in the metrics."""
        return self._reject(self.metrics_location, self.weights_location, reason, found)

    def _reject(self, at: Location, other: Location, reason: str, found: str) -> RejectedRow:
        return RejectedRow(at, self.name, reason, found, other if other != at else None)


@dataclass(frozen=True)
class RunTable:
    """All rows of one or two files: those to validate, and those that a reader rejected."""

    files: tuple[Path, ...]
    domains: Mapping[str, str]
    """Domain -> label of its column in messages."""

    metrics: Mapping[str, str]
    """Metric -> label of its column in messages."""

    rows: tuple[RunRow, ...]
    rejected: tuple[RejectedRow, ...]
    ignored_columns: tuple[str, ...] = ()
    """Columns that are not read."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


@dataclass(frozen=True)
class Run:
    """One valid run with its numbers as they are in the file; weights are not yet normalized."""

    name: str
    weights: tuple[float, ...]
    metrics: tuple[float, ...]
    seed: int | None
    params: float | None
    tokens: float | None


def validate_runs(table: RunTable) -> tuple[list[Run], list[RejectedRow]]:
    """Split a table into valid runs and rejected rows, including rows that the reader rejected.

    Rows with equal name, weights, metrics, seed, params and tokens are duplicates; the first one is
    kept. Rows with different names are no duplicates: accuracies on few items may be equal by
    chance.

    Returns:
        The runs in the order of their rows, and the rejected rows ordered by file and row.
    """
    runs: list[Run] = []
    places: list[RunRow] = []
    rejected = list(table.rejected)
    first: dict[object, RunRow] = {}
    for row in table.rows:
        if error := _find_error(row, table):
            rejected.append(error)
            continue
        run = Run(
            row.name,
            tuple(float(cell) for cell in row.weights),
            tuple(float(cell) for cell in row.metrics),
            int(float(row.seed)) if row.seed and row.seed.strip() else None,
            _parse_scale(row.params),
            _parse_scale(row.tokens),
        )
        key = dataclasses.replace(run, weights=normalize(run.weights))
        same = first.setdefault(key, row)
        if same is row:
            runs.append(run)
            places.append(row)
        else:
            found = f"the same values as row {same.weights_location.row}{format_run(same.name)}"
            rejected.append(row.reject_weights(DUPLICATE, found))
    runs, diverged = _drop_diverged(runs, places, list(table.metrics.values()))
    rejected += diverged
    return runs, sorted(rejected, key=lambda r: (r.location.file, r.location.row))


def _drop_diverged(
    runs: Sequence[Run], places: Sequence[RunRow], labels: Sequence[str]
) -> tuple[list[Run], list[RejectedRow]]:
    """Split runs into those to keep and those that have diverged; see `DIVERGED_FACTOR`."""
    if not runs:
        return [], []
    metrics_RQ = np.abs([run.metrics for run in runs])
    limits_Q = DIVERGED_FACTOR * np.median(metrics_RQ, axis=0)
    kept, rejected = [], []
    for run, row, metrics_Q in zip(runs, places, metrics_RQ, strict=True):
        above = np.flatnonzero((metrics_Q > limits_Q) & (limits_Q > 0.0))
        if not len(above):
            kept.append(run)
            continue
        q = int(above[0])
        median = limits_Q[q] / DIVERGED_FACTOR
        found = (
            f"{labels[q]} is {run.metrics[q]:.6g}; the median absolute value over all runs is "
            f"{median:.6g}"
        )
        rejected.append(row.reject_metrics(DIVERGED, found))
    return kept, rejected


def label_columns(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Map each name to the label of its column in messages."""
    return {name: f"column {prefix + name!r}" for name in names}


def collapse_whitespace(text: str) -> str:
    """Replace line breaks and repeated spaces by one space: a run's name must fit on one line."""
    return " ".join(text.split())


def _find_error(row: RunRow, table: RunTable) -> RejectedRow | None:
    """Find the first error of a row."""
    if error := _find_cell_error(
        row.weights, table.domains.values(), MISSING_WEIGHT, INVALID_WEIGHT
    ):
        return row.reject_weights(*error)
    weights = [float(cell) for cell in row.weights]
    if found := find_mixture_error(weights):
        reason = NEGATIVE_WEIGHT if min(weights) < -SIGN_TOLERANCE else INVALID_SUM
        return row.reject_weights(reason, found)
    if error := _find_cell_error(
        row.metrics, table.metrics.values(), MISSING_METRIC, INVALID_METRIC
    ):
        return row.reject_metrics(*error)
    if row.seed and row.seed.strip() and not _is_integer(row.seed):
        expected = "expected an integer from -2**53 to 2**53"
        found = f"column {SEED!r} contains {quote_cell(row.seed)}; {expected}"
        return row.reject_weights(INVALID_SEED, found)
    for label, cell in ((PARAMS, row.params), (TOKENS, row.tokens)):
        if cell and cell.strip() and not (parse_finite(cell) or 0.0) > 0.0:
            found = f"column {label!r} contains {quote_cell(cell)}; expected a number above 0"
            return row.reject_weights(INVALID_SCALE, found)
    return None


def _parse_scale(cell: str | None) -> float | None:
    return float(cell) if cell and cell.strip() else None


def _find_cell_error(
    cells: Sequence[str], labels: Iterable[str], missing: str, invalid: str
) -> tuple[str, str] | None:
    """Return reason and description of the first cell that is not a finite number."""
    for label, cell in zip(labels, cells, strict=True):
        if parse_finite(cell) is None:
            return invalid if cell.strip() else missing, describe_cell(label, cell)
    return None


def _is_integer(cell: str) -> bool:
    value = parse_finite(cell)
    return value is not None and value.is_integer() and abs(value) <= _MAX_SEED


def format_run(name: str) -> str:
    """Return the name of a run in brackets; empty for a run without a name."""
    return f" (run {name})" if name else ""


def describe_ignored(columns: Sequence[str]) -> str:
    """List columns that are not read."""
    return f"ignored columns: {list_names(columns)}"
