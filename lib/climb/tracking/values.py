"""Trials and results as the flat keys and values of MLflow runs. Nothing here imports MLflow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from climb.errors import ConfigError, SearchError
from climb.files import format_csv
from climb.objective import Objective
from climb.search import SearchResult, Trials
from climb.search.records import EffectsRecord, PlannedRecord
from climb.search.signal_to_noise import build_objective
from climb.search.trials import PROPOSAL

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

MAX_METRICS = 10
"""The run of a search has keys for at most this many metrics: those that change the score most."""

COLUMNS = ("round", "seed", "seconds")
"""Columns of a trial that are metrics of its run.

By default, MLflow's compare page draws the first params that differ, and the first metric. Here,
weights are the only params that differ, and the score is the first metric.
"""


@dataclass(frozen=True)
class ChildRun:
    """The run of one trial, before it is logged."""

    trial_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    finished: bool
    ended_ms: int
    seconds: float


@dataclass(frozen=True)
class ParentRun:
    """The values of a search's run that change while the search goes on."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Name -> text: the result as JSON; the quality of all metrics and the effects of the domains
    as CSV."""

    plan: Mapping[str, PlannedRecord] = field(default_factory=dict)
    """Trial id -> its round, method and seed in this search; another search may have trained
    the trial."""

    step: int = 0
    """Version of table `mixtures`: MLflow keeps the values of earlier versions."""


def select_trials(
    rows: Sequence[Mapping[str, Any]], search: str, plan: Mapping[str, PlannedRecord]
) -> list[Mapping[str, Any]]:
    """Select the trials of a search, with their round, method and seed in this search.

    Another search may have trained a trial of the plan, with another round, method or seed. Trials
    that this search stopped early are left out.
    """
    selected: list[Mapping[str, Any]] = []
    for row in rows:
        planned = plan.get(row["trial_id"])
        if planned is not None and planned.stopped_at is not None:
            continue  # stopped early here; the row is from another search, which trained it in full
        if planned is not None:
            part = {"round": planned.round, "method": planned.method, "seed": planned.seed}
            selected.append({**row, **part, "search": search})
        elif row["search"] == search:
            selected.append(row)
    return selected


def make_child_runs(rows: Sequence[Mapping[str, Any]], cfg: SearchConfig) -> list[ChildRun]:
    """Make a run for each row of `trials`. All runs have the same keys; a missing value is NaN."""
    domains = sorted({name for row in rows for name in row["weights"]})
    names = sorted({name for row in rows for name in row["metrics"] or {}})
    objective = _build_objective(rows, domains, cfg)
    runs = []
    for row in rows:
        measured = row["metrics"] or {}
        values = {"score": objective.score_run(measured) if objective is not None else None}
        values |= {f"metric.{name}": measured.get(name) for name in names}
        values |= {name: row[name] for name in COLUMNS}
        params = {"tokens": str(row["n_tokens"])}
        params |= {f"weight.{name}": f"{row['weights'].get(name, 0.0):.6f}" for name in domains}
        runs.append(
            ChildRun(
                trial_id=row["trial_id"],
                params={make_key(name): value for name, value in params.items()},
                metrics=_replace_unknown(values),
                tags=make_tags(row),
                finished=row["status"] == "finished",
                ended_ms=int(row["finished"].timestamp() * 1000),
                seconds=row["seconds"] or 0.0,
            )
        )
    return runs


def _build_objective(
    rows: Sequence[Mapping[str, Any]], domains: Sequence[str], cfg: SearchConfig
) -> Objective | None:
    """Build the objective as the search does; None while the trials cannot be scored yet."""
    finished = [row for row in rows if row["status"] == "finished"]
    if not finished:
        return None
    names = sorted(set.intersection(*(set(row["metrics"]) for row in finished)))
    try:
        return build_objective(cfg.objective, Trials.from_rows(finished, domains, names), cfg)
    except (ConfigError, SearchError):  # the search itself stops with this error
        return None


def make_parent_run(result: SearchResult, versions: Mapping[str, Any]) -> ParentRun:
    """Make the run of a finished search.

    Args:
        result: the result of the search.
        versions: table -> version that the search read or wrote.
    """
    values: dict[str, float | None] = {
        f"weight.{name}": weight for name, weight in result.recommended.weights.items()
    }
    values["score"] = result.recommended.score
    for baseline, gain in result.gains.items():
        parts = ("mean", "low", "high", "p_better")
        values |= {f"gain.{baseline}.{part}": getattr(gain, part) for part in parts}
    values |= _list_quality(result)
    tags = {f"climb.version.{name}": str(version) for name, version in versions.items()}
    tags |= {"climb.verdict": result.verdict, "climb.objective": result.objective}
    return ParentRun(
        metrics=_replace_unknown(values),
        tags=tags,
        files={
            "result.json": result.model_dump_json(indent=2) + "\n",
            "quality.csv": _format_quality(result),
            "effects.csv": _format_effects(result.effects),
        },
        plan={part.trial_id: part for part in result.plan},
        step=int(versions.get("mixtures") or 0),
    )


Quality = tuple[float | None, float | None, float | None]
"""Rank correlation, noise and signal-to-noise ratio of a metric; None where unknown."""


def _list_quality(result: SearchResult) -> dict[str, float | None]:
    """List the values that show how reliable the result is.

    These are the numbers of trials and metrics, the quality of the metrics that change the score
    most, what halving saved, and the expected gain of a further round.
    """
    rows = _collect_quality(result)
    ranked = result.effects.rank_metrics(result.metric_weights)
    names = sorted((name for name in rows if name != "score"), key=_make_order(ranked))
    values: dict[str, float | None] = {"n_trials": result.n_trials, "n_metrics": len(names)}
    values["spearman.score"] = rows["score"][0]
    for name in names[:MAX_METRICS]:
        keys = (f"spearman.{name}", f"noise.{name}", f"signal_to_noise.{name}")
        values |= dict(zip(keys, rows[name], strict=True))
    if result.halving is not None:
        values["halving.n_stopped"] = result.halving.n_stopped
        values["halving.token_share"] = result.halving.token_share
    values["further_round.expected_gain"] = result.further_round.expected_gain
    values["further_round.n_trials"] = result.further_round.n_trials
    return values


def _make_order(ranked: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Make a sort key: ranked metrics first, then the others by name."""
    places = {name: place for place, name in enumerate(ranked)}
    return lambda name: (places.get(name, len(places)), name)


