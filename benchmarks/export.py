"""Shards of an export: speed against pyarrow writing the same rows, and memory at 8 times the size.

    python benchmarks/export.py

Bars: at least 0.7 times as fast as the peer, and at most 10 % more memory. climb's side is the body
of the Spark task. It reads Arrow batches, writes the shard to the local disk, copies it with its
SHA-256, and writes its record. The peer has all rows in memory and writes one file. For text,
pyarrow writes Parquet. For tokens, the tokenizer encodes all texts, and NumPy writes the ids. After
one uncounted run of each side, runs alternate. Memory is the peak of a process that writes one
shard.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from section import Bar, Section, Table, run_section

from climb.config import build
from climb.export import Format
from climb.export.formats import find_format
from climb.export.tokenization import describe_tokenizer
from climb.spark.export.rows import ShardKey
from climb.spark.export.shards import SCHEMA, ShardTask
from climb.tokenizer import open_tokenizer, train_json

SPEED, MEMORY = 0.7, 1.1
REPEATS, QUICK_REPEATS = 5, 1
N_ROWS, N_TOKEN_ROWS, WORDS, BATCH = 100_000, 5_000, 300, 500
TOKENS = "olmo-core"
"""A format whose shards contain only token ids, so NumPy can write the same bytes."""

MEMORY_FORMATS = ("hf", "jsonl", "streaming", "megatron", "litdata", "nanotron")
TEXT_BATCHES, TOKEN_BATCHES = 200, 20
"""Number of batches of the smaller shard: 113 MB of text; for tokens, 11 MB of text."""


def make_batch(number: int, n_rows: int = BATCH) -> pa.RecordBatch:
    """Make rows of one shard: documents of 300 words on average, vocabulary of 30,000."""
    random = np.random.default_rng(number)
    lengths = random.integers(1, 2 * WORDS, n_rows)
    words = np.char.add("w", random.zipf(1.3, int(lengths.sum())).clip(1, 30_000).astype(str))
    texts = [" ".join(part) for part in np.split(words, np.cumsum(lengths)[:-1])]
    ids = [f"{number:06d}-{i:06d}" for i in range(n_rows)]
    columns = [ids, [0] * n_rows, ["domain"] * n_rows, lengths.tolist(), texts]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([0] * n_rows, pa.int32()),
            *(pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)),
        ],
        schema=pa.schema([("number", pa.int32()), *SCHEMA]),
    )


def make_task(name: str, folder: Path) -> ShardTask:
    """Make the task that writes one shard in a format."""
    form: Format = build(find_format(name), Format)
    key = ShardKey(0, "train", "domain", form.name_shard("train", "domain", 0, 1), 0, 1)
    json = make_tokenizer() if form.stores_tokens else None
    tokens = None if json is None else describe_tokenizer(json, "benchmark", None)
    return ShardTask(form, folder / "data", folder / "records", {0: key}, tokens, json)


def make_tokenizer() -> str:
    """Train a BPE of 2,000 tokens on the first batch."""
    return train_json(make_batch(0)["text"].to_pylist(), 2_000)


def write_with_pyarrow(rows: pa.Table, folder: Path) -> None:
    """Write rows of text as the peer does."""
    pq.write_table(rows.drop_columns(["number"]), folder / "peer.parquet", compression="zstd")


def write_with_numpy(rows: pa.Table, folder: Path, json: str) -> None:
    """Write token ids as the peer does."""
    tokens = describe_tokenizer(json, "benchmark", None)
    encoded = open_tokenizer(json).encode_batch_fast(
        rows["text"].to_pylist(), add_special_tokens=False
    )
    end = [tokens.end_of_text_id]
    np.concatenate([np.array(e.ids + end, tokens.dtype) for e in encoded]).tofile(folder / "peer")


def measure_seconds(function: Callable[[Path], object]) -> float:
    """Seconds of one call in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        function(Path(folder))
        return time.perf_counter() - start


def compare_speed(name: str, n_rows: int, repeats: int) -> np.ndarray:
    """Seconds of the peer and of climb, shape (repeats, 2)."""
    batches = [make_batch(i) for i in range(n_rows // BATCH)]
    rows = pa.Table.from_batches(batches)
    json = make_tokenizer() if name == TOKENS else None

    def write_ours(folder: Path) -> None:
        assert len(list(make_task(name, folder).write(batches))) == 1

    def write_theirs(folder: Path) -> None:
        if json is None:
            write_with_pyarrow(rows, folder)
        else:
            write_with_numpy(rows, folder, json)

    sides = (write_theirs, write_ours)
    return np.array([[measure_seconds(side) for side in sides] for _ in range(repeats + 1)][1:])


def measure_memory(name: str, n_batches: int) -> float:
    """Measure the peak memory of a process that writes one shard, in MB."""
    command = [sys.executable, __file__, "--memory", name, str(n_batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def write_for_memory(name: str, n_batches: int) -> None:
    """Write one shard from batches that are made one at a time, and print the peak memory."""

    def stream() -> Iterator[pa.RecordBatch]:
        for i in range(n_batches):
            yield make_batch(i)

    with tempfile.TemporaryDirectory() as folder:
        assert len(list(make_task(name, Path(folder)).write(stream()))) == 1
    status = Path("/proc/self/status").read_text()  # getrusage has the peak of the parent too
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def measure(args: argparse.Namespace) -> Section:
    quick = args.quick
    repeats = QUICK_REPEATS if quick else REPEATS
    speed_rows, bars = [], []
    for name, peer, n_rows in (
        ("hf", "pyarrow", N_ROWS),
        (TOKENS, "tokenizers and NumPy", N_TOKEN_ROWS),
    ):
        times = compare_speed(name, 2 * BATCH if quick else n_rows, repeats)
        ratios = (times[:, 0] / times[:, 1]).tolist()
        median = statistics.median(ratios)
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        seconds = [f"{statistics.median(side):.2f}" for side in times.T.tolist()]
        speed_rows.append((name, peer, *seconds, f"{median:.2f}", span))
        bars.append(Bar(f"{name}: speed / {peer}", median, at_least=SPEED, form=".2f"))
    memory_rows = []
    for name in MEMORY_FORMATS:
        tokens = build(find_format(name), Format).stores_tokens
        n_batches = 2 if quick else TOKEN_BATCHES if tokens else TEXT_BATCHES
        small, large = (measure_memory(name, n_batches * factor) for factor in (1, 8))
        memory_rows.append((name, f"{small:.0f}", f"{large:.0f}", f"{large / small:.2f}"))
        limit = None if quick else MEMORY
        if limit is not None:
            bars.append(Bar(f"{name}: memory at 8 times", large / small, at_most=limit, form=".2f"))
    return Section(
        "export",
        "Export: speed and memory of a shard",
        f"{N_ROWS:,} documents of {WORDS} words on average ({N_TOKEN_ROWS:,} for tokens); one "
        "process. Memory: shards of 113 and 907 MB of text, or of 11 and 91 MB that become tokens.",
        (
            Table(("format", "peer", "peer s", "climb s", "speed ratio", "range"), speed_rows),
            Table(("format", "MB", "MB at 8 times the rows", "ratio"), memory_rows),
        ),
        tuple(bars),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        write_for_memory(sys.argv[2], int(sys.argv[3]))
    else:
        run_section(measure)
