"""Fit of k-means against MLlib's default call, and against faiss-cpu: 200,000 x 384, K = 1000.

    python benchmarks/kmeans.py

Bar: 5 times as fast as `KMeans(k=K).fit`, with an inertia that is not larger. MLlib's fit takes
minutes at full size, so each fit runs once there; at a twentieth of the size the runs alternate.
All three get the same vectors, two cores and at most 20 iterations, MLlib's default.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from assignment import WIDTH, write_vectors
from pyspark.ml.clustering import KMeans
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from section import Bar, Section, Table, run_section

from climb.config import load
from climb.domains.assignment import NearestCentroid
from climb.spark.corpus.lloyd import ExactKMeans
from climb.spark.session import start_session

SIZES = ((10_000, 250, 3), (200_000, 1_000, 1))
"""Vectors, clusters, repeats."""

QUICK_SIZES = ((600, 8, 1),)
ITERATIONS = 20
BAR, LARGEST_INERTIA = 5.0, 1.001
NAMES = ("MLlib", "climb", "faiss-cpu")


def measure_inertia(vectors_ND: np.ndarray, centroids_CD: np.ndarray) -> float:
    """Mean squared distance to the nearest centroid."""
    _, distances_N = NearestCentroid(np.asarray(centroids_CD, dtype=np.float64)).assign(vectors_ND)
    return float(np.mean(distances_N**2))


def fit_mllib(vectors: DataFrame, k: int) -> np.ndarray:
    # MLlib needs an array whose elements cannot be NULL.
    not_null = F.transform("embedding", lambda x: F.coalesce(x, F.lit(0.0).cast("float")))
    features = vectors.select(not_null.alias("features"))
    return np.array(KMeans(k=k, seed=0).fit(features).clusterCenters())


def fit_climb(vectors: DataFrame, k: int) -> np.ndarray:
    return ExactKMeans(max_iterations=ITERATIONS, tolerance=1e-4).fit(vectors, k, 0)


def fit_faiss(vectors_ND: np.ndarray, k: int) -> np.ndarray:
    import faiss

    # Without this it fits to a sample of 256 vectors per cluster.
    kmeans = faiss.Kmeans(
        WIDTH, k, niter=ITERATIONS, seed=0, max_points_per_centroid=len(vectors_ND)
    )
    kmeans.train(vectors_ND)
    return kmeans.centroids


def compare(spark: SparkSession, n: int, k: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and inertias of MLlib, climb and faiss, shape (repeats, 3) each."""
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder), n, k)
        rows = pq.read_table(folder)["embedding"].combine_chunks()
        vectors_ND = rows.flatten().to_numpy().reshape(n, WIDTH)
        vectors = spark.read.parquet(folder)
        calls = ((fit_mllib, vectors), (fit_climb, vectors), (fit_faiss, vectors_ND))
        fit_climb(vectors, 2)  # starts the Python workers
        seconds, inertias = np.empty((repeats, 3)), np.empty((repeats, 3))
        for repeat in range(repeats):
            for i, (fit, data) in enumerate(calls):
                start = time.perf_counter()
                centroids_CD = fit(data, k)
                seconds[repeat, i] = time.perf_counter() - start
                inertias[repeat, i] = measure_inertia(vectors_ND, centroids_CD)
    return seconds, inertias


def describe(
    size: str, seconds: np.ndarray, inertias: np.ndarray
) -> tuple[list[tuple[str, ...]], tuple[Bar, ...], str]:
    """Rows of the table, bars, and a note about one size; arrays of shape (repeats, 3)."""
    rows = [
        (
            size,
            name,
            f"{statistics.median(times):.1f}",
            f"{min(times):.1f} to {max(times):.1f}",
            f"{statistics.median(values):.5f}",
        )
        for name, times, values in zip(NAMES, seconds.T, inertias.T, strict=True)
    ]
    ratios = (seconds[:, 0] / seconds[:, 1]).tolist()
    of_faiss = (seconds[:, 2] / seconds[:, 1]).tolist()
    ratio, inertia = statistics.median(ratios), float(np.median(inertias[:, 1] / inertias[:, 0]))
    bars = (
        Bar(f"seconds of MLlib / of climb, {size}, median", ratio, at_least=BAR, form=".1f"),
        Bar(f"inertia of climb / of MLlib, {size}", inertia, at_most=LARGEST_INERTIA),
    )
    note = (
        f"{size}: range of the ratio to MLlib {min(ratios):.1f} to {max(ratios):.1f}; seconds of "
        f"faiss-cpu / seconds of climb {statistics.median(of_faiss):.2f} "
        f"({min(of_faiss):.2f} to {max(of_faiss):.2f})."
    )
    return rows, bars, note


def measure(args: argparse.Namespace) -> Section:
    try:
        import faiss  # noqa: F401
    except ImportError:
        print("skipped: this benchmark compares with faiss-cpu; make bench installs it")
        sys.exit(0)
    spark = start_session(load().spark)
    sizes = QUICK_SIZES if args.quick else SIZES[: args.sizes]
    found = [
        describe(f"{n:,} x {WIDTH}, K = {k:,}", *compare(spark, n, k, repeats))
        for n, k, repeats in sizes
    ]
    spark.stop()
    return Section(
        "kmeans",
        "Fit of k-means against MLlib and faiss-cpu",
        f"At most {ITERATIONS} iterations, 2 cores; runs alternate. MLlib is its default call.",
        (
            Table(
                ("vectors", "fit", "seconds, median", "range", "inertia per vector"),
                tuple(row for rows, _, _ in found for row in rows),
            ),
        ),
        tuple(bar for _, bars, _ in found for bar in bars),
        (
            *(note for _, _, note in found),
            "faiss-cpu reads the vectors from memory, the others from Parquet files.",
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--sizes", type=int, default=len(SIZES), help="only the first so many sizes"
    )
    run_section(measure, parser)