def _collect_quality(result: SearchResult) -> dict[str, Quality]:
    """Collect the quality of the score and of every metric, the score first."""
    spearman = result.quality[-1].spearman if result.quality else {}
    names = sorted((result.noise.keys() | spearman.keys()) - {"score"})
    return {
        name: (spearman.get(name), result.noise.get(name), result.signal_to_noise.get(name))
        for name in ("score", *names)
    }


def _format_quality(result: SearchResult) -> str:
    """Format a CSV file with a row per metric, the score first; unknown values are empty."""
    rows = ([name, *row] for name, row in _collect_quality(result).items())
    return format_csv(["metric", "spearman", "noise", "signal_to_noise"], rows)


def _format_effects(effects: EffectsRecord) -> str:
    """Format a CSV file with a row per domain and metric, the score first."""
    rows = (
        [domain, name, effect.mean, effect.std]
        for domain, own in sorted(effects.domains.items())
        for name, effect in sorted(own.items(), key=lambda item: (item[0] != "score", item[0]))
    )
    return format_csv(["domain", "metric", "mean", "std"], rows)


def make_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """Make the tags that identify a trial, and those that a person filters by."""
    tags = {
        f"climb.{name}": row[name]
        for name in ("search", "trial_id", "method", "proxy", "corpus_digest")
    }
    proposal = row["method"] == PROPOSAL
    part = f"round {row['round'] + 1}" if proposal else f"{row['method']} seed {row['seed']}"
    tags["mlflow.runName"] = f"{part} {row['trial_id'][-6:]}"
    return tags | ({"climb.error": row["error"]} if row["error"] else {})


def _replace_unknown(values: Mapping[str, float | None]) -> dict[str, float]:
    """Replace unknown values by NaN, and names by keys that MLflow accepts."""
    return {make_key(k): float("nan") if v is None else float(v) for k, v in values.items()}


def make_key(name: str) -> str:
    """Return a name that MLflow accepts: domains may have any name."""
    if re.fullmatch(r"[\w.\- /]{1,200}", name, re.ASCII):
        return name
    tail = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:190]}-{tail}"
