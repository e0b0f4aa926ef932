"""Everything in its place: rows, statistics, sentences and charts, put into the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from climb.report import charts, formats
from climb.report.data import METHODS, Cluster, Domain, ReportData
from climb.report.effects import effects_table
from climb.report.measured import (
    BASELINES,
    Measured,
    measure,
    objective_of,
    runs_of_evaluations,
    runs_of_trials,
    score_of,
)
from climb.report.verdict import WEAK_RANKING, Verdict, conclude, next_steps

MOST_CLUSTERS = 200
"""Rows of the table of clusters: what was pruned first, then the largest."""


def render(data: ReportData) -> str:
    """The whole page. Equal data gives equal text; nothing in it is fetched when it is opened.

    Every text that comes from a document, a table or the configuration is escaped: the template
    escapes by default, the charts escape what they draw, and the page forbids scripts.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "signed", "share", "count", "tokens", "seconds", "printable"):
        env.filters[name] = getattr(formats, name)
    held_out, proxies = _measured(data)
    return env.get_template("page.html.jinja").render(
        data=data,
        methods=METHODS,
        verdict=conclude(data, held_out),
        held_out=held_out,
        proxies=proxies,
        charts=_charts(data, held_out, proxies),
        domains=_domains(data),
        quality=_quality(data.evidence),
        effects=effects_table(data.evidence),
        clusters=_clusters(data.clusters),
        failed=[trial for trial in data.trials if not trial.finished],
        totals=_totals(data),
        steps=next_steps(data),
    )


def verdict_of(data: ReportData) -> Verdict:
    """What the page says first."""
    return conclude(data, _measured(data)[0])


def figures(data: ReportData) -> dict[str, str]:
    """The page's drawings as SVG files, name -> text; those without data are left out."""
    drawn = _charts(data, *_measured(data))
    return {name: svg for name, svg in drawn.items() if svg}


def _measured(data: ReportData) -> tuple[Measured, Measured]:
    """The larger model's results, and the proxies'."""
    weighed = data.evidence.get("weighed")
    proxies = measure(runs_of_trials(data.trials), data.objective, weighed)
    if proxies.score is not None and data.direct:  # one number for one thing: the search's own
        proxies = replace(proxies, score=replace(proxies.score, gains=data.direct))
    return measure(runs_of_evaluations(data.evaluations), data.objective, weighed), proxies


def _charts(data: ReportData, held_out: Measured, proxies: Measured) -> dict[str, str]:
    """SVG by name; a chart without data is an empty string."""
    tested = held_out.score.gains if held_out.score else {}
    gains = [
        (f"{where}, against {name}", by[name])
        for where, by in (("larger model", tested), ("proxies", data.direct))
        for name in BASELINES
        if name in by
    ]
    proposals, answers, bands = _scores(data)
    pairs = [
        (float(pair["predicted"]), float(pair["measured"]))
        for pair in data.evidence.get("cross_validated") or []
        if None not in (pair["predicted"], pair["measured"])
    ]
    pairs = [pair for pair in pairs if math.isfinite(sum(pair))]
    best = max((score for _, score in proposals), default=None)
    return {
        "mixture": charts.mixture_chart(data.mixtures, data.domains),
        "gains": charts.gain_chart(gains) if gains else "",
        "rounds": charts.rounds_chart(proposals, answers, bands) if proposals else "",
        "truth": charts.truth_chart(pairs) if pairs else "",
        "proxies": charts.spread_chart(proxies.score.spreads, best) if proxies.score else "",
        "held_out": charts.spread_chart(held_out.score.spreads) if held_out.score else "",
    }


