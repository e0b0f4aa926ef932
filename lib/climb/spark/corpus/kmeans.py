"""Spark MLlib's k-means as a clusterer; the partitions and order of the input do not matter.

Axes: C centroids, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.clustering import KMeans
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb.domains.assignment import QUANTUM_BITS
from climb.errors import ConfigError
from climb.progress import log

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MLlibKMeans:
    """Spark MLlib's k-means with its block solver and k-means|| initialization.

    MLlib adds the partial sums of a cluster's vectors in the order in which the tasks end. The last
    bits of a floating-point sum depend on the order. So the vectors are rounded to multiples of
    2^-16: sums of up to 2^36 such numbers are exact in double precision, and equal in every order.

    k-means|| draws its first centroids partition by partition. So a hash of doc_id distributes the
    rows over a fixed number of partitions, and each partition is sorted.

    Source:
        k-means||: B. Bahmani et al., Scalable K-Means++ (VLDB 2012).
    """

    max_iterations: int
    tolerance: float
    """Iterations stop when no centroid moves by more than this distance."""

    partitions: int
    """Number of partitions of the fit. It is part of the recipe, because another number draws other
    first centroids."""

    def __post_init__(self) -> None:
        """Check the numbers here: MLlib would reject wrong ones in the middle of a job."""
        if self.max_iterations < 1 or self.partitions < 1 or self.tolerance < 0:
            raise ConfigError(
                f"{self}: max_iterations and partitions must be at least 1, tolerance at least 0"
            )

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """Fit at most k centroids to vectors(doc_id, embedding); return centroids_CD."""
        exact = vectors.select("doc_id", quantize_column("embedding").alias("embedding"))
        if k == 1:  # MLlib requires two or more
            return average_vectors(exact)
        kmeans = KMeans(
            featuresCol="embedding", k=k, seed=seed, maxIter=self.max_iterations, tol=self.tolerance
        )
        rows = distribute_rows(exact, self.partitions)
        try:
            model = kmeans.setSolver("block").fit(rows)
        except Exception as error:
            # The block solver exceeds its arrays if the first draw has fewer than k distinct
            # centroids (Spark 4.0.4). The row solver is many times slower but accepts fewer.
            if "ArrayIndexOutOfBoundsException" not in str(error):
                raise
            model = kmeans.setSolver("row").fit(rows)
        n_iterations = int(model.summary.numIter)
        end = (
            "the limit max_iterations"
            if n_iterations == self.max_iterations
            else f"no centroid moved further than {self.tolerance:g}"
        )
        log("cluster", f"k-means ended after {n_iterations} iterations: {end}")
        return np.array(model.clusterCenters(), dtype=np.float64)


def quantize_column(column: str) -> Column:
    """Return the column as array<double> of multiples of 2^-16, without NULL elements.

    MLlib rejects an array<float> whose elements may be NULL, and every table returns such arrays.
    """
    scale = 2.0**QUANTUM_BITS
    zero = F.lit(0.0)
    return F.transform(
        column, lambda x: F.coalesce(F.rint(x.cast("double") * scale) * (1.0 / scale), zero)
    )


def distribute_rows(rows: DataFrame, n_partitions: int) -> DataFrame:
    """Distribute rows by a hash of doc_id, and sort each partition: file order does not matter.

    Args:
        rows: with a column doc_id.
        n_partitions: number of partitions; adaptive execution does not merge them.
    """
    return rows.repartition(n_partitions, "doc_id").sortWithinPartitions("doc_id")


def average_vectors(exact: DataFrame) -> Array:
    """Return the mean of all vectors; sums of multiples of 2^-16 are exact in any order."""
    entries = exact.select(F.posexplode("embedding").alias("d", "x"))
    means = entries.groupBy("d").agg(F.avg("x").alias("mean")).orderBy("d").collect()
    return np.array([[row["mean"] for row in means]], dtype=np.float64)
