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


def list_bars(results: dict[str, Any], parts: Sequence[str]) -> list[Bar]:
    """Compare the figures of gpu_training.py with their limits.

    Args:
        results: what was measured.
        parts: the parts that were asked for. A figure of them that is missing, because the time was
            over or a loop failed, is NaN, which misses its bar.
    """
    rows = {(row["part"], row["loop"]): row for row in results["rows"]}

    def find(part: str, loop: str, figure: str = "tokens_per_second") -> float:
        value = rows.get((part, loop), {}).get(figure)
        return float("nan") if value is None else float(value)

    bars = [
        Bar(f"{part}: {one} / {other}", find(part, one) / find(part, other), at_least=limit)
        for part, one, other, limit in RATIOS
        if part in parts
    ]
    if "medium" in parts:
        seconds = find("medium", "ours", "first_step_seconds")
        cost = 1 - find("medium", "ours") / find("medium", "ours, not deterministic")
        bars.append(Bar("medium: seconds to compile", seconds, at_most=MAX_COMPILE_SECONDS))
        bars.append(Bar("medium: cost of equal bits", cost, at_most=MAX_COST_OF_BITS))
    if "large" in parts:
        bars.append(Bar("large: MFU", find("large", "ours", "mfu"), at_least=MIN_LARGE_MFU))
    if "bits" in parts and not results["bits"]:
        bars.append(Bar("equal bits", float("nan"), at_least=1.0))
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
