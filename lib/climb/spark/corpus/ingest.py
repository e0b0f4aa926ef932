"""Read files in Spark tasks, keep one document per text, and count the rejected rows.

The rows are written once to a staging folder of Parquet and read from there several times: to
find duplicates (by id, without the text), to count, and to copy the text of the new documents. So
every file is read, decompressed and cleaned once, and the counts agree with the rows even if a file
changes meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from pyarrow import RecordBatch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config.sections import IngestConfig
from climb.errors import InputError, PreflightError
from climb.ingest import FileProblem, Unit
from climb.ingest.plan import bundle_units, describe_unreadable
from climb.ingest.rows import COLUMNS, ID_DIGITS, encode_bundle, read_bundles
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store

DAMAGED = ("truncated_file", "unreadable_file")
"""Reasons for which a task stops reading a file that looked complete."""

BROADCAST_IDS = 1_000_000
"""Up to this many row ids are sent to every task (16 MB); with more, the text is shuffled."""


@dataclass(frozen=True)
class Counts:
    """The result for all rows; rows = new + existing + the sum of rejected."""

    rows: int
    new: int
    existing: int
    """Documents of the table that are in these files again."""

    rejected: dict[str, int]
    """Reason -> rows, most frequent first."""

    older: int
    """Documents of the table that are not in these files."""

    def __str__(self) -> str:
        n_rejected = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in self.rejected.items())
        line = f"{self.new:,} new documents, {self.existing:,} already ingested"
        line += f"; {self.older:,} older ones kept" if self.older else ""
        line += f"; {n_rejected:,} of {self.rows:,} rows rejected"
        return f"{line} ({reasons})" if reasons else line


@dataclass(frozen=True)
class TextCounts:
    """Numbers of distinct texts in the files, and of accepted rows."""

    new: int
    existing: int
    """Texts of documents that are in the files again."""

    accepted: int
    """Rows of all texts."""


def ingest_units(store: Store, units: list[Unit], cfg: IngestConfig, inputs: Inputs) -> Counts:
    """Append the new documents, then replace `rejected`: its commit marks the ingest as complete.

    Raises:
        InputError: no row is a document, or a file is damaged.
        PreflightError: the folder storage.root cannot be written.
    """
    with stage_rows(store, units, cfg) as rows:
        texts = group_texts(rows, store).cache()
        try:
            n = count_texts(texts)
            rejected = build_rejected_rows(rows, texts)
            reasons = count_rejected(rejected)
            n_rows = int(rows.agg(F.coalesce(F.sum("n_rows"), F.lit(0))).collect()[0][0])
            assert n_rows == n.new + n.existing + sum(reasons.values()), (n_rows, n, reasons)
            counts = Counts(n_rows, n.new, n.existing, reasons, 0)
            if not store.exists(tables.DOCUMENTS) and not n.new:
                raise InputError(
                    f"ingest.inputs have no valid document: {counts}; see ingest.text_column, "
                    "ingest.min_chars and ingest.max_chars"
                )
            if n.new:
                # If two drivers run at once, the name makes the second commit a conflict.
                once = f"{inputs['settings']}{store.history.read_version(tables.DOCUMENTS)}"
                name = hashlib.sha256(once.encode()).hexdigest()
                documents = select_new_documents(rows, texts, n)
                store.append(documents, tables.DOCUMENTS, once=name)
            store.replace(rejected, tables.REJECTED, inputs)
        finally:
            texts.unpersist()
    older = store.read(tables.DOCUMENTS).count() - n.new - n.existing
    return replace(counts, older=older)


@contextlib.contextmanager
def stage_rows(store: Store, units: list[Unit], cfg: IngestConfig) -> Iterator[DataFrame]:
    """Read the units in tasks, and yield their rows; the staging folder is deleted at the end.

    The columns are those of `climb.ingest.rows`.

    Raises:
        PreflightError: the folder storage.root cannot be written.
        InputError: a file is damaged, and `skip_corrupt` is false.
    """
    folder = store.locate_folder("ingest.staging")
    with _create_temporary_folder(store, folder):
        _read_files(store, units, cfg).write.mode("overwrite").parquet(folder)
        rows = store.session.read.schema(COLUMNS).parquet(folder)
        if not cfg.skip_corrupt:
            _check_damage(rows)
        yield rows


@contextlib.contextmanager
def _create_temporary_folder(store: Store, folder: str) -> Iterator[None]:
    """Create a folder and delete it at the end, in the file system that Spark writes to."""
    context = store.session.sparkContext
    # _jvm is None only without a session.
    path = context._jvm.org.apache.hadoop.fs.Path(folder)  # type: ignore[union-attr]
    try:
        system = path.getFileSystem(context._jsc.hadoopConfiguration())
        created, reason = bool(system.mkdirs(path)), "the folder cannot be created"
    except Exception as error:
        # Py4J wraps the error of Hadoop, which has the reason.
        created, reason = False, str(getattr(error, "java_exception", error)).splitlines()[0]
    if not created:
        raise PreflightError(f"cannot write below storage.root {store.cfg.root}: {reason}")
    try:
        yield
    finally:
        system.delete(path, True)


def _read_files(store: Store, units: list[Unit], cfg: IngestConfig) -> DataFrame:
    shared = bundle_units(units, store.session.sparkContext.defaultParallelism)
    data = [(number, encode_bundle(bundle)) for number, bundle in enumerate(shared)]
    frame = store.session.createDataFrame(data, "bundle BIGINT, units STRING")

    def read(batches: Iterable[RecordBatch]) -> Iterable[RecordBatch]:
        pa.set_cpu_count(1)  # tasks run in parallel; threads in a task would compete with them
        return read_bundles(iter(batches), cfg)

    return frame.repartition(max(1, len(shared))).mapInArrow(read, COLUMNS)


def _check_damage(rows: DataFrame) -> None:
    """Raise an InputError that names every damaged file."""
    damaged = rows.where(F.col("reason").isin(*DAMAGED)).groupBy("file")
    found = damaged.agg(F.min("reason").alias("reason"), F.min("detail").alias("detail")).collect()
    if found:
        problems = [FileProblem(row.file, row.reason, row.detail) for row in found]
        raise InputError(describe_unreadable(problems))


def group_texts(rows: DataFrame, store: Store) -> DataFrame:
    """Group the accepted rows by text, one row per text.

    Of equal texts, the row with the smallest source is kept, then with the smallest metadata and
    repairs. A text that is in `documents` already stays as it is there.

    Returns:
        (digest, best: the row that is kept, n: rows of this text, file: smallest name,
        existing_id: doc_id in `documents` or null, seen: whether one of the rows has this doc_id).
    """
    light = rows.where("reason IS NULL").drop("text", "reason", "detail")
    light = light.join(_read_existing_texts(store), "digest", "left")
    best = F.struct("source", "metadata", "repairs", "doc_id", "row_id")
    return light.groupBy("digest").agg(
        F.min(best).alias("best"),
        F.count("*").alias("n"),
        F.min("file").alias("file"),
        F.min("existing_id").alias("existing_id"),
        F.max(F.coalesce(F.col("doc_id") == F.col("existing_id"), F.lit(False))).alias("seen"),
    )


def _read_existing_texts(store: Store) -> DataFrame:
    """Read (digest, existing_id) of `documents`; the text only if the document has a source.

    Without a source, doc_id is the digest of the text.
    """
    if not store.exists(tables.DOCUMENTS):
        return store.session.createDataFrame([], "digest STRING, existing_id STRING")
    documents = store.read(tables.DOCUMENTS)
    plain = documents.where("source = ''").select(F.col("doc_id").alias("digest"), "doc_id")
    content = F.concat(F.lit(b"\0"), F.col("text").cast("binary"))
    digest = F.substring(F.sha2(content, 256), 1, ID_DIGITS).alias("digest")
    sourced = documents.where("source <> ''").select(digest, "doc_id")
    return plain.unionByName(sourced).withColumnRenamed("doc_id", "existing_id")


def select_new_documents(rows: DataFrame, texts: DataFrame, n: TextCounts) -> DataFrame:
    """Select the kept rows whose text is not in `documents` yet, with the columns of that table.

    The shorter list of ids is sent to the rows: in a first ingest the ids to leave out, later the
    ids to keep. So terabytes of text are not shuffled.
    """
    accepted = rows.where("reason IS NULL")
    new = texts.where("existing_id IS NULL").select(F.col("best.row_id").alias("row_id"))
    n_ids, ids, how = n.new, new, "left_semi"
    if n.new > n.accepted // 2:
        others = accepted.select("row_id").join(new, "row_id", "left_anti")
        n_ids, ids, how = n.accepted - n.new, others, "left_anti"
    if n_ids <= BROADCAST_IDS:
        ids = F.broadcast(ids)
    metadata = F.from_json("metadata", "MAP<STRING,STRING>").alias("metadata")
    return accepted.join(ids, "row_id", how).select(
        "doc_id", "source", "n_bytes", "repairs", metadata, "text"
    )


def build_rejected_rows(rows: DataFrame, texts: DataFrame) -> DataFrame:
    """Build the rows of `rejected`: one row for equal content that has the same reason."""
    rejected = (
        rows.where("reason IS NOT NULL")
        .groupBy("reason", "digest")
        .agg(
            F.sum("n_rows").alias("n_rows"),
            F.min("file").alias("file"),
            F.min("detail").alias("detail"),
        )
    )
    n_kept = F.when(F.col("existing_id").isNull() | F.col("seen"), 1).otherwise(0)
    same = F.concat(F.lit("same text as "), F.coalesce("existing_id", "best.doc_id"))
    repeated = texts.select(
        F.lit("duplicate").alias("reason"),
        "digest",
        (F.col("n") - n_kept).alias("n_rows"),
        "file",
        same.alias("detail"),
    ).where("n_rows > 0")
    key = F.sha2(F.concat_ws(":", "reason", "digest"), 256)
    reject_id = F.substring(key, 1, ID_DIGITS).alias("reject_id")
    return rejected.unionByName(repeated).select(reject_id, "reason", "file", "n_rows", "detail")


def count_texts(texts: DataFrame) -> TextCounts:
    """Count new and existing texts, and the accepted rows."""
    [counted] = texts.agg(
        F.coalesce(F.sum(F.col("existing_id").isNull().cast("long")), F.lit(0)).alias("new"),
        F.coalesce(F.sum(F.col("seen").cast("long")), F.lit(0)).alias("existing"),
        F.coalesce(F.sum("n"), F.lit(0)).alias("accepted"),
    ).collect()
    return TextCounts(**counted.asDict())


def count_rejected(rejected: DataFrame) -> dict[str, int]:
    """Count the rows of each reason, most frequent first."""
    counts = {
        row["reason"]: int(row["n"])
        for row in rejected.groupBy("reason").agg(F.sum("n_rows").alias("n")).collect()
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
