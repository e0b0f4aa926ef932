"""Packing: memory of the tasks that write the shards of one domain, at 25 M and 100 M tokens.

    python benchmarks/packing.py

Bars: every Python worker of a task has at most 1 GB at its peak, and at most 10 % more at four
times the tokens. One domain has 10,000 documents of the shared corpus, repeated under new ids until
their tokens suffice. Job `pack` writes a shard of trials with every token of the domain, and three
small ones. A session with a heap of 2 GB runs the tasks of both cores, and every size has a process
of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from section import Bar, Section, Table, run_section
from shared import shared_data

from climb import tables
from climb.config import Config, load
from climb.proxy.shards import open_shard
from climb.spark.corpus.count import count_tokens, ensure_tokenizer
from climb.spark.delta.store import Store
from climb.spark.session import start_session
from climb.spark.training.pack import pack_shards

TOKENS, QUICK_TOKENS, FACTOR = 25_000_000, 20_000, 4
MEMORY_MB, GROWTH = 1_000, 1.1
DOMAIN = "all"
DOCUMENTS, QUICK_DOCUMENTS = 10_000, 200
SAMPLE_SECONDS = 0.1


def write_tables(store: Store, cfg: Config, n_tokens: int, n_documents: int) -> int:
    """Write the tables that job pack reads, and return the tokens of the domain."""
    files = str(shared_data() / "corpus" / "*.parquet")
    rows = store.session.read.parquet(files).select(F.col("id").alias("doc_id"), "text")
    rows = rows.orderBy(F.xxhash64("doc_id"), "doc_id").limit(n_documents)
    empty = F.lit("").alias("source"), F.lit(0).alias("n_bytes")
    extra = F.expr("array() AS repairs"), F.expr("map() AS metadata")
    store.append(rows.select("doc_id", *empty, *extra, "text"), tables.DOCUMENTS)
    model = ensure_tokenizer(store, cfg)
    counted = count_tokens(store.read(tables.DOCUMENTS), model, cfg.count.recipe)
    store.append(counted, tables.TOKENS)
    own = store.read(tables.TOKENS).agg(F.sum("n_tokens")).collect()[0][0]
    copies = -(-n_tokens // own)
    if copies > 1:
        for table in (tables.DOCUMENTS, tables.TOKENS):
            store.append(rename(store.read(table), copies), table)
    assigned = F.lit("c").alias("clustering"), F.lit(0).alias("cluster"), F.lit(0).alias("distance")
    store.append(store.read(tables.DOCUMENTS).select("doc_id", *assigned), tables.ASSIGNMENTS)
    sizes = {"n_documents": store.read(tables.DOCUMENTS).count(), "n_tokens": own * copies}
    cluster = sizes | {"cluster": 0, "scores": {}, "kept": True, "reason": None, "domain": DOMAIN}
    domain = sizes | {"domain": DOMAIN, "clusters": [0], "token_share": 1.0}
    domain |= {"terms": [], "examples": [], "sample": [], "generated_name": DOMAIN}
    store.append(store.create_frame([cluster], tables.CLUSTERS), tables.CLUSTERS)
    store.append(store.create_frame([domain], tables.DOMAINS), tables.DOMAINS)
    return int(own * copies)


def rename(rows: DataFrame, copies: int) -> DataFrame:
    """Repeat rows under new ids, `copies` - 1 times."""
    numbers = F.explode(F.sequence(F.lit(1), F.lit(copies - 1)))
    repeated = rows.withColumn("copy", numbers)
    return repeated.withColumn("doc_id", F.concat_ws("-", "doc_id", "copy")).drop("copy")


class WorkerMemory:
    """Samples the peak memory of all Python workers below this process."""

    def __init__(self) -> None:
        self.peak_mb: dict[int, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            for pid, peak in _read_workers():
                self.peak_mb[pid] = max(peak, self.peak_mb.get(pid, 0.0))


def _read_workers() -> Iterator[tuple[int, float]]:
    """Yield the process id and the peak memory in MB of every Python worker of this session."""
    parents: dict[int, int] = {}
    peaks: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = dict(
                    line.split(":", 1) for line in (folder / "status").read_text().splitlines()
                )
                parents[int(folder.name)] = int(status["PPid"])
                if b"pyspark.daemon" in (folder / "cmdline").read_bytes():
                    peaks[int(folder.name)] = int(status["VmHWM"].split()[0]) / 1024
            except (OSError, KeyError):
                continue  # it has ended
    for pid, peak in peaks.items():
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid():
            yield pid, peak


def pack(n_tokens: int, n_documents: int) -> dict[str, Any]:
    """Pack one domain of at least `n_tokens` tokens, and measure the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"storage.root={folder}/out", "spark.driver_memory=2g"]
        session = start_session(load(settings=settings).spark)
        store = Store(session, load(settings=settings).storage)
        own = write_tables(store, load(settings=settings), n_tokens, n_documents)
        sizes = [f"proxy.trial_tokens={own}", f"search.target_tokens={own}"]
        small = ["proxy.base_tokens=1000", "train.base_tokens=1000", "train.tokens=1000"]
        cfg = load(settings=[*settings, *sizes, *small])
        start = time.monotonic()
        with WorkerMemory() as memory:
            rows = pack_shards(store, cfg, {"read": {}, "settings": {}})
        seconds = time.monotonic() - start
        shard = next(row for row in rows if row["kind"] == "trial")
        ids = open_shard(shard["path"], DOMAIN)
        assert len(ids) == own
        n_files = len(list(Path(shard["path"]).glob("*.npy"))) or 1
        session.stop()
        return {
            "tokens": own,
            "files": n_files,
            "seconds": seconds,
            "mb": max(memory.peak_mb.values()),
        }


def measure_size(n_tokens: int, n_documents: int) -> dict[str, Any]:
    """Pack one domain in a process of its own."""
    command = [sys.executable, __file__, "--pack", str(n_tokens), str(n_documents)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace) -> Section:
    """Measure both sizes."""
    shared_data()
    n_documents = QUICK_DOCUMENTS if args.quick else DOCUMENTS
    n_tokens = QUICK_TOKENS if args.quick else TOKENS
    small, large = (measure_size(n_tokens * factor, n_documents) for factor in (1, FACTOR))
    rows = tuple(
        (
            f"{found['tokens'] / 1e6:.1f}",
            str(found["files"]),
            f"{found['seconds']:.0f}",
            f"{found['tokens'] / found['seconds'] / 1e6:.2f}",
            f"{found['mb']:.0f}",
        )
        for found in (small, large)
    )
    columns = ("M tokens of the domain", "files", "seconds", "M tokens/s", "MB of a worker")
    return Section(
        "packing",
        "Packing: memory of the tasks",
        "The shard of trials has all tokens of one domain. Memory is the largest peak of a Python "
        "worker; the JVM with the tasks of both cores has a heap of 2 GB.",
        (Table(columns, rows),),
        (
            Bar("MB of a worker", large["mb"], at_most=MEMORY_MB, form=".0f"),
            Bar(f"memory at {FACTOR} times", large["mb"] / small["mb"], at_most=GROWTH, form=".2f"),
        ),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pack"]:
        print(json.dumps(pack(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        run_section(measure)
