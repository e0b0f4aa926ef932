"""Mixed dataset: select and write 1 GB of text, against delta-rs and against sampling each domain.

    python benchmarks/mix.py

The documents are those of the shared corpus, eight times with other ids, and each source is a
domain. The mixture has equal weights, so small domains are repeated and large ones cut. Bars: at
least 0.7 times as fast as delta-rs, which writes the same rows from memory, and at least twice as
fast as a Spark job that samples each domain by itself and writes their union. climb reads, joins,
cuts and writes; job `mix` writes the export after that, which is not timed. After one uncounted run
of climb, runs alternate.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from section import Bar, Section, Table, run_section
from shared import shared_data

from climb import tables
from climb.config import Config, load
from climb.dataset.selection import DomainQuota
from climb.spark.corpus.mix import plan_quotas, select_documents
from climb.spark.delta.store import Store
from climb.spark.session import start_session

COPIES, QUICK_COPIES, QUICK_FILES = 8, 1, "poetry*.parquet"
SHARE_TAKEN = 0.6
"""Tokens of the dataset as a share of those of all documents: 1 GB of text."""

REPEATS, QUICK_REPEATS = 3, 1
DELTA_RS, UNION = 0.7, 2.0
OURS, PEERS = "climb", ("delta-rs, from memory", "sample per domain and union")


def write_tables(store: Store, cfg: Config, copies: int, pattern: str) -> list[str]:
    """Write what the selection reads; return the domains."""
    rows = store.session.read.parquet(str(shared_data() / "corpus" / pattern))
    rows = rows.crossJoin(store.session.range(copies).withColumnRenamed("id", "copy"))
    rows = rows.withColumn("doc_id", F.sha2(F.concat_ws(" ", "source", "id", "copy"), 256))
    extra = F.expr("array() AS repairs"), F.expr("map() AS metadata"), F.lit(0).alias("n_bytes")
    store.append(rows.select("doc_id", "source", *extra, "text"), tables.DOCUMENTS)
    counts = rows.select("doc_id", F.lit(cfg.count.recipe).alias("recipe"), "n_tokens_gpt2")
    store.append(counts.withColumnRenamed("n_tokens_gpt2", "n_tokens"), tables.TOKENS)
    sums = rows.groupBy("source").agg(F.count("*"), F.sum("n_tokens_gpt2"))
    found = sorted((source, n, n_tokens) for source, n, n_tokens in sums.collect())
    clusters = [
        {"cluster": i, "n_documents": n, "n_tokens": n_tokens, "scores": {}, "kept": True}
        | {"reason": None, "domain": source}
        for i, (source, n, n_tokens) in enumerate(found)
    ]
    store.append(store.create_frame(clusters, tables.CLUSTERS), tables.CLUSTERS)
    own = F.broadcast(
        store.read(tables.CLUSTERS).select(F.col("domain").alias("source"), "cluster")
    )
    fixed = F.lit("benchmark").alias("clustering"), F.lit(0.0).alias("distance")
    assigned = rows.join(own, on="source").select("doc_id", "cluster", *fixed)
    store.append(assigned, tables.ASSIGNMENTS)
    return [source for source, _, _ in found]


def sample_domains(store: Store, quotas: Sequence[DomainQuota]) -> DataFrame:
    """Sample each domain at its rate and unite the samples, as a job without hashes would."""
    kept = store.read(tables.CLUSTERS).where("kept").select("cluster", "domain")
    documents = (
        store.read(tables.DOCUMENTS)
        .join(store.read(tables.ASSIGNMENTS), on="doc_id")
        .join(kept, on="cluster")
        .join(store.read(tables.TOKENS), on="doc_id")
        .select("doc_id", "domain", "n_tokens", "text")
    )

    def sample(quota: DomainQuota) -> DataFrame:
        own = documents.where(F.col("domain") == quota.domain)
        whole = [own.withColumn("copy", F.lit(copy)) for copy in range(quota.copies)]
        rest = own.sample(quota.cut / quota.available_tokens, seed=0)
        return functools.reduce(DataFrame.union, [*whole, rest.withColumn("copy", F.lit(-1))])

    return functools.reduce(DataFrame.union, [sample(quota) for quota in quotas])


def measure_seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(folder: Path, copies: int, pattern: str, repeats: int) -> tuple[pa.Table, np.ndarray]:
    """Return the rows of the dataset, and seconds of climb and its peers, shape (repeats, 3)."""
    cfg = load(settings=[f"storage.root={folder}/out", "search.max_epochs=null"])
    store = Store(start_session(cfg.spark), cfg.storage)
    domains = write_tables(store, cfg, copies, pattern)
    n_tokens = sum(row["n_tokens"] for row in store.read_rows(tables.CLUSTERS))
    weights = dict.fromkeys(domains, 1.0 / len(domains))
    target = int(SHARE_TAKEN * n_tokens)

    def mix() -> None:
        quotas = plan_quotas(store, weights, target, cfg.search.mixture_constraints)
        store.replace(select_documents(store, cfg, quotas), tables.CORPUS, {"read": {}})

    mix()
    rows = DeltaTable(f"{folder}/out/tables/corpus").to_pyarrow_table()
    quotas = plan_quotas(store, weights, target, cfg.search.mixture_constraints)

    def write_from_memory() -> None:
        write_deltalake(f"{folder}/delta-rs", rows, mode="overwrite")

    def write_union() -> None:
        sampled = sample_domains(store, quotas)
        sampled.write.format("delta").mode("overwrite").save(f"{folder}/union")

    seconds = np.empty((repeats, 3))
    for repeat in range(repeats):
        for i, work in enumerate((mix, write_from_memory, write_union)):
            seconds[repeat, i] = measure_seconds(work)
        for name in ("delta-rs", "union"):  # Delta keeps the files of earlier versions
            shutil.rmtree(folder / name)
    store.session.stop()
    return rows, seconds


def measure(args: argparse.Namespace) -> Section:
    """Compare at full size, or with one small source."""
    sizes = (QUICK_COPIES, QUICK_FILES, QUICK_REPEATS) if args.quick else (COPIES, "*", REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        rows, seconds = compare(Path(folder), *sizes)
    table_rows, bars = [(OURS, f"{np.median(seconds[:, 0]):.1f}", "", "")], []
    for i, (name, bar) in enumerate(zip(PEERS, (DELTA_RS, UNION), strict=True), start=1):
        ratios = (seconds[:, i] / seconds[:, 0]).tolist()
        median = statistics.median(ratios)
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        table_rows.append((name, f"{np.median(seconds[:, i]):.1f}", f"{median:.2f}", span))
        bars.append(Bar(f"speed / {name}", median, at_least=bar, form=".2f"))
    size = sum(chunk.nbytes for chunk in rows["text"].chunks) / 1e9
    return Section(
        "mix",
        "Mixed dataset: selection and writing of 1 GB of text",
        f"{len(rows):,} rows with {size:.2f} GB of text; {sizes[2]} runs of each on both cores.",
        (Table(("writer", "seconds", "its seconds / climb's", "range"), tuple(table_rows)),),
        tuple(bars),
    )


if __name__ == "__main__":
    run_section(measure)
