"""Read the documents of the kept clusters with their domains, for shards and the dataset."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.spark.delta.store import Store

MAX_BROADCAST_DOCUMENTS = 1_000_000
"""If the kept clusters have at most this many documents, the documents' ids are sent to every
executor, so that the texts are not shuffled."""


def read_domain_documents(store: Store, cfg: Config, only: Column | None = None) -> DataFrame:
    """Read the documents of the kept clusters: (doc_id, domain, n_tokens, text).

    Args:
        store: tables `clusters`, `tokens`, `assignments` and `documents`.
        cfg: names the tokenizer.
        only: a condition on doc_id; None: all documents. Every table with a doc_id is filtered
            before it is joined, so that Spark does not shuffle texts of documents that do not meet
            the condition.
    """
    condition = F.lit(True) if only is None else only
    kept = store.read(tables.CLUSTERS).where("kept").select("cluster", "domain")
    counts = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    rows = (
        store.read(tables.ASSIGNMENTS)
        .where(condition)
        .join(F.broadcast(kept), on="cluster")
        .join(counts.where(condition), on="doc_id")
        .select("doc_id", "domain", "n_tokens")
    )
    return join_texts(store, rows, only)


def join_texts(store: Store, rows: DataFrame, only: Column | None = None) -> DataFrame:
    """Add the column `text` to rows of documents of kept clusters.

    Args:
        store: tables `clusters` and `documents`.
        rows: with a column doc_id.
        only: a condition on doc_id that all rows meet.
    """
    texts = store.read(tables.DOCUMENTS).select("doc_id", "text")
    if only is not None:
        texts = texts.where(only)
    n_kept = sum(row["n_documents"] for row in store.read_rows(tables.CLUSTERS) if row["kept"])
    is_small = n_kept <= MAX_BROADCAST_DOCUMENTS
    return texts.join(F.broadcast(rows) if is_small else rows, on="doc_id").select(
        *rows.columns, "text"
    )
