"""Table of effects: how the score and the metrics change with one percent more of a domain.

One percent of the mixture is moved to the domain. Shades show gains and losses.

Axes: K domains, Q columns (the score, then metrics).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from climb.report.formats import count_digits, number, printable, signed
from climb.search.effects import TradeOff
from climb.search.records import Effect, EffectsRecord

MAX_DOMAINS = 30
"""Maximum number of rows. The table has the domains with the largest effects on the score."""

MAX_METRICS = 12
"""Maximum number of metrics in the table. The table has the metrics that change the score most.
The other tables of metrics on the page show the same metrics, and have a collapsed section with the
metrics that are left out here."""

_SHADES = 3
"""Number of shades for gains; there are as many for losses. The largest effect of a column has the
darkest shade."""


@dataclass(frozen=True)
class Cell:
    """Effect on one metric if the mixture has one percent more of a domain; above 0 is better."""

    mean: str
    std: str
    shade: str
    """up1 to up3, down1 to down3; empty where the effect does not exceed its standard deviation."""


@dataclass(frozen=True)
class EffectsTable:
    """A table whose rows are sorted by the effect on the score, best first."""

    percent: str
    columns: tuple[str, ...]
    """Names of the columns: the score, then metrics. The other tables of metrics on the page have
    all further metrics in collapsed sections."""

    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    n_domains: int
    """Number of domains that are left out."""

    n_metrics: int
    """Number of metrics that are left out."""

    trade_offs: tuple[str, ...]
    """A sentence for each pair of metrics that favour different domains."""


def tabulate_effects(effects: EffectsRecord, metric_weights: Mapping[str, float]) -> EffectsTable:
    """Arrange the effects of a search result in a table."""
    domains = effects.domains
    metrics = effects.rank_metrics(metric_weights)
    columns = ("score", *sorted(metrics[:MAX_METRICS]))
    by_size = sorted(domains, key=lambda d: (-abs(domains[d]["score"].mean), d))[:MAX_DOMAINS]
    shown = sorted(by_size, key=lambda d: (-domains[d]["score"].mean, d))
    cells_QK = [_make_column([domains[d][name] for d in shown]) for name in columns]
    return EffectsTable(
        f"{100 * effects.step:g}",
        columns,
        tuple((d, tuple(column[k] for column in cells_QK)) for k, d in enumerate(shown)),
        len(domains) - len(shown),
        len(metrics) - len(columns) + 1,
        tuple(_describe_trade_off(pair) for pair in effects.trade_offs),
    )


def _make_column(effects_K: Sequence[Effect]) -> list[Cell]:
    """Format the effects on one metric, with as many decimals as the largest effect needs."""
    largest = max((abs(effect.mean) for effect in effects_K), default=0.0)
    digits = count_digits(largest)
    return [
        Cell(signed(e.mean, digits), number(e.std, digits), _choose_shade(e, largest))
        for e in effects_K
    ]


def _choose_shade(effect: Effect, largest: float) -> str:
    if not abs(effect.mean) > effect.std:
        return ""
    step = math.ceil(_SHADES * abs(effect.mean) / largest)
    return f"{'up' if effect.mean > 0 else 'down'}{step}"


def _describe_trade_off(pair: TradeOff) -> str:
    first, second = (printable(name, 60) for name in pair.metrics)
    gain, loss = pair.effects
    digits = count_digits(max(abs(gain), abs(loss)))
    return (
        f"{first} and {second} trade off (correlation over domains "
        f"{number(pair.correlation, 2)}): more {printable(pair.domain, 60)} changes "
        f"{first} by {signed(gain, digits)} and {second} by {signed(loss, digits)}."
    )
