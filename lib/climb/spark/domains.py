"""Measure the clusters, sample their documents, and make the rows of `clusters` and `domains`.

Legend: C clusters, S scores, D width of the vectors. What is kept and what is merged is decided in
`climb.domains`; here is what Spark adds up for it and what becomes of the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from climb import tables, tokenizer
from climb.config import Config, recipe_of
from climb.config.sections import PruneConfig
from climb.domains import merge, prune, prune_to_share, token_shares
from climb.errors import ConfigError, TableError
from climb.progress import say
from climb.spark.score import build_scorers
from climb.spark.store import Store
from climb.terms import distinctive_terms, name_groups

Array = NDArray[np.float64]

SCORE_BITS = 20
"""Scores are added up as multiples of 2^-20: whole numbers have one sum in every order."""

SAMPLE_CHARS = 2_000
"""Of a sampled document, the beginning is enough for its terms."""

EXAMPLES = 3
EXAMPLE_CHARS = 200

EMPTY = "no documents"
"""Reason of a cluster that no document was nearest to."""

BEST_SHOWN = 20
"""Clusters in the table of a message."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All clusters, by number."""

    centroids_CD: Array
    documents_C: NDArray[np.int64]
    tokens_C: NDArray[np.int64]
    names: tuple[str, ...]
    scores_CS: Array
    """Means over a cluster's documents; NaN where it has none."""


def measure(store: Store, cfg: Config) -> Measured:
    """Documents, tokens and mean scores of every cluster.

    Raises:
        TableError: assignments of other centroids, or documents without tokens or a score.
    """
    centroids = store.rows(tables.CENTROIDS)
    names_made = {row["clustering"] for row in centroids}
    assigned = store.read(tables.ASSIGNMENTS)
    if not assigned.where(~F.col("clustering").isin(*names_made)).isEmpty():
        raise TableError("table assignments is of other centroids; run `climb cluster` first")
    counted = store.read(tables.TOKENS).where(F.col("recipe") == tokenizer.recipe(cfg.count))
    sums = (
        assigned.join(counted.select("doc_id", "n_tokens"), on="doc_id", how="left")
        .groupBy("cluster")
        .agg(F.count("*"), F.count("n_tokens"), F.coalesce(F.sum("n_tokens"), F.lit(0)))
    )
    documents_C, counted_C, tokens_C = np.zeros((3, len(centroids)), dtype=np.int64)
    for cluster, n_documents, n_counted, n_tokens in sums.collect():
        documents_C[cluster], counted_C[cluster] = n_documents, n_counted
        tokens_C[cluster] = n_tokens
    _complete("tokens", "count", counted_C, documents_C)
    names, scores_CS = _mean_scores(store, cfg, assigned, documents_C)
    vectors_CD = np.array([row["centroid"] for row in centroids])
    return Measured(vectors_CD, documents_C, tokens_C, names, scores_CS)


def decide(
    measured: Measured, cfg: PruneConfig
) -> tuple[list[str | None], NDArray[np.int64], NDArray[np.int64]]:
    """Prune and merge.

    Returns:
        Per cluster the reason why it goes or None; the clusters that stay; the domain of each of
        these, numbered by tokens, most first.

    Raises:
        ConfigError: nothing is left, one domain is left, or a threshold names no score.
    """
    filled = np.flatnonzero(measured.tokens_C > 0)
    scores_CS, tokens_C = measured.scores_CS[filled], measured.tokens_C[filled]
    if cfg.keep_token_share is not None:
        kept_C, why = prune_to_share(scores_CS, tokens_C, cfg.keep_token_share)
    else:
        kept_C, why = prune(scores_CS, measured.names, cfg.thresholds)
    if not kept_C.any():
        raise ConfigError(_everything_pruned(measured, cfg))
    reasons: list[str | None] = [EMPTY] * len(measured.tokens_C)
    for cluster, reason in zip(filled, why, strict=True):
        reasons[cluster] = reason
    kept = filled[kept_C]
    if cfg.domains is not None and cfg.domains > len(kept):
        say("prune", f"warning: prune.domains is {cfg.domains}, but {len(kept)} clusters are kept")
    labels = merge(
        measured.centroids_CD[kept],
        measured.documents_C[kept],
        height=cfg.merge_height,
        n_domains=cfg.domains,
        weighted=cfg.weighted,
    )
    sizes_K = np.bincount(labels, weights=measured.tokens_C[kept]).astype(np.int64)
    place_K = np.argsort(np.argsort(-sizes_K, kind="stable"))
    return reasons, kept, place_K[labels]


