"""Removed sources and dropped documents: the next ingest rejects their rows."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.dataset.removal import Removal
from climb.errors import TableError
from climb.ingest.rows import ID_DIGITS
from climb.spark.delta.store import Store

REASON = "removed_source"
"""Reason in table `rejected` for the rows of a removed source. One row of the table represents all
rows of the source; its column `n_rows` has the number of the rows of the source."""

CONTAMINATED = "contaminated"
"""Reason in table `rejected` for texts that were dropped by job `contamination`."""


def read_exclusions(store: Store) -> dict[str, Removal]:
    """Read the removed sources, each with the report of its removal."""
    if not store.exists(tables.EXCLUSIONS):
        return {}
    rows = store.read_rows(tables.EXCLUSIONS)
    return {row["source"]: Removal.from_json(row["report"]) for row in rows}


def write_exclusions(store: Store, removals: dict[str, Removal]) -> None:
    """Replace the rows of table `exclusions`."""
    rows = [{"source": name, "report": r.to_json()} for name, r in sorted(removals.items())]
    frame = store.create_frame(rows, tables.EXCLUSIONS)
    store.replace(frame, tables.EXCLUSIONS, store.history.describe_inputs())


def list_excluded(store: Store) -> list[str]:
    """List the removed sources.

    Raises:
        TableError: a removal was interrupted, so table documents still has documents of a source.
    """
    names = sorted(read_exclusions(store))
    if names and store.exists(tables.DOCUMENTS):
        left = store.read(tables.DOCUMENTS).where(F.col("source").isin(*names))
        found = sorted(row["source"] for row in left.select("source").distinct().collect())
        if found:
            options = " ".join(f"--source {name!r}" for name in found)
            raise TableError(
                f"the removal of sources {', '.join(map(repr, found))} was interrupted, and table "
                f"documents still has documents of them; run `climb remove {options}` again"
            )
    return names


def reject_excluded(rows: DataFrame, excluded: Sequence[str]) -> DataFrame:
    """Reject the staged rows of removed sources, by changing columns reason, digest and detail.

    All rows of a source get the same digest, so `rejected` has one row for the source.
    """
    if not excluded:
        return rows
    hit = F.col("reason").isNull() & F.col("source").isin(*excluded)
    key = F.substring(F.sha2(F.concat(F.lit(f"{REASON}:"), "source"), 256), 1, ID_DIGITS)
    detail = F.concat(F.lit("source "), "source", F.lit(" was removed by `climb remove`"))
    return (
        rows.withColumn("digest", F.when(hit, key).otherwise(F.col("digest")))
        .withColumn("detail", F.when(hit, detail).otherwise(F.col("detail")))
        .withColumn("reason", F.when(hit, F.lit(REASON)).otherwise(F.col("reason")))
    )


def reject_dropped(rows: DataFrame, store: Store) -> DataFrame:
    """Reject the staged rows whose text was dropped by job `contamination`, from any source."""
    if not store.exists(tables.DROPPED):
        return rows
    dropped = store.read(tables.DROPPED).select("digest", F.col("detail").alias("dropped"))
    joined = rows.join(F.broadcast(dropped), "digest", "left")  # no shuffle of texts
    hit = F.col("reason").isNull() & F.col("dropped").isNotNull()
    return (
        joined.withColumn("detail", F.when(hit, F.col("dropped")).otherwise(F.col("detail")))
        .withColumn("reason", F.when(hit, F.lit(CONTAMINATED)).otherwise(F.col("reason")))
        .select(*rows.columns)
    )
