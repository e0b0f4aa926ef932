"""How much junk goes, and how much else, when clusters are pruned by the mean of a score.

    python benchmarks/pruning.py

Corpora named lowq_* are junk. A scorer learns from labels for 5 % of the documents (0 for junk, 5
for the others: a stand-in for a large model's annotations); the default embedder's vectors make 64
clusters; clusters with a mean under 3 go. Bar: at least 85 % of the junk and at most 3 % of the
rest. Beside it the same with the rule scores alone, which know no labels.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import tempfile
from pathlib import Path

import numpy as np
from shared import JUNK, corpus, digest

from climb.config import build, load
from climb.domains import prune
from climb.embed import Embedder
from climb.quality.classifier import ClassifierScorer
from climb.quality.rules import RuleScorer
from climb.quality.training import ScorerTrainer, train_scorer

CLUSTERS = 64
THRESHOLD = 3.0
LABELLED = 20
"""One document in so many has a label."""


def labelled_scores(texts: list[str], ids: list[str], junk_N: np.ndarray) -> np.ndarray:
    """Train on the labelled documents, and score all."""
    rows = [i for i, key in enumerate(ids) if int(digest(f"label {key}")[:8], 16) % LABELLED == 0]
    trainer = build(load().score.training.trainer, ScorerTrainer)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        trained = train_scorer(
            trainer, [texts[i] for i in rows], [0.0 if junk_N[i] else 5.0 for i in rows], folder
        )
        print(f"scorer: {trained}")
        return ClassifierScorer(model=str(folder), name="clean").load("cpu")(texts)["clean"]


def pruned(scores_N: np.ndarray, clusters_N: np.ndarray) -> np.ndarray:
    """Which documents go with their cluster."""
    means_C1 = np.array([[scores_N[clusters_N == c].mean()] for c in range(CLUSTERS)])
    kept_C, _ = prune(means_C1, ["score"], {"score": THRESHOLD})
    return ~kept_C[clusters_N]


def main() -> None:
    from sklearn.cluster import KMeans

    parser = argparse.ArgumentParser()
    parser.add_argument("--per-file", type=int, default=400)
    parser.add_argument("--start", type=int, default=0, help="seed of k-means")
    args = parser.parse_args()
    texts, sources_N, ids = corpus(args.per_file)
    junk_N = np.char.startswith(sources_N, JUNK)
    embed = build(load().embed.embedder, Embedder).load("cpu")
    vectors_ND = np.concatenate([embed(texts[i : i + 512]) for i in range(0, len(texts), 512)])
    clusters_N = KMeans(CLUSTERS, n_init=1, random_state=args.start).fit_predict(vectors_ND)
    scores = {"clean": labelled_scores(texts, ids, junk_N), **RuleScorer().load("cpu")(texts)}
    gone = {name: pruned(values_N, clusters_N) for name, values_N in scores.items()}

    print("\n| source |" + "".join(f" {n} mean | pruned |" for n in scores))
    print("|---|" + "---|---|" * len(scores))
    groups = {"**all junk**": junk_N, "**all others**": ~junk_N}
    groups |= {source: sources_N == source for source in sorted(set(sources_N))}
    for name, rows in groups.items():
        print(line(name, rows, scores, gone))


def line(
    name: str, rows: np.ndarray, scores: dict[str, np.ndarray], gone: dict[str, np.ndarray]
) -> str:
    cells = [f" {scores[s][rows].mean():.2f} | {gone[s][rows].mean():.1%} |" for s in scores]
    return f"| {name} |" + "".join(cells)


if __name__ == "__main__":
    main()
