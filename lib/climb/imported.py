"""What `climb import` writes and says: the usable runs, the prior, and every row left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.errors import InputError
from climb.rows import RUN, SEED, TOKENS, Rejected, Run, RunTable, normalised, sort_out
from climb.sheet import DRIFT, METRIC, WEIGHT, cell, check_places, total, write_rows

_NAMED, _DOMAINS = 5, 12
"""Rows of each reason, and domains, that messages name; the file beside the output has all rows."""


@dataclass(frozen=True)
class Prior:
    """Tokens of each domain, or shares of all tokens."""

    amounts: Mapping[str, float]
    source: Path
    out: Path
    """Where PRIOR.csv goes."""


def import_runs(table: RunTable, out: Path, prior: Prior | None = None, objective: str = "") -> str:
    """Write RUNS.csv with the rows of a table that are runs, and the others beside it.

    Weights and metrics are written as they were found, with all their digits; columns are in the
    order of names, rows in the order of the file. What is left out goes to `<out>.rejected.csv`
    with its row, name, reason, finding and file; that file is only there when a row was left out.

    Args:
        table: rows of some format, nothing checked.
        out: where RUNS.csv goes.
        prior: the domains' tokens, where they are known.
        objective: what the format's metrics are for, named in the advice.

    Returns:
        What was done, in lines to print.

    Raises:
        InputError: no row is a run, the prior is of other domains, or a file cannot be written or
            is one of those that are read.
    """
    beside = out.with_name(out.name.removesuffix(".csv") + ".rejected.csv")
    runs, rejected = sort_out(table)
    places = [out, beside, *([prior.out] if prior else [])]
    check_places([*table.files, *([prior.source] if prior else [])], places)
    if not runs:
        raise InputError(_no_run(table, rejected))
    if prior:
        _write_prior(prior, table)
    _write_rejected(beside, rejected)
    _write_runs(out, table, runs)
    return _said(table, runs, rejected, [p for p in places if p != beside or rejected], objective)


def _write_runs(out: Path, table: RunTable, runs: Sequence[Run]) -> None:
    domains, metrics = sorted(table.domains), sorted(table.metrics)
    domain_at = [list(table.domains).index(name) for name in domains]
    metric_at = [list(table.metrics).index(name) for name in metrics]
    extra = {
        RUN: [run.name for run in runs] if any(run.name for run in runs) else None,
        SEED: [run.seed for run in runs] if any(run.seed is not None for run in runs) else None,
        TOKENS: [run.tokens for run in runs] if runs[0].tokens is not None else None,
    }
    kept = {name: values for name, values in extra.items() if values is not None}
    header = [*kept, *(WEIGHT + name for name in domains), *(METRIC + name for name in metrics)]
    rows = [
        [
            *(values[i] for values in kept.values()),
            *(cell(run.weights[k]) for k in domain_at),
            *(cell(run.metrics[q]) for q in metric_at),
        ]
        for i, run in enumerate(runs)
    ]
    write_rows(out, header, rows)


def _write_prior(prior: Prior, table: RunTable) -> None:
    amounts, domains = prior.amounts, set(table.domains)
    if set(amounts) != domains:
        missing, more = sorted(domains - set(amounts)), sorted(set(amounts) - domains)
        raise InputError(
            f"{prior.source}: its domains are not those of the runs (missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(more) or 'none'})"
        )
    whole, least = total(list(amounts.values())), min(amounts.values())
    if least < 0.0 or whole == 0.0 or DRIFT < abs(whole - 1.0) < 1.0:
        raise InputError(
            f"{prior.source}: its numbers sum to {whole:.6g} and the smallest is {least:.6g}; a "
            "prior has the domains' tokens, or shares that sum to 1"
        )
    write_rows(prior.out, ["domain", "tokens"], [[n, cell(amounts[n])] for n in sorted(amounts)])


def _write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    if rejected:
        header = ["row", "name", "reason", "found", "file"]
        rows = [[r.at.row or "", r.name, r.reason, r.found, r.at.file] for r in rejected]
        write_rows(path, header, rows)
        return
    try:
        path.unlink(missing_ok=True)  # of an earlier import: it would speak of other rows
    except OSError as error:
        raise InputError(f"{path} cannot be removed: {error.strerror}") from error


def _said(
    table: RunTable,
    runs: Sequence[Run],
    rejected: Sequence[Rejected],
    written: Sequence[Path],
    objective: str,
) -> str:
    lines = [
        f"Read {len(table)} rows with {len(table.domains)} domains and {len(table.metrics)} "
        f"metrics: kept {len(runs)}, left out {len(rejected)}.",
        *(f"- {line}" for line in _by_reason(rejected)),
    ]
    if table.unused:
        lines.append(f"Note: columns not used: {', '.join(table.unused)}.")
    distinct = len({normalised(run.weights) for run in runs})
    if distinct < 3 * len(table.domains):
        lines.append(
            f"{distinct} mixtures are few for {len(table.domains)} domains; three times as many as "
            "domains is a start."
        )
    lines.append(f"wrote {', '.join(map(str, written))}")
    if objective:
        prior = next((p for p in written[2 if rejected else 1 :]), "PRIOR.csv")
        lines.append(
            f"Next: climb recommend --runs {written[0]} --prior {prior} "
            f"--objective '{objective}' --out best.csv"
        )
    return "\n".join(lines)


def _no_run(table: RunTable, rejected: Sequence[Rejected]) -> str:
    files, domains = " and ".join(map(str, table.files)), sorted(table.domains)
    if not rejected:
        return f"{files}: no rows"
    named = ", ".join(domains[:_DOMAINS]) + (", ..." if len(domains) > _DOMAINS else "")
    return (
        f"{files}: none of {len(table)} rows is a run: {'; '.join(_by_reason(rejected))}. "
        f"The first: {rejected[0].found} (domains: {named})"
    )


def _by_reason(rejected: Sequence[Rejected]) -> list[str]:
    """How many rows each reason has, most first, and the first rows by name."""
    reasons: dict[str, list[Rejected]] = {}
    for r in rejected:
        reasons.setdefault(r.reason, []).append(r)
    return [
        f"{len(found)} {reason}: {', '.join(map(_named, found[:_NAMED]))}"
        + (", ..." if len(found) > _NAMED else "")
        for reason, found in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _named(r: Rejected) -> str:
    where = f"row {r.at.row} of {r.at.file}" if r.at.row else r.at.file
    return f"{where} (run {r.name})" if r.name else where
