"""Find the documents that contain evaluation items, and drop them if so configured."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import cast

import pyarrow as pa
from pyarrow import RecordBatch
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from climb import tables
from climb.config import Config
from climb.progress import log
from climb.proxy.contamination import find_overlaps
from climb.proxy.overlap_index import (
    MIN_WORDS,
    OverlapIndex,
    build_index,
    list_groups,
    name_recipe,
)
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.ingest import add_digests
from climb.spark.corpus.remove import delete_documents
from climb.spark.delta.store import Store

MAX_LINES = 20
"""Maximum number of lines with counts in the run log; those with the most documents are printed."""


def check_documents(store: Store, cfg: Config) -> tuple[str, int, int]:
    """Look for the configured evaluation items in all documents that were not checked for them yet.

    Returns:
        The recipe of the rows, how many documents were checked, and how many had a row already.

    Raises:
        TableError: there are no documents.
        InputError: a file of items cannot be read, or one of its lines is not an item.
    """
    groups = list_groups(cfg.proxy)
    recipe = name_recipe(groups)

    @functools.cache  # built once, and only if there are documents to check
    def share_index() -> Broadcast[OverlapIndex]:
        index = build_index(groups)
        if index.n_short:
            n = f"{index.n_short:,} of {len(index.names):,} items"
            log("contamination", f"{n} have fewer than {MIN_WORDS} words, and are not looked up")
        return store.session.sparkContext.broadcast(index)

    new, existing = append_missing(
        store,
        store.read(tables.DOCUMENTS),
        tables.CONTAMINATION,
        recipe,
        cfg.storage.commit_documents,
        lambda documents: map_overlaps(documents, share_index(), recipe),
    )
    return recipe, new, existing


def map_overlaps(documents: DataFrame, index: Broadcast[OverlapIndex], recipe: str) -> DataFrame:
    """Find the items that documents(doc_id, source, text) contain -> rows of `contamination`."""
    schema = cast(StructType, StructType.fromDDL(tables.CONTAMINATION.columns))
    arrow = to_arrow_schema(schema)

    def check(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
        for batch in batches:
            found = find_overlaps(batch["text"].to_pylist(), index.value)
            overlaps = [[dataclasses.asdict(overlap) for overlap in own] for own in found]
            recipes = pa.array([recipe] * len(overlaps), pa.string())
            columns = [batch["doc_id"], recipes, batch["source"], pa.array(overlaps, arrow[3].type)]
            yield RecordBatch.from_arrays(columns, schema=arrow)

    return documents.select("doc_id", "source", "text").mapInArrow(check, schema)


def count_overlaps(store: Store, recipe: str) -> tuple[int, list[str]]:
    """Count the documents that contain items.

    Returns:
        The number of documents, and lines for the run log. Each combination of source, target and
        split has one line, and the lines with the most documents come first. If there are more than
        MAX_LINES, the last line has the number of the lines that are left out.
    """
    rows = _read_contaminated(store, recipe)
    overlaps = rows.select("doc_id", "source", F.explode("overlaps").alias("o"))
    counted = overlaps.groupBy("source", "o.target", "o.split").agg(
        F.countDistinct("doc_id").alias("documents"), F.countDistinct("o.item").alias("items")
    )
    ordered = counted.orderBy(F.desc("documents"), "source", "target", "split").collect()
    lines = [
        f"{row.documents:>9,} documents "
        f"{f'of {row.source!r}' if row.source else 'without a source'} contain "
        f"{row['items']:,} items of {row.target} ({row.split})"
        for row in ordered[:MAX_LINES]
    ]
    n_left = len(ordered) - len(lines)
    return rows.count(), lines + ([f"          and {n_left:,} more lines"] if n_left > 0 else [])


def drop_documents(store: Store, recipe: str, split: str | None) -> int:
    """Delete documents that contain items, and make later ingests reject the same texts.

    The hashes of the texts are recorded first. If the process is killed, the next run of the job
    checks and drops the documents that are left.

    Args:
        store: all tables.
        recipe: selects rows of `contamination`; see `check_documents`.
        split: `search` or `report`: only the items of this split count; None: all items count.

    Returns:
        The number of dropped documents.
    """
    rows = _read_contaminated(store, recipe)
    wanted = rows.select("doc_id", F.explode("overlaps").alias("o"))
    if split is not None:
        wanted = wanted.where(F.col("o.split") == split)
    item = F.concat_ws(" ", F.lit("contains words of item"), "o.item", F.lit("of"), "o.target")
    found = wanted.groupBy("doc_id").agg(F.min(item).alias("detail")).cache()
    try:
        n = found.count()
        if n:
            documents = store.read(tables.DOCUMENTS).join(found.select("doc_id"), "doc_id")
            dropped = add_digests(documents).join(found, "doc_id")
            if store.exists(tables.DROPPED):
                earlier = store.read(tables.DROPPED)
                dropped = dropped.join(earlier, "digest", "left_anti").unionByName(earlier)
            _write_dropped(store, dropped)
            delete_documents(store, found.select("doc_id"))
        return int(n)
    finally:
        found.unpersist()


def readmit_documents(store: Store) -> int:
    """Let the next ingest read the dropped documents again; return their number."""
    if not store.exists(tables.DROPPED):
        return 0
    dropped = store.read(tables.DROPPED)
    n = int(dropped.count())
    if n:
        _write_dropped(store, dropped.limit(0))
    return n


def _write_dropped(store: Store, rows: DataFrame) -> None:
    store.replace(rows, tables.DROPPED, store.history.describe_inputs())


def _read_contaminated(store: Store, recipe: str) -> DataFrame:
    """Read the rows with overlaps, at a fixed version of the table.

    `drop_documents` deletes these rows while it uses them. Each commit of Delta clears what Spark
    has cached, so Spark reads the rows again. At the fixed version, they still exist.

    Raises:
        TableError: job `contamination` has not run.
    """
    version = store.history.read_version(tables.CONTAMINATION)
    if version is None:
        rows = store.read(tables.CONTAMINATION)
    else:
        rows = store.read_at(tables.CONTAMINATION, version)
    return rows.where((F.col("recipe") == recipe) & (F.size("overlaps") > 0))
