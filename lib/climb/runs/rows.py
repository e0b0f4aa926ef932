"""Runs from other projects: check every row, and report every invalid row with its reason.

Readers of formats build a `RunTable` of text; only `validate_runs` decides which rows are valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.errors import InputError
from climb.runs.sheet import (
    METRIC,
    WEIGHT,
    Sheet,
    describe_cell,
    find_mixture_error,
    list_names,
    parse_finite,
    quote_cell,
    raise_for_rows,
    sum_exactly,
)
from climb.search.trials import PROPOSAL, Trials

MISSING_WEIGHT = "weight missing"
INVALID_WEIGHT = "weight is not a finite number"
NEGATIVE_WEIGHT = "negative weight"
INVALID_SUM = "weights do not sum to 1"
MISSING_METRIC = "metric missing"
INVALID_METRIC = "metric is not a finite number"
INVALID_SEED = "seed is not an integer"
INVALID_WIDTH = "wrong number of cells"
DUPLICATE = "exact duplicate"

_MAX_SEED = 2**53
"""Integers up to here are exact in a cell that was once a float."""

RUN, SEED, TOKENS = "run", "seed", "tokens"
"""Optional columns beside weights and metrics: the name of a run, its seed and training tokens."""

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
    """None if the table has no such column; the same for tokens."""

    tokens: str | None = None


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
    tokens: str | None


def validate_runs(table: RunTable) -> tuple[list[Run], list[RejectedRow]]:
    """Split the rows of a table into valid runs and rejected rows. No other function decides this.

    Rows with equal weights, metrics and seed are duplicates; the first one is kept.

    Returns:
        The runs in the order of their rows, and the rejected rows ordered by file and row.
    """
    runs: list[Run] = []
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
            row.tokens,
        )
        same = first.setdefault((normalize(run.weights), run.metrics, run.seed), row)
        if same is row:
            runs.append(run)
        else:
            found = f"the same values as row {same.weights_location.row}{_format_run(same.name)}"
            rejected.append(RejectedRow(row.weights_location, row.name, DUPLICATE, found))
    return runs, sorted(rejected, key=lambda r: (r.location.file, r.location.row))


def normalize(weights: Sequence[float]) -> tuple[float, ...]:
    """Divide weights by their sum."""
    whole = sum_exactly(weights)
    return tuple(weight / whole for weight in weights)


def read_table(path: Path) -> RunTable:
    """Read RUNS.csv as text: columns weight.<domain> and metric.<name>; run, seed, tokens optional.

    Raises:
        InputError: the file cannot be read, or it has no weight or no metric column.
    """
    sheet = Sheet.read(path, any_width=True)
    domains, metrics = sheet.select_names(WEIGHT), sheet.select_names(METRIC)
    _check_columns(sheet, domains, metrics)
    rows, rejected = [], []
    for number, row in sheet.enumerate_rows():
        cells = dict(zip(sheet.columns, row, strict=False))
        location, name = Location(path.name, number), collapse_whitespace(cells.get(RUN, ""))
        if error := sheet.find_width_error(row):
            rejected.append(RejectedRow(location, name, INVALID_WIDTH, error))
            continue
        rows.append(
            RunRow(
                name,
                tuple(cells[WEIGHT + domain] for domain in domains),
                tuple(cells[METRIC + metric] for metric in metrics),
                location,
                location,
                cells.get(SEED),
                cells.get(TOKENS),
            )
        )
    optional = (RUN, SEED, TOKENS)
    ignored = [c for c in sheet.columns if c not in optional and not c.startswith((WEIGHT, METRIC))]
    named = label_columns(WEIGHT, domains), label_columns(METRIC, metrics)
    return RunTable((path,), *named, tuple(rows), tuple(rejected), tuple(ignored))


def label_columns(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Map each name to the label of its column in messages."""
    return {name: f"column {prefix + name!r}" for name in names}


def collapse_whitespace(text: str) -> str:
    """Replace line breaks and repeated spaces, so that the name of a run fits on one line."""
    return " ".join(text.split())


