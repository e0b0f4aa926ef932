"""Give CSV files from MLflow the columns of RUNS.csv, if `climb` logged the runs in them.

There are two layouts: the CSV file that MLflow's web page offers for download, and the file that
`mlflow.search_runs().to_csv()` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from climb.runs.rows import RUN, SEED, TOKENS
from climb.runs.sheet import METRIC, WEIGHT, Sheet, quote_cell

KIND, TRIAL = "climb.kind", "trial"
"""Tag of every run that `climb` logs, and the value of this tag for the run of a proxy. Runs of
target models, of searches and of comparisons have other values."""

_PAGE = frozenset({"Start Time", "Run ID"})
"""Columns that every CSV file of MLflow's page has."""

_QUOTED = re.compile(r"^'(?=[=+\-@])")
"""MLflow's page writes a single quote before a cell that a spreadsheet might read as a formula, for
example before a negative number. This pattern finds the quote."""


def convert_mlflow(sheet: Sheet) -> Sheet:
    """Return the sheet with the columns of RUNS.csv; a sheet not from MLflow stays as it is."""
    if set(sheet.columns) >= _PAGE:
        sheet = _merge_columns(sheet)
    return replace(sheet, columns=read_mlflow_names(sheet.columns))


def _merge_columns(sheet: Sheet) -> Sheet:
    """Merge columns of equal names: each row keeps the first of their cells that has text.

    The file of MLflow's page has a column for each param, metric and tag. A param and a metric may
    have the same key: `weight.code` is a param of trials, and a metric of the search.
    """
    places: dict[str, list[int]] = {}
    for index, name in enumerate(sheet.columns):
        places.setdefault(name, []).append(index)
    # A name that occurs again becomes empty: columns without a name are never read.
    columns = [name if places[name][0] == i else "" for i, name in enumerate(sheet.columns)]
    rows = [
        tuple(_find_cell([row[i] for i in places[name]]) for name in sheet.columns)
        if len(row) == len(columns)
        else row
        for row in sheet.rows
    ]
    return replace(sheet, columns=tuple(columns), rows=tuple(rows))


def _find_cell(cells: Sequence[str]) -> str:
    return _QUOTED.sub("", next((cell for cell in cells if cell.strip()), ""))


def read_mlflow_names(columns: Sequence[str]) -> tuple[str, ...]:
    """Give the columns of a CSV file from MLflow their names in RUNS.csv; other columns stay.

    A CSV file of MLflow's page has the keys as they are (`weight.code`, `metric.arc.bpb`), and the
    run's name in `Name`. `mlflow.search_runs().to_csv()` writes the keys with prefixes
    (`params.weight.code`, `metrics.metric.arc.bpb`), and the run's name as `tags.mlflow.runName`.
    """
    if not any(name.startswith(("params." + WEIGHT, WEIGHT)) for name in columns):
        return tuple(columns)
    names = {"Name": RUN, "tags.mlflow.runName": RUN, f"metrics.{SEED}": SEED}
    names |= {f"params.{TOKENS}": TOKENS, f"tags.{KIND}": KIND}
    renamed: list[str] = []
    for column in columns:
        is_prefixed = column.startswith((f"params.{WEIGHT}", f"metrics.{METRIC}"))
        new = column.partition(".")[2] if is_prefixed else names.get(column, column)
        renamed.append(column if new in columns or new in renamed else new)
    return tuple(renamed)


def find_kind_error(cells: Mapping[str, str]) -> str:
    """Describe why a run that `climb` logged is not the run of a proxy; empty for a proxy's run."""
    kind = cells.get(KIND, "").strip()
    if kind in ("", TRIAL):
        return ""
    return f"column {KIND!r} contains {quote_cell(kind)}; runs of proxies have {TRIAL!r}"
