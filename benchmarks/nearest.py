"""Assignment against faiss-cpu's search: 200,000 vectors of width 384, K = 1000, on two cores.

    python benchmarks/nearest.py

Bars: at least 0.8 times as fast as `IndexFlatL2.search`, and the Spark job adds at most 5 seconds.
climb's labels are exact, faiss's have the rounding of single precision. climb runs as in two tasks:
half of the vectors in each of two threads, and no threads of the BLAS. The job reads Parquet files
and discards its rows. After one uncounted run of each, runs alternate.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from assignment import SLOTS, WIDTH, measure_seconds, write_vectors
from section import Bar, Section, Table, run_section
from threadpoolctl import threadpool_limits

from climb.config import load
from climb.domains.assignment import NearestCentroid, quantize
from climb.spark.corpus.cluster import assign_documents
from climb.spark.session import start_session

N_VECTORS, N_CLUSTERS, REPEATS = 200_000, 1_000, 5
QUICK_N_VECTORS, QUICK_N_CLUSTERS, QUICK_REPEATS = 4_000, 20, 1
BAR, MOST_SECONDS = 0.8, 5.0
NAMES = ("faiss-cpu, IndexFlatL2.search", "climb, NearestCentroid.assign", "climb, Spark job")


def assign_in_threads(centroids_CD: np.ndarray, vectors_ND: np.ndarray) -> np.ndarray:
    """Labels of the vectors, a part of them in each thread."""
    nearest = NearestCentroid(centroids_CD)
    with ThreadPoolExecutor(SLOTS) as pool, threadpool_limits(1):
        parts = list(pool.map(nearest.assign, np.array_split(vectors_ND, SLOTS)))
    return np.concatenate([labels_N for labels_N, _ in parts])


def build_calls(
    folder: str, centroids_CD: np.ndarray, vectors_ND: np.ndarray
) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray], Callable[[], float]]:
    """What is timed: faiss's search, the assignment in memory, and the Spark job."""
    import faiss

    faiss.omp_set_num_threads(SLOTS)
    index = faiss.IndexFlatL2(WIDTH)
    index.add(centroids_CD.astype(np.float32))
    rows = assign_documents(
        start_session(load().spark).read.parquet(folder), centroids_CD, "benchmark"
    )
    return (
        lambda: index.search(vectors_ND, 1)[1][:, 0],
        lambda: assign_in_threads(centroids_CD, vectors_ND),
        lambda: measure_seconds(rows),
    )


def compare(n: int, k: int, repeats: int) -> tuple[float, np.ndarray]:
    """Share of equal labels, and seconds of the three, shape (repeats, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder), n, k)
        rows = pq.read_table(folder)["embedding"].combine_chunks()
        vectors_ND = rows.flatten().to_numpy().reshape(n, WIDTH)
        # Vectors of the data as centroids: as uneven as real ones.
        centroids_CD = quantize(vectors_ND[:: n // k][:k].astype(np.float64))
        calls = build_calls(folder, centroids_CD, vectors_ND)
        agreement = float(np.mean(calls[0]() == calls[1]()))
        calls[2]()
        seconds = np.empty((repeats, len(calls)))
        for repeat in range(repeats):
            for i, call in enumerate(calls):
                start = time.perf_counter()
                call()
                seconds[repeat, i] = time.perf_counter() - start
    return agreement, seconds


def measure(args: argparse.Namespace) -> Section:
    try:
        import faiss  # noqa: F401
    except ImportError:
        print("skipped: this benchmark compares with faiss-cpu; make bench installs it")
        sys.exit(0)
    n, k, repeats = (
        (QUICK_N_VECTORS, QUICK_N_CLUSTERS, QUICK_REPEATS)
        if args.quick
        else (N_VECTORS, N_CLUSTERS, REPEATS)
    )
    agreement, seconds = compare(n, k, repeats)
    text = f"{n:,} vectors of width {WIDTH}, K = {k:,}; {SLOTS} cores, {repeats} interleaved runs."
    return describe(text, agreement, seconds)


def describe(text: str, agreement: float, seconds: np.ndarray) -> Section:
    """Tables and bars from the seconds, shape (repeats, 3)."""
    rows = [
        (name, f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}")
        for name, each in zip(NAMES, seconds.T.tolist(), strict=True)
    ]
    ratios = (seconds[:, 0] / seconds[:, 1]).tolist()
    added = (seconds[:, 2] - seconds[:, 1]).tolist()
    return Section(
        "nearest",
        "Assignment to the nearest centroid against faiss-cpu",
        text,
        (Table(("", "seconds, median", "range"), tuple(rows)),),
        (
            Bar(
                "seconds of faiss-cpu / seconds of climb, median",
                statistics.median(ratios),
                at_least=BAR,
                form=".2f",
            ),
            Bar(
                "seconds that the Spark job adds, median",
                statistics.median(added),
                at_most=MOST_SECONDS,
                form=".1f",
            ),
        ),
        (
            f"Range of the ratio: {min(ratios):.2f} to {max(ratios):.2f}. Equal labels: "
            f"{agreement:.4%} of the vectors.",
        ),
    )


if __name__ == "__main__":
    run_section(measure)
