"""The bars of the benchmarks of training on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Bars = Sequence[tuple[str, float, str, float]]
"""Name, figure, `>=` or `<=`, and limit of each bar."""

PEER = "plain, compiled"

BARS = (
    ("small", "ours", "ours, eager", 4.0),
    ("medium", "ours", PEER, 1.2),
    ("large", "ours", PEER, 1.2),
)
"""Part, loop, other loop, and the smallest accepted ratio of their tokens per second."""

MAX_COMPILE_SECONDS, MIN_LARGE_MFU, MAX_COST_OF_BITS = 30.0, 0.38, 0.10


def list_bars(results: dict[str, Any]) -> Bars:
    """Compare the figures of gpu_training.py with their limits."""
    rows = {(row["part"], row["loop"]): row for row in results["rows"]}
    bars = []
    for part, one, other, limit in BARS:
        if (part, one) in rows and (part, other) in rows:
            pair = [rows[part, name]["tokens_per_second"] for name in (one, other)]
            bars.append((f"{part}: {one} / {other}", pair[0] / pair[1], ">=", limit))
    if (medium := rows.get(("medium", "ours"))) is not None:
        found = medium["first_step_seconds"]
        bars.append(("medium: seconds to compile", found, "<=", MAX_COMPILE_SECONDS))
        if (free := rows.get(("medium", "ours, not deterministic"))) is not None:
            cost = 1 - medium["tokens_per_second"] / free["tokens_per_second"]
            bars.append(("medium: cost of equal bits", cost, "<=", MAX_COST_OF_BITS))
    if (large := rows.get(("large", "ours"))) is not None and large["mfu"]:
        bars.append(("large: MFU", large["mfu"], ">=", MIN_LARGE_MFU))
    for row in results["bits"]:
        kinds = ("equal runs", "equal after interruption")
        if "not deterministic" not in row["case"] and "warnings" not in row["case"]:
            equal = float(all(row.get(kind, False) for kind in kinds))
            bars.append((f"equal bits: {row['case']}", equal, ">=", 1.0))
    return bars


def print_bars(bars: Bars) -> int:
    """Print whether each bar is met; return how many are missed."""
    missed = 0
    for name, found, sign, limit in bars:
        is_met = found >= limit if sign == ">=" else found <= limit
        missed += not is_met
        print(f"{'met   ' if is_met else 'MISSED'} {name}: {found:.3f}, wanted {sign} {limit}")
    return missed
