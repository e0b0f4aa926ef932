"""Choose the documents of the mixed dataset; `climb.mixing` has the rule.

A domain's documents are ordered by a hash. A histogram over the hash's leading bits says which
bucket the mark falls into, a window inside that bucket says at which document, and that place - one
row per domain - decides about every document by itself. Nothing is sorted but single buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from climb import tables, tokenizer
from climb.config import Config
from climb.datacard import Written
from climb.errors import TableError
from climb.limits import Limits
from climb.mixing import BUCKET_BITS, Portion, boundary, check_limits, portions, taken
from climb.spark.pack import tagged_documents
from climb.spark.store import Inputs, Store

LOWEST = -(2**63)
"""Before every hash."""


@dataclass(frozen=True)
class Cut:
    """Of one domain: copies of everything, and one more of what comes up to a place."""

    domain: str
    copies: int
    position: int
    doc_id: str


def mixture(store: Store, cfg: Config) -> tuple[dict[str, float], int]:
    """The mixture that the search found, and the tokens of the dataset.

    Raises:
        TableError: the search has no answer yet.
    """
    rows = store.rows(tables.MIXTURES, search=cfg.search.name, method="found")
    if not rows:
        raise TableError(
            f"table mixtures holds no answer of the search {cfg.search.name!r}; "
            "run `climb search` first"
        )
    return dict(rows[0]["weights"]), cfg.mix.tokens or cfg.search.target_tokens


def mix_inputs(store: Store, cfg: Config, weights: Mapping[str, float], total: int) -> Inputs:
    """What decides the rows. The weights stand here and not the version of `mixtures`, which
    other searches share.
    """
    return store.inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.ASSIGNMENTS,
        tables.CLUSTERS,
        search=cfg.search.name,
        seed=cfg.search.seed,
        weights=dict(weights),
        tokens=total,
        tokenizer=tokenizer.recipe(cfg.count),
    )


def plan(store: Store, weights: Mapping[str, float], total: int, limits: Limits) -> list[Portion]:
    """Tokens wanted of each domain.

    Raises:
        TableError: the mixture is of other domains than those of table `clusters`.
        MixtureError: a dataset of so many tokens would break a limit of the search.
    """
    kept = [row for row in store.rows(tables.CLUSTERS) if row["kept"]]
    tokens: dict[str, int] = {row["domain"]: 0 for row in kept}
    for row in kept:
        tokens[row["domain"]] += row["n_tokens"]
    shares = portions(weights, tokens, total)
    check_limits(weights, tokens, replace(limits, target_tokens=total))
    return shares


def mixed(store: Store, cfg: Config, shares: Sequence[Portion]) -> DataFrame:
    """Rows of `corpus`."""
    tagged = tagged_documents(store, cfg).withColumn("position", _position(cfg.search.seed))
    cuts = _cuts(tagged.drop("text"), shares)
    schema = "domain STRING, copies INT, last_position BIGINT, last_id STRING"
    rows = [(cut.domain, cut.copies, cut.position, cut.doc_id) for cut in cuts]
    place = F.struct("position", "doc_id")
    last = F.struct(F.col("last_position").alias("position"), F.col("last_id").alias("doc_id"))
    return (
        tagged.join(F.broadcast(store.session.createDataFrame(rows, schema)), on="domain")
        .withColumn("n", F.col("copies") + (place <= last).cast("int"))
        .where("n > 0")
        .withColumn("copy", F.explode(F.sequence(F.lit(0), F.col("n") - 1)))
        .select("doc_id", "copy", "domain", "n_tokens", "text")
    )


def written(store: Store) -> dict[str, Written]:
    """What table `corpus` holds of each domain."""
    first = F.sum((F.col("copy") == 0).cast("long"))
    sums = store.read(tables.CORPUS).groupBy("domain").agg(F.count("*"), first, F.sum("n_tokens"))
    return {
        domain: Written(n_rows, n_documents, n_tokens)
        for domain, n_rows, n_documents, n_tokens in sums.collect()
    }


def _position(seed: int) -> Column:
    """Place of a document in its domain's order."""
    return F.xxhash64(F.lit("mix"), F.lit(seed), "doc_id")


def _cuts(tagged: DataFrame, shares: Sequence[Portion]) -> list[Cut]:
    """Where each domain's order is cut.

    Args:
        tagged: (doc_id, domain, n_tokens, position).
        shares: what is wanted.

    Raises:
        TableError: the documents hold other tokens than table `clusters` says.
    """
    half = 2 ** (BUCKET_BITS - 1)
    bucket = F.shiftright("position", 64 - BUCKET_BITS).cast("int") + half
    bucketed = tagged.withColumn("bucket", bucket)
    tokens_KB: dict[str, np.ndarray] = {}
    for domain, b, n in bucketed.groupBy("domain", "bucket").agg(F.sum("n_tokens")).collect():
        tokens_KB.setdefault(domain, np.zeros(2 * half, dtype=np.int64))[b] = n
    edges: list[tuple[str, int, int, int]] = []
    cuts: dict[str, Cut] = {}
    for share in shares:
        tokens_B = tokens_KB.get(share.domain, np.zeros(1, dtype=np.int64))
        if tokens_B.sum() != share.tokens:
            raise TableError(
                f"domain {share.domain} holds {tokens_B.sum():,} tokens, table clusters says "
                f"{share.tokens:,}; run `climb prune` first"
            )
        cuts[share.domain] = Cut(share.domain, share.copies, LOWEST, "")
        if share.rest:
            edge = boundary(tokens_B, share.rest)
            edges.append((share.domain, edge.bucket, edge.start, share.rest))
            start = (edge.bucket - half) << (64 - BUCKET_BITS)
            cuts[share.domain] = Cut(share.domain, share.copies, start, "")
    for domain, last in _last_taken(bucketed, edges).items():
        cuts[domain] = Cut(domain, cuts[domain].copies, last["position"], last["doc_id"])
    return list(cuts.values())


def _last_taken(bucketed: DataFrame, edges: Sequence[tuple[str, int, int, int]]) -> dict[str, Any]:
    """The last document before the mark in the bucket that it falls into, if one is taken there.

    Args:
        bucketed: (doc_id, domain, n_tokens, position, bucket).
        edges: per domain that is cut its bucket, the tokens before that, and the mark.
    """
    schema = "domain STRING, bucket INT, start BIGINT, rest BIGINT"
    wanted = bucketed.sparkSession.createDataFrame(list(edges), schema)
    in_order = (
        Window.partitionBy("domain")
        .orderBy("position", "doc_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    ends = F.col("start") + F.sum("n_tokens").over(in_order)
    inside = bucketed.join(F.broadcast(wanted), on=["domain", "bucket"]).withColumn("end", ends)
    before = inside.where(taken(F.col("end"), F.col("n_tokens"), F.col("rest")))
    last = before.groupBy("domain").agg(F.max(F.struct("position", "doc_id")).alias("last"))
    return {row["domain"]: row["last"] for row in last.collect()}
