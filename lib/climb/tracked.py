"""Trials and answers as the flat keys and values of tracked runs; pure, MLflow stays outside."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from climb.errors import ConfigError, SearchError
from climb.objective import Objective
from climb.report.measured import objective_of, score_of
from climb.search.signal import weighed
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

COLUMNS = ("round", "seed", "seconds")
"""Columns of a trial that are metrics of its run.

MLflow's compare page draws, unasked, the first three params that differ and the first metric: so
weights are the only params that differ, and the score is the first metric.
"""


@dataclass(frozen=True)
class Run:
    """One child run, before it is logged."""

    trial_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    finished: bool
    ended_ms: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """The parent run's part that changes while a search goes on."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Name -> text: the found mixture as JSON, and what one percent more of each domain does."""

    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trial id -> its round, method and seed in this search; another search may have trained it."""

    step: int = 0
    """Version of the table `mixtures`, so that MLflow keeps the answers of earlier versions."""


def runs_of(rows: Sequence[Mapping[str, Any]], cfg: SearchConfig) -> list[Run]:
    """A run per row of `trials`, all with the same keys; what a trial lacks is NaN.

    Scores weigh metrics as the search does, which the trials of its first round may decide.
    """
    domains = sorted({name for row in rows for name in row["weights"]})
    names = sorted({name for row in rows for name in row["metrics"] or {}})
    finished = [row["metrics"] for row in rows if row["status"] == "finished"]
    objective = objective_of(cfg.objective, finished, _weights(rows, domains, cfg))
    runs = []
    for row in rows:
        measured = row["metrics"] or {}
        values = {"score": score_of(objective, measured)}
        values |= {f"metric.{name}": measured.get(name) for name in names}
        values |= {name: row[name] for name in COLUMNS}
        params = {"tokens": str(row["n_tokens"])}
        params |= {f"weight.{name}": f"{row['weights'].get(name, 0.0):.6f}" for name in domains}
        runs.append(
            Run(
                trial_id=row["trial_id"],
                params={_key(name): value for name, value in params.items()},
                metrics={_key(k): float("nan") if v is None else v for k, v in values.items()},
                tags=_tags(row),
                finished=row["status"] == "finished",
                ended_ms=int(row["finished"].timestamp() * 1000),
                seconds=row["seconds"] or 0.0,
            )
        )
    return runs


def _weights(
    rows: Sequence[Mapping[str, Any]], domains: Sequence[str], cfg: SearchConfig
) -> dict[str, float] | None:
    """What one unit more of each metric adds to the score, where trials decide that."""
    finished = [row for row in rows if row["status"] == "finished"]
    if not finished or (cfg.scale == "raw" and not cfg.down_weight):
        return None
    names = sorted(set.intersection(*(set(row["metrics"]) for row in finished)))
    try:
        objective = Objective.parse(cfg.objective, names)
        wanted = weighed(objective, Trials.from_rows(finished, domains, names), cfg)
    except (ConfigError, SearchError):  # such a search has no answer either
        return None
    return {wanted.metric_names[q]: float(wanted.weights_Q[q]) for q in wanted.used}


def answer_of(found: Mapping[str, Any], objective: str, versions: Mapping[str, Any]) -> Answer:
    """The found row of `mixtures`, with the versions of the tables it stands on."""
    evidence = json.loads(found.get("evidence") or "{}")
    values = {f"weight.{name}": weight for name, weight in found["weights"].items()}
    values |= {"score": found["score"], "gain.p_better": found["p_better"]}
    values |= {f"gain.{part}": found[f"gain_{part}"] for part in ("mean", "low", "high")}
    values |= _trust(evidence)
    tags = {f"climb.version.{name}": str(version) for name, version in versions.items()}
    tags |= {"climb.verdict": found["verdict"] or "", "climb.objective": objective}
    plain = {key: value for key, value in found.items() if key != "evidence"}
    files = {"mixture.json": json.dumps(plain, indent=2, sort_keys=True) + "\n"}
    if evidence.get("effects"):
        files["effects.csv"] = _effects_csv(evidence["effects"]["domains"])
    plan = evidence.get("plan") or []
    return Answer(
        metrics={_key(k): float("nan") if v is None else float(v) for k, v in values.items()},
        tags=tags,
        files=files,
        parts={trial_id: {"round": r, "method": m, "seed": s} for trial_id, r, m, s in plan},
        step=int(versions.get("mixtures") or 0),
    )


def _trust(evidence: Mapping[str, Any]) -> dict[str, float | None]:
    """How far the answer can be believed, metric by metric, and what a further round is worth."""
    rounds = (evidence.get("quality") or {}).get("rounds") or []
    ranks = rounds[-1]["spearman"] if rounds else {}
    noise, signal = evidence.get("noise") or {}, evidence.get("signal") or {}
    names = sorted((noise.keys() | ranks.keys()) - {"score"})
    values = {f"quality.{name}": ranks.get(name) for name in ("score", *names)}
    values |= {f"noise.{name}": noise.get(name) for name in names}
    values |= {f"signal.{name}": signal.get(name) for name in names}
    further = evidence.get("further") or {}
    return values | {f"further.{part}": further.get(part) for part in ("worth", "n_trials")}


def _effects_csv(domains: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A row per domain and metric, the score among them."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["domain", "metric", "mean", "std"])
    for domain, effects in sorted(domains.items()):
        rows = sorted(effects.items(), key=lambda item: (item[0] != "score", item[0]))
        table.writerows([domain, name, e["mean"], e["std"]] for name, e in rows)
    return stream.getvalue()


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    """What finds a trial again, and what a person filters by."""
    tags = {
        f"climb.{name}": row[name] for name in ("search", "trial_id", "method", "proxy", "data")
    }
    proposal = row["method"] == "proposal"
    part = f"round {row['round'] + 1}" if proposal else f"{row['method']} seed {row['seed']}"
    tags["mlflow.runName"] = f"{part} {row['trial_id'][-6:]}"
    return tags | ({"climb.error": row["error"]} if row["error"] else {})


def _key(name: str) -> str:
    """A name that MLflow accepts: domains may be called anything."""
    if re.fullmatch(r"[\w.\- /]{1,200}", name, re.ASCII):
        return name
    tail = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:190]}-{tail}"