def read_runs(path: Path) -> tuple[Trials, str]:
    """Read RUNS.csv for a search. Exact duplicates are ignored; any other invalid row is an error.

    Returns:
        The runs, and a note on ignored rows and columns (empty if there are none).

    Raises:
        InputError: the file cannot be read, or rows are invalid; the message counts them and
            describes the first three.
    """
    table = read_table(path)
    runs, rejected = validate_runs(table)
    duplicates = [r for r in rejected if r.reason == DUPLICATE]
    invalid = [r for r in rejected if r.reason != DUPLICATE]
    errors = [(f"row {r.location.row}{_format_run(r.name)}", r.found) for r in invalid]
    # If a weight column has a misspelt name, the weights of no row sum to 1.
    fix = f". Fix these rows, or write a file without them: climb import csv {path} --out NEW.csv"
    if table.ignored_columns:
        prefixes = f"(names must start with {WEIGHT} or {METRIC})"
        fix = f"; {describe_ignored(table.ignored_columns)} {prefixes}{fix}"
    raise_for_rows(path, len(table), errors, fix)
    # Metrics are sorted by name: the order of columns must not change a sum over metrics.
    rows = [
        {
            "round": 0,
            "method": PROPOSAL,
            "seed": run.seed or 0,
            "weights": dict(zip(table.domains, normalize(run.weights), strict=True)),
            "metrics": dict(zip(table.metrics, run.metrics, strict=True)),
        }
        for run in runs
    ]
    trials = Trials.from_rows(rows, tuple(table.domains), tuple(sorted(table.metrics)))
    return trials, _note_ignored(duplicates, table.ignored_columns)


def _check_columns(sheet: Sheet, domains: Sequence[str], metrics: Sequence[str]) -> None:
    for prefix, what, names in ((WEIGHT, "domain", domains), (METRIC, "name", metrics)):
        if not names:
            raise InputError(
                f"{sheet.path} has no column {prefix}<{what}>; its columns are "
                f"{list_names(sheet.columns)}. Rename the columns that contain {prefix[:-1]}s, for "
                f"example x to {prefix}x"
            )
    if SCORE in metrics:
        raise InputError(
            f"{sheet.path}: the column name {METRIC + SCORE!r} is reserved for the value of the "
            "objective; rename the column"
        )


def _find_error(row: RunRow, table: RunTable) -> RejectedRow | None:
    """Find the first error of a row."""
    if error := _find_cell_error(
        row.weights, table.domains.values(), MISSING_WEIGHT, INVALID_WEIGHT
    ):
        return RejectedRow(row.weights_location, row.name, *error)
    weights = [float(cell) for cell in row.weights]
    if found := find_mixture_error(weights):
        reason = NEGATIVE_WEIGHT if min(weights) < 0.0 else INVALID_SUM
        return RejectedRow(row.weights_location, row.name, reason, found)
    if error := _find_cell_error(
        row.metrics, table.metrics.values(), MISSING_METRIC, INVALID_METRIC
    ):
        return RejectedRow(row.metrics_location, row.name, *error)
    if row.seed and row.seed.strip() and not _is_integer(row.seed):
        expected = "expected an integer from -2**53 to 2**53"
        found = f"column {SEED!r} contains {quote_cell(row.seed)}; {expected}"
        return RejectedRow(row.weights_location, row.name, INVALID_SEED, found)
    return None


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


def _format_run(name: str) -> str:
    return f" (run {name})" if name else ""


def _note_ignored(duplicates: Sequence[RejectedRow], columns: Sequence[str]) -> str:
    """Describe which rows and columns of a file are ignored."""
    notes = []
    if duplicates:
        numbers = ", ".join(str(r.location.row) for r in duplicates[:10])
        more = ", ..." if len(duplicates) > 10 else ""
        notes.append(f"{len(duplicates)} exact duplicate rows ignored: {numbers}{more}")
    if columns:
        notes.append(describe_ignored(columns))
    return "; ".join(notes)


def describe_ignored(columns: Sequence[str]) -> str:
    """List columns that are not read."""
    return f"ignored columns: {list_names(columns)}"