def sample_documents(store: Store, clusters: Sequence[int], n: int) -> list[list[Row]]:
    """Up to n documents of each cluster, lowest hash first taken, nearest to the centroid first.

    Returns:
        For each of `clusters`, in their order, rows of (cluster, doc_id, distance, text).
    """
    wanted = store.session.createDataFrame([(int(c),) for c in clusters], "cluster INT")
    by_hash = Window.partitionBy("cluster").orderBy(F.xxhash64("doc_id"), "doc_id")
    chosen = (
        store.read(tables.ASSIGNMENTS)
        .join(F.broadcast(wanted), on="cluster")
        .withColumn("rank", F.row_number().over(by_hash))
        .where(F.col("rank") <= n)
    )
    text = F.substring("text", 1, SAMPLE_CHARS).alias("text")
    sampled = store.read(tables.DOCUMENTS).join(F.broadcast(chosen), on="doc_id")
    rows = sampled.select("cluster", "doc_id", "distance", text).collect()
    by_cluster: dict[int, list[Row]] = {int(c): [] for c in clusters}
    for row in sorted(rows, key=lambda row: (row["distance"], row["doc_id"])):
        by_cluster[row["cluster"]].append(row)
    return list(by_cluster.values())


def domain_rows(
    measured: Measured,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    samples: Sequence[Sequence[Row]],
    n_terms: int,
) -> list[dict[str, Any]]:
    """Rows of `domains`, most tokens first.

    Args:
        measured: all clusters.
        kept: those that stay.
        labels: domain of each of these, from 0.
        samples: of each of these, some documents, nearest to the centroid first.
        n_terms: distinctive terms per domain.
    """
    members_K = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    texts_K = [[row["text"] for i in members for row in samples[i]] for members in members_K]
    terms_K = distinctive_terms(texts_K, n_terms)
    tokens_K = np.array([measured.tokens_C[kept[members]].sum() for members in members_K])
    described = zip(name_groups(terms_K), members_K, token_shares(tokens_K), terms_K, strict=True)
    return [
        {
            "domain": name,
            "clusters": kept[members].tolist(),
            "n_documents": int(measured.documents_C[kept[members]].sum()),
            "n_tokens": int(measured.tokens_C[kept[members]].sum()),
            "token_share": float(share),
            "terms": terms,
            "examples": _examples([samples[i] for i in members]),
        }
        for name, members, share, terms in described
    ]


def cluster_rows(
    measured: Measured, reasons: Sequence[str | None], domains: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of `clusters`, pruned ones too."""
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


def _mean_scores(
    store: Store, cfg: Config, assigned: DataFrame, documents_C: NDArray[np.int64]
) -> tuple[tuple[str, ...], Array]:
    """Names of the configured scores, and their means over each cluster's documents."""
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
        _complete(f"scores ({name})", "score", scored_C, documents_C)
    return names, means_CS


def _complete(what: str, job: str, n_C: NDArray[np.int64], documents_C: NDArray[np.int64]) -> None:
    lacking = int((documents_C - n_C).sum())
    if lacking:
        raise TableError(
            f"table {what} lacks {lacking:,} of {int(documents_C.sum()):,} assigned documents; "
            f"run `climb {job}` first"
        )


def _examples(samples: Sequence[Sequence[Row]]) -> list[str]:
    """The nearest document of each cluster in turn, then the second nearest, ..., shortened."""
    ranked = sorted(
        (rank, row["cluster"], " ".join(row["text"].split())[:EXAMPLE_CHARS])
        for rows in samples
        for rank, row in enumerate(rows)
    )
    return [text for _, _, text in ranked[:EXAMPLES]]


def _everything_pruned(measured: Measured, cfg: PruneConfig) -> str:
    """What was asked, and what the best clusters have."""
    if not measured.tokens_C.any():
        return "no cluster holds a document with tokens; there is nothing to keep"
    asked = ", ".join(f"{name} {least:g}" for name, least in sorted(cfg.thresholds.items()))
    order = np.lexsort((np.arange(len(measured.tokens_C)), -measured.scores_CS.mean(axis=1)))
    filled = [c for c in order if measured.tokens_C[c] > 0]
    lines = ["cluster  documents  " + "  ".join(f"{name:>10}" for name in measured.names)]
    for c in filled[:BEST_SHOWN]:
        means = "  ".join(f"{value:10.3f}" for value in measured.scores_CS[c])
        lines.append(f"{c:7d}  {measured.documents_C[c]:9,d}  {means}")
    if len(filled) > BEST_SHOWN:
        lines.append(f"... and {len(filled) - BEST_SHOWN} more, all with lower means")
    return (
        f"prune.thresholds ({asked}) leave none of {len(filled)} clusters; lower them below what "
        "the best clusters have:\n" + "\n".join(lines)
    )
