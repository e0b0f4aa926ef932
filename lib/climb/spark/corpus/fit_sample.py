"""Select the documents that the centroids are fitted to, and estimate what the sampling costs."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.config.sections import ClusterConfig
from climb.spark.corpus.samples import is_among_lowest, select_lowest
from climb.spark.delta.store import Store

MAX_LOSS = 0.005
"""Largest `SampleFit.loss` that is logged without a warning."""


@dataclass(frozen=True)
class SampleFit:
    """Mean squared distance to the centroids, in the sample and in all other documents."""

    n_inside: int
    inside: float
    n_outside: int
    outside: float

    @property
    def loss(self) -> float:
        """Estimate of the relative loss against a fit on all documents.

        The mean squared distance of a fit on all documents would be between `inside` and `outside`.
        If every cluster has about n sampled documents, `inside` is below that distance by about
        1 / n of the variance within the clusters, and `outside` is above it by the same amount. So
        the loss is half of the difference between `outside` and `inside`, divided by `outside`.
        """
        return max(0.0, (self.outside - self.inside) / 2.0 / self.outside)

    def describe(self) -> str:
        """Describe the distances and the loss in one line for the log.

        If the loss exceeds MAX_LOSS, the line is a warning that names the setting to raise.
        """
        line = (
            f"mean squared distance {self.inside:.5f} in the sample of {self.n_inside:,}, "
            f"{self.outside:.5f} in the other {self.n_outside:,} documents: the fit is about "
            f"{self.loss:.2%} worse than one on all documents"
        )
        if self.loss > MAX_LOSS:
            return f"warning: {line}; raise cluster.sample_per_cluster"
        return line


def count_sample(cfg: ClusterConfig, n_vectors: int) -> int:
    """Return how many documents the fit uses: all, or `sample_per_cluster` for each cluster."""
    if cfg.sample_per_cluster is None:
        return n_vectors
    return min(n_vectors, cfg.sample_per_cluster * min(cfg.k, n_vectors))


def select_lowest_hashes(rows: DataFrame, n: int, seed: int) -> DataFrame:
    """Select the n rows with the lowest hash of seed and doc_id.

    Args:
        rows: with a unique column doc_id.
        n: at least 1.
        seed: seed of the hash.
    """
    return select_lowest(rows, _hash_documents(seed), n)


def select_fit_documents(store: Store, cfg: Config, recipe: str) -> DataFrame:
    """Select the documents whose embeddings the fit needs, stored already or not.

    These are the documents with the lowest hashes. A stored embedding is NULL if the embedder
    returned no vector for the document. The fit cannot use such documents. For each of
    them, one more document is selected. So the fit uses the same documents as it would if all
    documents were embedded.

    Args:
        store: tables `documents` and `embeddings`; the latter may not exist yet.
        cfg: section cluster; `sample_per_cluster` is a number.
        recipe: name of the embedder.
    """
    documents = store.read(tables.DOCUMENTS)
    n_documents = documents.count()
    n_sample = count_sample(cfg.cluster, n_documents)
    size = n_sample
    while 0 < size < n_documents:
        chosen = select_lowest_hashes(documents, size, cfg.cluster.seed)
        n_null = _count_null(store, chosen, recipe)
        if size - n_null >= n_sample:
            return chosen
        size = n_sample + n_null
    return documents


def measure_sample(store: Store, cfg: ClusterConfig) -> SampleFit | None:
    """Compare the distances of table `assignments` inside and outside of the sample of the fit.

    Returns:
        The mean squared distances; None if the centroids were fitted to all documents.
    """
    rows = store.read(tables.ASSIGNMENTS)
    n_rows = rows.count()
    n_sample = count_sample(cfg, n_rows)
    if n_sample >= n_rows:
        return None
    is_inside = is_among_lowest(rows, _hash_documents(cfg.seed), n_sample)
    squared = F.pow("distance", F.lit(2.0))
    means = rows.agg(
        F.avg(F.when(is_inside, squared)).alias("inside"),
        F.avg(F.when(~is_inside, squared)).alias("outside"),
    ).collect()[0]
    return SampleFit(n_sample, means["inside"], n_rows - n_sample, means["outside"])


def _hash_documents(seed: int) -> Column:
    return F.xxhash64(F.lit("cluster"), F.lit(seed), "doc_id")


def _count_null(store: Store, chosen: DataFrame, recipe: str) -> int:
    """Count the chosen documents whose stored embedding is NULL."""
    if not store.exists(tables.EMBEDDINGS):
        return 0
    rows = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    null = rows.where(F.col("embedding").isNull())
    return int(chosen.join(null, on="doc_id", how="left_semi").count())
