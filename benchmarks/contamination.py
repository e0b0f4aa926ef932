"""Contamination: evaluation items in 90,000 documents, found by job `contamination`.

    python benchmarks/contamination.py

The documents are those of the shared corpus. Some of them get 13 words of an item, or a whole item
that has fewer, with other punctuation and in capitals. All files of the shared evaluation items are
looked up. The time is compared with that of a job that only reads the same documents in Python.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from climb.jobs.contamination import run
from packing import WorkerMemory
from pyarrow import RecordBatch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from section import Bar, Section, Table, run_section
from shared import shared_data

from climb import tables
from climb.config import Config, load
from climb.proxy.items import read_records
from climb.proxy.overlap_index import MIN_WORDS, N_WORDS, PROMPT, list_groups
from climb.quality.ngrams import split_words
from climb.spark.delta.store import Store
from climb.spark.session import start_session

PLANTED, QUICK_PLANTED = 1_000, 5
QUICK_DOCUMENTS = 100
MORE_SECONDS = 60.0
FILES, QUICK_FILES = "*.jsonl.gz", "arc_*.test.jsonl.gz"


def list_targets(pattern: str) -> list[dict[str, Any]]:
    """List the files of items as targets."""
    files = sorted((shared_data() / "evals").glob(pattern))
    fixed = {"kind": "choices", "report": None, "limit": None}
    return [fixed | {"name": f.name.removesuffix(".jsonl.gz"), "search": str(f)} for f in files]


def draw_passages(cfg: Config, n: int) -> list[tuple[str, str, str]]:
    """Draw items; return target, item and a passage of each: 13 words, or a whole short item."""
    rng, found = np.random.default_rng(0), []
    groups = list_groups(cfg.proxy)
    for number, (_, target) in enumerate(groups):
        records = list(read_records(target))
        share = n // len(groups) + (number < n % len(groups))
        for index in rng.choice(len(records), size=min(share, len(records)), replace=False):
            values = records[index].values
            text = f"{PROMPT.sub(' ', values['context'])} {values['choices'][values['label']]}"
            words = split_words(text)
            if len(words) < MIN_WORDS:
                continue
            start = int(rng.integers(0, max(1, len(words) - N_WORDS + 1)))
            name = values.get("id", str(records[index].line))
            passage = " -- ".join(words[start : start + N_WORDS]).upper()
            found.append((target.name, name, passage))
    return found


def write_documents(
    store: Store, passages: list[tuple[str, str, str]], limit: int | None
) -> list[str]:
    """Write the documents; the first ones by id get a passage in their middle.

    Returns:
        The ids of the documents with a passage, in the order of the passages.
    """
    files = str(shared_data() / "corpus" / "*.parquet")
    rows = store.session.read.parquet(files).select("source", "text").dropDuplicates()
    rows = rows.withColumn("doc_id", F.sha2(F.concat_ws(" ", "source", "text"), 256))
    rows = rows if limit is None else rows.orderBy("doc_id").limit(limit)
    ids = [row.doc_id for row in rows.select("doc_id").orderBy("doc_id").head(len(passages))]
    planted = pa.table({"doc_id": ids, "passage": [f"\n{p[2]}!\n" for p in passages[: len(ids)]]})
    joined = rows.join(F.broadcast(store.session.createDataFrame(planted)), "doc_id", "left")
    half = "cast(length(text) / 2 as int)"
    whole = f"concat(substring(text, 1, {half}), passage, substring(text, {half} + 1))"
    text = F.coalesce(F.expr(whole), "text").alias("text")
    extra = F.expr("array() AS repairs"), F.expr("map() AS metadata"), F.lit(0).alias("n_bytes")
    store.append(joined.select("doc_id", "source", *extra, text), tables.DOCUMENTS)
    return ids


def count_characters(documents: DataFrame) -> int:
    """Read all documents in Python, and return their characters."""

    def read(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
        for batch in batches:
            n = sum(map(len, batch["text"].to_pylist()))
            yield RecordBatch.from_pydict({"n": [n]}, schema=pa.schema({"n": pa.int64()}))

    slots = documents.sparkSession.sparkContext.defaultParallelism
    counted = documents.select("doc_id", "text").repartition(slots, "doc_id")
    return int(counted.mapInArrow(read, "n BIGINT").agg(F.sum("n")).collect()[0][0])


def check_planted(folder: str, pattern: str, n_planted: int, limit: int | None) -> dict[str, Any]:
    """Plant passages, read all documents, and check them."""
    settings = [f"storage.root={folder}/out", "spark.driver_memory=2g"]
    cfg = load(settings=[*settings, f"proxy.targets={json.dumps(list_targets(pattern))}"])
    session = start_session(cfg.spark)
    store = Store(session, cfg.storage)
    passages = draw_passages(cfg, n_planted)
    ids = write_documents(store, passages, limit)
    documents = store.read(tables.DOCUMENTS)
    n_documents = documents.count()
    start = time.monotonic()
    n_characters = count_characters(documents)
    read_seconds = time.monotonic() - start
    start = time.monotonic()
    with WorkerMemory() as memory:
        line = run(store, cfg).splitlines()[0]
    seconds = time.monotonic() - start
    rows = store.read(tables.CONTAMINATION).where(F.col("doc_id").isin(ids)).collect()
    session.stop()
    found = {row.doc_id: {(o.target, o.item) for o in row.overlaps} for row in rows}
    planted = list(zip(ids, passages, strict=False))
    return {
        "documents": n_documents,
        "characters": n_characters,
        "items": sum(1 for _, target in list_groups(cfg.proxy) for _ in read_records(target)),
        "reading": read_seconds,
        "job": seconds,
        "mb": max(memory.peak_mb.values(), default=0.0),
        "planted": len(planted),
        "found": sum((target, item) in found[doc_id] for doc_id, (target, item, _) in planted),
        "line": line,
    }


def measure(args: argparse.Namespace) -> Section:
    """Check the whole corpus, or a few documents of it."""
    quick = (QUICK_FILES, QUICK_PLANTED, QUICK_DOCUMENTS)
    with tempfile.TemporaryDirectory() as folder:
        found = check_planted(folder, *(quick if args.quick else (FILES, PLANTED, None)))
    row = (
        f"{found['documents']:,}",
        f"{found['characters'] / 1e6:.0f}",
        f"{found['items']:,}",
        f"{found['reading']:.0f}",
        f"{found['job']:.0f}",
        f"{found['mb']:.0f}",
    )
    columns = ("documents", "M characters", "items", "seconds of reading", "seconds of the job")
    more = found["job"] - found["reading"]
    return Section(
        "contamination",
        "Contamination: evaluation items in the corpus",
        f"{found['planted']:,} documents have a passage of an item. The job builds the index of "
        "all items, looks up every document and writes a row for each. Reading alone passes the "
        "same documents through Python. One run each, on both cores.",
        (Table((*columns, "MB of a worker"), (row,)),),
        (
            Bar("planted overlaps found", found["found"] / found["planted"], 1.0, form=".3f"),
            Bar("more seconds than reading", more, at_most=MORE_SECONDS, form=".0f"),
        ),
        (f"The job printed: {found['line']}.",),
    )


if __name__ == "__main__":
    run_section(measure)
