"""Fit centroids to a table of vectors, and assign every document to its nearest centroid, exactly.

Centroids are fitted once: new documents are assigned to them, so a cluster keeps its meaning. They
are fitted again if the embedder, the clusterer, K, the seed or the sample size changes, and, with
`cluster.refit`, if the embeddings have changed since the fit.

Axes: N vectors, C centroids, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, build, recipe_of
from climb.config.sections import ClusterConfig
from climb.domains.assignment import NearestCentroid, canonicalize_centroids
from climb.embed import build_embedder
from climb.errors import ComponentError, TableError
from climb.progress import log
from climb.spark.corpus.fit_sample import count_sample, select_lowest_hashes
from climb.spark.corpus.vectors import stack_vectors
from climb.spark.delta.history import Inputs, have_equal_tables
from climb.spark.delta.store import Store
from climb.spark.failures import reraise_task_errors

Array = NDArray[np.float64]

SMALL = 1_000_000
"""If there are at most this many vectors, they are distributed over all slots. Their table may be a
single file, which one slot would process alone."""


@runtime_checkable
class Clusterer(Protocol):
    """Fits centroids to vectors."""

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """Fit at most k centroids to vectors(doc_id STRING, embedding ARRAY<FLOAT>).

        Returns:
            centroids_CD. They depend on the set of rows, k and seed, not on partitions or order.
        """


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centroids with the name that identifies them in every assignment."""

    name: str
    centroids_CD: Array
    fitted: bool
    """Whether the centroids were fitted now; false: they were read from table `centroids`."""


def ensure_centroids(store: Store, cfg: Config, vectors: DataFrame, n_vectors: int) -> Clustering:
    """Read the centroids of these settings, or fit and write them.

    Args:
        store: table `centroids` is read, or replaced after a fit.
        cfg: sections `cluster` and `embed`.
        vectors: (doc_id, embedding) of the configured embedder.
        n_vectors: number of vectors.

    Raises:
        TableError: there are no vectors.
        ComponentError: the clusterer returned an invalid array of centroids.
    """
    embedder = recipe_of(build_embedder(cfg.embed))
    if n_vectors == 0:
        raise TableError(
            f"table embeddings in {store.cfg.root} has no vector of {embedder}; "
            "run `climb embed` first"
        )
    settings = _describe_settings(cfg.cluster, embedder, n_vectors)
    inputs = store.history.describe_inputs(tables.EMBEDDINGS, **settings)
    is_refitted = cfg.cluster.refit and _have_changed(store, inputs)
    if _are_current(store, settings) and not is_refitted:
        rows = store.read_rows(tables.CENTROIDS)
        centroids_CD = np.array([row["centroid"] for row in rows])
        return Clustering(rows[0]["clustering"], centroids_CD, fitted=False)
    centroids_CD = _fit_centroids(cfg.cluster, vectors, n_vectors)
    name = _name_clustering(settings, centroids_CD)
    new_rows = [
        {"cluster": i, "clustering": name, "centroid": centroid_D.tolist()}
        for i, centroid_D in enumerate(centroids_CD)
    ]
    store.replace(store.create_frame(new_rows, tables.CENTROIDS), tables.CENTROIDS, inputs)
    return Clustering(name, centroids_CD, fitted=True)


def is_fitted(store: Store, cfg: Config) -> bool:
    """Return whether centroids of these settings exist, so that no fit is needed.

    If so, table `embeddings` need not have vectors for a fit.

    The result is false for centroids that were fitted to fewer documents than K, because more
    documents lead to a new fit. With `cluster.refit`, the result is always false.
    """
    if cfg.cluster.refit:
        return False
    embedder = recipe_of(build_embedder(cfg.embed))
    return _are_current(store, _describe_settings(cfg.cluster, embedder, cfg.cluster.k))


def assign_missing(store: Store, vectors: DataFrame, n_vectors: int, clustering: Clustering) -> int:
    """Assign the documents that have no assignment of this clustering yet, in one commit.

    If the table has rows of another clustering, because the centroids were fitted again, all rows
    are replaced.

    Returns:
        How many documents were assigned now.

    Raises:
        ComponentError: a vector has another width than the centroids, or contains NULL.
    """
    name, table = clustering.name, tables.ASSIGNMENTS
    is_replaced = not store.exists(table) or not (
        store.read(table).where(F.col("clustering") != name).isEmpty()
    )
    todo = vectors if is_replaced else store.select_missing(vectors, table, clustering=name)
    n_todo = n_vectors if is_replaced else todo.count()
    if n_todo == 0:
        return 0
    if n_todo <= SMALL:
        todo = todo.repartition(store.session.sparkContext.defaultParallelism, "doc_id")
    rows = assign_documents(todo, clustering.centroids_CD, name)
    with reraise_task_errors():
        if is_replaced:
            inputs = store.history.describe_inputs(
                tables.EMBEDDINGS, tables.CENTROIDS, clustering=name
            )
            store.replace(rows, table, inputs)
        else:
            store.append(rows, table)
    return n_todo


