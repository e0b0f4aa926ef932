"""What `climb import` writes and prints: the valid runs, the prior, and every rejected row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from climb.errors import InputError
from climb.runs.output import check_output_paths, format_number, write_rows
from climb.runs.rows import (
    PARAMS,
    RUN,
    SCORE,
    SEED,
    TOKENS,
    Location,
    RejectedRow,
    Run,
    RunTable,
    describe_ignored,
    format_run,
    validate_runs,
)
from climb.runs.sheet import (
    METRIC,
    SUM_TOLERANCE,
    WEIGHT,
    compare_names,
    list_names,
    normalize,
    sum_exactly,
)

MIXTURES_PER_DOMAIN = 3
"""If there are fewer mixtures per domain than this, a message says that the mixtures are few."""

_MAX_ROWS = 5
"""For each reason of rejection, a message lists at most this many rejected rows. RUNS.rejected.csv
lists all rejected rows."""


@dataclass(frozen=True)
class Prior:
    """Tokens of each domain, or each domain's share of all tokens."""

    amounts: Mapping[str, float]
    source: Path
    out: Path
    """Where PRIOR.csv is written."""


def import_runs(table: RunTable, out: Path, prior: Prior | None = None, objective: str = "") -> str:
    """Write RUNS.csv with the valid runs of a table, and the rejected rows to another file.

    Weights and metrics keep all digits of the input; columns are sorted by name, rows keep the
    order of the file. Rejected rows go to RUNS.rejected.csv, with the columns row, name, reason,
    found and file; RUNS.rejected.csv exists only if a row is rejected. A run that was joined from
    two files counts as one row, but RUNS.rejected.csv lists its rows of both files.

    Args:
        table: rows that are not yet validated.
        out: where RUNS.csv is written.
        prior: tokens of the domains; None: no PRIOR.csv is written.
        objective: objective in the suggested next command; empty: no command is suggested.

    Returns:
        A summary, in lines to print.

    Raises:
        InputError: no row is valid, a metric has the reserved name `score`, the prior lacks a
            domain or has invalid numbers, or an output cannot be written or is also an input.
    """
    rejected_out = out.with_name(out.name.removesuffix(".csv") + ".rejected.csv")
    runs, rejected = validate_runs(table)
    outputs = [out, rejected_out, *([prior.out] if prior else [])]
    if SCORE in table.metrics:
        raise InputError(
            f"{table.files[-1]}: {table.metrics[SCORE]} would be the metric {SCORE!r}, a name that "
            "is reserved for the value of the objective; rename the column"
        )
    check_output_paths([*table.files, *([prior.source] if prior else [])], outputs)
    if not runs:
        raise InputError(_explain_no_runs(table, rejected))
    if prior:
        _write_prior(prior, table)
    _write_rejected(rejected_out, rejected)
    _write_runs(out, table, runs)
    written = [p for p in outputs if p != rejected_out or rejected]
    others = sorted(prior.amounts.keys() - table.domains.keys()) if prior else []
    note = f"\nNote: {len(others)} domains of the prior are in no run: {list_names(others)}."
    return _summarize(table, runs, rejected, written, objective) + (note if others else "")


def _format_scales(values: Sequence[float | None]) -> list[float | str] | None:
    """Format params or tokens of all runs; None if no run has any."""
    if all(value is None for value in values):
        return None
    return ["" if value is None else format_number(value) for value in values]


def _write_runs(out: Path, table: RunTable, runs: Sequence[Run]) -> None:
    domains, metrics = sorted(table.domains), sorted(table.metrics)
    domain_order = [list(table.domains).index(name) for name in domains]
    metric_order = [list(table.metrics).index(name) for name in metrics]
    optional = {
        RUN: [run.name for run in runs] if any(run.name for run in runs) else None,
        SEED: [run.seed for run in runs] if any(run.seed is not None for run in runs) else None,
        PARAMS: _format_scales([run.params for run in runs]),
        TOKENS: _format_scales([run.tokens for run in runs]),
    }
    kept = {name: values for name, values in optional.items() if values is not None}
    header = [*kept, *(WEIGHT + name for name in domains), *(METRIC + name for name in metrics)]
    rows = [
        [
            *(values[i] for values in kept.values()),
            *(format_number(max(run.weights[k], 0.0)) for k in domain_order),
            *(format_number(run.metrics[q]) for q in metric_order),
        ]
        for i, run in enumerate(runs)
    ]
    write_rows(out, header, rows)


