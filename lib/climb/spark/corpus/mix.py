"""Select the documents of the mixed dataset; `climb.dataset.selection` has the rule.

A hash orders the documents of a domain, and each domain is cut at one position of that order. The
leading bits of the hash divide the order into buckets, and the tokens of each bucket show which one
contains the cut. A window over this bucket finds the last document before the cut, so only one
bucket per domain is sorted. Then the documents are selected by a join with one row per domain,
which has the number of copies and the cut.

Axes: K domains, B buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.dataset.card import DomainCounts
from climb.dataset.selection import (
    BUCKET_BITS,
    DomainQuota,
    allocate_tokens,
    check_constraints,
    find_cut_bucket,
    is_before_cut,
)
from climb.errors import TableError
from climb.mixture import Constraints
from climb.search.trials import RECOMMENDED
from climb.spark.corpus.domain_documents import join_texts, read_domain_documents
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store

LOWEST = -(2**63)
"""A position before every hash."""


@dataclass(frozen=True)
class Cut:
    """Which documents of a domain are selected, in hash order.

    Every document is selected `copies` times. The documents up to and including (`position`,
    `doc_id`) are selected once more.
    """

    domain: str
    copies: int
    position: int
    doc_id: str


@dataclass(frozen=True)
class BucketRange:
    """The bucket that contains a domain's cut."""

    domain: str
    bucket: int
    start: int
    """Tokens of the domain before the bucket."""

    cut: int
    """Tokens of the domain before the cut."""


def read_recommendation(store: Store, cfg: Config) -> tuple[dict[str, float], int]:
    """Read the recommended mixture of the search, and the configured tokens of the dataset.

    Raises:
        TableError: the search has no recommendation yet.
    """
    rows = store.read_rows(tables.MIXTURES, search=cfg.search.name, method=RECOMMENDED)
    if not rows:
        raise TableError(
            f"table mixtures has no recommendation of the search {cfg.search.name!r}; "
            "run `climb search` first"
        )
    return dict(rows[0]["weights"]), cfg.mix.tokens or cfg.search.target_tokens


def find_other_origin(store: Store, cfg: Config) -> str:
    """Describe what table `corpus` was made from; return "" if that has not changed since.

    The recommendation, the number of tokens and the tokenizer are compared with the present ones.

    Raises:
        TableError: the search has no recommendation yet.
    """
    inputs = store.history.read_inputs(tables.CORPUS)
    if inputs is None:
        return ""
    settings, search = inputs["settings"], cfg.search.name
    if settings["search"] != search:
        return f"the search {settings['search']!r}, but search.name is {search!r}"
    weights, n_tokens = read_recommendation(store, cfg)
    if settings["weights"] != weights:
        return f"an earlier recommendation of the search {search!r}"
    if settings["tokens"] != n_tokens:
        return (
            f"{settings['tokens']:,} tokens, but mix.tokens or search.target_tokens is {n_tokens:,}"
        )
    counted = settings.get("tokenizer", cfg.count.recipe)
    if counted != cfg.count.recipe:
        return f"counts of the tokenizer {counted!r}, but section count has {cfg.count.recipe!r}"
    return ""


def describe_mix_inputs(
    store: Store, cfg: Config, weights: Mapping[str, float], n_tokens: int
) -> Inputs:
    """Describe what the rows of table `corpus` depend on.

    This includes the weights, but not the version of table `mixtures`: other searches write to it.
    """
    # `mix.text: true`, the default, adds no key. So a table that an earlier version of climb wrote
    # stays up to date.
    text = {} if cfg.mix.text else {"text": False}
    return store.history.describe_inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.ASSIGNMENTS,
        tables.CLUSTERS,
        search=cfg.search.name,
        seed=cfg.search.seed,
        weights=dict(weights),
        tokens=n_tokens,
        tokenizer=cfg.count.recipe,
        **text,
    )


def plan_quotas(
    store: Store, weights: Mapping[str, float], n_tokens: int, constraints: Constraints
) -> list[DomainQuota]:
    """Plan how many tokens of each domain the dataset takes.

    Raises:
        TableError: the mixture names a domain that table `clusters` lacks, or gives weight to a
            domain without tokens.
        MixtureError: a dataset of `n_tokens` tokens violates a constraint of the search.
    """
    kept = [row for row in store.read_rows(tables.CLUSTERS) if row["kept"]]
    tokens: dict[str, int] = {row["domain"]: 0 for row in kept}
    for row in kept:
        tokens[row["domain"]] += row["n_tokens"]
    quotas = allocate_tokens(weights, tokens, n_tokens)
    check_constraints(weights, tokens, replace(constraints, target_tokens=n_tokens))
    return quotas


