"""Render the page of the report: its rows, statistics, sentences and charts fill the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from climb.dataset.card import DomainCounts
from climb.report import charts
from climb.report.data import Cluster, Domain, ReportData
from climb.report.effects import tabulate_effects
from climb.report.measured import (
    Measured,
    collect_evaluations,
    collect_trials,
    measure,
    objective_of,
)
from climb.report.template import render_template
from climb.report.verdict import Verdict, conclude, list_next_steps
from climb.search.result import WEAK_RANKING, SearchResult
from climb.search.trials import PROPOSAL, RECOMMENDED

MAX_CLUSTERS = 200
"""Maximum number of rows in the table of clusters. The pruned clusters come first, then the kept
clusters. Each of the two groups is sorted by size, largest cluster first."""


def render(data: ReportData) -> str:
    """Render the whole page. Equal data give equal text. The page loads nothing from a network.

    All text of documents, tables and the configuration is escaped: the template escapes by default,
    and the charts escape their text. The page also forbids scripts.
    """
    held_out, proxies = _measure(data)
    return render_template(
        "page.html.jinja",
        data=data,
        result=data.result,
        reference=data.result.baselines[0],
        verdict=conclude(data, held_out),
        held_out=held_out,
        proxies=proxies,
        charts=_draw_charts(data, held_out, proxies),
        domains=_list_domains(data),
        quality=_tabulate_quality(data.result),
        weak_ranking=WEAK_RANKING,
        effects=tabulate_effects(data.result.effects, data.result.metric_weights),
        clusters=_summarize_clusters(data.clusters),
        failed=[trial for trial in data.unique_trials if trial.status == "failed"],
        totals=_sum_up(data),
        steps=list_next_steps(data),
    )


def conclude_report(data: ReportData) -> Verdict:
    """Return the verdict that the page states first."""
    return conclude(data, _measure(data)[0])


def draw_figures(data: ReportData) -> dict[str, str]:
    """Draw the charts of the page: name -> SVG text; charts without data are left out."""
    drawn = _draw_charts(data, *_measure(data))
    return {name: svg for name, svg in drawn.items() if svg}


def _measure(data: ReportData) -> tuple[Measured, Measured]:
    """Return the statistics of the target models, and then those of the proxies."""
    held_out = measure(collect_evaluations(data.evaluations), data.result)
    return held_out, measure(collect_trials(data.trials, data.methods), data.result)


def _draw_charts(data: ReportData, held_out: Measured, proxies: Measured) -> dict[str, str]:
    """Draw every chart; one without data is an empty string."""
    result = data.result
    tested = held_out.score.gains if held_out.score else {}
    gains = [
        (f"{where}, against {name}", by_baseline[name])
        for where, by_baseline in (("target model", tested), ("proxies", result.measured_gains))
        for name in result.baselines
        if name in by_baseline
    ]
    proposals, replicates, bands = _score_trials(data)
    pairs = [
        (pair.predicted, pair.measured)
        for pair in result.calibration.scores
        if pair.predicted is not None and pair.measured is not None
    ]
    best = max((score for _, score in proposals), default=None)
    return {
        "mixture": charts.mixture_chart(result.mixtures, data.domains),
        "gains": charts.gain_chart(gains) if gains else "",
        "rounds": charts.rounds_chart(proposals, replicates, bands) if proposals else "",
        "calibration": charts.calibration_chart(pairs) if pairs else "",
        "proxies": charts.means_chart(proxies.score.means, best) if proxies.score else "",
        "held_out": charts.means_chart(held_out.score.means) if held_out.score else "",
    }


def _score_trials(
    data: ReportData,
) -> tuple[list[tuple[int, float]], list[float], dict[str, tuple[float, float]]]:
    """Score the finished trials for the chart of rounds.

    Returns:
        Round and score of each proposal, the scores of the recommendation's replicates, and the
        lowest and highest score of each baseline.
    """
    finished = [trial for trial in data.trials if trial.status == "finished"]
    runs = collect_trials(finished, (PROPOSAL, *data.methods))
    objective = objective_of(data.result, runs)
    scores: dict[str, list[tuple[int, float]]] = {}
    for trial in finished if objective is not None else ():
        score = objective.score_run(trial.metrics) if objective is not None else None
        if score is not None:
            scores.setdefault(trial.method, []).append((trial.round_, score))
    bands = {
        method: (min(s for _, s in scores[method]), max(s for _, s in scores[method]))
        for method in data.result.baselines
        if method in scores
    }
    replicates = [score for _, score in scores.get(RECOMMENDED, [])]
    return sorted(scores.get(PROPOSAL, [])), replicates, bands


@dataclass(frozen=True)
class DomainRow:
    """A domain with its weights; None where a table has no value for the domain."""

    name: str
    domain: Domain
    recommended: float | None
    reference: float | None
    epochs: float | None
    mixed: DomainCounts | None


def _list_domains(data: ReportData) -> list[DomainRow]:
    """List the domains with their weights, largest recommended weight first."""
    recommended, reference = data.result.mixtures[0], data.result.mixtures[1]
    rows = {domain.name: domain for domain in data.domains}
    weights = recommended.weights
    names = sorted(rows.keys() | weights.keys(), key=lambda n: (-weights.get(n, 0.0), n))
    return [
        DomainRow(
            name=name,
            domain=rows.get(name, Domain(name=name, n_documents=0, n_tokens=0, token_share=0)),
            recommended=weights.get(name),
            reference=reference.weights.get(name),
            epochs=recommended.epochs.get(name),
            mixed=data.corpus.get(name),
        )
        for name in names
    ]


@dataclass(frozen=True)
class QualityRow:
    """One metric, or the score: rank correlations by round, and its noise."""

    name: str
    ranks: tuple[float | None, ...]
    noise: float | None
    signal_to_noise: float | None


def _tabulate_quality(result: SearchResult) -> list[QualityRow]:
    """Tabulate rank correlations by round, and the noise: a row per metric, the score first."""
    names = {name for entry in result.quality for name in entry.spearman} | set(result.noise)
    return [
        QualityRow(
            name=name,
            ranks=tuple(entry.spearman.get(name) for entry in result.quality),
            noise=result.noise.get(name),
            signal_to_noise=result.signal_to_noise.get(name),
        )
        for name in sorted(names, key=lambda n: (n != "score", n))
    ]


@dataclass(frozen=True)
class ClusterSummary:
    """The clusters, pruned clusters first, and sums over the pruned clusters."""

    scores: tuple[str, ...]
    rows: tuple[Cluster, ...]
    n: int
    n_pruned: int
    pruned_tokens: int
    pruned_documents: int
    pruned_share: float | None
    """Tokens of the pruned clusters as a share of all tokens; None if there are no tokens."""

    @property
    def hidden(self) -> int:
        """Number of clusters that the page leaves out."""
        return self.n - len(self.rows)


def _summarize_clusters(clusters: Sequence[Cluster]) -> ClusterSummary:
    """Summarize the clusters."""
    order = sorted(clusters, key=lambda c: (c.kept, -c.n_tokens, c.cluster))
    pruned = [cluster for cluster in clusters if not cluster.kept]
    total = sum(cluster.n_tokens for cluster in clusters)
    pruned_tokens = sum(cluster.n_tokens for cluster in pruned)
    return ClusterSummary(
        scores=tuple(sorted({name for cluster in clusters for name in cluster.scores})),
        rows=tuple(order[:MAX_CLUSTERS]),
        n=len(clusters),
        n_pruned=len(pruned),
        pruned_tokens=pruned_tokens,
        pruned_documents=sum(cluster.n_documents for cluster in pruned),
        pruned_share=pruned_tokens / total if total else None,
    )


@dataclass(frozen=True)
class Totals:
    """Sums that the page shows."""

    rejected: int
    trials: int
    trial_tokens: int
    trial_seconds: float
    models: int
    model_tokens: int
    model_seconds: float
    corpus_tokens: int


def _sum_up(data: ReportData) -> Totals:
    """Sum the rows, tokens and seconds that the page shows."""
    trials = data.unique_trials
    models = {row.model: row for row in data.evaluations}
    return Totals(
        rejected=sum(row.n_rows for row in data.rejections),
        trials=len(trials),
        trial_tokens=sum(trial.n_tokens for trial in trials),
        trial_seconds=sum(trial.seconds for trial in trials),
        models=len(models),
        model_tokens=sum(row.n_tokens for row in models.values()),
        model_seconds=sum(row.seconds for row in models.values()),
        corpus_tokens=sum(counts.tokens for counts in data.corpus.values()),
    )