def assign_documents(vectors: DataFrame, centroids_CD: Array, clustering: str) -> DataFrame:
    """Assign vectors(doc_id, embedding) -> (doc_id, clustering, cluster, distance)."""
    centroids = vectors.sparkSession.sparkContext.broadcast(centroids_CD)

    def assign(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        return assign_batches(batches, centroids.value, clustering)

    schema = tables.ASSIGNMENTS.columns
    return vectors.select("doc_id", "embedding").mapInArrow(assign, schema)


def assign_batches(
    batches: Iterable[pa.RecordBatch], centroids_CD: Array, clustering: str
) -> Iterator[pa.RecordBatch]:
    """Assign Arrow batches of (doc_id, embedding). This is the body of the UDF, without Spark.

    Raises:
        ComponentError: a vector has another width than the centroids, or contains NULL.
    """
    nearest = NearestCentroid(centroids_CD)
    for batch in batches:
        vectors_ND = stack_vectors(batch.column("embedding"), centroids_CD.shape[1])
        labels_N, distances_N = nearest.assign(vectors_ND)
        columns = {
            "doc_id": batch.column("doc_id"),
            "clustering": pa.repeat(clustering, len(labels_N)),
            "cluster": pa.array(labels_N.astype(np.int32)),
            "distance": pa.array(distances_N.astype(np.float32)),
        }
        yield pa.RecordBatch.from_pydict(columns)


def _describe_settings(cfg: ClusterConfig, embedder: str, n_vectors: int) -> dict[str, Any]:
    """Describe what the centroids depend on, apart from the vectors."""
    return {
        "embedder": embedder,
        "clusterer": recipe_of(build(cfg.clusterer, Clusterer)),
        # With fewer vectors than K, a change of their number leads to a new fit.
        "k": min(cfg.k, n_vectors),
        "seed": cfg.seed,
        "sample_per_cluster": cfg.sample_per_cluster,
    }


def _are_current(store: Store, settings: dict[str, Any]) -> bool:
    made_from = store.history.read_inputs(tables.CENTROIDS)
    return made_from is not None and made_from["settings"] == settings


def _have_changed(store: Store, inputs: Inputs) -> bool:
    """Whether the embeddings have changed since the fit."""
    made_from = store.history.read_inputs(tables.CENTROIDS)
    return made_from is None or not have_equal_tables(made_from, inputs)


def _fit_centroids(cfg: ClusterConfig, vectors: DataFrame, n_vectors: int) -> Array:
    """Run the clusterer on all vectors or on a sample chosen by hash, and check its result."""
    k = min(cfg.k, n_vectors)
    if k < cfg.k:
        log("cluster", f"warning: cluster.k is {cfg.k:,}, but there are {k:,} vectors: K = {k:,}")
    n_sample = count_sample(cfg, n_vectors)
    chosen = vectors if n_sample >= n_vectors else select_lowest_hashes(vectors, n_sample, cfg.seed)
    clusterer = build(cfg.clusterer, Clusterer)
    device = "GPUs" if getattr(clusterer, "uses_gpu", False) else "CPU cores"
    log(
        "cluster",
        f"{type(clusterer).__name__} fits {min(n_sample, n_vectors):,} vectors on {device}",
    )
    with reraise_task_errors():
        fitted = clusterer.fit(chosen, k, cfg.seed)
    centroids_CD = _check_centroids(fitted, k)
    if len(centroids_CD) < k:
        log("cluster", f"warning: {len(centroids_CD):,} distinct centroids instead of {k:,}")
    return centroids_CD


def _check_centroids(centroids_CD: Any, k: int) -> Array:
    """Check centroids, quantize and sort them, remove duplicates, and round to single precision.

    Raises:
        ComponentError: the clusterer returned a wrong shape, or values that are not finite.
    """
    centroids_CD = np.asarray(centroids_CD, dtype=np.float64)
    if centroids_CD.ndim != 2 or not 1 <= len(centroids_CD) <= k:
        raise ComponentError(
            f"the clusterer returned centroids of shape {centroids_CD.shape}; the shape must be "
            f"(1 to {k}, width of the vectors)"
        )
    if not np.isfinite(centroids_CD).all():
        raise ComponentError("the clusterer returned NaN or inf in a centroid")
    return canonicalize_centroids(centroids_CD).astype(np.float32).astype(np.float64)


def _name_clustering(settings: dict[str, Any], centroids_CD: Array) -> str:
    """Return a digest of the settings and the centroids."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(centroids_CD.astype("<f4").tobytes())
    return digest.hexdigest()[:16]
