"""Measure the clusters, prune and merge them, and build the rows of `clusters` and `domains`.

`climb.domains` decides which clusters are kept and merged; this module aggregates the measurements
for that decision and converts its result to rows.

Axes: C clusters, S scores, D width of the vectors, K domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, recipe_of
from climb.config.sections import PruneConfig
from climb.domains.merge import merge
from climb.domains.prune import prune, prune_to_share
from climb.domains.shares import compute_token_shares
from climb.domains.terms import find_distinctive_terms
from climb.errors import ConfigError, TableError
from climb.progress import log
from climb.spark.corpus.names import DomainNames
from climb.spark.corpus.samples import select_examples, select_ids
from climb.spark.corpus.score import build_scorers
from climb.spark.delta.store import Store

Array = NDArray[np.float64]

SCORE_BITS = 20
"""Each score is multiplied by 2^20 and rounded to a whole number. These whole numbers are added, so
the sum does not depend on the order of the documents."""


EMPTY = "no documents"
"""Reason for which a cluster without tokens is pruned."""

MAX_CLUSTERS_SHOWN = 20
"""Maximum clusters in the table of an error message."""


@dataclass(frozen=True, eq=False)
class ClusterMeasurements:
    """Sizes and mean scores of all clusters; row c of each array is cluster number c."""

    centroids_CD: Array
    documents_C: NDArray[np.int64]
    tokens_C: NDArray[np.int64]
    names: tuple[str, ...]
    """Names of the S scores."""

    scores_CS: Array
    """Means over the documents of each cluster; NaN for a cluster without documents."""


def measure_clusters(store: Store, cfg: Config) -> ClusterMeasurements:
    """Measure documents, tokens and mean scores of every cluster.

    Raises:
        TableError: the assignments are incomplete or belong to other centroids, or documents have
            no token count or no score.
    """
    centroids = store.read_rows(tables.CENTROIDS)
    clusterings = {row["clustering"] for row in centroids}
    assigned = store.read(tables.ASSIGNMENTS)
    if not assigned.where(~F.col("clustering").isin(*clusterings)).isEmpty():
        raise TableError(
            "table assignments was computed with other centroids than those in table centroids; "
            "run `climb cluster` again"
        )
    _check_assigned(store, assigned.count())
    counted = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    sums = (
        assigned.join(counted.select("doc_id", "n_tokens"), on="doc_id", how="left")
        .groupBy("cluster")
        .agg(F.count("*"), F.count("n_tokens"), F.coalesce(F.sum("n_tokens"), F.lit(0)))
    )
    documents_C, counted_C, tokens_C = np.zeros((3, len(centroids)), dtype=np.int64)
    for cluster, n_documents, n_counted, n_tokens in sums.collect():
        documents_C[cluster], counted_C[cluster] = n_documents, n_counted
        tokens_C[cluster] = n_tokens
    _check_complete("tokens", "count", counted_C, documents_C)
    names, scores_CS = _average_scores(store, cfg, assigned, documents_C)
    vectors_CD = np.array([row["centroid"] for row in centroids])
    return ClusterMeasurements(vectors_CD, documents_C, tokens_C, names, scores_CS)


def prune_and_merge(
    measured: ClusterMeasurements, cfg: PruneConfig
) -> tuple[list[str | None], NDArray[np.int64], NDArray[np.int64]]:
    """Choose the clusters that are kept, and merge them into domains.

    Returns:
        Per cluster, the reason why it is pruned, or None; the kept clusters; the domain of each
        kept cluster. Domains are numbered by their tokens, largest first.

    Raises:
        ConfigError: no cluster or only one domain is left, or a threshold names an unknown score.
    """
    filled = np.flatnonzero(measured.tokens_C > 0)
    scores_CS, tokens_C = measured.scores_CS[filled], measured.tokens_C[filled]
    if cfg.keep_token_share is not None:
        kept_C, filled_reasons = prune_to_share(scores_CS, tokens_C, cfg.keep_token_share)
    else:
        kept_C, filled_reasons = prune(scores_CS, measured.names, cfg.thresholds)
    if not kept_C.any():
        raise ConfigError(_describe_empty_result(measured, cfg))
    reasons: list[str | None] = [EMPTY] * len(measured.tokens_C)
    for cluster, reason in zip(filled, filled_reasons, strict=True):
        reasons[cluster] = reason
    kept = filled[kept_C]
    if cfg.domains is not None and cfg.domains > len(kept):
        log(
            "prune",
            f"warning: prune.domains is {cfg.domains}, but only {len(kept)} clusters are kept",
        )
    labels = merge(
        measured.centroids_CD[kept],
        measured.documents_C[kept],
        height=cfg.merge_height,
        n_domains=cfg.domains,
        weighted=cfg.weighted,
        min_documents=cfg.min_domain_documents,
    )
    sizes_K = np.bincount(labels, weights=measured.tokens_C[kept]).astype(np.int64)
    rank_K = np.argsort(np.argsort(-sizes_K, kind="stable"))
    return reasons, kept, rank_K[labels]


def build_domain_rows(
    measured: ClusterMeasurements,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    samples: Sequence[Sequence[Row]],
    n_terms: int,
    names: DomainNames,
) -> list[tables.Row]:
    """Build the rows of `domains`, largest first.

    Args:
        measured: all clusters.
        kept: numbers of the kept clusters.
        labels: domain of each kept cluster, from 0.
        samples: some documents of each kept cluster, sorted by distance to its centroid.
        n_terms: distinctive terms per domain.
        names: earlier names, and those that the user gave.
    """
    members_K = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    texts_K = [[row["text"] for i in members for row in samples[i]] for members in members_K]
    terms_K = find_distinctive_terms(texts_K, n_terms)
    tokens_K = np.array([measured.tokens_C[kept[members]].sum() for members in members_K])
    numbers = {kept[i]: int(labels[i]) for i in range(len(kept))}
    names_K, generated_K = names.choose(terms_K, numbers)
    shares_K = compute_token_shares(tokens_K)
    described = zip(names_K, generated_K, members_K, shares_K, terms_K, strict=True)
    return [
        {
            "domain": name,
            "generated_name": generated,
            "clusters": kept[members].tolist(),
            "n_documents": int(measured.documents_C[kept[members]].sum()),
            "n_tokens": int(measured.tokens_C[kept[members]].sum()),
            "token_share": float(share),
            "terms": terms,
            "examples": select_examples([samples[i] for i in members]),
            "sample": select_ids([samples[i] for i in members]),
        }
        for name, generated, members, share, terms in described
    ]


def build_cluster_rows(
    measured: ClusterMeasurements,
    reasons: Sequence[str | None],
    domains: Sequence[tables.Row],
) -> list[tables.Row]:
    """Build the rows of `clusters`: one for every cluster, kept or pruned."""
    domain_of = {c: row["domain"] for row in domains for c in row["clusters"]}
    return [
        {
            "cluster": c,
            "n_documents": int(measured.documents_C[c]),
            "n_tokens": int(measured.tokens_C[c]),
            "scores": {
                name: float(value)
                for name, value in zip(measured.names, measured.scores_CS[c], strict=True)
                if np.isfinite(value)
            },
            "kept": reason is None,
            "reason": reason,
            "domain": domain_of.get(c),
        }
        for c, reason in enumerate(reasons)
    ]


def _average_scores(
    store: Store, cfg: Config, assigned: DataFrame, documents_C: NDArray[np.int64]
) -> tuple[tuple[str, ...], Array]:
    """Return the names of the configured scores, and their means over each cluster's documents."""
    scorers = build_scorers(cfg.score.scorers)
    names = tuple(sorted(name for scorer in scorers for name in scorer.names))
    means_CS = np.full((len(documents_C), len(names)), np.nan)
    if not names:
        return names, means_CS
    recipes = [recipe_of(scorer) for scorer in scorers]
    made = store.read(tables.SCORES).where(F.col("recipe").isin(*recipes))
    each = made.select("doc_id", F.explode("scores").alias("name", "value"))
    whole = F.rint(F.col("value").cast("double") * 2.0**SCORE_BITS).cast("decimal(28,0)")
    sums = (
        assigned.join(each.where(F.col("name").isin(*names)), on="doc_id")
        .groupBy("cluster", "name")
        .agg(F.count("value"), F.sum(whole))
    )
    scored_CS = np.zeros(means_CS.shape, dtype=np.int64)
    for cluster, name, n, total in sums.collect():
        scored_CS[cluster, names.index(name)] = n
        means_CS[cluster, names.index(name)] = int(total) / n / 2.0**SCORE_BITS
    for name, scored_C in zip(names, scored_CS.T, strict=True):
        _check_complete(f"scores ({name})", "score", scored_C, documents_C)
    return names, means_CS


