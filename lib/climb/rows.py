"""Runs that somebody else made, row by row: every cell checked, every unusable row named.

Readers of formats make a `RunTable` of text; `sort_out` alone decides which of its rows are runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.errors import InputError
from climb.search.trials import Trials
from climb.sheet import METRIC, WEIGHT, Sheet, finite, no_mixture, refuse, shown, total

NO_WEIGHT = "weight missing"
BAD_WEIGHT = "weight is no finite number"
NEGATIVE = "negative weight"
BAD_SUM = "weights do not sum to 1"
NO_METRIC = "metric missing"
BAD_METRIC = "metric is no finite number"
BAD_SEED = "seed is no whole number"
WIDTH = "wrong number of cells"
DUPLICATE = "exact duplicate"

_LARGEST_SEED = 2**53
"""Whole numbers up to here are exact in a cell that was once a float."""

RUN, SEED, TOKENS = "run", "seed", "tokens"
"""Columns beside weights and metrics: what a run is called, its seed, and what it trained on."""

SCORE = "score"
"""No metric may be called so: it is what the objective makes of all metrics."""


@dataclass(frozen=True)
class Place:
    """Where something stands: a file, and a row from 1 after the header; 0 is the whole file."""

    file: str
    row: int


@dataclass(frozen=True)
class Rejected:
    """A row that is no run: where it stands, what it is called, why, and what was found there."""

    at: Place
    name: str
    reason: str
    found: str


@dataclass(frozen=True)
class RunRow:
    """One run as it was written: text, nothing checked."""

    name: str
    weights: tuple[str, ...]
    """In the order of the table's domains."""

    metrics: tuple[str, ...]
    """In the order of the table's metrics."""

    weights_at: Place
    metrics_at: Place
    seed: str | None = None
    """None where the table has no such column; so are tokens."""

    tokens: str | None = None


@dataclass(frozen=True)
class RunTable:
    """Every row of one or two files: what may be a run, and what is already known to be none."""

    files: tuple[Path, ...]
    domains: Mapping[str, str]
    """Each domain, and what its cells are called in messages."""

    metrics: Mapping[str, str]
    """Each metric, and what its cells are called in messages."""

    rows: tuple[RunRow, ...]
    rejected: tuple[Rejected, ...]
    unused: tuple[str, ...] = ()
    """Columns that nothing is taken from."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


@dataclass(frozen=True)
class Run:
    """One usable run, its numbers as they were written: small drift is not mended yet."""

    name: str
    weights: tuple[float, ...]
    metrics: tuple[float, ...]
    seed: int | None
    tokens: str | None


def sort_out(table: RunTable) -> tuple[list[Run], list[Rejected]]:
    """Which rows are runs, and why the others are not. The only place that decides it.

    Two rows are duplicates when weights, metrics and seed agree to the last digit; the first stays.

    Returns:
        The runs in the order of their rows, and what was rejected by file and row.
    """
    runs: list[Run] = []
    rejected = list(table.rejected)
    first: dict[object, RunRow] = {}
    for row in table.rows:
        if fault := _fault(row, table):
            rejected.append(fault)
            continue
        run = Run(
            row.name,
            tuple(float(cell) for cell in row.weights),
            tuple(float(cell) for cell in row.metrics),
            int(float(row.seed)) if row.seed and row.seed.strip() else None,
            row.tokens,
        )
        same = first.setdefault((normalised(run.weights), run.metrics, run.seed), row)
        if same is row:
            runs.append(run)
        else:
            found = f"the same numbers as row {same.weights_at.row}{_called(same.name)}"
            rejected.append(Rejected(row.weights_at, row.name, DUPLICATE, found))
    return runs, sorted(rejected, key=lambda r: (r.at.file, r.at.row))


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights whose small drift from a sum of 1 is mended."""
    whole = total(weights)
    return tuple(weight / whole for weight in weights)


