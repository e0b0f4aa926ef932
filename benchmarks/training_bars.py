"""The bars of the benchmarks of training on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from section import Bar

PEER = "plain, compiled"

RATIOS = (
    ("small", "ours", "ours, eager", 4.0),
    ("medium", "ours", PEER, 1.2),
    ("large", "ours", PEER, 1.2),
)
"""Part, loop, other loop, and the smallest accepted ratio of their tokens per second."""

MAX_COMPILE_SECONDS, MIN_LARGE_MFU, MAX_COST_OF_BITS = 30.0, 0.38, 0.10


def list_bars(results: dict[str, Any]) -> list[Bar]:
    """Compare the figures of gpu_training.py with their limits."""
    rows = {(row["part"], row["loop"]): row for row in results["rows"]}
    bars = []
    for part, one, other, limit in RATIOS:
        if (part, one) in rows and (part, other) in rows:
            pair = [rows[part, name]["tokens_per_second"] for name in (one, other)]
            bars.append(Bar(f"{part}: {one} / {other}", pair[0] / pair[1], at_least=limit))
    if (medium := rows.get(("medium", "ours"))) is not None:
        found = medium["first_step_seconds"]
        bars.append(Bar("medium: seconds to compile", found, at_most=MAX_COMPILE_SECONDS))
        if (free := rows.get(("medium", "ours, not deterministic"))) is not None:
            cost = 1 - medium["tokens_per_second"] / free["tokens_per_second"]
            bars.append(Bar("medium: cost of equal bits", cost, at_most=MAX_COST_OF_BITS))
    if (large := rows.get(("large", "ours"))) is not None and large["mfu"]:
        bars.append(Bar("large: MFU", large["mfu"], at_least=MIN_LARGE_MFU))
    for row in results["bits"]:
        kinds = ("equal runs", "equal after interruption")
        if "not deterministic" not in row["case"] and "warnings" not in row["case"]:
            equal = float(all(row.get(kind, False) for kind in kinds))
            bars.append(Bar(f"equal bits: {row['case']}", equal, at_least=1.0))
    return bars


def print_bars(bars: Sequence[Bar]) -> int:
    """Print whether each bar is met; return how many are missed."""
    for bar in bars:
        word = "MISSED" if bar.is_missed else "met   "
        print(f"{word} {bar.name}: {bar.describe_figure()}, wanted {bar.describe_limits()}")
    return sum(bar.is_missed for bar in bars)
