"""Embedders on texts of known source: documents a second, and how well clusters match sources.

    python benchmarks/embedders.py --per-file 400 static
    python benchmarks/embedders.py --per-file 100 static minilm

The sources are hidden from embedder and k-means; normalised mutual information (NMI) compares
the clusters with them afterwards, as a mean over three starts of k-means. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import time

import numpy as np
from shared import MINILM, corpus

from climb.config import build, load
from climb.embed import Embedder

CLUSTERS = (27, 64, 128)
STARTS = 3
WARM_UP = 16


def specs() -> dict[str, dict[str, object]]:
    """Embedders by the name that the command line takes."""
    static = dict(load().embed.embedder)
    by_limit = {f"static-{n}": {**static, "max_tokens": n} for n in (128, 256, 512)}
    return {"static": static, "minilm": MINILM, **by_limit}


def agreement(vectors_ND: np.ndarray, sources_N: np.ndarray, k: int) -> float:
    """NMI of k-means clusters with the sources, mean over starts."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    found = [
        normalized_mutual_info_score(
            sources_N, KMeans(k, n_init=1, random_state=seed).fit_predict(vectors_ND)
        )
        for seed in range(STARTS)
    ]
    return float(np.mean(found))


def measure(spec: dict[str, object], texts: list[str], sources_N: np.ndarray) -> dict[str, float]:
    embed = build(spec, Embedder).load("cpu")
    embed(texts[:WARM_UP])
    began = time.perf_counter()
    vectors_ND = np.concatenate([embed(texts[i : i + 512]) for i in range(0, len(texts), 512)])
    rate = len(texts) / (time.perf_counter() - began)
    return {"docs/s": rate} | {f"NMI {k}": agreement(vectors_ND, sources_N, k) for k in CLUSTERS}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("embedder", nargs="*", help=f"of {', '.join(specs())}")
    parser.add_argument("--per-file", type=int, default=40)
    args = parser.parse_args()
    texts, sources_N, _ = corpus(args.per_file)
    print(f"{len(texts):,} documents of {len(set(sources_N))} sources, one thread\n")
    print("| embedder | docs/s |" + "".join(f" NMI K={k} |" for k in CLUSTERS))
    print("|---|---|" + "---|" * len(CLUSTERS))
    for name in args.embedder or ["static", "minilm"]:
        rate, *nmi = measure(specs()[name], texts, sources_N).values()
        print(f"| {name} | {rate:.0f} |" + "".join(f" {x:.3f} |" for x in nmi), flush=True)


if __name__ == "__main__":
    main()
