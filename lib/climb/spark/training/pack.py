"""Pack a share of every domain's documents into token arrays that a proxy reads by path.

If a proxy trains on 1/r of the target run's tokens, it reads 1/r of each domain. So both repeat
scarce text equally often. Shards of trials and target runs have the documents with the lowest
hashes; shards of base checkpoints have those with the highest.

First, the tokens of every bucket (a range of hashes) are summed. `climb.proxy.shards` plans the
files of all shards from these sums. Then tasks write the files side by side. No task sorts or holds
a whole domain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.files import is_complete, join_complete, read_digest
from climb.proxy import shards as plan
from climb.spark.corpus.count import read_tokenizer_json
from climb.spark.corpus.domain_documents import read_domain_documents
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.failures import reraise_task_errors
from climb.spark.numbered import WRITTEN
from climb.spark.shared import check_shared
from climb.spark.training.pack_files import PackTask, ShardFile
from climb.tokenizer import find_end_of_text, open_tokenizer

Kind = Literal["base", "trial", "target-base", "target"]
KINDS: tuple[Kind, ...] = ("base", "trial", "target-base", "target")

ROUNDING = 1.0 + 1e-12
"""`_select_ends` selects documents up to a maximum position (a hash from 0 to 1). The maximum is
multiplied by this number, so that rounding does not drop a document."""


@dataclass(frozen=True)
class Shard:
    """The planned content of one shard."""

    kind: Kind
    domain: str
    n_tokens: int
    """Planned tokens; the packed shard has fewer if the domain has fewer."""

    @property
    def from_top(self) -> bool:
        """Whether the shard has the documents with the highest hashes, not with the lowest."""
        return is_from_top(self.kind)


def is_from_top(kind: str) -> bool:
    """Whether shards of a kind have the documents with the highest hashes, not with the lowest."""
    return kind.endswith("base")


def compute_domain_share(run_tokens: int, cfg: Config) -> float:
    """Return the share of every domain that a run of `run_tokens` tokens reads, from 0 to 1.

    It is the ratio of this run's tokens to those of the target run, so that both repeat a domain
    equally often.
    """
    return min(1.0, run_tokens / cfg.search.target_tokens)


def compute_trial_share(cfg: Config) -> float:
    """Return the share of every domain that a trial may read, from 0 to 1."""
    matched = cfg.proxy.match_repetition
    return compute_domain_share(cfg.proxy.trial_tokens, cfg) if matched else 1.0


def _compute_share(kind: Kind, total: int, cfg: Config) -> float:
    """Return the share of a domain's tokens, from 0 to 1, that its shard of this kind may contain.

    The share is the same for all domains.
    """
    if kind == "trial":
        return compute_trial_share(cfg)
    if kind == "target":
        return compute_domain_share(cfg.train.tokens, cfg)
    base_tokens = cfg.proxy.base_tokens if kind == "base" else cfg.train.base_tokens
    return min(1.0, base_tokens / total)


def plan_shards(
    domains: list[tables.Row], cfg: Config, kinds: Sequence[Kind] = KINDS
) -> list[Shard]:
    """Plan the sizes of the shards of these kinds.

    Args:
        domains: rows of table `domains`.
        cfg: `proxy` and `train` give the tokens of base checkpoints, trials and target runs.
        kinds: of the shards.

    Returns:
        A shard for each kind and domain. A shard of trials or of target runs has the share of the
        domain that `compute_domain_share` returns. The shards of a base checkpoint divide its
        tokens among the domains by their token shares. If `proxy.match_repetition` is off, a shard
        of trials has as many tokens as a trial can read of the domain.
    """
    total = sum(row["n_tokens"] for row in domains)
    shares = {kind: _compute_share(kind, total, cfg) for kind in kinds}
    most = {} if cfg.proxy.match_repetition else {"trial": cfg.proxy.trial_tokens}
    return [
        Shard(
            kind, row["domain"], max(1, min(round(row["n_tokens"] * share), most.get(kind, total)))
        )
        for kind, share in shares.items()
        for row in domains
    ]


def pack_shards(store: Store, cfg: Config, inputs: Inputs) -> list[tables.Row]:
    """Write the missing files of shards, and return the rows of all shards.

    Args:
        store: tables `documents`, `assignments`, `clusters`, `domains`, `tokens` are read.
        cfg: the configuration.
        inputs: what the shards are made from. The name of the shards' folder is a hash of the
            inputs and the documents, so shards of other inputs are in other folders and stay.

    Raises:
        ConfigError: the tokenizer does not have the end-of-text token.
        PreflightError: an executor does not see the folder of files.
        TableError: a document has another number of tokens than table `tokens` records.
    """
    check_shared(store.session, store.cfg.files_folder)
    model = read_tokenizer_json(store, cfg)
    end_of_text = find_end_of_text(open_tokenizer(model), cfg.count.end_of_text)
    domains = store.read_rows(tables.DOMAINS)
    numbers = plan.count_buckets([row["n_tokens"] for row in domains])
    buckets = {row["domain"]: n for row, n in zip(domains, numbers, strict=True)}
    documents = read_domain_documents(store, cfg).select("doc_id", "domain", "n_tokens")
    tokens, digest = _count_bucket_tokens(_order_documents(documents, buckets), buckets)
    made_from = [inputs, digest, hashlib.sha256(model.encode()).hexdigest()]
    files = _plan_files(plan_shards(domains, cfg), tokens, _locate_folder(store, made_from))
    pending = [file for file in files if not is_complete(file.path)]
    if pending:
        task = PackTask({f.number: f for f in pending}, model, end_of_text)
        only = _select_ends(pending, buckets)
        ordered = _order_documents(read_domain_documents(store, cfg, only), buckets)
        rows = _divide_documents(ordered, pending)
        with reraise_task_errors():
            rows.mapInArrow(lambda batches: task.write(batches), WRITTEN).collect()
    return _describe_shards(files)


def _locate_folder(store: Store, made_from: Sequence[Any]) -> Path:
    """Return the folder of the shards that are made from these JSON values."""
    sizes = [plan.PART_TOKENS, plan.MAX_PARTS, plan.BUCKET_TOKENS, plan.MAX_BUCKETS]
    name = hashlib.sha256(json.dumps([*made_from, sizes]).encode()).hexdigest()[:12]
    return store.locate_file("shards") / name


def _hash_documents() -> Column:
    """Return the position of a document in the order of its domain, from 0 to 1."""
    return F.xxhash64("doc_id", F.lit("pack")) / F.lit(2.0**64) + 0.5


def _order_documents(documents: DataFrame, buckets: Mapping[str, int]) -> DataFrame:
    """Put every document into two orders: from the lowest hash, and from the highest hash.

    Args:
        documents: (doc_id, domain, n_tokens, ...).
        buckets: number of buckets of each domain.

    Returns:
        Every document once in each order, with (from_top, position, bucket).
    """
    rows = sorted(buckets.items())
    sizes = documents.sparkSession.createDataFrame(rows, "domain STRING, n_buckets INT")
    hashed = _hash_documents()
    orders = F.array(
        F.struct(F.lit(False).alias("from_top"), hashed.alias("position")),
        F.struct(F.lit(True).alias("from_top"), (1.0 - hashed).alias("position")),
    )
    bucket = F.least(F.floor(F.col("position") * F.col("n_buckets")), F.col("n_buckets") - 1)
    joined = documents.join(F.broadcast(sizes), on="domain")
    return joined.select("*", F.inline(orders)).withColumn("bucket", bucket).drop("n_buckets")


def _count_bucket_tokens(
    ordered: DataFrame, buckets: Mapping[str, int]
) -> tuple[dict[tuple[str, bool], NDArray[np.int64]], str]:
    """Sum tokens, end-of-text tokens included, by bucket, and digest the documents.

    The digest depends on every document and its domain. The name of the shards' folder depends on
    the digest, and on the ids and versions of the tables. Ids and versions alone would not suffice.
    If a storage root is a copy of another, the ids of its tables are the same, and the versions may
    be the same too. If both roots share one folder of files, they could then use the same shards
    for different documents.

    Returns:
        (domain, from_top) -> tokens_B, and the digest.
    """
    hashed = F.bit_xor(F.xxhash64("doc_id", "n_tokens"))
    sums = ordered.groupBy("domain", "from_top", "bucket").agg(F.sum(F.col("n_tokens") + 1), hashed)
    rows = sorted(map(tuple, sums.collect()))
    tokens: dict[tuple[str, bool], NDArray[np.int64]] = {}
    for domain, from_top, bucket, n, _ in rows:
        empty_B = np.zeros(buckets[domain], dtype=np.int64)
        tokens.setdefault((domain, from_top), empty_B)[bucket] = n
    return tokens, hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _plan_files(
    shards: Sequence[Shard], tokens: Mapping[tuple[str, bool], NDArray[np.int64]], folder: Path
) -> list[ShardFile]:
    """Plan the files of all shards in `folder`; a shard of several files has a folder of its own.

    Args:
        shards: the planned shards.
        tokens: (domain, from_top) -> tokens_B; a domain without documents is missing.
        folder: where the files go.
    """
    totals: dict[str, int] = {}
    for shard in shards:
        totals[shard.kind] = totals.get(shard.kind, 0) + shard.n_tokens
    files: list[ShardFile] = []
    for shard in shards:
        tokens_B = tokens.get((shard.domain, shard.from_top), np.zeros(1, dtype=np.int64))
        size = plan.compute_part_tokens(totals[shard.kind])
        parts = plan.plan_parts(tokens_B, shard.n_tokens, size)
        name = f"{shard.kind}-{shard.domain}"
        for i, part in enumerate(parts):
            path = folder / (f"{name}.npy" if len(parts) == 1 else f"{name}/part-{i:05d}.npy")
            files.append(ShardFile(len(files), shard.kind, shard.domain, path, part))
    return files


def _select_ends(files: Sequence[ShardFile], buckets: Mapping[str, int]) -> Column:
    """Return the condition that selects the documents of the files.

    A document is selected if its position in one of the two orders is at most the last position
    that the files need in this order.
    """
    last = {False: 0.0, True: 0.0}
    for file in files:
        end = (file.part.last_bucket + 1) / buckets[file.domain]
        last[is_from_top(file.kind)] = max(last[is_from_top(file.kind)], end)
    hashed = _hash_documents()
    return (hashed <= last[False] * ROUNDING) | (1.0 - hashed <= last[True] * ROUNDING)


def _divide_documents(ordered: DataFrame, files: Sequence[ShardFile]) -> DataFrame:
    """Put the documents of the files into partitions, sorted by file and position.

    Args:
        ordered: what `_order_documents` returned.
        files: the files to write.
    """
    session = ordered.sparkSession
    rows = [
        (f.domain, is_from_top(f.kind), f.part.first_bucket, f.part.last_bucket, f.number)
        for f in files
    ]
    schema = "domain STRING, from_top BOOLEAN, first INT, last INT, number INT"
    ranges = F.broadcast(session.createDataFrame(rows, schema))
    n_tokens = sum(file.part.n_tokens for file in files)
    # Starting a task for every small file would take longer than writing the file.
    n_tasks = max(session.sparkContext.defaultParallelism, n_tokens // plan.PART_TOKENS)
    return (
        ordered.join(ranges, on=["domain", "from_top"])
        .where(F.col("bucket").between(F.col("first"), F.col("last")))
        .repartition(min(len(files), n_tasks), "number")
        .sortWithinPartitions("number", "position", "doc_id")
        .select("number", "doc_id", "n_tokens", "text")
    )


def _describe_shards(files: Sequence[ShardFile]) -> list[tables.Row]:
    """Mark the folders of shards as complete, and return the rows of table `shards`."""
    by_shard: dict[tuple[str, str], list[ShardFile]] = {}
    for file in files:
        by_shard.setdefault((file.kind, file.domain), []).append(file)
    rows = []
    for (kind, domain), own in sorted(by_shard.items()):
        path = own[0].path
        if len(own) > 1:
            path = path.parent
            join_complete(path, [file.path.name for file in own])
        n_tokens = sum(file.part.n_tokens for file in own)
        row = {"kind": kind, "domain": domain, "path": str(path), "n_tokens": n_tokens}
        rows.append(row | {"sha256": read_digest(path)})
    return rows
