"""Assign the documents of table `corpus` to splits and shards by hashes, in one global order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb.errors import TableError
from climb.export import Format, Kind, Split
from climb.export.contents import SPLITS
from climb.export.groups import escape_name


@dataclass(frozen=True)
class ShardKey:
    """One shard of an export: `number` is unique, `stem` is the shard's path without endings."""

    number: int
    split: Split
    domain: str | None
    stem: str
    index: int
    count: int
    """Number of shards of this split and domain."""


def select_rows(corpus: DataFrame, kind: Kind, validation_share: float, seed: int) -> DataFrame:
    """Select the rows of an export.

    A hash of the document's id decides whether a document is in the validation split. If so, none
    of its copies is in the training split. The validation split has only the first copy of each
    document. In an export of kind `recipe`, the training split also has only the first copy.

    Args:
        corpus: (doc_id, copy, domain, n_tokens, text).
        kind: what the export contains.
        validation_share: share of the documents in the validation split.
        seed: seed of the hashes.

    Returns:
        The columns of `corpus`, and (split, part, position). `part` is the domain, or empty in a
        mixed export; `position` is the hash that orders the rows.
    """
    held_out = F.xxhash64(F.lit("validation"), F.lit(seed), "doc_id")
    is_validation = held_out < F.lit(round(validation_share * 2**64) - 2**63)
    split = F.when(is_validation, SPLITS[1]).otherwise(SPLITS[0])
    rows = corpus.withColumn("split", split)
    if kind == "recipe":
        rows = rows.where(F.col("copy") == 0)
    else:
        rows = rows.where((F.col("split") == SPLITS[0]) | (F.col("copy") == 0))
    part: Column = F.lit("") if kind == "mixed" else F.col("domain")
    position = F.xxhash64(F.lit("export"), F.lit(seed), "doc_id", "copy")
    return rows.withColumn("part", part).withColumn("position", position)


def plan_shards(rows: DataFrame, format: Format) -> tuple[list[ShardKey], int]:
    """Plan the shards: the number of shards of a split and part depends on its bytes of text.

    Args:
        rows: what `select_rows` returned.
        format: names the shards and says how large they should be.

    Returns:
        The shards, and the number of rows.

    Raises:
        TableError: the format stores text, and no training document of a domain has tokens.
    """
    sums = [F.sum(F.octet_length("text")), F.sum("n_tokens"), F.count("*")]
    groups = sorted(rows.groupBy("split", "part", "domain").agg(*sums).collect())
    if not format.stores_tokens:
        tokens = {domain: n for split, _, domain, _, n, _ in groups if split == SPLITS[0]}
        _check_tokens(tokens)
    sizes: Counter[tuple[Split, str]] = Counter()
    for split, part, _, n_bytes, _, _ in groups:
        sizes[split, part] += n_bytes
    keys: list[ShardKey] = []
    for (split, part), n_bytes in sizes.items():
        count = max(1, -(-n_bytes // format.shard_bytes))
        for index in range(count):
            domain = part or None
            name = None if domain is None else escape_name(domain)
            stem = format.name_shard(split, name, index, count)
            keys.append(ShardKey(len(keys), split, domain, stem, index, count))
    return keys, sum(n_rows for *_, n_rows in groups)


def _check_tokens(tokens: Mapping[str, int]) -> None:
    """Check that each domain has tokens in the training split.

    The mixture gives each domain a share of the tokens; a domain without tokens cannot supply it.

    Raises:
        TableError: a domain has none.
    """
    if empty := sorted(name for name, count in tokens.items() if not count):
        raise TableError(
            f"no document of {', '.join(empty)} in the training split has tokens; lower "
            "export.validation_share"
        )


def divide_rows(
    rows: DataFrame, keys: Sequence[ShardKey], pending: Sequence[ShardKey]
) -> DataFrame:
    """Put the rows of the pending shards into partitions, sorted by shard and hash.

    Each shard has the rows of one range of hashes. So the shards of a split and part, read one
    after another, have the rows in the order of the hashes.

    Args:
        rows: what `select_rows` returned.
        keys: all shards.
        pending: those to write.
    """
    session = rows.sparkSession
    counts = sorted({(k.split, k.domain or "", k.count) for k in keys})
    numbers = [(k.split, k.domain or "", k.index, k.number) for k in pending]
    counted = session.createDataFrame(counts, "split STRING, part STRING, n_shards BIGINT")
    wanted = session.createDataFrame(numbers, "split STRING, part STRING, shard BIGINT, number INT")
    leading = F.shiftright("position", 32) + F.lit(2**31)  # upper 32 bits of the hash, from 0 on
    return (
        rows.join(F.broadcast(counted), on=["split", "part"])
        .withColumn("shard", F.shiftright(leading * F.col("n_shards"), 32))
        .join(F.broadcast(wanted), on=["split", "part", "shard"])
        .repartition(len(pending), "number")
        .sortWithinPartitions("number", "position", "doc_id", "copy")
        .select("number", "doc_id", "copy", "domain", "n_tokens", "text")
    )
