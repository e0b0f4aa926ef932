"""Jobs `ingest` to `prune` on texts of known source: clusters against sources, and dropped junk.

    python benchmarks/domains.py

The input is 400 documents of every corpus of the shared data. Their source is metadata that no job
reads; this script compares it with the result. Corpora named lowq_* are junk. A scorer is trained
on labels of 5 % of the documents: 0 for junk, 5 for the others. They replace labels of a large
model. Bars: 64 clusters have an NMI of 0.75 or more. A threshold of 3 on the scorer's mean drops at
least 85 % of the junk and at most 3 % of the other documents. For comparison, the table also has
the share that each rule score drops, without labels.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from section import Bar, Section, Table, run_section
from shared import JUNK, hash_id, sample_corpora
from sklearn.metrics import normalized_mutual_info_score

from climb import tables
from climb.config import Config, load
from climb.spark.delta.store import Store
from climb.spark.session import start_session

PER_FILE, CLUSTERS, DOMAINS = 400, 64, 24
QUICK_PER_FILE, QUICK_CLUSTERS, QUICK_DOMAINS = 12, 12, 6
THRESHOLD = 3.0
DOCUMENTS_PER_LABEL = 20
BAR_NMI, BAR_JUNK, BAR_OTHERS = 0.75, 0.85, 0.03
JOBS = ("ingest", "train_scorer", "count", "embed", "score", "cluster", "prune")
REPORTED_JOBS = ("train_scorer", "prune")
"""Jobs whose summary line becomes a note."""

RULES = ("rules", "gopher", "c4", "fineweb")
LABELS, ALL_JUNK, ALL_OTHERS = "labels for 5 %", "all junk", "all others"


def write_inputs(folder: Path, per_file: int) -> None:
    """Write the documents, and labels for one in DOCUMENTS_PER_LABEL of them."""
    texts, sources_N, ids = sample_corpora(per_file)
    pq.write_table(pa.table({"text": texts, "source": sources_N.tolist()}), folder / "text.parquet")
    with (folder / "labels.jsonl").open("w") as stream:
        for text, source, key in zip(texts, sources_N, ids, strict=True):
            if int(hash_id(f"label {key}")[:8], 16) % DOCUMENTS_PER_LABEL == 0:
                label = 0.0 if source.startswith(JUNK) else 5.0
                stream.write(json.dumps({"text": text, "label": label}) + "\n")


def build_config(folder: Path, clusters: int, domains: int) -> Config:
    """Build the configuration of the jobs, with the trained scorer and the default rules."""
    classifier = {"model": f"{folder}/scorer", "name": "clean"}
    scorers = [
        {"use": "climb.quality.rules:RuleScorer"},
        {"use": "climb.quality.classifier:ClassifierScorer", **classifier},
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
            f"cluster.k={clusters}",
            "cluster.sample_per_cluster=null",
            f"prune.thresholds.clean={THRESHOLD}",
            "prune.thresholds.rules=0",  # every score is at least 0, so the rules drop nothing
            "prune.merge_height=null",
            f"prune.domains={domains}",
        ]
    )


def run_jobs(cfg: Config, folder: str) -> tuple[list[str], list[Any], dict[int, Any]]:
    """Run all jobs: notes, (cluster, source) of every document, and rows of the clusters."""
    session = start_session(cfg.spark)
    store = Store(session, cfg.storage)
    lines = {name: importlib.import_module(f"climb.jobs.{name}").run(store, cfg) for name in JOBS}
    notes = [f"{name}: {lines[name]}.".replace(f"{folder}/", "") for name in REPORTED_JOBS]
    joined = store.read(tables.ASSIGNMENTS).join(store.read(tables.DOCUMENTS), on="doc_id")
    rows = joined.selectExpr("cluster", "metadata['source'] AS source").collect()
    clusters = {row["cluster"]: row for row in store.read_rows(tables.CLUSTERS)}
    session.stop()
    return notes, rows, clusters


def compute_shares(dropped_N: np.ndarray, sources_N: np.ndarray) -> dict[str, float]:
    """Compute the share of dropped documents in all junk, in all others, and in every source."""
    junk_N = np.char.startswith(sources_N, JUNK)
    groups = {ALL_JUNK: junk_N, ALL_OTHERS: ~junk_N}
    groups |= {source: sources_N == source for source in sorted(set(sources_N.tolist()))}
    return {name: float(dropped_N[rows].mean()) for name, rows in groups.items()}


def apply_threshold(clusters: Mapping[int, Any], score: str) -> dict[int, bool]:
    """Return, for each cluster, whether a threshold of 3 on one score would drop it."""
    return {c: row["scores"][score] < THRESHOLD for c, row in clusters.items()}


def measure(args: argparse.Namespace) -> Section:
    per_file, k, domains = PER_FILE, CLUSTERS, DOMAINS
    if args.quick:
        per_file, k, domains = QUICK_PER_FILE, QUICK_CLUSTERS, QUICK_DOMAINS
    with tempfile.TemporaryDirectory() as scratch:
        write_inputs(Path(scratch), per_file)
        notes, rows, clusters = run_jobs(build_config(Path(scratch), k, domains), scratch)
    clusters_N = np.array([row["cluster"] for row in rows])
    sources_N = np.array([row["source"] for row in rows])
    dropped = {LABELS: {c: not row["kept"] for c, row in clusters.items()}}
    dropped |= {name: apply_threshold(clusters, name) for name in RULES}
    shares = {
        name: compute_shares(np.array([drops[c] for c in clusters_N]), sources_N)
        for name, drops in dropped.items()
    }
    table = tuple(
        (source, *(f"{by_source[source]:.1%}" for by_source in shares.values()))
        for source in shares[LABELS]
    )
    nmi = float(normalized_mutual_info_score(sources_N, clusters_N))
    return Section(
        "domains",
        "Domains: clusters against sources, dropped junk, dropped good text",
        f"{len(rows):,} documents, {k} clusters. Share of each source that is dropped with a "
        f"threshold of {THRESHOLD} on the mean score of a cluster, by score.",
        (Table(("source", *shares), table),),
        (
            Bar("NMI of clusters and sources", nmi, at_least=BAR_NMI),
            Bar(f"{LABELS}: junk dropped", shares[LABELS][ALL_JUNK], at_least=BAR_JUNK, form=".1%"),
            Bar(
                f"{LABELS}: others dropped",
                shares[LABELS][ALL_OTHERS],
                at_most=BAR_OTHERS,
                form=".1%",
            ),
        ),
        tuple(notes),
    )


if __name__ == "__main__":
    run_section(measure)
