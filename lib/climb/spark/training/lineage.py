"""Record how many tokens a corpus has by domain and cluster, so that its trials can be reused.

A trial names its corpus by `corpus_digest`. Table `lineage` has the number of tokens of the
corpus by domain and cluster, in about as many rows as there are clusters. If domains change or
documents are added, the clusters stay the same. These rows are then enough to compute what two
corpora have in common. If the clusters are fitted again, every corpus is mapped to the new clusters
once. For this, the old and new cluster of each document are compared. The first `climb pack` after
the new clustering does this. By then, table `assignments` has only the new clusters. The old
clusters are read from the earlier version of this table that the previous `climb pack` read.

Axes: N pairs of clusters, B clusters before, C clusters now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.progress import log
from climb.search import Trials
from climb.search.reuse import Overlap, ReusableRuns, ReusableTrials, TokenTable, regroup
from climb.spark.delta.store import Store
from climb.spark.training.pack import compute_trial_share
from climb.spark.training.setup import TrainingSetup, digest_corpus

Array = NDArray[np.float64]

MISSING_VERSION = ("FILE_NOT_EXIST", "FILE_NOT_FOUND", "has no version", "VACUUM")
"""Words of Spark's and Delta's errors about a version whose files or log were deleted."""


def record_lineage(store: Store, cfg: Config, shards: Sequence[Mapping[str, Any]]) -> None:
    """Append the lineage of the corpus of these shards, unless it is recorded already.

    Call this function before table `shards` is replaced. If the job crashes in between, the next
    start then finds the same work to do.
    """
    digest = digest_corpus(shards)
    clustering = _read_clustering(store.read(tables.ASSIGNMENTS))
    recorded = _read_recorded_clusterings(store)
    if clustering not in recorded[digest]:
        made_with = {
            "corpus_digest": digest,
            "tokenizer": cfg.count.recipe,
            "trial_share": compute_trial_share(cfg),
            "clustering": clustering,
        }
        clusters = [row for row in store.read_rows(tables.CLUSTERS) if row["n_tokens"]]
        _append(store, [row | made_with for row in clusters], f"{digest}:{clustering}")
    others = sorted(d for d, names in recorded.items() if d != digest and clustering not in names)
    if others:
        _map_corpora(store, cfg, others, clustering)


def find_held_tables(store: Store) -> dict[str, str]:
    """Find the tables whose old versions are still needed: table -> why.

    After a new clustering, the next `climb pack` reads the version of the assignments that the
    previous `climb pack` read. VACUUM must keep this version until then.
    """
    inputs = store.history.read_inputs(tables.SHARDS)
    version = inputs["read"].get("assignments") if inputs else None
    if version is None or version == store.history.read_version(tables.ASSIGNMENTS):
        return {}
    remedy = "run `climb pack` before `climb maintain`"
    reason = f"the next `climb pack` may read version {version}; {remedy}"
    return {tables.ASSIGNMENTS.name: reason}


def read_reusable_runs(store: Store, cfg: Config, setup: TrainingSetup) -> ReusableRuns:
    """Read the finished runs of `setup.recipe` in other domains, mapped to the current domains.

    A run is reused only if its tokenizer and its trial share (the part of each domain that a trial
    may read) are those of this search. The smaller the trial share, the more often a run repeats
    scarce text, so runs with different trial shares are not comparable. Only runs of other corpora
    are read. This search adds no such runs, so every start reads the same ones.
    """
    min_kept = cfg.search.reuse_min_kept
    if min_kept is None or not (store.exists(tables.TRIALS) and store.exists(tables.LINEAGE)):
        return ReusableRuns()
    finished = store.read_rows(tables.TRIALS, proxy=setup.recipe, status="finished")
    rows = [row for row in finished if row["corpus_digest"] != setup.corpus_digest]
    corpora = sorted({row["corpus_digest"] for row in rows})
    by_corpus = _read_token_tables(store, cfg, [setup.corpus_digest, *corpora]) if corpora else {}
    current = by_corpus.get(setup.corpus_digest, {})
    earlier = []
    for digest in corpora:
        common = sorted(current.keys() & by_corpus.get(digest, {}).keys())
        if common:
            overlap = Overlap.from_clusters(by_corpus[digest][common[0]], current[common[0]])
            own = [row for row in rows if row["corpus_digest"] == digest]
            trials = Trials.from_rows(own, overlap.old, sorted(own[0]["metrics"]))
            earlier.append(ReusableTrials.from_trials(trials, overlap, min_kept))
    return ReusableRuns(tuple(earlier), len(rows))


def _read_clustering(assignments: DataFrame) -> str:
    """Return the name of the clustering; all rows have the same name."""
    return str(assignments.select("clustering").limit(1).collect()[0][0])


def _read_recorded_clusterings(store: Store) -> defaultdict[str, set[str]]:
    """Return corpus -> names of the clusterings in which its lineage is recorded."""
    recorded: defaultdict[str, set[str]] = defaultdict(set)
    if store.exists(tables.LINEAGE):
        pairs = store.read(tables.LINEAGE).select("corpus_digest", "clustering").distinct()
        for row in pairs.collect():
            recorded[row["corpus_digest"]].add(row["clustering"])
    return recorded


def _read_token_tables(
    store: Store, cfg: Config, corpora: Sequence[str]
) -> dict[str, dict[str, dict[tuple[str | None, int | None], float]]]:
    """Return tokens by corpus, clustering, and (domain, cluster).

    Corpora with another tokenizer or another trial share are left out.
    """
    rows = store.read(tables.LINEAGE).where(F.col("corpus_digest").isin(*corpora)).collect()
    found: dict[str, dict[str, dict[tuple[str | None, int | None], float]]] = {}
    made_with = (cfg.count.recipe, compute_trial_share(cfg))
    for row in rows:
        if (row["tokenizer"], row["trial_share"]) == made_with:
            by_clustering = found.setdefault(row["corpus_digest"], {})
            tokens = by_clustering.setdefault(row["clustering"], {})
            tokens[row["domain"], row["cluster"]] = row["n_tokens"]
    return found


def _map_corpora(store: Store, cfg: Config, corpora: Sequence[str], clustering: str) -> None:
    """Map recorded tokens of earlier corpora from the previous clustering to the current one."""
    inputs = store.history.read_inputs(tables.SHARDS)
    version = inputs["read"].get("assignments") if inputs else None
    if version is None:
        return
    try:
        assignments = store.read_at(tables.ASSIGNMENTS, version)
        before = _read_clustering(assignments)
        if before == clustering:
            # Corpora can only be mapped from the clustering that the previous `climb pack` read.
            # Here, this is already the current clustering. So the corpora that have no rows in the
            # current clustering are from an older one, and cannot be mapped any more.
            return
        lineage = store.read(tables.LINEAGE).where(F.col("clustering") == before)
        rows = lineage.where(F.col("corpus_digest").isin(*corpora)).collect()
        moved_BC = _count_moved_tokens(store, cfg, assignments) if rows else np.empty((0, 1))
    except Exception as error:
        if not any(words in str(error) for words in MISSING_VERSION):
            raise
        log(
            "pack",
            f"warning: VACUUM deleted version {version} of table assignments before it was "
            f"compared with the new clusters, so trials of {len(corpora)} earlier corpora cannot "
            "be reused",
        )
        return
    if rows:
        mapped = _map_rows(rows, clustering, moved_BC)
        _append(store, mapped, f"{before}:{clustering}")


def _map_rows(rows: Sequence[Row], clustering: str, moved_BC: Array) -> list[tables.Row]:
    """Return the rows of every corpus, mapped to the clusters of another clustering."""
    mapped: list[tables.Row] = []
    for digest in sorted({row["corpus_digest"] for row in rows}):
        own = [row.asDict() for row in rows if row["corpus_digest"] == digest]
        tokens: TokenTable = {(row["domain"], row["cluster"]): row["n_tokens"] for row in own}
        mapped += [
            own[0] | {"clustering": clustering, "domain": j, "cluster": c, "n_tokens": n}
            for (j, c), n in regroup(tokens, moved_BC).items()
        ]
    return mapped


def _count_moved_tokens(store: Store, cfg: Config, assignments: DataFrame) -> Array:
    """Count the tokens that each old cluster and each current cluster have in common.

    Returns:
        Shape (B, C + 1); the last column has the tokens of documents that now have no cluster.
    """
    now = store.read(tables.ASSIGNMENTS).select("doc_id", F.col("cluster").alias("now"))
    counts = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    sums = (
        assignments.select("doc_id", "cluster")
        .join(now, on="doc_id", how="left")
        .join(counts.select("doc_id", "n_tokens"), on="doc_id")
        .groupBy("cluster", F.coalesce("now", F.lit(-1)).alias("now"))
        .agg(F.sum("n_tokens").alias("n"))
    )
    from_N, to_N, n_N = (column.to_numpy() for column in sums.toArrow().columns)
    moved_BC = np.zeros((int(from_N.max(initial=-1)) + 1, int(to_N.max(initial=-1)) + 2))
    moved_BC[from_N, to_N] = n_N
    return moved_BC


def _append(store: Store, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    # Delta makes a commit with this name only once. If a user deletes rows, the table's version
    # changes, and with it the name, so the rows can be written again.
    once = f"{name}:{store.history.read_version(tables.LINEAGE)}"
    store.append(store.create_frame(rows, tables.LINEAGE), tables.LINEAGE, once=once)
