"""k-means by passes of NumPy over the vectors: exact, so nothing depends on the order of sums.

Axes: N vectors, C centroids, D width.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import RDD, StorageLevel
from pyspark.sql import DataFrame

from climb.domains.assignment import quantize
from climb.domains.lloyd import ClusterSums, Fit, draw_centroids, fit_centroids, sum_clusters
from climb.errors import ConfigError
from climb.progress import log
from climb.spark.corpus.fit_sample import select_lowest_hashes
from climb.spark.corpus.vectors import stack_vectors

Array = NDArray[np.float64]

DRAWN_FROM = 10
"""First centroids are drawn from the vectors of this many documents per cluster. The driver
collects these vectors: 15 MB at K = 1000 and D = 384."""


@dataclass(frozen=True, kw_only=True)
class ExactKMeans:
    """Lloyd's k-means with the assignment of `NearestCentroid`, and first centroids by k-means||.

    In each iteration, every task adds up the vectors of each cluster in its partition. A tree of
    tasks adds these sums, and the driver adds the last few. All sums are exact, so the centroids
    depend on the set of documents, k and the seed alone. The vectors of the fit stay in the memory
    of the executors, or on their disks.
    """

    max_iterations: int
    tolerance: float
    """Iterations stop when no centroid moves by more than this distance."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: they are out of range.
        """
        if self.max_iterations < 1 or self.tolerance < 0:
            raise ConfigError(f"{self}: max_iterations must be at least 1, tolerance at least 0")

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """Fit at most k centroids to vectors(doc_id, embedding); return centroids_CD."""
        rng = np.random.default_rng([seed & 0xFFFFFFFF, k])
        centroids_CD = draw_centroids(_collect_first(vectors, k, seed), k, rng)
        blocks = _pack(vectors, centroids_CD.shape[1])

        def sum_all(centroids_CD: Array) -> ClusterSums:
            return _sum_blocks(blocks, centroids_CD)

        try:
            found = fit_centroids(centroids_CD, sum_all, self.max_iterations, self.tolerance, rng)
        finally:
            blocks.unpersist()
        _log_fit(found, self.tolerance)
        return found.centroids_CD


def _log_fit(found: Fit, tolerance: float) -> None:
    converged = f"no centroid moved further than {tolerance:g}"
    reason = converged if found.is_converged else "the limit max_iterations"
    log("cluster", f"k-means ended after {len(found.inertias)} iterations: {reason}")
    values = " ".join(f"{inertia:.5f}" for inertia in found.inertias)
    log("cluster", f"mean squared distance by iteration: {values}")
    if found.n_emptied:
        times = f"{found.n_emptied:,} times"
        how = "where possible, another one was split to fill it"
        log("cluster", f"{times}, a cluster was empty; {how}")


def _collect_first(vectors: DataFrame, k: int, seed: int) -> Array:
    """Collect the vectors of the documents with the lowest hashes, in the order of the ids."""
    chosen = select_lowest_hashes(vectors, DRAWN_FROM * k, seed).select("doc_id", "embedding")
    table = chosen.orderBy("doc_id").toArrow()
    column = table.column("embedding").combine_chunks()
    width = len(column[0])
    return quantize(stack_vectors(column, width).astype(np.float64))


def _pack(vectors: DataFrame, width: int) -> RDD[bytes]:
    """Pack vectors into blocks of bytes, so that no iteration needs to convert Spark rows."""
    slots = vectors.sparkSession.sparkContext.defaultParallelism
    if vectors.rdd.getNumPartitions() < slots:
        vectors = vectors.repartition(slots)

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                vectors_ND = stack_vectors(batch.column("embedding"), width)
                header = np.array(vectors_ND.shape, dtype="<i8").tobytes()
                block = header + vectors_ND.astype("<f4").tobytes()
                yield pa.RecordBatch.from_pydict({"block": pa.array([block], pa.binary())})

    packed = vectors.select("embedding").mapInArrow(pack, "block BINARY")
    blocks: RDD[bytes] = packed.rdd.map(lambda row: bytes(row[0]))
    return blocks.persist(StorageLevel.MEMORY_AND_DISK)


def _unpack(block: bytes) -> NDArray[np.float32]:
    n, width = np.frombuffer(block, dtype="<i8", count=2)
    return np.frombuffer(block, dtype="<f4", offset=16).reshape(n, width)


def _sum_blocks(blocks: RDD[bytes], centroids_CD: Array) -> ClusterSums:
    """Add up all vectors per nearest centroid; partial sums are added in a tree of tasks."""
    shared = blocks.context.broadcast(centroids_CD)

    def add(part: Iterable[bytes]) -> Iterator[ClusterSums]:
        yield sum_clusters(map(_unpack, part), shared.value)

    try:
        return blocks.mapPartitions(add).treeReduce(operator.add)
    finally:
        shared.destroy()
