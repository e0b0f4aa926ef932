"""What the data card says about sources, licences, quality, and what was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.export.card import CardFacts, Dropped, Origin
from climb.spark.delta.store import Store

MOST_ORIGINS = 30
"""The card lists at most this many sources, and as many licences; the others are summed."""

MOST_NAMES = 10
"""One row of the card names at most this many domains."""

LICENCE = "licen[cs]e"
"""Regular expression for the name of a metadata column that has the licence of a document."""


def read_facts(store: Store, domains: Sequence[str]) -> CardFacts:
    """Read from the tables what the data card says besides the mixture.

    Args:
        store: the tables.
        domains: names of the domains in the export.
    """
    clusters = store.read_rows(tables.CLUSTERS)
    own = store.read(tables.CORPUS).where(F.col("copy") == 0).select("doc_id", "n_tokens")
    documents = store.read(tables.DOCUMENTS).select("doc_id", "source", "metadata")
    joined = own.join(documents, on="doc_id").select("source", "n_tokens", _find_licence())
    return CardFacts(
        sources=_count_origins(joined, "source"),
        licences=_count_origins(joined, "licence"),
        quality={
            name: _average_scores([row for row in clusters if row["domain"] == name])
            for name in sorted(domains)
        },
        dropped=[*_count_rejected(store), *_count_dropped(clusters, domains)],
    )


def _average_scores(clusters: Sequence[tables.Row]) -> dict[str, float]:
    """Return the mean of each score over the documents of a domain's clusters."""
    n_documents = sum(row["n_documents"] for row in clusters)
    return {
        name: sum(row["scores"][name] * row["n_documents"] for row in clusters) / n_documents
        for name in sorted(clusters[0]["scores"])
    }


def _find_licence() -> Column:
    """Return the value of the metadata column whose name matches LICENCE; null if none matches.

    If several names match, the smallest of their values is returned.
    """
    named = F.map_filter("metadata", lambda name, _: F.lower(name).rlike(LICENCE))
    return F.try_element_at(F.array_sort(F.map_values(named)), F.lit(1)).alias("licence")


def _count_origins(joined: DataFrame, column: str) -> list[Origin]:
    """Count documents and tokens per value, most tokens first; a missing value counts as ''."""
    value = F.coalesce(F.col(column), F.lit("")).alias("name")
    counts = joined.groupBy(value).agg(F.count("*").alias("n"), F.sum("n_tokens").alias("tokens"))
    first = counts.orderBy(F.desc("tokens"), "name").limit(MOST_ORIGINS).collect()
    listed = [Origin(name, int(n), int(tokens)) for name, n, tokens in first]
    n, n_documents, n_tokens = counts.agg(F.count("*"), F.sum("n"), F.sum("tokens")).collect()[0]
    if n > len(listed):
        rest = n_documents - sum(o.documents for o in listed)
        rest_tokens = n_tokens - sum(o.tokens for o in listed)
        listed.append(Origin(f"{n - len(listed):,} others", int(rest), int(rest_tokens)))
    return listed


def _count_rejected(store: Store) -> list[Dropped]:
    """Count the rows that the job `ingest` rejected, per reason."""
    if not store.exists(tables.REJECTED):
        return []
    counts = store.read(tables.REJECTED).groupBy("reason").agg(F.sum("n_rows"))
    return [Dropped(f"ingest: {reason}", int(n), None) for reason, n in sorted(counts.collect())]


def _count_dropped(clusters: Sequence[tables.Row], domains: Sequence[str]) -> Iterator[Dropped]:
    """Count the documents of pruned clusters, and of domains that the mixture leaves out."""
    pruned = [row for row in clusters if not row["kept"]]
    unused = [row for row in clusters if row["kept"] and row["domain"] not in domains]
    names = sorted({row["domain"] for row in unused})
    listed = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    for reason, rows in (
        (f"prune: {len(pruned)} clusters of low quality", pruned),
        (f"mix: no document of {len(names)} domains ({listed})", unused),
    ):
        if rows:
            n_documents = sum(row["n_documents"] for row in rows)
            yield Dropped(reason, n_documents, sum(row["n_tokens"] for row in rows))
