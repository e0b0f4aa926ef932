"""Remove all documents of some sources, and report what that changes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.dataset.removal import Counted, Removal, find_report
from climb.errors import ConfigError, TableError
from climb.files import is_uri
from climb.ingest.rows import ID_DIGITS
from climb.spark.corpus.exclusions import read_exclusions, write_exclusions
from climb.spark.corpus.ingest import SAME_TEXT
from climb.spark.corpus.remove import DEPENDENT, delete_documents
from climb.spark.delta.store import Store
from climb.spark.folder import open_folder

MAX_SOURCES_SHOWN = 20
"""Maximum sources that an error message lists; the sources with the most documents are listed."""

NO_SOURCES = (
    "no document has a source: set ingest.source_column before the first ingest into this "
    "storage.root, since documents keep the source that they got first"
)

STALE = (
    *((tables.CLUSTERS, "prune"), (tables.SHARDS, "pack"), (tables.SHARDS, "base")),
    *((tables.MIXTURES, "search"), (tables.CORPUS, "mix"), (tables.EVALUATIONS, "target_base")),
    *((tables.EVALUATIONS, "train"), (tables.MIXTURES, "report")),
)
"""(Table, job): if the table exists, a removal makes the results of the job out of date."""

EMPTY = Counted(0, 0, 0, 0)


def remove_sources(store: Store, cfg: Config) -> tuple[Removal, bool]:
    """Remove the documents of `remove.sources`, and keep ingest from reading them again.

    The sources and the report are recorded before anything is deleted. If the process is killed,
    ingest refuses to run, and the next call deletes the remaining documents and returns the
    recorded report. But if the removal of one of the recorded sources was undone in between, the
    next call does not continue the old removal. It makes a new report for the sources in its own
    `remove.sources`.

    Returns:
        The report, and whether this call found any document of the sources. If it found none, the
        sources were removed before.

    Raises:
        ConfigError: a source is the empty string, or has no document and was not removed before.
        TableError: no document would be left.
    """
    names = sorted(set(cfg.remove.sources))
    removals = read_exclusions(store)
    ids = _select_ids(store, names).cache()
    try:
        n_left = ids.count()
        removal = find_report(removals, names, is_complete=n_left == 0)
        if removal is None:
            _check_sources(store, names, n_left, removals)
            removal = _measure_removal(store, cfg, names, ids)
        if not cfg.remove.dry_run and n_left:
            write_exclusions(store, removals | dict.fromkeys(removal.sources, removal))
            left = _select_ids(store, removal.sources).cache()
            delete_documents(store, left)
            left.unpersist()
        return removal, n_left > 0
    finally:
        ids.unpersist()


def readmit_sources(store: Store, cfg: Config) -> None:
    """Let the next ingest read the sources of `remove.sources` again.

    Raises:
        ConfigError: one of them was not removed.
    """
    removals = read_exclusions(store)
    unknown = sorted(set(cfg.remove.sources) - removals.keys())
    if unknown:
        were = "was" if len(unknown) == 1 else "were"
        raise ConfigError(
            f"remove.undo: {', '.join(map(repr, unknown))} {were} not removed before, so there is "
            f"nothing to undo; removed sources: {', '.join(map(repr, sorted(removals))) or 'none'}"
        )
    if not cfg.remove.dry_run:
        left = {name: r for name, r in removals.items() if name not in cfg.remove.sources}
        write_exclusions(store, left)


def _select_ids(store: Store, names: list[str] | tuple[str, ...]) -> DataFrame:
    """Select the ids of the documents of these sources: (doc_id)."""
    return store.read(tables.DOCUMENTS).where(F.col("source").isin(*names)).select("doc_id")


def _check_sources(
    store: Store, names: list[str], n_documents: int, removed: Collection[str]
) -> None:
    """Check that each source has documents or was removed before, and that some documents stay."""
    counts = store.read(tables.DOCUMENTS).groupBy("source").count()
    found = {
        row["source"]: row["count"] for row in counts.where(F.col("source").isin(*names)).collect()
    }
    if "" in names:
        raise ConfigError("remove.sources: '' is not a source; name the sources to remove")
    missing = [name for name in names if name not in found and name not in removed]
    if missing:
        top = counts.where("source <> ''").orderBy(F.desc("count"), "source")
        shown = ", ".join(f"{row[0]!r} ({row[1]:,})" for row in top.head(MAX_SOURCES_SHOWN))
        raise ConfigError(
            f"remove.sources: no document has the source {', '.join(map(repr, missing))}; "
            + (f"the largest sources are {shown}" if shown else NO_SOURCES)
        )
    if n_documents == store.read(tables.DOCUMENTS).count():
        raise TableError(
            f"removing {', '.join(map(repr, names))} would leave none of {n_documents:,} "
            "documents; to start again, delete the tables, or use another storage.root"
        )


def _measure_removal(store: Store, cfg: Config, names: list[str], ids: DataFrame) -> Removal:
    """Count what the removal changes, before anything is deleted."""
    rows = {
        table.name: store.read(table).join(ids, "doc_id", "left_semi").count()
        for table in (tables.DOCUMENTS, *DEPENDENT)
        if store.exists(table)
    }
    domains = _count_domains(store, cfg, ids)
    pruned = domains.pop(None, EMPTY)
    stale = [job for table, job in STALE if store.exists(table)]
    return Removal(
        sources=tuple(names),
        documents=store.read(tables.DOCUMENTS).count(),
        removed_documents=rows["documents"],
        rows=rows,
        domains={name: domains[name] for name in sorted(map(str, domains))},
        pruned=pruned,
        repeated_rows=_count_repeated(store, ids),
        stale=("ingest", *stale),
        remaining=_list_remaining(store, cfg, rows),
    )


def _count_domains(store: Store, cfg: Config, ids: DataFrame) -> dict[str | None, Counted]:
    """Count each domain's documents and tokens, in total and in the documents with these ids.

    The key None has the counts of the pruned clusters.
    """
    needed = (tables.ASSIGNMENTS, tables.TOKENS, tables.CLUSTERS)
    if not all(store.exists(table) for table in needed):
        return {}
    counts = store.read(tables.TOKENS).where(F.col("recipe") == cfg.count.recipe)
    removed = ids.withColumn("removed", F.lit(1))
    flag = F.coalesce("removed", F.lit(0)).cast("long")
    sums = (
        store.read(tables.ASSIGNMENTS)
        .join(counts.select("doc_id", "n_tokens"), on="doc_id", how="left")
        .join(removed, on="doc_id", how="left")
        .join(F.broadcast(store.read(tables.CLUSTERS).select("cluster", "domain")), on="cluster")
        .groupBy("domain")
        .agg(F.count("*"), F.sum("n_tokens"), F.sum(flag), F.sum(flag * F.col("n_tokens")))
    )
    return {domain: Counted(*(int(n or 0) for n in numbers)) for domain, *numbers in sums.collect()}


def _count_repeated(store: Store, ids: DataFrame) -> int:
    """Count the rejected input rows that repeat the text of a document to remove."""
    if not store.exists(tables.REJECTED):
        return 0
    repeated = store.read(tables.REJECTED).where("reason = 'duplicate'")
    same = F.substring("detail", len(SAME_TEXT) + 1, ID_DIGITS).alias("doc_id")
    found = repeated.select(same, "n_rows").join(ids, on="doc_id")
    return int(found.agg(F.coalesce(F.sum("n_rows"), F.lit(0))).collect()[0][0])


def _list_remaining(store: Store, cfg: Config, rows: dict[str, int]) -> dict[str, str]:
    """List the places that still have removed texts after the removal, or were made from them."""
    changed = [name for name, n in rows.items() if n]
    places = {
        f"tables {', '.join(changed)}": "earlier versions, until `climb maintain` deletes their "
        "files (at least a week later)"
    }
    stored = (
        (tables.DOMAINS, "table domains", "examples, until the next `climb prune`"),
        (tables.TOKENIZERS, "table tokenizers", "was trained on a sample; stays"),
        (tables.REPEATED_NGRAMS, "table repeated_ngrams", "has hashes of passages; stays"),
        (
            tables.CENTROIDS,
            "table centroids",
            "was fitted with removed documents; run `climb cluster --refit`",
        ),
    )
    places |= {place: what for table, place, what in stored if store.exists(table)}
    report = cfg.report.path or str(store.locate_file("report.html"))
    folders = (
        (
            str(store.locate_file("shards")),
            "token ids, also in copies on nodes (storage.local_folder)",
        ),
        (str(store.locate_file("models")), "checkpoints that were trained on removed texts"),
        (cfg.mix.export or store.locate_folder("mixed"), "text, until the next `climb mix`"),
        (str(cfg.export_folder), "texts or token ids; run `climb export` again"),
        (report, "examples of domains, until the next `climb report`"),
    )
    places |= {path: what for path, what in folders if _exists(store, path)}
    if cfg.tracking.enabled and cfg.tracking.artifacts and store.exists(tables.MIXTURES):
        places["MLflow"] = "reports with examples of domains"
    return places


def _exists(store: Store, path: str) -> bool:
    return open_folder(store.session, path).exists() if is_uri(path) else Path(path).exists()
