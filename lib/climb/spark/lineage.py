"""What the domains of a corpus were made of, kept so that its trials outlive them.

A trial names its corpus by `data`. Table `lineage` says where the tokens of that corpus' domains
lie among the clusters, in as many rows as there are clusters. Where domains are merged, split or
pruned otherwise, or documents are added, the clusters stay: what two corpora have in common can be
told from these rows alone. When the clusters themselves are made anew, all that is known is said in
the new ones, once, by comparing every document's old cluster with its new one: the old assignments
are replaced, but Delta still has the version that the last `pack` read.

Legend: N pairs of clusters, B clusters before, C clusters now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables, tokenizer
from climb.config import Config
from climb.progress import say
from climb.search import Trials
from climb.search.carry import Cells, Earlier, Overlap, Past, regrouped
from climb.spark.bench import Bench, data_of
from climb.spark.store import Store

Array = NDArray[np.float64]

FORGOTTEN = ("FILE_NOT_EXIST", "FILE_NOT_FOUND", "has no version", "VACUUM")
"""What Spark and Delta say of a version whose files or log are gone."""


def record(store: Store, cfg: Config, shards: Sequence[Mapping[str, Any]]) -> None:
    """Write down the lineage of the corpus that these shards are of, if it is not known yet.

    Before table `shards` is replaced: a crash in between finds the same things to do again.
    """
    data = data_of(shards)
    clustering = store.read(tables.ASSIGNMENTS).select("clustering").limit(1).collect()[0][0]
    known = _known(store)
    if clustering not in known[data]:
        made_with = {
            "data": data,
            "tokenizer": tokenizer.recipe(cfg.count),
            "trial_share": trial_share(cfg),
            "clustering": clustering,
        }
        clusters = [row for row in store.rows(tables.CLUSTERS) if row["n_tokens"]]
        _append(store, [row | made_with for row in clusters], f"{data}:{clustering}")
    lacking = sorted(d for d, names in known.items() if d != data and clustering not in names)
    if lacking:
        _regroup(store, cfg, lacking, clustering)


def past(store: Store, cfg: Config, bench: Bench) -> Past:
    """The finished runs of the same recipe in other domains, said in the present ones.

    They were counted with the same tokenizer, and their shards held the same share of a domain: a
    run that repeats scarce text more often is no run of this search. It writes no trial of another
    corpus, so this is the same whenever it is started.
    """
    least = cfg.search.carry_min_kept
    if least is None or not (store.exists(tables.TRIALS) and store.exists(tables.LINEAGE)):
        return Past()
    finished = store.rows(tables.TRIALS, proxy=bench.recipe, status="finished")
    rows = [row for row in finished if row["data"] != bench.data]
    corpora = sorted({row["data"] for row in rows})
    cells = _cells(store, cfg, [bench.data, *corpora]) if corpora else {}
    here = cells.get(bench.data, {})
    earlier = []
    for data in corpora:
        common = sorted(here.keys() & cells.get(data, {}).keys())
        if common:
            overlap = Overlap.through(cells[data][common[0]], here[common[0]])
            taken = [row for row in rows if row["data"] == data]
            trials = Trials.from_rows(taken, overlap.old, sorted(taken[0]["metrics"]))
            earlier.append(Earlier.of(trials, overlap, least))
    return Past(tuple(earlier), len(rows))


def trial_share(cfg: Config) -> float:
    """Share of every domain that the trials' shards hold."""
    return min(1.0, cfg.proxy.trial_tokens / cfg.search.target_tokens)


def _known(store: Store) -> defaultdict[str, set[str]]:
    """Clusterings in which each corpus is known."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    if store.exists(tables.LINEAGE):
        for row in store.read(tables.LINEAGE).select("data", "clustering").distinct().collect():
            known[row["data"]].add(row["clustering"])
    return known


def _cells(
    store: Store, cfg: Config, corpora: Sequence[str]
) -> dict[str, dict[str, dict[tuple[str | None, int | None], float]]]:
    """Tokens by corpus, clustering, domain and cluster; what was made otherwise is left out."""
    rows = store.read(tables.LINEAGE).where(F.col("data").isin(*corpora)).collect()
    found: dict[str, dict[str, dict[tuple[str | None, int | None], float]]] = {}
    made_with = (tokenizer.recipe(cfg.count), trial_share(cfg))
    for row in rows:
        if (row["tokenizer"], row["trial_share"]) == made_with:
            cells = found.setdefault(row["data"], {}).setdefault(row["clustering"], {})
            cells[row["domain"], row["cluster"]] = row["n_tokens"]
    return found


def _regroup(store: Store, cfg: Config, lacking: Sequence[str], clustering: str) -> None:
    """Say corpora that are known in the clusters of the last `pack` in those of now."""
    made_from = store.made_from(tables.SHARDS) or {}
    version = made_from.get("read", {}).get("assignments")
    if version is None:
        return
    try:
        was = store.read_at(tables.ASSIGNMENTS, version)
        before = str(was.select("clustering").limit(1).collect()[0][0])
        if before == clustering:  # what these corpora lack was lost earlier
            return
        known = store.read(tables.LINEAGE).where(F.col("clustering") == before)
        held = [row.asDict() for row in known.where(F.col("data").isin(*lacking)).collect()]
        moved_BC = _moved(store, cfg, was) if held else np.empty((0, 1))
    except Exception as error:
        if not any(words in str(error) for words in FORGOTTEN):
            raise
        say(
            "pack",
            f"warning: version {version} of table assignments was vacuumed before the clusters "
            f"were made anew, so trials of {len(lacking)} earlier corpora cannot be carried",
        )
        return
    rows = []
    for data in sorted({row["data"] for row in held}):
        own = [row for row in held if row["data"] == data]
        cells: Cells = {(row["domain"], row["cluster"]): row["n_tokens"] for row in own}
        rows += [
            own[0] | {"clustering": clustering, "domain": j, "cluster": c, "n_tokens": n}
            for (j, c), n in regrouped(cells, moved_BC).items()
        ]
    if rows:
        _append(store, rows, f"{before}:{clustering}")


def _moved(store: Store, cfg: Config, was: DataFrame) -> Array:
    """Tokens by cluster of assignments that were and cluster of now, shape (B, C + 1); the last
    column is of documents that have no cluster now.
    """
    now = store.read(tables.ASSIGNMENTS).select("doc_id", F.col("cluster").alias("now"))
    counts = store.read(tables.TOKENS).where(F.col("recipe") == tokenizer.recipe(cfg.count))
    sums = (
        was.select("doc_id", "cluster")
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
    # The version tells this start from one before: rows that somebody deleted are written again.
    once = f"{name}:{store.version(tables.LINEAGE)}"
    store.append(store.frame(rows, tables.LINEAGE), tables.LINEAGE, once=once)