def _scores(
    data: ReportData,
) -> tuple[list[tuple[int, float]], list[float], dict[str, tuple[float, float]]]:
    """Scores of proposals with their round, of the answer, and the range of each baseline."""
    finished = [trial for trial in data.trials if trial.finished]
    metrics, weighed = [trial.metrics for trial in finished], data.evidence.get("weighed")
    objective = objective_of(data.objective, metrics, weighed)
    scored = [(trial, score_of(objective, trial.metrics)) for trial in finished]
    of: dict[str, list[tuple[int, float]]] = {}
    for trial, score in scored:
        if score is not None:
            of.setdefault(trial.method, []).append((trial.round_, score))
    bands: dict[str, tuple[float, float]] = {
        method: (min(s for _, s in of[method]), max(s for _, s in of[method]))
        for method in ("natural", "uniform")
        if method in of
    }
    return sorted(of.get("proposal", [])), [s for _, s in of.get("found", [])], bands


def _domains(data: ReportData) -> list[dict[str, Any]]:
    """Domains with their shares, largest found weight first."""
    found, natural = data.mixtures["found"], data.mixtures.get("natural")
    mixed = {row.domain: row for row in data.corpus}
    known = {domain.name: domain for domain in data.domains}
    names = sorted(known.keys() | found.weights.keys(), key=lambda n: (-_weight(found, n), n))
    return [
        {
            "name": name,
            "domain": known.get(name, Domain(name=name, n_documents=0, n_tokens=0, token_share=0)),
            "found": found.weights.get(name),
            "natural": natural.weights.get(name) if natural else None,
            "epochs": found.epochs.get(name),
            "mixed": mixed.get(name),
        }
        for name in names
    ]


def _weight(mixture: Any, name: str) -> float:
    return float(mixture.weights.get(name, 0.0))


def _quality(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Rank correlation per round and metric, the score first, and how noisy each metric is."""
    rounds = (evidence.get("quality") or {}).get("rounds") or []
    noise, signal = evidence.get("noise") or {}, evidence.get("signal") or {}
    names = {name for entry in rounds for name in entry.get("spearman", {})}
    names |= set(noise) | set(signal)
    return {
        "rounds": rounds,
        "expected": (evidence.get("predicted") or {}).get("natural"),
        "noisy": evidence.get("noisy") or [],
        "weak": WEAK_RANKING,
        "rows": [
            {
                "name": name,
                "ranks": [entry.get("spearman", {}).get(name) for entry in rounds],
                "noise": noise.get(name),
                "signal": signal.get(name),
            }
            for name in sorted(names, key=lambda n: (n != "score", n))
        ],
    }


def _clusters(clusters: Sequence[Cluster]) -> dict[str, Any]:
    """Pruned clusters first, with the names of all scores."""
    order = sorted(clusters, key=lambda c: (c.kept, -c.n_tokens, c.cluster))
    pruned = [cluster for cluster in clusters if not cluster.kept]
    total = sum(cluster.n_tokens for cluster in clusters)
    return {
        "scores": sorted({name for cluster in clusters for name in cluster.scores}),
        "rows": order[:MOST_CLUSTERS],
        "hidden": max(0, len(order) - MOST_CLUSTERS),
        "n": len(clusters),
        "n_pruned": len(pruned),
        "pruned_tokens": sum(cluster.n_tokens for cluster in pruned),
        "pruned_documents": sum(cluster.n_documents for cluster in pruned),
        "pruned_share": sum(c.n_tokens for c in pruned) / total if total else None,
    }


def _totals(data: ReportData) -> dict[str, Any]:
    """Sums that the page mentions."""
    rejected = sum(row.n_rows for row in data.rejections)
    models = {(row.method, row.seed): row for row in data.evaluations}
    return {
        "rejected": rejected,
        "trial_tokens": sum(trial.n_tokens for trial in data.trials),
        "trial_seconds": sum(trial.seconds for trial in data.trials),
        "models": len(models),
        "model_tokens": sum(row.n_tokens for row in models.values()),
        "model_seconds": sum(row.seconds for row in models.values()),
        "corpus_tokens": sum(row.n_tokens for row in data.corpus),
        "corpus_documents": sum(row.n_documents for row in data.corpus),
    }