def _check_assigned(store: Store, n_assigned: int) -> None:
    """Check that every document has an assignment, except documents whose embedding is NULL.

    Assignments are missing if documents were embedded after the last assignment, or if
    `assign_without_vectors`, which commits in steps, was interrupted.

    Raises:
        TableError: assignments are missing.
    """
    documents = store.read(tables.DOCUMENTS)
    n_documents = documents.count()
    if n_documents == n_assigned:
        return
    missing = store.select_missing(documents.select("doc_id"), tables.ASSIGNMENTS)
    if store.exists(tables.EMBEDDINGS):
        without_vector = store.read(tables.EMBEDDINGS).where(F.col("embedding").isNull())
        made_from = store.history.read_inputs(tables.CENTROIDS)
        if made_from is not None:
            recipe = made_from["settings"]["embedder"]
            without_vector = without_vector.where(F.col("recipe") == recipe)
        missing = missing.join(without_vector.select("doc_id"), "doc_id", "left_anti")
    n_missing = missing.count()
    if n_missing:
        raise TableError(
            f"table assignments has no row for {n_missing:,} of {n_documents:,} documents; "
            "run `climb embed` and `climb cluster` first"
        )


def _check_complete(
    table: str, job: str, n_C: NDArray[np.int64], documents_C: NDArray[np.int64]
) -> None:
    """Check that every assigned document has a row in a table.

    Raises:
        TableError: some have none.
    """
    n_missing = int((documents_C - n_C).sum())
    if n_missing:
        raise TableError(
            f"table {table} has no row for {n_missing:,} of {int(documents_C.sum()):,} assigned "
            f"documents; run `climb {job}` first"
        )


