"""The documents of the kept clusters with their domains: the rows of shards and of the dataset."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.spark.delta.store import Store


def read_domain_documents(store: Store, cfg: Config, only: Column | None = None) -> DataFrame:
    """Read the documents of the kept clusters: (doc_id, domain, n_tokens, text).

    Args:
        store: tables `clusters`, `tokens`, `assignments` and `documents`.
        cfg: names the tokenizer.
        only: a condition on doc_id. Every table is filtered before it is joined, so that the texts
            of other documents are not moved.
    """
    condition = F.lit(True) if only is None else only
    kept = store.read(tables.CLUSTERS).where("kept").select("cluster", "domain")
    counts = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    return (
        store.read(tables.ASSIGNMENTS)
        .where(condition)
        .join(F.broadcast(kept), on="cluster")
        .join(counts.where(condition), on="doc_id")
        .join(store.read(tables.DOCUMENTS).where(condition), on="doc_id")
        .select("doc_id", "domain", "n_tokens", "text")
    )