def read_table(path: Path) -> RunTable:
    """Read RUNS.csv as text: columns weight.<domain> and metric.<name>, perhaps run, seed, tokens.

    Raises:
        InputError: no such file, no table, or a kind of column is missing.
    """
    sheet = Sheet.read(path, any_width=True)
    domains, metrics = sheet.named(WEIGHT), sheet.named(METRIC)
    for prefix, what, names in ((WEIGHT, "domain", domains), (METRIC, "name", metrics)):
        if not names:
            raise InputError(
                f"{path} has no column {prefix}<{what}>; it has {', '.join(sheet.columns)}"
            )
    if SCORE in metrics:
        raise InputError(
            f"{path} has a column {METRIC + SCORE!r}; {SCORE!r} is what the objective makes of all "
            "metrics, so give that column another name"
        )
    rows, rejected = [], []
    for number, row in sheet.numbered():
        cells = dict(zip(sheet.columns, row, strict=False))
        at, name = Place(path.name, number), one_line_name(cells.get(RUN, ""))
        if fault := sheet.misfit(row):
            rejected.append(Rejected(at, name, WIDTH, fault))
            continue
        rows.append(
            RunRow(
                name,
                tuple(cells[WEIGHT + domain] for domain in domains),
                tuple(cells[METRIC + metric] for metric in metrics),
                at,
                at,
                cells.get(SEED),
                cells.get(TOKENS),
            )
        )
    known = (RUN, SEED, TOKENS)
    unused = [c for c in sheet.columns if c not in known and not c.startswith((WEIGHT, METRIC))]
    named = labels(WEIGHT, domains), labels(METRIC, metrics)
    return RunTable((path,), *named, tuple(rows), tuple(rejected), tuple(unused))


def labels(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """What the cells of each column are called in messages."""
    return {name: f"column {prefix + name!r}" for name in names}


def one_line_name(text: str) -> str:
    """What a file calls a run, on one line."""
    return " ".join(text.split())


def read_runs(path: Path) -> tuple[Trials, str]:
    """Read RUNS.csv for a search: every row must be a run; repeats to the last digit are left out.

    Returns:
        The runs, and a remark on what was set aside (empty when nothing was).

    Raises:
        InputError: anything in the file that cannot be used: how many rows, and the first three.
    """
    table = read_table(path)
    runs, rejected = sort_out(table)
    doubles = [r for r in rejected if r.reason == DUPLICATE]
    faults = [
        (f"row {r.at.row}{_called(r.name)}", r.found) for r in rejected if r.reason != DUPLICATE
    ]
    # A weight column under another name leaves every row short of a sum of 1.
    unread = f"; {_unused(table.unused)}" if table.unused else ""
    hint = f"{unread}. `climb import csv` writes a file without such rows"
    refuse(path, len(table), faults, hint)
    # Metrics in the order of their names: sums over them must not depend on the file's columns.
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": run.seed or 0,
            "weights": dict(zip(table.domains, normalised(run.weights), strict=True)),
            "metrics": dict(zip(table.metrics, run.metrics, strict=True)),
        }
        for run in runs
    ]
    trials = Trials.from_rows(rows, tuple(table.domains), tuple(sorted(table.metrics)))
    return trials, _remark(doubles, table.unused)


def _fault(row: RunRow, table: RunTable) -> Rejected | None:
    """The first thing that makes a row no run."""
    if bad := _bad_cell(row.weights, table.domains.values(), NO_WEIGHT, BAD_WEIGHT):
        return Rejected(row.weights_at, row.name, *bad)
    weights = [float(cell) for cell in row.weights]
    if found := no_mixture(weights):
        reason = NEGATIVE if min(weights) < 0.0 else BAD_SUM
        return Rejected(row.weights_at, row.name, reason, found)
    if bad := _bad_cell(row.metrics, table.metrics.values(), NO_METRIC, BAD_METRIC):
        return Rejected(row.metrics_at, row.name, *bad)
    if row.seed and row.seed.strip() and not _is_whole(row.seed):
        found = f"column {SEED!r} holds {shown(row.seed)}"
        return Rejected(row.weights_at, row.name, BAD_SEED, found)
    return None


def _bad_cell(
    cells: Sequence[str], labels: Iterable[str], missing: str, bad: str
) -> tuple[str, str] | None:
    """Reason and finding of the first cell that holds no number."""
    for label, cell in zip(labels, cells, strict=True):
        if finite(cell) is None:
            return bad if cell.strip() else missing, f"{label} holds {shown(cell)}"
    return None


def _is_whole(cell: str) -> bool:
    value = finite(cell)
    return value is not None and value.is_integer() and abs(value) <= _LARGEST_SEED


def _called(name: str) -> str:
    return f" (run {name})" if name else ""


def _remark(doubles: Sequence[Rejected], unused: Sequence[str]) -> str:
    """What of a file was not used."""
    remarks = []
    if doubles:
        named = ", ".join(str(r.at.row) for r in doubles[:10])
        more = ", ..." if len(doubles) > 10 else ""
        remarks.append(
            f"{len(doubles)} rows repeat another to the last digit, left out: {named}{more}"
        )
    if unused:
        remarks.append(_unused(unused))
    return "; ".join(remarks)


def _unused(columns: Sequence[str]) -> str:
    return f"columns not used: {', '.join(columns)}"
