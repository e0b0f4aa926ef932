"""Read files in Spark tasks, keep one document of each text, and count what was rejected.

The rows are written once to a staging folder of Parquet and read from there several times: to
find duplicates (ids alone, no text), to count, and to copy the text of the new documents. So every
file is read, unpacked and cleaned once, and a file that changes meanwhile cannot make the counts
disagree with the rows.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyarrow import RecordBatch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config.sections import IngestConfig
from climb.errors import InputError, PreflightError
from climb.ingest import Problem, Unit
from climb.ingest.plan import bundles, unreadable
from climb.ingest.rows import COLUMNS, DIGITS, bundle_json, read_bundles
from climb.spark.store import Inputs, Store

DAMAGED = ("truncated_file", "unreadable_file")
"""Reasons with which a task gives up a file that looked whole."""

BROADCAST_IDS = 1_000_000
"""So many row ids travel to every task (16 MB); with more of them the text is shuffled."""


@dataclass(frozen=True)
class Counts:
    """What became of all rows; rows = new + known + the sum of rejected."""

    rows: int
    new: int
    known: int
    rejected: dict[str, int]
    """Reason -> rows, most frequent first."""

    older: int
    """Documents of the table that are not in these files."""

    def __str__(self) -> str:
        refused = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in self.rejected.items())
        line = f"{self.new:,} documents new, {self.known:,} known"
        line += f"; {self.older:,} older ones stay" if self.older else ""
        line += f"; {refused:,} of {self.rows:,} rows rejected"
        return f"{line} ({reasons})" if reasons else line


def ingest_units(store: Store, units: list[Unit], cfg: IngestConfig, inputs: Inputs) -> Counts:
    """Append the new documents, then replace `rejected`: its commit says that all is done.

    Raises:
        InputError: no row is a document, or a file turned out to be damaged.
        PreflightError: nothing can be written below storage.root.
    """
    with staged_rows(store, units, cfg) as rows:
        texts = distinct_texts(rows, store).cache()
        try:
            n = count_texts(texts)
            rejected = rejected_rows(rows, texts)
            reasons = count_rejected(rejected)
            n_rows = int(rows.agg(F.coalesce(F.sum("n_rows"), F.lit(0))).collect()[0][0])
            assert n_rows == n["new"] + n["known"] + sum(reasons.values()), (n_rows, n, reasons)
            counts = Counts(n_rows, n["new"], n["known"], reasons, 0)
            if not store.exists(tables.DOCUMENTS) and not n["new"]:
                raise InputError(f"no documents in {len(units)} parts of files: {counts}")
            if n["new"]:
                # Two drivers at once: the name makes the second commit a conflict, not a copy.
                once = f"{inputs['settings']}{store.version(tables.DOCUMENTS)}"
                name = hashlib.sha256(once.encode()).hexdigest()
                documents = new_documents(rows, texts, n["new"], n["accepted"])
                store.append(documents, tables.DOCUMENTS, once=name)
            store.replace(rejected, tables.REJECTED, inputs)
        finally:
            texts.unpersist()
    older = store.read(tables.DOCUMENTS).count() - n["new"] - n["known"]
    return replace(counts, older=older)


@contextlib.contextmanager
def staged_rows(store: Store, units: list[Unit], cfg: IngestConfig) -> Iterator[DataFrame]:
    """Read the units in tasks; the rows, as of climb.ingest.rows, live until the block ends.

    Raises:
        PreflightError: nothing can be written below storage.root.
        InputError: a file turned out to be damaged, and `skip_corrupt` is false.
    """
    folder = store.folder("ingest.staging")
    with _scratch(store, folder):
        _read_files(store, units, cfg).write.mode("overwrite").parquet(folder)
        rows = store.session.read.schema(COLUMNS).parquet(folder)
        if not cfg.skip_corrupt:
            _refuse_damaged(rows, units)
        yield rows


@contextlib.contextmanager
def _scratch(store: Store, folder: str) -> Iterator[None]:
    """Make a folder, and remove it in the end, by the file system that Spark writes to."""
    context = store.session.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(folder)  # type: ignore[union-attr]
    try:
        system = path.getFileSystem(context._jsc.hadoopConfiguration())
        made, reason = bool(system.mkdirs(path)), "the folder cannot be made"
    except Exception as error:
        # Py4J wraps what Hadoop says; its own class says nothing.
        made, reason = False, str(getattr(error, "java_exception", error)).splitlines()[0]
    if not made:
        raise PreflightError(f"cannot write below storage.root {store.cfg.root}: {reason}")
    try:
        yield
    finally:
        system.delete(path, True)


def _read_files(store: Store, units: list[Unit], cfg: IngestConfig) -> DataFrame:
    shared = bundles(units, store.session.sparkContext.defaultParallelism)
    data = [(number, bundle_json(bundle)) for number, bundle in enumerate(shared)]
    frame = store.session.createDataFrame(data, "bundle BIGINT, units STRING")

    def read(batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        pa.set_cpu_count(1)  # the tasks are the parallelism
        return read_bundles(batches, cfg)

    return frame.repartition(max(1, len(shared))).mapInArrow(read, COLUMNS)


def _refuse_damaged(rows: DataFrame, units: list[Unit]) -> None:
    damaged = rows.where(F.col("reason").isin(*DAMAGED)).groupBy("file")
    found = damaged.agg(F.min("reason").alias("reason"), F.min("detail").alias("detail")).collect()
    if found:
        raise InputError(unreadable([Problem(row.file, row.reason, row.detail) for row in found]))


def distinct_texts(rows: DataFrame, store: Store) -> DataFrame:
    """One row for each text that was accepted.

    Of equal texts the one with the smallest source is kept, then with the smallest metadata and
    repairs; a text that `documents` holds already stays as it is there.

    Returns:
        (digest, best: what is kept, n: rows of this text, file: smallest name, known_id: doc_id
        in `documents` or null, seen: whether one of the rows has this very doc_id).
    """
    light = rows.where("reason IS NULL").drop("text", "reason", "detail")
    known = _known_texts(store)
    light = light.join(known, "digest", "left")
    best = F.struct("source", "metadata", "repairs", "doc_id", "row_id")
    return light.groupBy("digest").agg(
        F.min(best).alias("best"),
        F.count("*").alias("n"),
        F.min("file").alias("file"),
        F.min("known_id").alias("known_id"),
        F.max(F.coalesce(F.col("doc_id") == F.col("known_id"), F.lit(False))).alias("seen"),
    )


def _known_texts(store: Store) -> DataFrame:
    """(digest, known_id) of `documents`; text is read only where a source hides its digest."""
    if not store.exists(tables.DOCUMENTS):
        return store.session.createDataFrame([], "digest STRING, known_id STRING")
    documents = store.read(tables.DOCUMENTS)
    plain = documents.where("source = ''").select(F.col("doc_id").alias("digest"), "doc_id")
    content = F.concat(F.lit(b"\0"), F.col("text").cast("binary"))
    digest = F.substring(F.sha2(content, 256), 1, DIGITS).alias("digest")
    sourced = documents.where("source <> ''").select(digest, "doc_id")
    return plain.unionByName(sourced).withColumnRenamed("doc_id", "known_id")


def new_documents(rows: DataFrame, texts: DataFrame, n_new: int, n_accepted: int) -> DataFrame:
    """The table's columns of those kept rows whose text is not known.

    Ids are compared, and the shorter list of them is sent to the rows: in a first ingest that of
    the rows to leave out, later that of the rows to take. So terabytes of text are not shuffled.
    """
    accepted = rows.where("reason IS NULL")
    wanted = texts.where("known_id IS NULL").select(F.col("best.row_id").alias("row_id"))
    n_ids, ids, how = n_new, wanted, "left_semi"
    if n_new > n_accepted // 2:
        others = accepted.select("row_id").join(wanted, "row_id", "left_anti")
        n_ids, ids, how = n_accepted - n_new, others, "left_anti"
    if n_ids <= BROADCAST_IDS:
        ids = F.broadcast(ids)
    metadata = F.from_json("metadata", "MAP<STRING,STRING>").alias("metadata")
    return accepted.join(ids, "row_id", how).select(
        "doc_id", "source", "n_bytes", "repairs", metadata, "text"
    )


def rejected_rows(rows: DataFrame, texts: DataFrame) -> DataFrame:
    """The rows of `rejected`: equal content that was rejected for the same reason is one row."""
    refused = (
        rows.where("reason IS NOT NULL")
        .groupBy("reason", "digest")
        .agg(
            F.sum("n_rows").alias("n_rows"),
            F.min("file").alias("file"),
            F.min("detail").alias("detail"),
        )
    )
    stays = F.when(F.col("known_id").isNull() | F.col("seen"), 1).otherwise(0)
    same = F.concat(F.lit("same text as "), F.coalesce("known_id", "best.doc_id"))
    repeated = texts.select(
        F.lit("duplicate").alias("reason"),
        "digest",
        (F.col("n") - stays).alias("n_rows"),
        "file",
        same.alias("detail"),
    ).where("n_rows > 0")
    key = F.sha2(F.concat_ws(":", "reason", "digest"), 256)
    reject_id = F.substring(key, 1, DIGITS).alias("reject_id")
    return refused.unionByName(repeated).select(reject_id, "reason", "file", "n_rows", "detail")


def count_texts(texts: DataFrame) -> dict[str, int]:
    """`new` texts, `known` ones that are in the files again, and `accepted` rows of all texts."""
    counted: Any = texts.agg(
        F.coalesce(F.sum(F.col("known_id").isNull().cast("long")), F.lit(0)).alias("new"),
        F.coalesce(F.sum(F.col("seen").cast("long")), F.lit(0)).alias("known"),
        F.coalesce(F.sum("n"), F.lit(0)).alias("accepted"),
    ).collect()[0]
    return dict(counted.asDict())


def count_rejected(rejected: DataFrame) -> dict[str, int]:
    """Reason -> rows, most frequent first."""
    counts = {
        row["reason"]: int(row["n"])
        for row in rejected.groupBy("reason").agg(F.sum("n_rows").alias("n")).collect()
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
