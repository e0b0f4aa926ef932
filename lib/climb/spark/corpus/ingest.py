"""Keep every text once, count the rejected rows, and write tables `documents` and `rejected`.

`stage.py` reads the inputs in Spark tasks, and writes their rows to a folder. This module reads
the rows from that folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config.sections import IngestConfig
from climb.errors import InputError
from climb.ingest import Unit
from climb.ingest.rows import ID_DIGITS
from climb.spark.corpus.exclusions import reject_dropped, reject_excluded
from climb.spark.corpus.remove import remove_missing_documents
from climb.spark.corpus.stage import SourceRows, stage_rows
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store

BROADCAST_IDS = 1_000_000
"""Maximum number of row ids that `select_new_documents` broadcasts for its join (16 MB)."""

UNREAD = ("truncated_file", "unreadable_file", "unsupported_format")
"""Reasons in `rejected` for files that cannot be read completely, so some rows are unknown."""

NO_ROW = ("empty_file", "ignored_file")
"""Reasons in `rejected` for files that have no rows or are not read; their `n_rows` is 0."""

SAME_TEXT = "same text as "
"""Start of a duplicate's detail in `rejected`; the id of the document with this text follows."""


@dataclass(frozen=True)
class Batch:
    """What one ingest reads."""

    units: tuple[Unit, ...]
    """Parts of files."""

    sources: SourceRows
    """Label and rows of each Delta table."""

    is_increment: bool
    """Whether the batch has only the rows that were added since the last ingest. If so, its
    rejected rows are added to table `rejected`; otherwise they replace all rows of this table."""

    is_unread: bool = False
    """True: no ingest, complete or killed, has read any of these rows, so a row with the text of an
    existing document is a duplicate. False: that document may have been made from this row."""


@dataclass(frozen=True)
class Counts:
    """The result for all rows; rows = new + existing + the sum of rejected."""

    rows: int
    new: int
    existing: int
    """Documents of the table that are in these inputs again."""

    rejected: dict[str, int]
    """Reason -> rows, most frequent first."""

    older: int
    """Documents of the table that are not in these inputs; 0 for an increment."""

    removed: int = 0
    """Documents that were removed from the table, because they are not in these inputs."""

    empty_files: int = 0
    other_source: int = 0
    """Documents of the table whose text is in these inputs with another source."""

    def __str__(self) -> str:
        n_rejected = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in self.rejected.items())
        line = f"{self.new:,} new documents, {self.existing:,} already ingested"
        line += f"; {self.older:,} no longer in the inputs, kept" if self.older else ""
        line += f"; {self.removed:,} removed" if self.removed else ""
        line += f"; {self.other_source:,} with an earlier source, kept" if self.other_source else ""
        line += f"; {n_rejected:,} of {self.rows:,} rows rejected"
        line += f" ({reasons})" if reasons else ""
        return line + (f"; {self.empty_files:,} files without rows" if self.empty_files else "")


@dataclass(frozen=True)
class TextCounts:
    """Numbers of distinct texts in the inputs, and of accepted rows."""

    new: int
    existing: int
    """Texts of documents that are in the inputs again, with the same source."""

    known: int
    """Texts of documents that are in the inputs again, with any source."""

    accepted: int
    """Accepted rows; several may have the same text."""


def ingest_rows(store: Store, batch: Batch, cfg: IngestConfig, inputs: Inputs) -> Counts:
    """Append the new documents, then replace `rejected`: its commit marks the ingest as complete.

    Raises:
        InputError: no row is a document, or a file is damaged.
        PreflightError: the folder storage.root cannot be written.
    """
    with stage_rows(store, batch.units, batch.sources, cfg) as staged:
        rows = reject_excluded(staged, inputs["settings"].get("excluded", ()))
        rows = reject_dropped(rows, store)
        texts = group_texts(rows, store, batch.is_unread).cache()
        try:
            n = count_texts(texts)
            rejected = build_rejected_rows(rows, texts)
            counts = count_rows(rows, rejected, n)
            if not store.exists(tables.DOCUMENTS) and not n.new:
                raise InputError(
                    f"ingest.inputs have no valid document: {counts}; see ingest.text_column, "
                    "ingest.min_chars and ingest.max_chars"
                )
            if cfg.remove_missing:
                _check_readable(counts, n)
            if n.new:
                # If two drivers run at once, Delta accepts only one commit of this name.
                once = f"{inputs['settings']}{store.history.read_version(tables.DOCUMENTS)}"
                name = hashlib.sha256(once.encode()).hexdigest()
                store.append(select_new_documents(rows, texts, n), tables.DOCUMENTS, once=name)
            if cfg.remove_missing and not batch.is_increment:
                kept = texts.select(F.coalesce("existing_id", "best.doc_id").alias("doc_id"))
                counts = replace(counts, removed=remove_missing_documents(store, kept))
            if batch.is_increment and store.exists(tables.REJECTED):
                rejected = add_rejected_rows(store.read(tables.REJECTED), rejected)
            made_from = store.history.describe_inputs(tables.DOCUMENTS, **inputs["settings"])
            store.replace(rejected, tables.REJECTED, made_from)
        finally:
            texts.unpersist()
    if batch.is_increment:  # all other documents may still be in the inputs
        return counts
    older = store.read(tables.DOCUMENTS).count() - n.new - n.known
    return replace(counts, older=older, other_source=n.known - n.existing)


