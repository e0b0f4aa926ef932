"""Rates of `climb estimate` from the tables of benchmarks/scale.py.

Of three sizes, the two smaller ones give the rates, and the estimate is compared with the largest.
Between two sizes, fixed costs cancel out: a rate is more work divided by more core-seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from section import HERE, Section, Table, from_json, render_table

from climb.config import Config, load
from climb.estimate import Estimate, Machines, Workload, compute_estimate, load_rates
from climb.estimate.cost import StageCost
from climb.estimate.models import count_parameters, count_vocabulary
from climb.estimate.rates import MEASURED
from climb.estimate.text import format_bytes, format_hours
from climb.estimate.training import count_mixed_tokens, count_packed_tokens
from climb.search.comparison import count_trials

RECORDED = HERE / "results" / "scale.json"
PAGE = HERE.parent / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/scale.py writes from here -->", "<!-- to here -->"
SOURCE = "benchmarks/RESULTS.md, section scale"
FIXED_UNIT = "seconds, at any number of documents"
LEAST_SECONDS = 0.1
"""Smallest growth of a stage between two sizes: the seconds of a run have one decimal."""

NAMES = {"embed": "embed.StaticEmbedder", "base": "train.cpu", "search": "trial.cpu"}
"""Stage -> name of its rate, if it has another one."""

PER = {
    "documents": "byte of text",
    "tokens": "document",
    "scores": "document",
    "assignments": "document",
    "corpus": "byte of mixed text",
    "mixed": "byte of mixed text",
}
"""Table or folder -> what its size is proportional to."""

COUNTING = ("pack", "mix")
"""Stages that also count every document, at the rate of stage prune, which comes before them."""

LEAST_SHARE = 0.05
"""Smallest share of a slope that is left when the work that other rates explain is subtracted."""

TOKENS_PER_DOCUMENT, BYTES_PER_TOKEN = 400.0, 3.88
"""Of the estimates in docs/scale.md: web documents, and the text of the shared corpus."""

WriteConf = Callable[[Path, int], Path]


@dataclass(frozen=True)
class Size:
    """What the tables say about one number of documents."""

    documents: int
    text_bytes: int
    tokens: int
    seconds: dict[str, float]
    bytes_of: dict[str, int]

    @property
    def workload(self) -> Workload:
        """The corpus of this size."""
        return Workload(self.documents, self.tokens, self.text_bytes / self.tokens)


def list_sizes(root: Path) -> dict[str, int]:
    """Return the bytes of every table, of the shards and of the dataset of a run."""
    folders = [*sorted((root / "tables").iterdir()), root / "shards", root / "mixed"]
    return {
        folder.name: sum(
            file.stat().st_size
            for file in folder.rglob("*")
            if file.is_file() and "_delta_log" not in file.parts
        )
        for folder in folders
    }


def count_tokens(root: Path) -> int:
    """Sum the token counts of a run that has one version of table `tokens`."""
    import pyarrow.parquet as pq

    files = sorted((root / "tables" / "tokens").glob("*.parquet"))
    return sum(sum(pq.read_table(file)["n_tokens"].to_pylist()) for file in files)


def read_sizes(tables: Sequence[Table]) -> list[Size]:
    """Read the two tables of the section."""
    seconds, others = tables
    n = len(others.columns) - 1
    rows = {row[0]: row[1:] for row in others.rows}
    return [
        Size(
            documents=_parse(others.columns[1 + i]),
            text_bytes=_parse(rows["bytes of text"][i]),
            tokens=_parse(rows["tokens"][i]),
            seconds={row[0]: float(row[1 + i]) for row in seconds.rows},
            bytes_of={
                name.removeprefix("bytes of "): _parse(cells[i])
                for name, cells in rows.items()
                if name.startswith("bytes of ") and name != "bytes of text"
            },
        )
        for i in range(n)
    ]


def fit_rates(sizes: Sequence[Size], write_conf: WriteConf, cores: int) -> dict[str, Any]:
    """Fit the rates to the first and the last of these sizes, in the form of measured.json."""
    first, last = sizes[0], sizes[-1]
    cfg = _load_conf(write_conf, last)
    before, work = _list_work(first, _load_conf(write_conf, first)), _list_work(last, cfg)
    found: dict[str, tuple[float, str]] = {}
    for stage, (amount, unit) in work.items():
        more = max(last.seconds[stage] - first.seconds[stage], LEAST_SECONDS)
        slope = cores * more / (amount - before[stage][0])
        fixed = max(0.0, last.seconds[stage] - slope * amount / cores)
        found[f"fixed.{stage}"] = (fixed, FIXED_UNIT)
        known = _find_known(stage, cfg)
        if stage in COUNTING:
            per_unit = (last.documents - first.documents) / (amount - before[stage][0])
            known = per_unit / found["prune"][0]
        rate = 1.0 / max(slope - known, LEAST_SHARE * slope)
        found[NAMES.get(stage, stage)] = (rate, unit)
    for table, per in PER.items():
        found[f"size.{table}"] = (last.bytes_of[table] / _count(per, last, cfg), f"bytes per {per}")
    rows = _format_rows(found)
    estimated = _estimate(cfg, last, rows)
    for cost in estimated.stages:
        if cost.stage.name not in work:  # all of it that the rates of others do not explain
            rest = last.seconds[cost.stage.name] - cost.stage.core_seconds / cores
            found[f"fixed.{cost.stage.name}"] = (max(0.0, rest), FIXED_UNIT)
    return _format_rows(found)


def predict_seconds(tables: Sequence[Table], write_conf: WriteConf) -> float:
    """Predict the seconds of the largest size with the rates of the smaller ones."""
    sizes, cores = read_sizes(tables), os.cpu_count() or 1
    rows = fit_rates(select_fitted(sizes), write_conf, cores)
    estimate = _estimate(_load_conf(write_conf, sizes[-1]), sizes[-1], rows)
    return estimate.predict_seconds(cores)


def publish(write_conf: WriteConf) -> None:
    """Write measured.json, and the tables in docs/scale.md, from the recorded section."""
    if not RECORDED.exists():
        sys.exit("scale: nothing is recorded yet; run `python benchmarks/bench.py scale` first")
    section = from_json(RECORDED.read_text())
    cores = int(section.machine.split()[0])
    rows = fit_rates(select_fitted(read_sizes(section.tables)), write_conf, cores)
    MEASURED.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(replace_estimates(replace_growth(PAGE.read_text(), section)))


def replace_growth(page: str, section: Section) -> str:
    """Replace the first machine-written part of the page by the tables of the section."""
    origin = f"Measured on {section.date} at commit {section.commit} ({section.machine})."
    return _replace_part(page, 0, [origin, *map(render_table, section.tables)])


def replace_estimates(page: str) -> str:
    """Replace the second machine-written part of the page by estimates with the shipped rates."""
    found = {
        f"{conf or 'default.yaml'}, 10^{exponent}": compute_estimate(
            load(None if conf is None else HERE.parent / "conf" / conf),
            Workload(10.0**exponent, TOKENS_PER_DOCUMENT * 10.0**exponent, BYTES_PER_TOKEN),
            Machines(),
            load_rates(),
        )
        for conf in (None, "climb-paper.yaml")
        for exponent in (9, 10)
    }
    columns, estimates = tuple(found), tuple(found.values())
    rows = [
        (costs[0].stage.name, *map(_format_hours, costs))
        for costs in zip(*(estimate.stages for estimate in estimates), strict=True)
    ]
    rows.append(("all", *(f"{e.core_hours:,.0f} / {e.gpu_hours:,.0f}" for e in estimates)))
    rows.append(("largest share", *(_describe_largest(e) for e in estimates)))
    hours = Table(("core-hours / GPU-hours", *columns), tuple(rows))
    sizes = [
        (name, *(format_bytes(e.sizes[name]) for e in estimates)) for name in estimates[0].sizes
    ]
    tables = (hours, Table(("size", *columns), tuple(sizes)))
    return _replace_part(page, 1, [*map(render_table, tables)])


def _format_hours(cost: StageCost) -> str:
    return f"{format_hours(cost.core_hours)} / {format_hours(cost.gpu_hours)}"


def _describe_largest(estimate: Estimate) -> str:
    name, of, share = estimate.find_dominating()
    return f"{name}, {share:.0%} of the {of}"


def _replace_part(page: str, index: int, parts: Sequence[str]) -> str:
    """Replace the text between the marks of this index."""
    pieces = page.split(BEGIN)
    _, _, after = pieces[index + 1].partition(END)
    pieces[index + 1] = "\n\n".join(["", *parts, END]) + after
    return BEGIN.join(pieces)


def select_fitted(sizes: Sequence[Size]) -> Sequence[Size]:
    """Select the sizes that give the rates: all but the largest of three."""
    return sizes[:-1] if len(sizes) > 2 else sizes


def _list_work(size: Size, cfg: Config) -> dict[str, tuple[float, str]]:
    """Return the amount and the unit of the work of every stage that has a rate."""
    text = (float(size.text_bytes), "bytes of text per core-second")
    documents = (float(size.documents), "documents per core-second")
    model = count_parameters("proxy.model", cfg.proxy.model, count_vocabulary(cfg), {})
    per_token = 6.0 * model.parameters
    trained = count_trials(cfg.search) * cfg.proxy.trial_tokens
    operations = "floating-point operations per core-second"
    mixed = count_mixed_tokens(cfg) * size.workload.bytes_per_token
    return {
        **dict.fromkeys(("ingest", "count", "embed", "score"), text),
        **dict.fromkeys(("cluster", "prune"), documents),
        "pack": (count_packed_tokens(cfg, size.workload), "tokens per core-second"),
        "base": (per_token * cfg.proxy.base_tokens, operations),
        "search": (per_token * trained, operations),
        "mix": (mixed, "bytes of text per core-second"),
    }


def _find_known(stage: str, cfg: Config) -> float:
    """Find the core-seconds per unit that kept rates explain: scorers, and the assignment."""
    rates = load_rates({})
    if stage == "score":
        return 1.0 / rates.find("scorer.RuleScorer", "benchmarks/scale.py").value
    if stage == "cluster":
        operations = 2.0 * cfg.cluster.k * cfg.embed.embedder["dim"]
        return float(operations / rates.find("assign", "benchmarks/scale.py").value)
    return 0.0


def _count(per: str, size: Size, cfg: Config) -> float:
    mixed = count_mixed_tokens(cfg) * size.workload.bytes_per_token
    counts = {"byte of text": size.text_bytes, "document": size.documents}
    return float(counts.get(per, mixed))


def _format_rows(found: dict[str, tuple[float, str]]) -> dict[str, Any]:
    return {
        name: {"value": float(f"{value:.4g}"), "unit": unit, "hardware": "core", "source": SOURCE}
        for name, (value, unit) in sorted(found.items())
    }


def _estimate(cfg: Config, size: Size, rows: dict[str, Any]) -> Estimate:
    return compute_estimate(cfg, size.workload, Machines(on_gpu=False), load_rates(rows))


def _load_conf(write_conf: WriteConf, size: Size) -> Config:
    with tempfile.TemporaryDirectory() as scratch:
        return load(write_conf(Path(scratch), size.documents))


def _parse(cell: str) -> int:
    return int(cell.replace(",", ""))
