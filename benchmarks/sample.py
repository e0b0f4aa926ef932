"""What a fit on a sample loses: inertia of all vectors, by documents per cluster, on real text.

    python benchmarks/sample.py

Bar: with the default `cluster.sample_per_cluster`, at most 0.5 % above a fit on all vectors. The
vectors are those of passages of the shared corpora, so that there are many per cluster. For each
sample, the table also has the loss that job `cluster` would report: an estimate, because the job
makes no fit on all vectors.
"""

from __future__ import annotations

import argparse

import numpy as np
from section import Bar, Section, Table, run_section
from shared import sample_corpora

from climb.config import build, load
from climb.domains.assignment import NearestCentroid, quantize
from climb.domains.lloyd import draw_centroids, fit_centroids, sum_clusters
from climb.embed import Embedder
from climb.spark.corpus.fit_sample import SampleFit

WORDS = 100
PER_FILE, QUICK_PER_FILE = 1_500, 4
K, QUICK_K = 64, 4
SAMPLES = (32, 64, 128, 256, 512)
SEEDS, QUICK_SEEDS = 3, 1
FULL = "all"
BAR = 0.005


def read_passages(per_file: int) -> list[str]:
    """Cut documents of every corpus into passages of 100 words, and shuffle them."""
    texts, _, _ = sample_corpora(per_file)
    words = [text.split() for text in texts]
    passages = [
        " ".join(document[i : i + WORDS])
        for document in words
        for i in range(0, max(1, len(document) - WORDS // 2), WORDS)
    ]
    order = np.random.default_rng(0).permutation(len(passages))
    return [passages[i] for i in order]


def embed(texts: list[str]) -> np.ndarray:
    """Vectors of the default embedder, quantized; texts without a vector are left out."""
    run = build(load().embed.embedder, Embedder).load("cpu")
    vectors_ND = np.concatenate([run(texts[i : i + 512]) for i in range(0, len(texts), 512)])
    return quantize(vectors_ND[vectors_ND.any(axis=1)])


def fit(vectors_ND: np.ndarray, k: int, seed: int) -> np.ndarray:
    cluster = load().cluster.clusterer
    rng = np.random.default_rng(seed)
    first_CD = draw_centroids(vectors_ND[: 10 * k].astype(np.float64), k, rng)
    found = fit_centroids(
        first_CD,
        lambda centroids_CD: sum_clusters([vectors_ND], centroids_CD),
        cluster["max_iterations"],
        cluster["tolerance"],
        rng,
    )
    return found.centroids_CD


def compare(vectors_ND: np.ndarray, k: int, seed: int) -> dict[int, tuple[float, float]]:
    """Sample size -> true relative loss, and the loss that the job reports."""
    vectors_ND = vectors_ND[np.random.default_rng(seed).permutation(len(vectors_ND))]

    def measure_squares(centroids_CD: np.ndarray) -> np.ndarray:
        return NearestCentroid(centroids_CD).assign(vectors_ND)[1] ** 2

    full = measure_squares(fit(vectors_ND, k, seed)).mean()
    found = {}
    for per_cluster in SAMPLES:
        n = per_cluster * k
        if 2 * n > len(vectors_ND):
            continue
        squares_N = measure_squares(fit(vectors_ND[:n], k, seed))
        reported = SampleFit(n, squares_N[:n].mean(), len(squares_N) - n, squares_N[n:].mean()).loss
        found[per_cluster] = (squares_N.mean() / full - 1.0, reported)
    return found


def measure(args: argparse.Namespace) -> Section:
    vectors_ND = embed(read_passages(QUICK_PER_FILE if args.quick else PER_FILE))
    k, seeds = (QUICK_K, QUICK_SEEDS) if args.quick else (K, SEEDS)
    runs = [compare(vectors_ND, k, seed) for seed in range(seeds)]
    rows = []
    for per_cluster in runs[0]:
        true, reported = np.array([run[per_cluster] for run in runs]).T
        rows.append(
            (
                f"{per_cluster:,}",
                f"{true.mean():.2%}",
                f"{true.min():.2%} to {true.max():.2%}",
                f"{reported.mean():.2%}",
            )
        )
    default = load().cluster.sample_per_cluster
    losses = [run[default][0] for run in runs if default in run]
    bars = () if not losses else (
        Bar(
            f"loss with {default} documents per cluster, mean",
            float(np.mean(losses)),
            at_most=BAR,
            form=".2%",
        ),
    )  # fmt: skip
    columns = (
        "documents per cluster",
        "loss against all, mean",
        "range",
        "loss reported by the job",
    )
    return Section(
        "sample",
        "Fit of k-means on a sample against a fit on all vectors",
        f"{len(vectors_ND):,} passages of the shared corpora, K = {k}, {seeds} samples and seeds.",
        (Table(columns, tuple(rows)),),
        bars,
        ("The loss includes that two fits end in different local minima.",),
    )


if __name__ == "__main__":
    run_section(measure)
