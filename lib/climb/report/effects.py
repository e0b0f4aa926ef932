"""What one percent more of a domain does, as a table whose shades show what helps and what costs.

Axes: K domains, Q columns (the score, then metrics).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from climb.report.formats import number, printable, signed

MOST_DOMAINS = 30
"""Rows: those that move the score most."""

MOST_METRICS = 12
"""Columns beside the score."""

_SHADES = 3
"""Steps from hardly anything to the largest effect of a column."""


@dataclass(frozen=True)
class Cell:
    """What one percent more of a domain does to one metric; above 0 is better."""

    mean: str
    spread: str
    shade: str
    """up1 to up3, down1 to down3, or nothing where the effect does not exceed its spread."""


@dataclass(frozen=True)
class EffectsTable:
    """Rows by what they do to the score, best first."""

    per_cent: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    n_domains: int
    """Domains left out."""

    n_metrics: int
    """Metrics left out."""

    trade_offs: tuple[str, ...]
    """A sentence for each pair of metrics that want different domains."""


def effects_table(evidence: Mapping[str, Any]) -> EffectsTable | None:
    """Read `effects` of a search's evidence; None where an earlier version left none."""
    effects = evidence.get("effects") or {}
    domains: Mapping[str, Any] = effects.get("domains") or {}
    if not domains:
        return None
    metrics = sorted({name for row in domains.values() for name in row} - {"score"})
    columns = ("score", *metrics[:MOST_METRICS])
    most = sorted(domains, key=lambda d: (-abs(_mean(domains[d], "score")), d))[:MOST_DOMAINS]
    shown = sorted(most, key=lambda d: (-_mean(domains[d], "score"), d))
    cells_QK = [_column([domains[d].get(name) for d in shown]) for name in columns]
    return EffectsTable(
        f"{100 * float(effects.get('step', 0.01)):g}",
        columns,
        tuple((d, tuple(column[k] for column in cells_QK)) for k, d in enumerate(shown)),
        len(domains) - len(shown),
        len(metrics) - len(columns) + 1,
        tuple(_sentence(pair) for pair in effects.get("trade_offs") or []),
    )


def _mean(row: Mapping[str, Any], name: str) -> float:
    return float((row.get(name) or {}).get("mean") or 0.0)


def _column(effects_K: Sequence[Mapping[str, float] | None]) -> list[Cell]:
    """Cells of one metric, all with as many decimals as its largest effect needs."""
    known = [effect or {"mean": math.nan, "std": math.nan} for effect in effects_K]
    sizes = [abs(effect["mean"]) for effect in known]
    largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
    digits = _digits(largest)
    return [
        Cell(
            signed(effect["mean"], digits),
            number(effect["std"], digits),
            _shade(effect["mean"], effect["std"], largest),
        )
        for effect in known
    ]


def _digits(largest: float) -> int:
    """Decimals that show two digits of a number."""
    if largest <= 0.0:
        return 4
    return min(max(1 - math.floor(math.log10(largest)), 0), 12)


def _shade(mean: float, std: float, largest: float) -> str:
    if not abs(mean) > std:  # neither where one of them is not known
        return ""
    return f"{'up' if mean > 0 else 'down'}{math.ceil(_SHADES * abs(mean) / largest)}"


def _sentence(pair: Mapping[str, Any]) -> str:
    first, second = (printable(name, 60) for name in pair["metrics"])
    helped, cost = (float(effect) for effect in pair["effects"])
    digits = _digits(max(abs(helped), abs(cost)))
    return (
        f"{first} and {second} trade off (correlation over domains "
        f"{number(pair['correlation'], 2)}): more {printable(pair['domain'], 60)} does "
        f"{signed(helped, digits)} to {first} and {signed(cost, digits)} to {second}."
    )
