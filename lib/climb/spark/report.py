"""Read what a report shows: small tables as they are, large ones as counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, resolved_yaml
from climb.errors import ClimbError, TableError
from climb.limits import Limits
from climb.report import (
    Cluster,
    CorpusShare,
    Domain,
    Evaluation,
    Mixture,
    Rejection,
    ReportData,
    Trial,
)
from climb.search.compare import Gain
from climb.spark.bench import target_bench
from climb.spark.store import Store
from climb.tables import Table

READ = (
    tables.DOCUMENTS,
    tables.REJECTED,
    tables.CLUSTERS,
    tables.DOMAINS,
    tables.TRIALS,
    tables.MIXTURES,
    tables.CORPUS,
    tables.EVALUATIONS,
)


def read_report(store: Store, cfg: Config) -> ReportData:
    """The rows of one search and of the run around it. Only `mixtures` must be there.

    Raises:
        TableError: this search has no answer yet.
    """
    mixtures = {row["method"]: row for row in store.rows(tables.MIXTURES, search=cfg.search.name)}
    if "found" not in mixtures:
        raise TableError(
            f"table mixtures holds no answer of the search {cfg.search.name!r}; "
            "run `climb search` first"
        )
    evidence = json.loads(mixtures["found"]["evidence"] or "{}")
    versions = {table.name: store.version(table) for table in READ}
    return ReportData(
        search=cfg.search.name,
        objective=cfg.search.objective,
        mixtures={method: _mixture(row) for method, row in mixtures.items()},
        verdict=mixtures["found"]["verdict"],
        direct=_direct(mixtures["found"], evidence),
        evidence=evidence,
        domains=_domains(store),
        trials=_trials(store, cfg, mixtures, evidence),
        evaluations=_evaluations(store, cfg, mixtures),
        clusters=_clusters(store),
        rejections=_rejections(store),
        corpus=_corpus(store),
        n_documents=_count(store, tables.DOCUMENTS),
        max_epochs=cfg.search.max_epochs,
        own_epochs=_own_epochs(cfg, mixtures["found"]["weights"]),
        versions={name: version for name, version in versions.items() if version is not None},
        configuration=resolved_yaml(cfg),
    )


def _own_epochs(cfg: Config, domains: Iterable[str]) -> dict[str, float]:
    """Limits of epochs that differ from the one for all."""
    most = Limits.of(cfg.search).epochs(sorted(domains))
    return {name: often for name, (often, _) in most.items() if often != cfg.search.max_epochs}


def _read(store: Store, table: Table) -> DataFrame | None:
    return store.read(table) if store.exists(table) else None


def _rows(store: Store, table: Table) -> list[dict[str, Any]]:
    return store.rows(table) if store.exists(table) else []


def _count(store: Store, table: Table) -> int | None:
    frame = _read(store, table)
    return None if frame is None else int(frame.count())


def _mixture(row: Mapping[str, Any]) -> Mixture:
    return Mixture(
        weights=row["weights"],
        epochs=row["epochs"] or {},
        score=row["score"],
        score_std=row["score_std"],
    )


def _direct(found: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Gain]:
    """Measured gains over both baselines; the row itself has the one over natural."""
    given = dict(evidence.get("direct") or {})
    columns = {"mean": "gain_mean", "low": "gain_low", "high": "gain_high", "p_better": "p_better"}
    given["natural"] = {key: found[column] for key, column in columns.items()}
    return {
        name: Gain(*(float(gain[key]) for key in columns))
        for name, gain in given.items()
        if gain and all(gain.get(key) is not None for key in columns)
    }


def _domains(store: Store) -> tuple[Domain, ...]:
    return tuple(
        Domain(
            name=row["domain"],
            n_documents=row["n_documents"],
            n_tokens=row["n_tokens"],
            token_share=row["token_share"],
            terms=tuple(row["terms"] or ()),
            examples=tuple(row["examples"] or ()),
            clusters=tuple(row["clusters"] or ()),
        )
        for row in _rows(store, tables.DOMAINS)
    )


def _trials(
    store: Store,
    cfg: Config,
    mixtures: Mapping[str, Mapping[str, Any]],
    evidence: Mapping[str, Any],
) -> tuple[Trial, ...]:
    """The trials that the answer stands on.

    The evidence names them, with their part in this search: a trial may have been trained for
    another search, and this search may have trials that an earlier configuration asked for.
    Evidence without a plan leaves the rows of this search, of the newest proxy and data.
    """
    rows = {row["trial_id"]: row for row in _rows(store, tables.TRIALS)}
    plan = evidence.get("plan")
    if plan is not None:
        taken = [
            rows[trial_id] | {"round": round_, "method": method, "seed": seed}
            for trial_id, round_, method, seed in plan
            if trial_id in rows
        ]
    else:
        taken = _newest([r for r in rows.values() if r["search"] == cfg.search.name], mixtures)
    taken.sort(key=lambda row: (row["round"], row["method"], row["seed"], row["trial_id"]))
    return tuple(
        Trial(
            trial_id=row["trial_id"],
            round_=row["round"],
            method=row["method"],
            seed=row["seed"],
            metrics=row["metrics"] or {},
            finished=row["status"] == "finished",
            error=row["error"],
            n_tokens=row["n_tokens"] or 0,
            seconds=row["seconds"] or 0.0,
        )
        for row in taken
    )


def _newest(
    rows: Sequence[dict[str, Any]], mixtures: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of the proxy and data of the newest trial; of the answers, only today's."""
    if not rows:
        return []
    newest = max(rows, key=lambda row: (row["finished"], row["trial_id"]))
    return [
        row
        for row in rows
        if (row["proxy"], row["data"]) == (newest["proxy"], newest["data"])
        and (row["method"] != "found" or _same(row["weights"], mixtures["found"]["weights"]))
    ]


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return all(abs(a.get(name, 0.0) - b.get(name, 0.0)) < 1e-9 for name in a.keys() | b.keys())


