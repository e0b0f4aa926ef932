"""Embedders on texts of known source: documents per second, and agreement of clusters with sources.

    python benchmarks/embedders.py
    python benchmarks/embedders.py --per-file 400 static

Neither the embedder nor k-means uses the sources. The agreement is normalized mutual information
(NMI) of clusters and sources, mean over three starts of k-means. Embedders use one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import time

import numpy as np
from section import Section, Table, run_section
from shared import MINILM, sample_corpora

from climb.config import build, load
from climb.embed import Embedder

CLUSTERS = (27, 64, 128)
STARTS = 3
WARM_UP = 16
PER_FILE, QUICK_PER_FILE = 40, 5


def list_specs() -> dict[str, dict[str, object]]:
    """Return the specifications of embedders by their name on the command line."""
    static = dict(load().embed.embedder)
    by_limit = {f"static-{n}": {**static, "max_tokens": n} for n in (128, 256, 512)}
    return {"static": static, "minilm": MINILM, **by_limit}


def compute_agreement(vectors_ND: np.ndarray, sources_N: np.ndarray, k: int) -> float:
    """NMI of k-means clusters and sources, mean over starts."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    scores = [
        normalized_mutual_info_score(
            sources_N, KMeans(k, n_init=1, random_state=seed).fit_predict(vectors_ND)
        )
        for seed in range(STARTS)
    ]
    return float(np.mean(scores))


def measure_embedder(
    spec: dict[str, object], texts: list[str], sources_N: np.ndarray
) -> tuple[str, ...]:
    """Cells of one row: documents per second, and NMI for each number of clusters."""
    embed = build(spec, Embedder).load("cpu")
    embed(texts[:WARM_UP])
    start = time.perf_counter()
    vectors_ND = np.concatenate([embed(texts[i : i + 512]) for i in range(0, len(texts), 512)])
    rate = len(texts) / (time.perf_counter() - start)
    agreements = [compute_agreement(vectors_ND, sources_N, k) for k in CLUSTERS]
    return f"{rate:.0f}", *(f"{nmi:.3f}" for nmi in agreements)


def measure(args: argparse.Namespace) -> Section:
    texts, sources_N, _ = sample_corpora(QUICK_PER_FILE if args.quick else args.per_file)
    specs = list_specs()
    rows = [
        (name, *measure_embedder(specs[name], texts, sources_N))
        for name in args.embedder or ["static", "minilm"]
    ]
    return Section(
        "embedders",
        "Embedders: speed and agreement of clusters with sources",
        f"{len(texts):,} documents of {len(set(sources_N))} sources, one thread.",
        (Table(("embedder", "docs/s", *(f"NMI, K = {k}" for k in CLUSTERS)), tuple(rows)),),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("embedder", nargs="*", help=f"of {', '.join(list_specs())}")
    parser.add_argument("--per-file", type=int, default=PER_FILE, help="documents of each source")
    run_section(measure, parser)
