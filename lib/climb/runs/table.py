"""Read RUNS.csv: a file with climb's columns, or MLflow's CSV file of runs that climb logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from climb.errors import InputError
from climb.runs.mlflow import KIND, convert_mlflow, find_kind_error
from climb.runs.rows import (
    INVALID_WIDTH,
    LEFT_OUT,
    NO_MIXTURE,
    NOT_A_TRIAL,
    PARAMS,
    RUN,
    SCORE,
    SEED,
    TOKENS,
    Location,
    RejectedRow,
    Run,
    RunRow,
    RunTable,
    collapse_whitespace,
    describe_ignored,
    format_run,
    label_columns,
    validate_runs,
)
from climb.runs.sheet import METRIC, WEIGHT, Sheet, list_names, normalize, raise_for_rows
from climb.search.trials import PROPOSAL, Trials


@dataclass(frozen=True)
class ValidRuns:
    """The valid runs of RUNS.csv."""

    path: Path
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    runs: tuple[Run, ...]
    note: str
    """A note on ignored rows and columns; empty if there are none."""

    def to_trials(self) -> Trials:
        """Convert all rows to trials, whatever their scales."""
        # Metrics are sorted by name: the order of columns must not change a sum over metrics.
        rows = [
            {
                "round": 0,
                "method": PROPOSAL,
                "seed": run.seed or 0,
                "weights": dict(zip(self.domains, normalize(run.weights), strict=True)),
                "metrics": dict(zip(self.metrics, run.metrics, strict=True)),
            }
            for run in self.runs
        ]
        return Trials.from_rows(rows, self.domains, tuple(sorted(self.metrics)))


def read_runs(path: Path) -> tuple[Trials, str]:
    """Return the trials of RUNS.csv, and a note on ignored rows; see `read_valid_runs`."""
    valid = read_valid_runs(path)
    return valid.to_trials(), valid.note


def read_valid_runs(path: Path) -> ValidRuns:
    """Read RUNS.csv. Rows with a reason in `LEFT_OUT` are ignored; other invalid rows are an error.

    Raises:
        InputError: the file cannot be read, or rows are invalid; the message counts them and
            describes the first three.
    """
    table = read_table(path)
    runs, rejected = validate_runs(table)
    left_out = [r for r in rejected if r.reason in LEFT_OUT]
    invalid = [r for r in rejected if r.reason not in LEFT_OUT]
    errors = [(f"row {r.location.row}{format_run(r.name)}", r.found) for r in invalid]
    command = f"climb import csv {quote(str(path))} --out NEW.csv"
    fix = f". Fix these rows, or write a file without them: {command}"
    # An ignored column may be a misspelt weight column, without which no row sums to 1.
    if table.ignored_columns:
        prefixes = f"(names must start with {WEIGHT} or {METRIC})"
        fix = f"; {describe_ignored(table.ignored_columns)} {prefixes}{fix}"
    raise_for_rows(path, len(table), errors, fix)
    note = _note_ignored(left_out, table.ignored_columns)
    return ValidRuns(path, tuple(table.domains), tuple(table.metrics), tuple(runs), note)


def read_table(path: Path) -> RunTable:
    """Read RUNS.csv as text: columns weight.<domain> and metric.<name>, and optional ones.

    MLflow's two CSV layouts are read too; see `climb.runs.mlflow`.

    Raises:
        InputError: the file cannot be read, or it has no weight or no metric column.
    """
    sheet = convert_mlflow(Sheet.read(path, any_width=True, any_names=True))
    sheet.check_names()
    domains, metrics = sheet.select_names(WEIGHT), sheet.select_names(METRIC)
    _check_columns(sheet, domains, metrics)
    rows, rejected = [], []
    for number, row in sheet.enumerate_rows():
        cells = dict(zip(sheet.columns, row, strict=False))
        location, name = Location(path.name, number), collapse_whitespace(cells.get(RUN, ""))
        if error := _find_row_error(sheet, row, cells, domains):
            rejected.append(RejectedRow(location, name, *error))
            continue
        rows.append(
            RunRow(
                name,
                tuple(cells[WEIGHT + domain] for domain in domains),
                tuple(cells[METRIC + metric] for metric in metrics),
                location,
                location,
                cells.get(SEED),
                cells.get(PARAMS),
                cells.get(TOKENS),
            )
        )
    optional = (RUN, SEED, PARAMS, TOKENS, KIND)
    others = [c for c in sheet.columns if c and c not in optional]
    ignored = [c for c in others if not c.startswith((WEIGHT, METRIC))]
    named = label_columns(WEIGHT, domains), label_columns(METRIC, metrics)
    return RunTable((path,), *named, tuple(rows), tuple(rejected), tuple(ignored))


def _find_row_error(
    sheet: Sheet, row: Sequence[str], cells: Mapping[str, str], domains: Sequence[str]
) -> tuple[str, str] | None:
    """Return the reason for which a row is rejected, and a description.

    The result is None if the row may be a run.
    """
    if error := sheet.find_width_error(row):
        return INVALID_WIDTH, error
    if error := find_kind_error(cells):
        return NOT_A_TRIAL, error
    if not any(cells[WEIGHT + domain].strip() for domain in domains):
        return NO_MIXTURE, "all weights are empty"
    return None


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


def _note_ignored(rejected: Sequence[RejectedRow], columns: Sequence[str]) -> str:
    """Describe which rows and columns of a file are ignored."""
    notes = []
    for reason, what in LEFT_OUT.items():
        rows = [r for r in rejected if r.reason == reason]
        numbers = ", ".join(f"{r.location.row}{format_run(r.name)}" for r in rows[:10])
        more = ", ..." if len(rows) > 10 else ""
        notes += [f"{len(rows)} {what} ignored: {numbers}{more}"] if rows else []
    if columns:
        notes.append(describe_ignored(columns))
    return "; ".join(notes)
