"""K-means over a table of vectors, and the exact assignment of every document to its cluster.

Centroids are made once: new documents are assigned to them, so a cluster keeps its meaning. They
are made anew when the embedder, the clusterer, K, the seed or the sample is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.ml.clustering import KMeans
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.clusters import QUANTUM_BITS, Nearest, canonical
from climb.config import Config, build, recipe_of
from climb.config.sections import ClusterConfig
from climb.embed import embedder_of
from climb.errors import ComponentError, ConfigError, TableError
from climb.progress import say
from climb.spark.failures import task_errors
from climb.spark.store import Store

Array = NDArray[np.float64]

SMALL = 1_000_000
"""Up to this many vectors are spread over all slots, since small tables may be a single file."""


@runtime_checkable
class Clusterer(Protocol):
    """Makes centroids of vectors."""

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """vectors(doc_id STRING, embedding ARRAY<FLOAT>) -> centroids_CD, at most k.

        The result is a function of the set of rows, k and seed, not of their partitions or order.
        """


@dataclass(frozen=True, kw_only=True)
class MLlibKMeans:
    """Spark MLlib's k-means with its block solver and k-means|| initialisation.

    MLlib adds the partial sums of a cluster's vectors in the order in which its tasks end, and the
    last bits of a floating-point sum depend on the order. The vectors are therefore rounded to
    multiples of 2^-16: sums of up to 2^36 such numbers are exact in double precision, hence equal
    in every order. k-means|| draws its first centroids partition by partition, so the rows are
    distributed by a hash of doc_id into a fixed number of partitions, and sorted within them.

    Source:
        k-means||: B. Bahmani et al., Scalable K-Means++ (VLDB 2012).
    """

    max_iterations: int
    tolerance: float
    """Iterations end when no centroid moves farther than this."""

    partitions: int
    """Part of the recipe: another number draws other first centroids."""

    def __post_init__(self) -> None:
        """Refuse numbers that MLlib would refuse in the middle of a job."""
        if self.max_iterations < 1 or self.partitions < 1 or self.tolerance < 0:
            raise ConfigError(
                f"{self}: max_iterations and partitions must be at least 1, tolerance at least 0"
            )

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """vectors(doc_id, embedding) -> centroids_CD, at most k."""
        exact = vectors.select("doc_id", _quantised("embedding").alias("embedding"))
        if k == 1:  # MLlib wants two or more
            return _mean(exact)
        kmeans = KMeans(
            featuresCol="embedding", k=k, seed=seed, maxIter=self.max_iterations, tol=self.tolerance
        )
        placed = exact.repartition(self.partitions, "doc_id").sortWithinPartitions("doc_id")
        try:
            model = kmeans.setSolver("block").fit(placed)
        except Exception as error:
            # The block solver runs off its arrays where the first draw found fewer than k distinct
            # centroids (Spark 4.0.4); the row solver, many times slower, goes on with those few.
            if "ArrayIndexOutOfBoundsException" not in str(error):
                raise
            model = kmeans.setSolver("row").fit(placed)
        return np.array(model.clusterCenters(), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centroids with the name that their assignments carry."""

    name: str
    centroids_CD: Array
    fitted: bool
    """Whether they were made now."""


def ensure_centroids(store: Store, cfg: Config, vectors: DataFrame, n_vectors: int) -> Clustering:
    """Take the centroids that these settings made, or fit and write them.

    Args:
        store: table `centroids` is read and perhaps replaced.
        cfg: sections `cluster` and `embed`.
        vectors: (doc_id, embedding) of the embedder in use, n_vectors in all.

    Raises:
        TableError: there are no vectors.
        ComponentError: the clusterer's result is no array of centroids.
    """
    embedder = recipe_of(embedder_of(cfg.embed))
    if n_vectors == 0:
        raise TableError(
            f"table embeddings in {store.cfg.root} holds no vector of {embedder}; "
            "run `climb embed` first"
        )
    settings = {
        "embedder": embedder,
        "clusterer": recipe_of(build(cfg.cluster.clusterer, Clusterer)),
        # Centroids of few documents are made anew as soon as there are enough for all K.
        "k": min(cfg.cluster.k, n_vectors),
        "seed": cfg.cluster.seed,
        "sample_per_cluster": cfg.cluster.sample_per_cluster,
    }
    made_from = store.made_from(tables.CENTROIDS)
    if made_from is not None and made_from["settings"] == settings:
        rows = store.rows(tables.CENTROIDS)
        centroids_CD = np.array([row["centroid"] for row in rows])
        return Clustering(rows[0]["clustering"], centroids_CD, fitted=False)
    inputs = store.inputs(tables.EMBEDDINGS, **settings)
    centroids_CD = _fit(cfg.cluster, vectors, n_vectors)
    name = _name(settings, centroids_CD)
    made = [
        {"cluster": i, "clustering": name, "centroid": centroid_D.tolist()}
        for i, centroid_D in enumerate(centroids_CD)
    ]
    store.replace(store.frame(made, tables.CENTROIDS), tables.CENTROIDS, inputs)
    return Clustering(name, centroids_CD, fitted=True)


def assign_missing(store: Store, vectors: DataFrame, n_vectors: int, clustering: Clustering) -> int:
    """Assign the documents that this clustering has not assigned yet, in one commit.

    Rows of another clustering are replaced, all at once: after a crash between the two tables the
    centroids are new and the assignments still old, and that is how it is seen.

    Returns:
        How many documents were assigned now.
    """
    name, table = clustering.name, tables.ASSIGNMENTS
    fresh = not store.exists(table) or not (
        store.read(table).where(F.col("clustering") != name).isEmpty()
    )
    todo = vectors if fresh else store.missing(vectors, table, clustering=name)
    n_todo = n_vectors if fresh else todo.count()
    if n_todo == 0:
        return 0
    if n_todo <= SMALL:
        todo = todo.repartition(store.session.sparkContext.defaultParallelism, "doc_id")
    rows = assign_documents(todo, clustering.centroids_CD, name)
    with task_errors():
        if fresh:
            inputs = store.inputs(tables.EMBEDDINGS, tables.CENTROIDS, clustering=name)
            store.replace(rows, table, inputs)
        else:
            store.append(rows, table)
    return n_todo