def select_documents(store: Store, cfg: Config, quotas: Sequence[DomainQuota]) -> DataFrame:
    """Select the rows of table `corpus`, the mixed dataset."""
    hashed = _hash_documents(cfg.search.seed)
    documents = read_domain_documents(store, cfg).drop("text").withColumn("position", hashed)
    cuts = _find_cuts(documents, quotas)
    schema = "domain STRING, copies INT, last_position BIGINT, last_id STRING"
    rows = [(cut.domain, cut.copies, cut.position, cut.doc_id) for cut in cuts]
    own = F.struct("position", "doc_id")
    last = F.struct(F.col("last_position").alias("position"), F.col("last_id").alias("doc_id"))
    selected = (
        documents.join(F.broadcast(store.session.createDataFrame(rows, schema)), on="domain")
        .withColumn("n", F.col("copies") + (own <= last).cast("int"))
        .where("n > 0")
        .select("doc_id", "domain", "n_tokens", "n")
    )
    if cfg.mix.text:
        selected = join_texts(store, selected)
    else:
        selected = selected.withColumn("text", F.lit(None).cast("string"))
    copies = F.explode(F.sequence(F.lit(0), F.col("n") - 1))
    return selected.withColumn("copy", copies).select(*tables.CORPUS.column_names)


def read_corpus(store: Store) -> DataFrame:
    """Read the rows of table `corpus` with their texts, which may be in table `documents` alone."""
    corpus = store.read(tables.CORPUS)
    first = corpus.select("text").head()
    if first is None or first["text"] is not None:  # all rows have a text, or none has
        return corpus
    texts = store.read(tables.DOCUMENTS).select("doc_id", "text")
    return corpus.drop("text").join(texts, on="doc_id").select(*tables.CORPUS.column_names)


def count_corpus(store: Store) -> dict[str, DomainCounts]:
    """Count the rows, documents and tokens of each domain in table `corpus`."""
    first = F.sum((F.col("copy") == 0).cast("long"))
    sums = store.read(tables.CORPUS).groupBy("domain").agg(F.count("*"), first, F.sum("n_tokens"))
    return {
        domain: DomainCounts(n_rows, n_documents, n_tokens)
        for domain, n_rows, n_documents, n_tokens in sums.collect()
    }


def _hash_documents(seed: int) -> Column:
    """Return the position of a document in its domain's order."""
    return F.xxhash64(F.lit("mix"), F.lit(seed), "doc_id")


def _find_cuts(documents: DataFrame, quotas: Sequence[DomainQuota]) -> list[Cut]:
    """Find the cut of each domain's order.

    Args:
        documents: (doc_id, domain, n_tokens, position).
        quotas: the wanted and the available tokens of each domain.

    Raises:
        TableError: the number of tokens differs from table `clusters`.
    """
    half = 2 ** (BUCKET_BITS - 1)
    bucket = F.shiftright("position", 64 - BUCKET_BITS).cast("int") + half
    bucketed = documents.withColumn("bucket", bucket)
    tokens_KB: dict[str, NDArray[np.int64]] = {}
    for domain, b, n in bucketed.groupBy("domain", "bucket").agg(F.sum("n_tokens")).collect():
        tokens_KB.setdefault(domain, np.zeros(2 * half, dtype=np.int64))[b] = n
    ranges: list[BucketRange] = []
    cuts: dict[str, Cut] = {}
    for quota in quotas:
        tokens_B = tokens_KB.get(quota.domain, np.zeros(1, dtype=np.int64))
        if tokens_B.sum() != quota.available_tokens:
            raise TableError(
                f"domain {quota.domain} has {tokens_B.sum():,} tokens in its documents, but table "
                f"`clusters` has {quota.available_tokens:,}; run `climb prune` again"
            )
        position = LOWEST
        if quota.cut:
            found = find_cut_bucket(tokens_B, quota.cut)
            ranges.append(BucketRange(quota.domain, found.bucket, found.start, quota.cut))
            position = (found.bucket - half) << (64 - BUCKET_BITS)
        cuts[quota.domain] = Cut(quota.domain, quota.copies, position, "")
    for domain, last in _find_last_documents(bucketed, ranges).items():
        cuts[domain] = Cut(domain, cuts[domain].copies, last["position"], last["doc_id"])
    return list(cuts.values())


def _find_last_documents(bucketed: DataFrame, ranges: Sequence[BucketRange]) -> dict[str, Any]:
    """For each cut, find the last document before it in the bucket that contains the cut.

    Args:
        bucketed: (doc_id, domain, n_tokens, position, bucket).
        ranges: one per domain that has a cut.

    Returns:
        Domain -> (position, doc_id); without the domains that have no such document.
    """
    schema = "domain STRING, bucket INT, start BIGINT, cut BIGINT"
    rows = [(r.domain, r.bucket, r.start, r.cut) for r in ranges]
    buckets = F.broadcast(bucketed.sparkSession.createDataFrame(rows, schema))
    in_order = (
        Window.partitionBy("domain")
        .orderBy("position", "doc_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    ends = F.col("start") + F.sum("n_tokens").over(in_order)
    inside = bucketed.join(buckets, on=["domain", "bucket"]).withColumn("end", ends)
    before = inside.where(is_before_cut(F.col("end"), F.col("n_tokens"), F.col("cut")))
    last = before.groupBy("domain").agg(F.max(F.struct("position", "doc_id")).alias("last"))
    return {row["domain"]: row["last"] for row in last.collect()}
