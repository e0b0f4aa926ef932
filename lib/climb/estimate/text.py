"""An estimate as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from climb.estimate.cost import Estimate, StageCost

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def format_json(estimate: Estimate) -> str:
    """Format the whole result as JSON, with the sums."""
    dominating, of, share = estimate.find_dominating()
    values = dataclasses.asdict(estimate) | {
        "core_hours": estimate.core_hours,
        "gpu_hours": estimate.gpu_hours,
        "price": estimate.price,
        "bytes": sum(estimate.sizes.values()),
        "dominating": {"stage": dominating, "of": of, "share": share},
    }
    return json.dumps(values, indent=1)


def format_text(estimate: Estimate) -> str:
    """Format the stages, the sizes, the sums and the sources as text."""
    workload, machines = estimate.workload, estimate.machines
    head = (
        f"{workload.documents:.3g} documents, {workload.tokens:.3g} tokens, "
        f"{format_bytes(workload.text_bytes)} of text at {workload.bytes_per_token:g} bytes a "
        f"token; nodes of {machines.node_cores} cores or {machines.node_gpus} GPUs (H100)"
    )
    dominating, of, share = estimate.find_dominating()
    parts = [
        head,
        _format_table(_list_stages(estimate)),
        _format_table(_list_sizes(estimate)),
        f"dominating stage: {dominating}, {share:.0%} of the {of}",
    ]
    if estimate.price is None:
        parts[-1] += "\nthe price is unknown: give the price of a node-hour with --cpu-price and "
        parts[-1] += "--gpu-price"
    return "\n\n".join([*parts, *_list_sources(estimate)])


def format_bytes(n: float) -> str:
    """Format a number of bytes with three digits."""
    for unit in UNITS[:-1]:
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000.0
    return f"{n:.3g} {UNITS[-1]}"


def format_hours(hours: float) -> str:
    """Format hours: three significant digits, whole hours from 1,000 on, "-" for zero."""
    if hours == 0.0:
        return "-"
    return f"{hours:,.0f}" if hours >= 999.5 else f"{hours:.3g}"


def _format_price(price: float | None) -> str:
    return "?" if price is None else f"{price:,.2f}"


def _list_stages(estimate: Estimate) -> list[Sequence[str]]:
    columns = ("stage", "core-hours", "GPU-hours", "CPU node-hours", "GPU node-hours", "price")
    rows: list[Sequence[str]] = [(*columns, "work")]
    for cost in estimate.stages:
        rows.append((*_format_cost(cost), cost.stage.work))
    cpu = sum(cost.cpu_node_hours for cost in estimate.stages)
    gpu = sum(cost.gpu_node_hours for cost in estimate.stages)
    sums = map(format_hours, (estimate.core_hours, estimate.gpu_hours, cpu, gpu))
    rows.append(("all", *sums, _format_price(estimate.price), ""))
    return rows


def _format_cost(cost: StageCost) -> tuple[str, ...]:
    hours = (cost.core_hours, cost.gpu_hours, cost.cpu_node_hours, cost.gpu_node_hours)
    return (cost.stage.name, *map(format_hours, hours), _format_price(cost.price))


def _list_sizes(estimate: Estimate) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("table or folder", "size")]
    rows += [(name, format_bytes(n)) for name, n in estimate.sizes.items()]
    rows.append(("all", format_bytes(sum(estimate.sizes.values()))))
    return rows


def _list_sources(estimate: Estimate) -> list[str]:
    """List notes and sources, each with its stages."""
    found: dict[str, list[str]] = {}
    for cost in estimate.stages:
        for text in (*cost.stage.notes, *cost.stage.sources):
            found.setdefault(text, []).append(cost.stage.name)
    if not found:
        return []
    lines = [f"* {', '.join(names)}: {text}" for text, names in found.items()]
    return ["\n".join(["sources and notes", *lines])]


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the first column and the column `work` to the left, all other columns to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
