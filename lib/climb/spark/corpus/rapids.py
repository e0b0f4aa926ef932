"""k-means on GPUs as a clusterer: cuML through spark-rapids-ml. Executors must have cuML.

Axes: C centroids, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb.errors import ConfigError, PreflightError
from climb.spark.corpus.kmeans import average_vectors, distribute_rows, quantize_column
from climb.spark.executors import RAPIDS

Array = NDArray[np.float64]

MAX_SEED = 2**31 - 1
"""Largest seed that spark-rapids-ml accepts."""


@dataclass(frozen=True, kw_only=True)
class RapidsKMeans:
    """cuML's k-means with k-means|| initialization, one GPU per worker.

    The rows have a fixed distribution and order, and the vectors are quantized, so every fit gets
    the same input. But cuML adds in single precision and in no fixed order: two fits may differ in
    some clusters. So this is the only clusterer that may return other centroids in another run.
    Table `centroids` stores the fit, and later runs with the same settings read it, unless
    `cluster.refit` makes a new fit.

    Source:
        KMeans of spark-rapids-ml 26.6.
    """

    needs: ClassVar[tuple[str, ...]] = ("spark_rapids_ml", "psutil")
    extra: ClassVar[str] = "rapids"
    needs_in_tasks: ClassVar[tuple[str, ...]] = ("spark_rapids_ml", "psutil", "cupy", "cuml")
    uses_gpu: ClassVar[bool] = True

    max_iterations: int
    tolerance: float
    """The argument `tol` of cuML, above 0. It has another meaning than the tolerance of MLlib."""

    workers: int
    """Number of GPUs of the fit; each GPU has a part of the vectors. The number is part of the
    recipe, because another number draws other first centroids."""

    samples_per_batch: int
    """Vectors whose distances to all centroids are computed at once: 32,768 with K = 1,000 need 131
    MB of GPU memory."""

    def __post_init__(self) -> None:
        """Check the numbers here: cuML would reject wrong ones in tasks, or replace them."""
        if min(self.max_iterations, self.workers, self.samples_per_batch) < 1:
            raise ConfigError(
                f"{self}: max_iterations, workers and samples_per_batch must be at least 1"
            )
        if not self.tolerance > 0:
            raise ConfigError(f"{self}: cuML needs a tolerance above 0")

    def fit(self, vectors: DataFrame, k: int, seed: int) -> Array:
        """Fit at most k centroids to vectors(doc_id, embedding); return centroids_CD.

        Raises:
            ConfigError: the seed is out of range, or there are fewer GPUs or vectors than workers.
            PreflightError: executors lack cuML.
        """
        if not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"cluster.seed is {seed}; RapidsKMeans needs 0 to {MAX_SEED:,}")
        exact = vectors.select("doc_id", quantize_column("embedding").alias("embedding"))
        if k == 1:
            return average_vectors(exact)
        # Multiples of 2^-16 up to 256 are exact in single precision too.
        single = F.transform("embedding", lambda x: x.cast("float")).alias("embedding")
        rows = distribute_rows(exact.select("doc_id", single), self.workers)
        try:
            model = self.build_estimator(k, seed).fit(rows)
        except Exception as error:
            raise self._explain(error) from error
        return np.array(model.clusterCenters(), dtype=np.float64)

    def build_estimator(self, k: int, seed: int) -> Any:
        """Build spark-rapids-ml's estimator; needs a Spark session, but no GPU."""
        from spark_rapids_ml.clustering import KMeans

        # n_init=1 as in MLlib: every further start takes as long as the first. The settings of
        # spark-rapids-ml in Spark's configuration do not change arguments that are passed here.
        return KMeans(
            k=k,
            featuresCol="embedding",
            initMode="k-means||",
            maxIter=self.max_iterations,
            tol=self.tolerance,
            seed=seed,
            num_workers=self.workers,
            n_init=1,
            max_samples_per_batch=self.samples_per_batch,
            float32_inputs=True,
        )

    def _explain(self, error: Exception) -> Exception:
        """Return a one-line error if settings or missing packages are the cause; else `error`."""
        text = str(error)
        for module in ("cupy", "cuml"):
            if f"No module named '{module}" in text:
                return PreflightError(
                    f"cluster.clusterer: executors cannot import {module}; {RAPIDS}"
                )
        if "The num_workers (" in text:
            return ConfigError(
                f"cluster.clusterer.workers is {self.workers}, and this machine has fewer GPUs "
                "or cores; set it to at most the number of GPUs and of cores"
            )
        if "received no data" in text:
            return ConfigError(
                f"cluster.clusterer.workers is {self.workers}, and a worker got none of the "
                "vectors, which a hash of doc_id distributes; use fewer workers"
            )
        return error