def _write_prior(prior: Prior, table: RunTable) -> None:
    domains = set(table.domains)
    if not domains <= prior.amounts.keys():
        raise InputError(
            f"{prior.source} lacks domains of the runs "
            f"({compare_names(prior.amounts, domains)}); add or rename them"
        )
    whole, smallest = sum_exactly(list(prior.amounts.values())), min(prior.amounts.values())
    if smallest < 0.0 or whole == 0.0 or SUM_TOLERANCE < abs(whole - 1.0) < 1.0:
        raise InputError(
            f"{prior.source}: the values sum to {whole:.6g} and the smallest is {smallest:.6g}; "
            "expected the number of tokens of each domain, or shares >= 0 that sum to 1"
        )
    amounts = {name: prior.amounts[name] for name in sorted(domains)}
    known = sum_exactly(list(amounts.values()))
    if known <= 0.0:
        raise InputError(f"{prior.source}: the domains of the runs have no tokens")
    if len(domains) < len(prior.amounts) and abs(whole - 1.0) <= SUM_TOLERANCE:
        amounts = {name: amount / known for name, amount in amounts.items()}
    rows = [[name, format_number(amount)] for name, amount in amounts.items()]
    write_rows(prior.out, ["domain", "tokens"], rows)


def _write_rejected(path: Path, rejected: Sequence[RejectedRow]) -> None:
    if rejected:
        header = ["row", "name", "reason", "found", "file"]
        lines = [(r.location, r) for r in rejected]
        lines += [(r.partner, r) for r in rejected if r.partner is not None]
        lines.sort(key=lambda line: (line[0].file, line[0].row))
        rows = [[at.row or "", r.name, r.reason, _describe(at, r), at.file] for at, r in lines]
        write_rows(path, header, rows)
        return
    try:
        path.unlink(missing_ok=True)  # an earlier import may have left a list of other rows
    except OSError as error:
        raise InputError(f"cannot remove {path}: {error.strerror}") from error


def _describe(at: Location, r: RejectedRow) -> str:
    """Describe what was found in the rejected row `r`.

    A run that was joined from two files has one row in each file. `r` is the row with the error. If
    `at` is the run's row in the other file, the description also states the location of `r`.
    """
    return r.found if at == r.location else f"{_locate(r)}: {r.found}"


def _summarize(
    table: RunTable,
    runs: Sequence[Run],
    rejected: Sequence[RejectedRow],
    written: Sequence[Path],
    objective: str,
) -> str:
    lines = [
        f"Read {len(table)} rows with {len(table.domains)} domains and {len(table.metrics)} "
        f"metrics: kept {len(runs)}, rejected {len(rejected)}.",
        *(f"- {line}" for line in _count_by_reason(rejected)),
    ]
    if rejected:
        lines.append("Row numbers start at 1 after the header.")
    if table.ignored_columns:
        lines.append(f"Note: {describe_ignored(table.ignored_columns)}.")
    n_mixtures, n_domains = len({normalize(run.weights) for run in runs}), len(table.domains)
    if n_mixtures < MIXTURES_PER_DOMAIN * n_domains:
        lines.append(
            f"Note: {n_mixtures} distinct mixtures are few for {n_domains} domains; at least "
            f"{MIXTURES_PER_DOMAIN * n_domains} are recommended."
        )
    lines.append(f"wrote {', '.join(map(str, written))}")
    if objective:
        prior = next((p for p in written[2 if rejected else 1 :]), "PRIOR.csv")
        lines.append(
            f"Next: climb recommend --runs {quote(str(written[0]))} --prior {quote(str(prior))} "
            f"--objective {quote(objective)} --out best.csv"
        )
    return "\n".join(lines)


def _explain_no_runs(table: RunTable, rejected: Sequence[RejectedRow]) -> str:
    files = " and ".join(map(str, table.files))
    if not rejected:
        return f"{files}: no rows after the header; expected one row per run"
    ignored = f"; {describe_ignored(table.ignored_columns)}" if table.ignored_columns else ""
    return (
        f"{files}: none of the {len(table)} rows is a valid run: "
        f"{'; '.join(_count_by_reason(rejected))}. First error: {rejected[0].found} "
        f"(domains: {list_names(sorted(table.domains))}{ignored})"
    )


def _count_by_reason(rejected: Sequence[RejectedRow]) -> list[str]:
    """Count the rows of each reason, the most frequent first, and list the first rows."""
    reasons: dict[str, list[RejectedRow]] = {}
    for r in rejected:
        reasons.setdefault(r.reason, []).append(r)
    return [
        f"{reason} (count: {len(rows)}): {', '.join(map(_format_row, rows[:_MAX_ROWS]))}"
        + (", ..." if len(rows) > _MAX_ROWS else "")
        for reason, rows in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _format_row(r: RejectedRow) -> str:
    return f"{_locate(r)}{format_run(r.name)}"


def _locate(r: RejectedRow) -> str:
    return f"row {r.location.row} of {r.location.file}" if r.location.row else r.location.file
