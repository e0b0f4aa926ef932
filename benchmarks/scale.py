"""Growth: seconds of each stage, peak memory and a run with nothing to do, at 1, 4 and 16 times.

    python benchmarks/scale.py                          # 5,800, 23,200 and 92,800 documents
    python benchmarks/scale.py --sizes 5800 23200
    python benchmarks/scale.py --publish                # from the recorded section, see below

Every size is a run of the whole pipeline in a process of its own, on the documents of
../shared/data/corpus with the lowest hashes. Models are tiny. Base and trial shards grow with the
documents. Seconds per document are slopes between two sizes, so fixed costs cancel out.

`climb estimate` predicts the largest size with rates that are fitted to the smaller ones.
`--publish` writes these rates to lib/climb/estimate/measured.json, and the table of seconds into
docs/scale.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rates import count_tokens, list_sizes, predict_seconds, publish
from section import Bar, Section, Table, run_section
from shared import hash_id, shared_data

from demo import CLIMB, STAGE, run_measured

SIZES = (5_800, 23_200, 92_800)
QUICK_SIZES = (300, 600)
FILES = 8
TARGET_ITEMS = 40
STAGES = (
    *("ingest", "count", "embed", "score", "cluster", "prune", "pack", "base"),
    *("search", "mix", "target_base", "train", "report"),
)
LINEAR = ("ingest", "count", "embed", "score", "cluster", "prune", "pack", "mix")
"""Stages whose work is proportional to the documents."""

SHORT = 5.0
"""Seconds at the largest size below which a slope is noise and has no bar."""

NEAR_NATURAL = 100.0
"""KL penalty with which the recommendation is near the natural mixture, so no text is repeated."""

MODEL = {"hidden": 16, "layers": 2, "heads": 2, "sequence": 64, "batch": 16}


@dataclass(frozen=True)
class Measured:
    """One size."""

    documents: int
    text_bytes: int
    tokens: int
    seconds: dict[str, float]
    """Stage -> seconds."""

    peak_gb: float
    rerun_seconds: float
    tables: dict[str, int]
    """Table -> bytes of its files, and `shards` and `mixed`."""


def write_corpus(folder: Path, n: int) -> int:
    """Write n documents of the shared corpus as Parquet files; return the bytes of their text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((shared_data() / "corpus").glob("*.parquet"))
    corpus = pa.concat_tables([pq.read_table(f, columns=["id", "text", "source"]) for f in files])
    order = sorted(range(len(corpus)), key=lambda i: hash_id(corpus["id"][i].as_py()))
    chosen = corpus.take(order[:n])
    folder.mkdir(parents=True)
    for part in range(FILES):
        pq.write_table(chosen.take(list(range(part, n, FILES))), folder / f"part-{part}.parquet")
    return sum(len(text.encode()) for text in chosen["text"].to_pylist())


def write_items(folder: Path) -> None:
    """Write items that a tiny model can be measured on: for the search, and others to report."""
    for split, first in (("search", 1), ("report", TARGET_ITEMS + 1)):
        lines = [
            {"context": f"{i} and {i} are", "choices": [f" {2 * i}", f" {3 * i}"], "label": 0}
            for i in range(first, first + TARGET_ITEMS)
        ]
        path = folder / f"items.{split}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_conf(folder: Path, n: int) -> Path:
    """Write the configuration of one size: shards and trained tokens grow with it."""
    target = {"name": "sums", "kind": "choices", "limit": None}
    target |= {split: str(folder / f"items.{split}.jsonl") for split in ("search", "report")}
    model = MODEL | {"learning_rate": 8.0e-3}
    conf = {
        "storage": {"root": str(folder / "out")},
        "spark": {"shuffle_partitions": 2},
        "ingest": {"inputs": [str(folder / "text")]},
        "cluster": {"k": 64, "sample_per_cluster": 64},
        "prune": {"merge_height": None, "domains": 12},
        "proxy": {
            "model": model,
            "base_tokens": 50 * n,
            "trial_tokens": 5 * n,
            "targets": [target],
        },
        "search": {
            **{"trials_per_round": [4, 2], "halving": [], "replicates": 2, "candidates": 200},
            **{"target_tokens": 20 * n, "max_epochs": None, "kl_penalty": NEAR_NATURAL},
        },
        "mix": {"tokens": 200 * n},
        "train": {"model": model, "base_tokens": 50 * n, "tokens": 5 * n, "seeds": 2},
    }
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def run_pipeline(conf: Path) -> tuple[str, float, float]:
    """Run the pipeline; return its output, the peak memory in GB and the seconds."""
    start = time.monotonic()
    output, peak_gb = run_measured([CLIMB, "run", "--conf", conf])
    return output, peak_gb, time.monotonic() - start