def _describe_empty_result(measured: ClusterMeasurements, cfg: PruneConfig) -> str:
    """Describe the thresholds that prune every cluster, and the scores of the best clusters."""
    if not measured.tokens_C.any():
        return (
            "no cluster contains tokens, so nothing can be kept; "
            "check tables assignments and tokens"
        )
    thresholds = ", ".join(f"{name} {value:g}" for name, value in sorted(cfg.thresholds.items()))
    order = np.lexsort((np.arange(len(measured.tokens_C)), -measured.scores_CS.mean(axis=1)))
    filled = [c for c in order if measured.tokens_C[c] > 0]
    lines = ["cluster  documents  " + "  ".join(f"{name:>10}" for name in measured.names)]
    for c in filled[:MAX_CLUSTERS_SHOWN]:
        means = "  ".join(f"{value:10.3f}" for value in measured.scores_CS[c])
        lines.append(f"{c:7d}  {measured.documents_C[c]:9,d}  {means}")
    if len(filled) > MAX_CLUSTERS_SHOWN:
        n_more = len(filled) - MAX_CLUSTERS_SHOWN
        lines.append(f"... and {n_more} more, all with means that are not higher")
    return (
        f"prune.thresholds ({thresholds}) prune all {len(filled)} clusters; lower them below the "
        "mean scores of the best clusters:\n" + "\n".join(lines)
    )
