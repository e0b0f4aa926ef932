"""Sample documents of clusters: for terms, as examples, and to recognize a domain later."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from climb import tables
from climb.spark.delta.store import Store

SAMPLE_CHARS = 2_000
"""Terms are taken from this many characters at the beginning of each sampled document."""

MAX_SAMPLED = 100_000
"""Maximum documents sampled from all clusters together: 200 MB of ASCII text on the driver."""

SAMPLE_IDS = 1_000
"""Maximum documents of a domain whose ids are kept in table `domains`."""

N_EXAMPLES = 3
EXAMPLE_CHARS = 200


def select_lowest(rows: DataFrame, hashed: Column, n: int) -> DataFrame:
    """Select the n rows with the lowest hash; doc_id breaks ties."""
    return rows.where(is_among_lowest(rows, hashed, n))


def is_among_lowest(rows: DataFrame, hashed: Column, n: int) -> Column:
    """Return the condition that a row has one of the n lowest hashes; doc_id breaks ties.

    Only hashes and ids are sorted, to find the n-th lowest; whole rows are not sorted.

    Args:
        rows: with a column doc_id.
        hashed: a hash of doc_id, BIGINT.
        n: number of rows.
    """
    position = F.struct(hashed.alias("hash"), "doc_id")
    lowest = rows.select(position.alias("position")).orderBy("position").limit(n)
    last = lowest.agg(F.max("position").alias("last")).collect()[0]["last"]
    if last is None:
        return F.lit(True)
    return position <= F.struct(F.lit(last["hash"]).cast("long"), F.lit(last["doc_id"]))


def sample_documents(store: Store, clusters: Sequence[int], n: int) -> list[list[Row]]:
    """Sample up to n documents of each cluster: those with the lowest hashes.

    n is lowered if n times the number of clusters is larger than MAX_SAMPLED.

    Returns:
        For each of `clusters`, in their order, rows of (cluster, doc_id, distance, text); the
        nearest to the centroid come first.
    """
    n = min(n, max(1, MAX_SAMPLED // max(1, len(clusters))))
    sampled_clusters = store.session.createDataFrame([(int(c),) for c in clusters], "cluster INT")
    by_hash = Window.partitionBy("cluster").orderBy(F.xxhash64("doc_id"), "doc_id")
    chosen = (
        store.read(tables.ASSIGNMENTS)
        .join(F.broadcast(sampled_clusters), on="cluster")
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


def select_examples(samples: Sequence[Sequence[Row]]) -> list[str]:
    """Select up to N_EXAMPLES short texts: the nearest of each cluster, then the second nearest."""
    ranked = sorted(
        (rank, row["cluster"], " ".join(row["text"].split())[:EXAMPLE_CHARS])
        for rows in samples
        for rank, row in enumerate(rows)
    )
    return [text for _, _, text in ranked[:N_EXAMPLES]]


def select_ids(samples: Sequence[Sequence[Row]]) -> list[str]:
    """Select the ids of documents that identify the domain after a new clustering."""
    return sorted(row["doc_id"] for rows in samples for row in rows)[:SAMPLE_IDS]
