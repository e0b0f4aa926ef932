"""The jobs themselves on texts of known source: do clusters match sources, does junk go?

    python benchmarks/domains.py

400 documents of every corpus of the shared data. Their source is metadata, which no job reads, and
is looked at here when all is done. Corpora named lowq_* are junk. A scorer learns from labels for
5 % of the documents (0 for junk, 5 for the others: a stand-in for a large model's annotations).
Bars: 64 clusters at NMI 0.75; with a threshold of 3 on the scorer's mean, at least 85 % of the junk
goes and at most 3 % of the rest. Beside it what the rule scores alone would do, without any label.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shared import JUNK, corpus, digest
from sklearn.metrics import normalized_mutual_info_score

from climb import tables
from climb.config import Config, load
from climb.spark.session import start_session
from climb.spark.store import Store

PER_FILE, CLUSTERS, THRESHOLD = 400, 64, 3.0
LABELLED = 20
"""One document in so many has a label."""

BAR_NMI, BAR_JUNK, BAR_OTHERS = 0.75, 0.85, 0.03
JOBS = ("ingest", "train_scorer", "count", "embed", "score", "cluster", "prune")


def configured(folder: Path) -> Config:
    """The pipeline's own jobs, with a scorer of labels beside the default rules."""
    texts, sources_N, ids = corpus(PER_FILE)
    pq.write_table(pa.table({"text": texts, "source": sources_N.tolist()}), folder / "text.parquet")
    with (folder / "labels.jsonl").open("w") as stream:
        for text, source, key in zip(texts, sources_N, ids, strict=True):
            if int(digest(f"label {key}")[:8], 16) % LABELLED == 0:
                label = 0.0 if source.startswith(JUNK) else 5.0
                stream.write(json.dumps({"text": text, "label": label}) + "\n")
    scorers = [
        {"use": "climb.quality.rules:RuleScorer"},
        {
            "use": "climb.quality.classifier:ClassifierScorer",
            "model": f"{folder}/scorer",
            "name": "clean",
        },
    ]
    return load(
        settings=[
            f"storage.root={folder}/out",
            "spark.shuffle_partitions=2",
            f"ingest.inputs=[{folder}/text.parquet]",
            "ingest.metadata_columns=[source]",
            "ingest.min_chars=1",
            f"score.training.labels={folder}/labels.jsonl",
            f"score.training.output={folder}/scorer",
            f"score.scorers={json.dumps(scorers)}",
            f"cluster.k={CLUSTERS}",
            "cluster.sample_per_cluster=null",
            f"prune.thresholds.clean={THRESHOLD}",
            "prune.thresholds.rules=0",  # every score is at least 0: no rule decides
            "prune.merge_height=null",
            "prune.domains=24",
        ]
    )


def shares(gone_N: np.ndarray, sources_N: np.ndarray) -> dict[str, float]:
    """Share of documents that went: of all junk, of all others, and of every source."""
    junk_N = np.char.startswith(sources_N, JUNK)
    groups = {"**all junk**": junk_N, "**all others**": ~junk_N}
    groups |= {source: sources_N == source for source in sorted(set(sources_N.tolist()))}
    return {name: float(gone_N[rows].mean()) for name, rows in groups.items()}


def pruned_by(clusters: Mapping[int, dict[str, object]], score: str) -> dict[int, bool]:
    """Which clusters a threshold of 3 on one score would drop."""
    return {c: row["scores"][score] < THRESHOLD for c, row in clusters.items()}  # type: ignore[index]


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        cfg = configured(Path(scratch))
        session = start_session(cfg.spark)
        store = Store(session, cfg.storage)
        for name in JOBS:
            said = importlib.import_module(f"climb.jobs.{name}").run(store, cfg)
            print(f"{name}: {said}".replace(f"{scratch}/", ""))
        joined = store.read(tables.ASSIGNMENTS).join(store.read(tables.DOCUMENTS), on="doc_id")
        rows = joined.selectExpr("cluster", "metadata['source'] AS source").collect()
        clusters = {row["cluster"]: row for row in store.rows(tables.CLUSTERS)}
        session.stop()
    clusters_N = np.array([row["cluster"] for row in rows])
    sources_N = np.array([row["source"] for row in rows])
    nmi = float(normalized_mutual_info_score(sources_N, clusters_N))
    kept = {c: not row["kept"] for c, row in clusters.items()}
    decided = {"labels for 5 %": kept}
    decided |= {name: pruned_by(clusters, name) for name in ("rules", "gopher", "c4", "fineweb")}
    found = {
        name: shares(np.array([drop[c] for c in clusters_N]), sources_N)
        for name, drop in decided.items()
    }
    print(f"\n{CLUSTERS} clusters of {len(rows):,} documents agree with their sources at NMI")
    print(f"**{nmi:.3f}** (bar: {BAR_NMI}).\n\nPruned by a threshold of {THRESHOLD} on:\n")
    print("| source |" + "".join(f" {name} |" for name in found))
    print("|---|" + "---|" * len(found))
    for source in found["rules"]:
        print(f"| {source} |" + "".join(f" {share[source]:.1%} |" for share in found.values()))
    labels = found["labels for 5 %"]
    junk, others = labels["**all junk**"], labels["**all others**"]
    print(f"\nBars for labels: junk at least {BAR_JUNK:.0%}, others at most {BAR_OTHERS:.0%}.")
    return int(nmi < BAR_NMI or junk < BAR_JUNK or others > BAR_OTHERS)


if __name__ == "__main__":
    sys.exit(main())
