"""Read what a report shows: small tables as they are, large ones as counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, dump_yaml
from climb.config.uris import hide_credentials
from climb.errors import ClimbError, TableError
from climb.mixture import is_same_mixture
from climb.progress import log
from climb.report import (
    Cluster,
    Domain,
    Evaluation,
    Rejection,
    ReportData,
    Trial,
)
from climb.report.settings import restore_settings
from climb.search import SearchResult
from climb.search.records import PlannedRecord
from climb.search.trials import RECOMMENDED
from climb.spark.corpus.mix import count_corpus, find_other_origin
from climb.spark.delta.store import Store
from climb.spark.training.setup import build_target_setup
from climb.tables import Table

OTHER_MODELS = (
    "The target models were trained with other settings or shards than the configured ones; "
    "run `climb train` to train those of the configuration."
)

READ = (
    tables.DOCUMENTS,
    tables.REJECTED,
    tables.CLUSTERS,
    tables.DOMAINS,
    tables.TRIALS,
    tables.RUNGS,
    tables.MIXTURES,
    tables.CORPUS,
    tables.EVALUATIONS,
)


def read_result(store: Store, search: str) -> SearchResult:
    """Read the result of a finished search.

    Raises:
        TableError: the search has not finished, or another version of climb wrote its result.
    """
    rows = store.read_rows(tables.MIXTURES, search=search, method=RECOMMENDED)
    if not rows:
        raise TableError(
            f"table mixtures has no result of the search {search!r}; run `climb search` first"
        )
    return SearchResult.from_json(rows[0]["result"] or "", f"table mixtures, search {search!r}")


def read_report(store: Store, cfg: Config) -> ReportData:
    """Read the result of the search `search.name`, and the rows of the other tables of the run.

    Only table `mixtures` is required. Settings of section `search` are those that the result was
    made with, if its commit records them.

    Raises:
        TableError: see `read_result`.
    """
    result = read_result(store, cfg.search.name)
    inputs = store.history.read_inputs(tables.MIXTURES, f"search = '{cfg.search.name}'")
    made, note = restore_settings(cfg, inputs["settings"].get("search") if inputs else None)
    evaluations, models_note = _read_evaluations(store, result, cfg)
    for line in filter(None, (note, models_note)):
        log("report", line)
    has_corpus = store.exists(tables.CORPUS)
    other = find_other_origin(store, cfg) if has_corpus else ""
    versions = {table.name: store.history.read_version(table) for table in READ}
    return ReportData(
        result=result,
        domains=_read_domains(store),
        trials=_read_trials(store, result),
        evaluations=evaluations,
        clusters=_read_clusters(store),
        rejections=_read_rejections(store),
        corpus=count_corpus(store) if has_corpus and not other else {},
        other_dataset=other,
        n_documents=_count_rows(store, tables.DOCUMENTS),
        max_epochs=made.search.max_epochs,
        domain_max_epochs=_list_domain_epochs(made, result.domains),
        versions={name: version for name, version in versions.items() if version is not None},
        configuration=hide_credentials(dump_yaml(made)),
        settings_note=note,
        models_note=models_note,
    )


def _list_domain_epochs(cfg: Config, domains: Iterable[str]) -> dict[str, float]:
    """List the limits of epochs that differ from `search.max_epochs`."""
    limits = cfg.search.mixture_constraints.find_epoch_limits(sorted(domains))
    return {name: limit for name, (limit, _) in limits.items() if limit != cfg.search.max_epochs}


def _read(store: Store, table: Table) -> DataFrame | None:
    return store.read(table) if store.exists(table) else None


def _read_rows(store: Store, table: Table) -> list[tables.Row]:
    return store.read_rows(table) if store.exists(table) else []


def _count_rows(store: Store, table: Table) -> int | None:
    frame = _read(store, table)
    return None if frame is None else int(frame.count())


def _read_domains(store: Store) -> tuple[Domain, ...]:
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
        for row in _read_rows(store, tables.DOMAINS)
    )


def _read_trials(store: Store, result: SearchResult) -> tuple[Trial, ...]:
    """Read the trials of the result's plan, with their round, method and seed in this search.

    Another search may have trained them, and table `trials` may hold trials of an earlier plan.
    """
    rows: dict[tuple[str, int | None], tables.Row] = {
        (row["trial_id"], None): row for row in _read_rows(store, tables.TRIALS)
    }
    if result.halving is not None:
        rungs = _read_rows(store, tables.RUNGS)
        rows |= {(row["trial_id"], row["n_tokens"]): row for row in rungs}
    planned = [part for part in result.plan if (part.trial_id, part.stopped_at) in rows]
    planned.sort(key=lambda part: (part.round, part.method, part.seed, part.trial_id))
    return tuple(_make_trial(part, rows[part.trial_id, part.stopped_at]) for part in planned)


def _make_trial(part: PlannedRecord, row: Mapping[str, Any]) -> Trial:
    is_stopped = part.stopped_at is not None
    return Trial(
        trial_id=row["trial_id"],
        round_=part.round,
        method=part.method,
        seed=part.seed,
        metrics=row["metrics"] or {},
        status="stopped" if is_stopped else row["status"],
        error=None if is_stopped else row["error"],
        n_tokens=row["n_tokens"] or 0,
        seconds=row["seconds"] or 0.0,
    )


def _read_evaluations(
    store: Store, result: SearchResult, cfg: Config
) -> tuple[tuple[Evaluation, ...], str]:
    """Read the metrics of the target models that were trained on the mixtures of the result.

    Returns:
        The metrics, and a note; see `select_evaluations`.
    """
    rows = [
        (mixture.name, row)
        for row in _read_rows(store, tables.EVALUATIONS)
        for mixture in result.mixtures
        if is_same_mixture(row["weights"], mixture.weights)
    ]
    return select_evaluations(rows, _identify_models(store, cfg), cfg) if rows else ((), "")


def _identify_models(store: Store, cfg: Config) -> tuple[str, str] | None:
    """Return the recipe and the corpus digest of the models that `climb train` would train.

    The result is None if `climb train` could not train a model, for example because shards or item
    files are missing.
    """
    try:
        setup = build_target_setup(store, cfg)
        return setup.recipe, setup.corpus_digest
    except ClimbError:
        return None


def select_evaluations(
    rows: Sequence[tuple[str, tables.Row]], configured: tuple[str, str] | None, cfg: Config
) -> tuple[tuple[Evaluation, ...], str]:
    """From the models of a result's mixtures, select those with one recipe and one set of shards.

    The models of the configured recipe, shards and seeds are selected if one of them is a model of
    the recommendation. Otherwise, the last trained model of the recommendation determines the
    recipe and the shards, and models of all seeds are selected. If the recommendation has no model,
    the models of the baselines take its place in both rules. They do so only then, because the last
    model of a baseline may come from another search.

    Args:
        rows: methods, and rows of table `evaluations`; at least one.
        configured: recipe and corpus digest; None: unknown.
        cfg: `train.seeds` is the number of seeds.

    Returns:
        The metrics, and a note; it is empty if these are metrics of the configured models.
    """
    seeds = range(cfg.train.seeds)
    own = [row for method, row in rows if method == RECOMMENDED] or [row for _, row in rows]
    shown, note = configured, ""
    if not any(_identify(row) == configured and row["seed"] in seeds for row in own):
        last = max(own, key=lambda row: (row["finished"], row["model"]))
        shown, note = _identify(last), OTHER_MODELS
        seeds = range(max(row["seed"] for _, row in rows) + 1)
    evaluations = tuple(
        Evaluation(
            model=row["model"],
            method=method,
            seed=row["seed"],
            metric=row["metric"],
            value=row["value"],
            n_tokens=row["n_tokens"],
            seconds=row["seconds"],
        )
        for method, row in sorted(rows, key=lambda p: (p[0], p[1]["seed"], p[1]["metric"]))
        if _identify(row) == shown and row["seed"] in seeds
    )
    return evaluations, note


def _identify(row: tables.Row) -> tuple[str, str]:
    return row["recipe"], row["corpus_digest"]


def _read_clusters(store: Store) -> tuple[Cluster, ...]:
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
        for row in _read_rows(store, tables.CLUSTERS)
    )


def _read_rejections(store: Store) -> tuple[Rejection, ...]:
    """Count rejected rows by reason, most first, each with an example."""
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