def measure_size(n: int) -> Measured:
    """Run one size in a temporary folder, and run it again."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text_bytes = write_corpus(folder / "text", n)
        write_items(folder)
        conf = write_conf(folder, n)
        output, peak_gb, _ = run_pipeline(conf)
        matches = [match for line in output.splitlines() if (match := STAGE.match(line))]
        again, _, rerun_seconds = run_pipeline(conf)
        assert not any(STAGE.match(line) for line in again.splitlines()), again
        tables, tokens = list_sizes(folder / "out"), count_tokens(folder / "out")
    # Both jobs of base checkpoints print a line of the training, named `base`, before their own.
    own = [match for match in matches if (match[1], match[2][-7:]) != ("base", " tokens")]
    seconds = {match[1]: float(match[3]) for match in own if match[1] in STAGES}
    print(f"scale: {n:,} documents, {sum(seconds.values()):.0f} s, {peak_gb:.1f} GB", flush=True)
    return Measured(n, text_bytes, tokens, seconds, peak_gb, rerun_seconds, tables)


def compute_slope(first: Measured, second: Measured, stage: str) -> float:
    """Seconds per 1,000 documents between two sizes."""
    more = second.seconds.get(stage, 0.0) - first.seconds.get(stage, 0.0)
    return 1000.0 * more / (second.documents - first.documents)


def build_bars(measured: Sequence[Measured], predicted: float) -> list[Bar]:
    """Build the bars of memory, growth, the second run and the estimate."""
    last = measured[-1]
    bars = [
        Bar(f"seconds of a run with nothing to do, {m.documents:,} documents", m.rerun_seconds)
        for m in measured
    ]
    bars = [Bar(bar.name, bar.found, at_most=10.0, form=".1f") for bar in bars]
    total = sum(last.seconds.get(stage, 0.0) for stage in STAGES)
    name = f"estimate / measured seconds of all stages, {last.documents:,} documents"
    bars.append(Bar(name, predicted / total, 0.75, 1.25, form=".2f"))
    if len(measured) < 3:
        return bars
    first, middle, _ = measured[-3:]
    name = f"peak memory, {last.documents:,} / {middle.documents:,} documents"
    bars.append(Bar(name, last.peak_gb / middle.peak_gb, at_most=1.10, form=".2f"))
    for stage in LINEAR:
        early, late = compute_slope(first, middle, stage), compute_slope(middle, last, stage)
        if last.seconds.get(stage, 0.0) >= SHORT:
            found = late / early if early > 0 else float("nan")
            bars.append(Bar(f"{stage}: slope of seconds, late / early", found, 0.8, 1.2, ".2f"))
    return bars


def build_tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    """Build the tables of seconds, and of memory and sizes."""
    sizes = tuple(f"{m.documents:,}" for m in measured)
    pairs = tuple(itertools.pairwise(measured))
    slopes = tuple(f"s per 1,000, {a.documents:,} to {b.documents:,}" for a, b in pairs)
    rows = [
        (
            stage,
            *(f"{m.seconds.get(stage, 0.0):.1f}" for m in measured),
            *(f"{compute_slope(a, b, stage):.2f}" for a, b in pairs),
        )
        for stage in STAGES
    ]
    others = [
        ("peak memory of all processes, GB", *(f"{m.peak_gb:.2f}" for m in measured)),
        ("run with nothing to do, s", *(f"{m.rerun_seconds:.1f}" for m in measured)),
        ("bytes of text", *(f"{m.text_bytes:,}" for m in measured)),
        ("tokens", *(f"{m.tokens:,}" for m in measured)),
    ]
    names = sorted({name for m in measured for name in m.tables})
    others += [(f"bytes of {n}", *(f"{m.tables.get(n, 0):,}" for m in measured)) for n in names]
    return (
        Table(("seconds, by documents", *sizes, *slopes), tuple(rows), "Seconds"),
        Table(("documents", *sizes), tuple(others), "Memory and sizes"),
    )


def measure(args: argparse.Namespace) -> Section:
    if args.publish:
        publish(write_conf)
        sys.exit(0)
    sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    if not args.quick:
        measure_size(sizes[0])  # not counted: at first, files and libraries are not in memory
    measured = [measure_size(n) for n in sizes]
    tables = build_tables(measured)
    predicted = predict_seconds(tables, write_conf)
    return Section(
        "scale",
        "Growth: seconds, memory and a run with nothing to do",
        text="Whole runs on the documents of the shared corpus with the lowest hashes, two cores.",
        tables=tables,
        bars=tuple(build_bars(measured, predicted)),
        notes=(
            "The estimate has rates that are fitted to the sizes before the largest one.",
            f"Estimate for the largest size: {predicted:.0f} s.",
        ),
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--sizes", type=int, nargs="+", help="numbers of documents")
    options.add_argument("--publish", action="store_true", help="rates and table to their files")
    run_section(measure, options)