def _evaluations(
    store: Store, cfg: Config, mixtures: Mapping[str, Mapping[str, Any]]
) -> tuple[Evaluation, ...]:
    """Metrics of the models of these mixtures; the table may hold those of earlier answers too."""
    rows = _rows(store, tables.EVALUATIONS)
    if not rows:
        return ()
    try:
        bench = target_bench(store, cfg)
    except ClimbError:
        # Target files or shards are gone, so no model can be told by its name.
        plan = [(row["model"], row["method"], row["seed"]) for row in rows]
    else:
        plan = [
            (bench.name(row["weights"], seed), method, seed)
            for method, row in mixtures.items()
            for seed in range(cfg.train.seeds)
        ]
    return tuple(
        Evaluation(
            method=method,
            seed=seed,
            metric=row["metric"],
            value=row["value"],
            n_tokens=row["n_tokens"],
            seconds=row["seconds"],
        )
        for model, method, seed in sorted(set(plan))
        for row in rows
        if row["model"] == model
    )


def _clusters(store: Store) -> tuple[Cluster, ...]:
    return tuple(
        Cluster(
            cluster=row["cluster"],
            n_documents=row["n_documents"],
            n_tokens=row["n_tokens"],
            scores=row["scores"] or {},
            kept=row["kept"],
            reason=row["reason"],
            domain=row["domain"],
        )
        for row in _rows(store, tables.CLUSTERS)
    )


def _rejections(store: Store) -> tuple[Rejection, ...]:
    """Counts by reason, most first, each with the first of its files and details."""
    frame = _read(store, tables.REJECTED)
    if frame is None:
        return ()
    example = F.min(F.struct(F.coalesce("file", F.lit("")), F.coalesce("detail", F.lit(""))))
    rows = frame.groupBy("reason").agg(F.sum("n_rows").alias("n"), example.alias("e")).collect()
    return tuple(
        Rejection(
            reason=row["reason"],
            n_rows=row["n"],
            example=": ".join(part for part in row["e"] if part),
        )
        for row in sorted(rows, key=lambda row: (-row["n"], row["reason"]))
    )


def _corpus(store: Store) -> tuple[CorpusShare, ...]:
    frame = _read(store, tables.CORPUS)
    if frame is None:
        return ()
    sums = frame.groupBy("domain").agg(F.count("*").alias("n"), F.sum("n_tokens").alias("tokens"))
    return tuple(
        CorpusShare(domain=row["domain"], n_documents=row["n"], n_tokens=row["tokens"])
        for row in sums.orderBy("domain").collect()
    )
