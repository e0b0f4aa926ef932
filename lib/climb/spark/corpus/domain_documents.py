"""The documents of the kept clusters with their domains: the rows of shards and of the dataset."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.spark.delta.store import Store


def read_domain_documents(store: Store, cfg: Config) -> DataFrame:
    """Read the documents of the kept clusters: (doc_id, domain, n_tokens, text)."""
    kept = store.read(tables.CLUSTERS).where("kept").select("cluster", "domain")
    counts = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    return (
        store.read(tables.ASSIGNMENTS)
        .join(F.broadcast(kept), on="cluster")
        .join(counts, on="doc_id")
        .join(store.read(tables.DOCUMENTS), on="doc_id")
        .select("doc_id", "domain", "n_tokens", "text")
    )
