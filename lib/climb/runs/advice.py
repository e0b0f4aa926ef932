"""What the CSV commands print: the recommendation, its uncertainty, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from climb.mixture import FeasibleSet
from climb.runs.importer import MIXTURES_PER_DOMAIN
from climb.search.gains import Gain
from climb.search.records import EffectsRecord
from climb.search.result import WEAK_RANKING, SearchResult

_MAX_METRICS, _MAX_PAIRS = 6, 3
"""Metrics and pairs of metrics that the text lists; the JSON file has them all."""

_NEGLIGIBLE = 1e-5
"""Expected gain of a round, as a share of the score, that is reported as no change."""

_GOOD_RANKING = 0.9
"""Spearman correlation in cross-validation from which a ranking is called good."""


@dataclass(frozen=True)
class Notes:
    """The context of a printed summary."""

    objective: str
    remarks: tuple[str, ...]
    written: tuple[Path, ...]
    min_signal_to_noise: float = 0.0
    """Ratio below which a metric is reported as noise."""

    def format(self) -> list[str]:
        """Format the remarks and the files that were written."""
        *first, last = map(str, self.written)
        files = f"{', '.join(first)} and {last}" if first else last
        return [*(f"Note: {remark}." for remark in self.remarks if remark), f"wrote {files}"]


def describe_predictions(
    n_mixtures: int, n_runs: int, spearman: Mapping[str, float], notes: Notes
) -> str:
    """Describe what `climb predict` did.

    Args:
        n_mixtures: mixtures that were predicted.
        n_runs: runs that the predictors were fitted on.
        spearman: rank correlation in cross-validation per metric, and of the score as `score`.
        notes: objective, remarks and files.
    """
    metrics = {name: value for name, value in spearman.items() if name != "score"}
    lines = [
        f"Fitted {len(metrics)} metrics on {n_runs} runs and predicted {n_mixtures} mixtures.",
        f"Cross-validation: Spearman {_number(spearman['score'])} for the score "
        f"({notes.objective}); {_describe_weakest(metrics)}.",
        "Standard deviations are those of one new run: prediction error, and observation noise "
        "where runs are replicated.",
    ]
    return "\n".join([*lines, *notes.format()])


def describe_proposals(n: int, n_runs: int, can_fit: bool, searcher: str, notes: Notes) -> str:
    """Describe what `climb propose` did; `can_fit`: whether the runs were enough for a fit."""
    source = f"from {n_runs} runs"
    if not can_fit:
        source = f"without a predictor, since {n_runs} runs are too few for a fit"
    line = f"Proposed {n} mixtures with {searcher}, {source}."
    return "\n".join([line, *notes.format()])


def describe_recommendation(result: SearchResult, space: FeasibleSet, notes: Notes) -> str:
    """Describe what `climb recommend` found: mixture, gains, uncertainty, effects, next steps."""
    reference = result.baselines[0]
    verdict = f"Verdict: {result.verdict}."
    if result.verdict != "gain":
        verdict += f" The interval over the {reference} mixture contains 0: it may be chance."
    lines = [
        f"Best mixture for {notes.objective} (score: higher is better), from {result.n_trials} "
        f"runs of {result.n_mixtures} mixtures:",
        "",
        *_format_mixture(result, space),
        "",
        *(
            f"Gain over the {name} mixture: {_format_gain(gain)}."
            for name, gain in result.gains.items()
        ),
        verdict,
        "",
        "How reliable this is:",
        *(f"- {line}" for line in _list_caveats(result, notes.min_signal_to_noise)),
        "",
        "Effects of single domains:",
        *(f"- {line}" for line in _list_effects(result.effects)),
        "",
        "Next steps:",
        *(f"- {line}" for line in _list_next_steps(result)),
    ]
    return "\n".join([*lines, *notes.format()])


def _format_mixture(result: SearchResult, space: FeasibleSet) -> list[str]:
    recommended, reference = result.mixtures[0], result.mixtures[1]
    caps = dict(zip(space.domains, space.upper_K.tolist(), strict=True))
    width = max(len("domain"), *map(len, caps))
    column = max(8, len(reference.name))
    lines = [f"  {'domain':<{width}}  recommended  {reference.name:>{column}}  {'epochs':>7}"]
    for name, weight in sorted(recommended.weights.items(), key=lambda item: -item[1]):
        epochs = recommended.epochs[name]
        at_cap = caps[name] - weight < 1e-6 and caps[name] > 0.0
        lines.append(
            f"  {name:<{width}}  {100 * weight:>9.2f} %  "
            f"{100 * reference.weights[name]:>{column - 2}.2f} %  "
            f"{'-' if epochs is None else f'{epochs:.2f}':>7}"
            + ("  at its limit" if at_cap else "")
        )
    return lines


def _list_caveats(result: SearchResult, min_signal_to_noise: float) -> list[str]:
    """List how well the predictor ranks, the noise, and what makes the result uncertain."""
    spearman = result.quality[-1].spearman
    score = spearman["score"]
    metrics = {name: value for name, value in spearman.items() if name != "score"}
    word = "poorly"
    if score is not None and score >= WEAK_RANKING:
        word = "well" if score >= _GOOD_RANKING else "fairly"
    lines = [
        f"Cross-validation ranks mixtures {word}: Spearman {_number(score)} for the score; "
        f"{_describe_weakest(metrics)}."
    ]
    if None in result.noise.values():
        lines.append("No mixture was trained twice, so the observation noise is not measured.")
    else:
        noise = ", ".join(f"{name} {_number(value)}" for name, value in result.noise.items())
        lines.append(f"Observation noise of one run (standard deviation): {noise}.")
    if result.low_signal_metrics:
        lines.append(
            f"Mostly noise (signal-to-noise ratio below {min_signal_to_noise:g}): "
            f"{', '.join(result.low_signal_metrics)}. search.down_weight=true gives them less "
            "weight."
        )
    dropped = [name for name, weight in result.recommended.weights.items() if weight == 0.0]
    if dropped:
        lines.append(
            f"Weight 0: {', '.join(dropped)}. This is right only if the metrics cover everything "
            "that the model must learn."
        )
    if _has_few_mixtures(result):
        lines.append(
            f"{result.n_mixtures} mixtures are few for {len(result.domains)} domains: train at "
            f"least {MIXTURES_PER_DOMAIN * len(result.domains)}."
        )
    return lines


def _list_effects(effects: EffectsRecord) -> list[str]:
    """List the domains with the largest effects, metric by metric, and the trade-offs."""
    lines = [
        f"Change of each metric when {100 * effects.step:g} % of the mixture moves to a domain "
        "from the others, in proportion (positive is better):"
    ]
    names = [name for name in next(iter(effects.domains.values())) if name != "score"]
    for name in names[:_MAX_METRICS]:
        ordered = sorted(effects.domains, key=lambda domain: effects.domains[domain][name].mean)
        best, worst = (
            f"{domain} ({effect.mean:+.2g} ± {effect.std:.1g})"
            for domain in (ordered[-1], ordered[0])
            for effect in [effects.domains[domain][name]]
        )
        lines.append(f"{name}: best {best}, worst {worst}.")
    if len(names) > _MAX_METRICS:
        lines.append(f"{len(names) - _MAX_METRICS} more metrics are in the JSON file.")
    for pair in effects.trade_offs[:_MAX_PAIRS]:
        first, second = pair.metrics
        lines.append(
            f"{first} and {second} trade off (correlation {pair.correlation:.2f}): more "
            f"{pair.domain} changes {first} by {pair.effects[0]:+.2g} and {second} by "
            f"{pair.effects[1]:+.2g}."
        )
    return lines


def _list_next_steps(result: SearchResult) -> list[str]:
    lines = [
        f"Train this mixture and the {result.baselines[0]} mixture with 3 seeds each: a measured "
        "comparison is better evidence than a prediction."
    ]
    expected = _describe_further_round(result)
    if result.verdict != "gain" or _is_unreliable(result):
        lines.append(f"{expected}: run `climb propose`, train its mixtures, and recommend again.")
    else:
        lines.append(f"{expected}; `climb propose` lists the mixtures.")
    if None in result.noise.values():
        lines.append("Replicates also measure the observation noise, which is inferred so far.")
    return lines


def _describe_further_round(result: SearchResult) -> str:
    """Describe the expected gain of a further round."""
    n, expected = result.further_round.n_trials, result.further_round.expected_gain
    if expected is None:
        return f"This predictor cannot estimate the expected gain of {n} more runs"
    gain = f"The expected gain of {n} more runs is {expected:.2g} in score"
    if _is_unreliable(result):
        return f"{gain}, but the predictor is not reliable yet"
    if expected < _NEGLIGIBLE * abs(result.recommended.score):
        return f"{n} more runs would hardly change the recommendation"
    return gain


def _is_unreliable(result: SearchResult) -> bool:
    """Whether the runs are too few, or predicted too poorly, to rely on."""
    score = result.last_spearman
    return score is None or score < _GOOD_RANKING or _has_few_mixtures(result)


def _has_few_mixtures(result: SearchResult) -> bool:
    return result.n_mixtures < MIXTURES_PER_DOMAIN * len(result.domains)


def _format_gain(gain: Gain) -> str:
    return (
        f"{gain.mean:+.4g} (90 % interval {gain.low:+.4g} to {gain.high:+.4g}; better with "
        f"probability {gain.p_better:.2f}; {gain.test})"
    )


def _describe_weakest(spearman: Mapping[str, float | None]) -> str:
    name = min(spearman, key=lambda name: _or_lowest(spearman[name]))
    return f"the weakest metric is {name} with {_number(spearman[name])}"


def _or_lowest(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else -2.0


def _number(value: float | None) -> str:
    return f"{value:.3g}" if value is not None and math.isfinite(value) else "unknown"