def _check_readable(counts: Counts, n: TextCounts) -> None:
    """Check that no document would be removed only because its file cannot be read."""
    unread = [reason for reason in UNREAD if reason in counts.rejected]
    if unread or not n.accepted:
        found = ", ".join(unread) or "no row is a document"
        raise InputError(
            "ingest.remove_missing would remove documents by mistake, because inputs could not be "
            f"used ({found}: {counts}); fix the inputs, or set ingest.remove_missing to false"
        )


def count_rows(rows: DataFrame, rejected: DataFrame, n: TextCounts) -> Counts:
    """Count the rows of the inputs, and check that each is either a document or rejected."""
    reasons = count_rejected(rejected)
    empty = rejected.where(F.col("reason") == "empty_file").count() if reasons else 0
    n_rows = int(rows.agg(F.coalesce(F.sum("n_rows"), F.lit(0))).collect()[0][0])
    assert n_rows == n.new + n.existing + sum(reasons.values()), (n_rows, n, reasons)
    shown = {reason: count for reason, count in reasons.items() if reason not in NO_ROW}
    return Counts(n_rows, n.new, n.existing, shown, 0, empty_files=empty)


def group_texts(rows: DataFrame, store: Store, is_unread: bool) -> DataFrame:
    """Group the accepted rows by text, one row per text.

    Of rows with equal texts, the one with the smallest (source, metadata, repairs) is kept. A text
    that is in `documents` already stays as it is there.

    Args:
        rows: the staged rows.
        store: table `documents` is read.
        is_unread: see `Batch`.

    Returns:
        (digest, best: the row that is kept, n: rows of this text, file: smallest file name,
        existing_id: doc_id in `documents` or null, seen: whether one of the rows has this doc_id;
        false if `is_unread`).
    """
    light = rows.where("reason IS NULL").drop("text", "reason", "detail")
    light = light.join(_read_existing_texts(store), "digest", "left")
    is_same = F.col("doc_id") == F.col("existing_id")
    seen = F.lit(False) if is_unread else F.coalesce(is_same, F.lit(False))
    best = F.struct("source", "metadata", "repairs", "doc_id", "row_id")
    return light.groupBy("digest").agg(
        F.min(best).alias("best"),
        F.count("*").alias("n"),
        F.min("file").alias("file"),
        F.min("existing_id").alias("existing_id"),
        F.max(seen).alias("seen"),
    )


def _read_existing_texts(store: Store) -> DataFrame:
    """Read (digest, existing_id) of `documents`, at a fixed version.

    Each commit of Delta clears what Spark has cached. So Spark compares the texts again after the
    new documents are written, and must find the same existing texts.
    """
    version = store.history.read_version(tables.DOCUMENTS)
    if version is None:
        return store.session.createDataFrame([], "digest STRING, existing_id STRING")
    documents = store.read_at(tables.DOCUMENTS, version)
    return add_digests(documents).select("digest", F.col("doc_id").alias("existing_id"))


def add_digests(documents: DataFrame) -> DataFrame:
    """Return (digest, doc_id, source) of documents.

    The text is read only if the document has a source: otherwise doc_id is the digest of the text.
    """
    plain = documents.where("source = ''").select(
        F.col("doc_id").alias("digest"), "doc_id", "source"
    )
    content = F.concat(F.lit(b"\0"), F.col("text").cast("binary"))
    digest = F.substring(F.sha2(content, 256), 1, ID_DIGITS).alias("digest")
    sourced = documents.where("source <> ''").select(digest, "doc_id", "source")
    return plain.unionByName(sourced)


def select_new_documents(rows: DataFrame, texts: DataFrame, n: TextCounts) -> DataFrame:
    """Select the kept rows whose text is not in `documents` yet, with the columns of that table.

    The rows are joined with the ids to keep or with the ids to leave out, whichever are fewer. In a
    first ingest, the ids to leave out are usually fewer; in later ingests, the ids to keep are. Up
    to BROADCAST_IDS ids are broadcast; with more, Spark shuffles the rows together with their text.
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
    """Build the rows of `rejected`: one row for all rows with the same digest and reason."""
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
    same = F.concat(F.lit(SAME_TEXT), F.coalesce("existing_id", "best.doc_id"))
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


def add_rejected_rows(earlier: DataFrame, rejected: DataFrame) -> DataFrame:
    """Add the rejected rows of an increment to those of earlier ingests."""
    rows = earlier.select(rejected.columns).unionByName(rejected)
    return rows.groupBy("reject_id", "reason").agg(
        F.min("file").alias("file"),
        F.sum("n_rows").alias("n_rows"),
        F.min("detail").alias("detail"),
    )


def count_texts(texts: DataFrame) -> TextCounts:
    """Count new and existing texts, and the accepted rows."""
    [counted] = texts.agg(
        F.coalesce(F.sum(F.col("existing_id").isNull().cast("long")), F.lit(0)).alias("new"),
        F.coalesce(F.sum(F.col("seen").cast("long")), F.lit(0)).alias("existing"),
        F.count("existing_id").alias("known"),
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