def assign_documents(vectors: DataFrame, centroids_CD: Array, clustering: str) -> DataFrame:
    """vectors(doc_id, embedding) -> (doc_id, clustering, cluster, distance)."""
    centroids = vectors.sparkSession.sparkContext.broadcast(centroids_CD)

    def assigned(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return assign_batches(batches, centroids.value, clustering)

    schema = tables.ASSIGNMENTS.columns
    return vectors.select("doc_id", "embedding").mapInArrow(assigned, schema)


def assign_batches(
    batches: Iterator[pa.RecordBatch], centroids_CD: Array, clustering: str
) -> Iterator[pa.RecordBatch]:
    """Assign Arrow batches of (doc_id, embedding). The body of the UDF, testable without Spark.

    Raises:
        ComponentError: a vector of another width than the centroids', or NaN in it.
    """
    nearest = Nearest(centroids_CD)
    for batch in batches:
        vectors_ND = vectors_of(batch.column("embedding"), centroids_CD.shape[1])
        labels_N, distances_N = nearest(vectors_ND)
        columns = {
            "doc_id": batch.column("doc_id"),
            "clustering": pa.repeat(clustering, len(labels_N)),
            "cluster": pa.array(labels_N.astype(np.int32)),
            "distance": pa.array(distances_N.astype(np.float32)),
        }
        yield pa.RecordBatch.from_pydict(columns)


def vectors_of(column: pa.ListArray, width: int) -> NDArray[np.float32]:
    """The rows of a list column as one array, without a copy and without a Python object a row.

    Raises:
        ComponentError: a row is not of this width, or holds a NULL.
    """
    flat = column.flatten()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if flat.null_count or not (lengths == width).all():
        found = sorted({str(n) for n in lengths if n != width}) or ["NULL in a vector"]
        raise ComponentError(
            f"embeddings of width {', '.join(found)} do not fit centroids of width {width}"
        )
    return np.asarray(flat.to_numpy(zero_copy_only=True)).reshape(-1, width)


def lowest_hash(vectors: DataFrame, n: int, seed: int) -> DataFrame:
    """The n documents with the lowest hash of seed and doc_id.

    Only ids are put in order, to find where the n-th lies; the vectors are filtered in place.
    """
    place = F.struct(F.xxhash64(F.lit("cluster"), F.lit(seed), "doc_id").alias("hash"), "doc_id")
    lowest = vectors.select(place.alias("place")).orderBy("place").limit(n)
    last = lowest.agg(F.max("place").alias("last")).collect()[0]["last"]
    bound = F.struct(F.lit(last["hash"]).cast("long").alias("hash"), F.lit(last["doc_id"]))
    return vectors.where(place <= bound)


def _quantised(column: str) -> Column:
    """The column as array<double> of whole quanta, with elements that are never NULL.

    MLlib refuses an array<float> whose elements may be NULL, which is what any table returns.
    """
    scale = 2.0**QUANTUM_BITS
    zero = F.lit(0.0)
    return F.transform(
        column, lambda x: F.coalesce(F.rint(x.cast("double") * scale) * (1.0 / scale), zero)
    )


def _mean(exact: DataFrame) -> Array:
    """The one centroid of all vectors; sums of quanta are exact, so it has no order."""
    entries = exact.select(F.posexplode("embedding").alias("d", "x"))
    means = entries.groupBy("d").agg(F.avg("x").alias("mean")).orderBy("d").collect()
    return np.array([[row["mean"] for row in means]], dtype=np.float64)


def _fit(cfg: ClusterConfig, vectors: DataFrame, n_vectors: int) -> Array:
    """Run the clusterer on all vectors or on a hash-sample, and check what it returns."""
    k = min(cfg.k, n_vectors)
    if k < cfg.k:
        say("cluster", f"warning: cluster.k is {cfg.k:,}, but there are {k:,} vectors: K = {k:,}")
    n_sample = n_vectors if cfg.sample_per_cluster is None else cfg.sample_per_cluster * k
    chosen = vectors if n_sample >= n_vectors else lowest_hash(vectors, n_sample, cfg.seed)
    centroids_CD = _checked(build(cfg.clusterer, Clusterer).fit(chosen, k, cfg.seed), k)
    if len(centroids_CD) < k:
        say("cluster", f"warning: {len(centroids_CD):,} distinct centroids, {k:,} were wanted")
    return centroids_CD


def _checked(centroids_CD: Any, k: int) -> Array:
    """Centroids in their canonical order, as single precision holds them.

    Raises:
        ComponentError: the clusterer returned another shape, or values that are not finite.
    """
    centroids_CD = np.asarray(centroids_CD, dtype=np.float64)
    if centroids_CD.ndim != 2 or not 1 <= len(centroids_CD) <= k:
        raise ComponentError(
            f"the clusterer returned shape {centroids_CD.shape}; it must be (1 to {k}, D)"
        )
    if not np.isfinite(centroids_CD).all():
        raise ComponentError("the clusterer returned NaN or inf in a centroid")
    return canonical(centroids_CD).astype(np.float32).astype(np.float64)


def _name(settings: dict[str, Any], centroids_CD: Array) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(centroids_CD.astype("<f4").tobytes())
    return digest.hexdigest()[:16]
