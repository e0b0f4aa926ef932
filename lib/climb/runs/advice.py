"""What the CSV commands print: the recommendation, its uncertainty, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.mixture import FeasibleSet
from climb.runs.effects_advice import MAX_METRICS, MAX_NAMES, describe_change, list_effects
from climb.runs.importer import MIXTURES_PER_DOMAIN
from climb.runs.repetition_advice import describe_repeats
from climb.runs.scale_advice import describe_scale, list_scale_steps
from climb.runs.sets import ScaleSummary
from climb.search.gains import Gain
from climb.search.repetition_cost import RepetitionCost
from climb.search.result import WEAK_RANKING, SearchResult
from climb.search.smallest_change import SmallestChange

_MAX_DOMAINS = 24
"""Maximum number of domains that the text lists; the files have all of them."""

_UNPREDICTABLE = 0.3
"""Spearman correlation in cross-validation below which a metric is called unpredictable."""

_NEGLIGIBLE = 1e-5
"""An expected gain below this share of the score is reported as hardly any improvement."""

_GOOD_RANKING = 0.9
"""Spearman correlation in cross-validation from which a ranking is called good."""


@dataclass(frozen=True)
class Notes:
    """The context of a printed summary."""

    objective: str
    remarks: tuple[str, ...]
    written: tuple[Path, ...]
    min_signal_to_noise: float = 0.0
    """Signal-to-noise ratio below which a metric is reported as mostly noise."""

    scale: ScaleSummary | None = None
    """The summary of runs of several scales; None if they have one scale."""

    change: SmallestChange | None = None
    """The smallest change that improves one metric; None if it was not requested."""

    repetition: RepetitionCost | None = None
    """What repeated text costs."""

    def format(self) -> list[str]:
        """Format the remarks, and the paths of the files that were written."""
        *first, last = map(str, self.written)
        files = f"{', '.join(first)} and {last}" if first else last
        return [*(f"Note: {remark}." for remark in self.remarks if remark), f"wrote {files}"]


def describe_predictions(
    n_mixtures: int, n_runs: int, spearman: Mapping[str, float], notes: Notes
) -> str:
    """Describe what `climb predict` did.

    Args:
        n_mixtures: number of mixtures that were predicted.
        n_runs: number of runs that the predictors were fitted on.
        spearman: metric, or `score` -> rank correlation in cross-validation.
        notes: objective, remarks and files.
    """
    metrics = {name: value for name, value in spearman.items() if name != "score"}
    lines = [
        f"Fitted {len(metrics)} metrics on {n_runs} runs and predicted {n_mixtures} mixtures.",
        f"Cross-validation: Spearman {_number(spearman['score'])} for the score "
        f"({notes.objective}); {_describe_weakest(metrics)}.",
        "Standard deviations are those of one new run. They contain the prediction error and the "
        "observation noise (inferred if no run is replicated). With runs of several scales, they "
        "also contain the error of the level: the part of a metric that all mixtures share.",
        *(describe_scale(notes.scale) if notes.scale else ()),
    ]
    return "\n".join([*lines, *notes.format()])


def describe_proposals(n: int, n_runs: int, can_fit: bool, searcher: str, notes: Notes) -> str:
    """Describe what `climb propose` did; `can_fit` is true if the runs were enough for a fit."""
    source = f"from {n_runs} runs"
    if not can_fit:
        source = f"without a predictor, since {n_runs} runs have too few mixtures for a fit"
    lines = [f"Proposed {n} mixtures with {searcher}, {source}."]
    if notes.scale:
        lines += [*describe_scale(notes.scale), *list_scale_steps(notes.scale)]
    return "\n".join([*lines, *notes.format()])


def describe_recommendation(result: SearchResult, space: FeasibleSet, notes: Notes) -> str:
    """Describe what `climb recommend` found: mixture, gains, uncertainty, effects, next steps."""
    lines = [
        f"Best mixture for {notes.objective} (score: higher is better; "
        f"{len(result.metric_weights)} metrics), from {result.n_trials} runs of "
        f"{result.n_mixtures} mixtures of {len(result.domains)} domains:",
        "",
        *_format_mixture(result, space),
        "",
        *(
            f"Gain over the {name} mixture: {_format_gain(gain)}."
            for name, gain in result.gains.items()
        ),
        _describe_verdict(result),
        "",
        "How reliable this is:",
        *(f"- {line}" for line in _list_caveats(result, notes.min_signal_to_noise)),
        *(f"- {line}" for line in (describe_scale(notes.scale) if notes.scale else ())),
        *(f"- {line}" for line in describe_repeats(notes.repetition, result)),
        "",
        "Effects of single domains:",
        *(f"- {line}" for line in list_effects(result)),
        *(describe_change(notes.change) if notes.change else ()),
        "",
        "Next steps:",
        *(f"- {line}" for line in _list_next_steps(result)),
        *(f"- {line}" for line in (list_scale_steps(notes.scale) if notes.scale else ())),
    ]
    return "\n".join([*lines, *notes.format()])


def _describe_verdict(result: SearchResult) -> str:
    reference = result.baselines[0]
    gain, verdict = result.gains[reference], f"Verdict: {result.verdict}."
    if gain.high < 0.0:
        return (
            f"{verdict} The recommended mixture is worse than {reference}: the whole interval of "
            "the gain is below 0."
        )
    if result.verdict != "gain":
        return (
            f"{verdict} The interval of the gain over {reference} contains 0: a gain may be chance."
        )
    return verdict


def _format_mixture(result: SearchResult, space: FeasibleSet) -> list[str]:
    recommended, reference = result.mixtures[0], result.mixtures[1]
    caps = dict(zip(space.domains, space.upper_K.tolist(), strict=True))
    ordered = sorted(recommended.weights.items(), key=lambda item: -item[1])
    # Further domains are summed in one line. If there is only one, it is listed instead of a sum.
    n_listed = _MAX_DOMAINS if len(ordered) > _MAX_DOMAINS + 1 else len(ordered)
    listed, rest = ordered[:n_listed], ordered[n_listed:]
    rest_title = f"{len(rest)} smaller domains"
    width = max(len("domain"), len(rest_title), *(len(name) for name, _ in listed))
    column = max(8, len(reference.name))
    lines = [f"  {'domain':<{width}}  recommended  {reference.name:>{column}}  {'epochs':>7}"]
    for name, weight in listed:
        epochs = recommended.epochs[name]
        at_cap = caps[name] - weight < 1e-6 and caps[name] > 0.0
        lines.append(
            f"  {name:<{width}}  {100 * weight:>9.2f} %  "
            f"{100 * reference.weights[name]:>{column - 2}.2f} %  "
            f"{'-' if epochs is None else f'{epochs:.2f}':>7}"
            + ("  at its limit" if at_cap else "")
        )
    if rest:
        natural = sum(reference.weights[name] for name, _ in rest)
        lines.append(
            f"  {rest_title:<{width}}  {100 * sum(weight for _, weight in rest):>9.2f} %  "
            f"{100 * natural:>{column - 2}.2f} %"
        )
    return lines


def _list_caveats(result: SearchResult, min_signal_to_noise: float) -> list[str]:
    """List the predictor's rank correlations, the noise, and what makes the result uncertain."""
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
    lines += [*_list_noise(result), *_list_unpredictable(metrics)]
    if result.low_signal_metrics:
        lines.append(
            f"Mostly noise (signal-to-noise ratio below {min_signal_to_noise:g}): "
            f"{_join(result.low_signal_metrics)}. search.down_weight=true gives them less weight."
        )
    dropped = [name for name, weight in result.recommended.weights.items() if weight == 0.0]
    if dropped:
        lines.append(
            f"Weight 0: {_join(dropped)}. This is right only if the metrics cover everything "
            "that the model must learn."
        )
    if _has_few_mixtures(result):
        lines.append(
            f"{result.n_mixtures} mixtures are few for {len(result.domains)} domains: train at "
            f"least {MIXTURES_PER_DOMAIN * len(result.domains)}."
        )
    return lines


def _list_unpredictable(metrics: Mapping[str, float | None]) -> list[str]:
    poor = [name for name, v in metrics.items() if v is not None and v < _UNPREDICTABLE]
    if not poor:
        return []
    return [
        f"Not predictable (Spearman below {_UNPREDICTABLE:g}): {_join(poor)}. Ignore the "
        "predictions of these metrics."
    ]


def _list_noise(result: SearchResult) -> list[str]:
    lines = ["No mixture was trained twice, so the observation noise is not measured."]
    if None not in result.noise.values():
        lines = [f"Observation noise of one run (standard deviation): {_describe_noise(result)}."]
    if result.calibration.spread > 1.0:
        lines.append(
            "The error of a prediction depends on the mixture: over most mixtures of the runs, the "
            "standard deviation of this error varies by a factor of "
            f"{result.calibration.spread:.2g}. Intervals take this into account."
        )
    return lines


def _describe_noise(result: SearchResult) -> str:
    """Return the noise of every metric, or the range if there are many metrics."""
    if len(result.noise) <= MAX_METRICS:
        return ", ".join(f"{name} {_number(value)}" for name, value in result.noise.items())
    values = sorted(value for value in result.noise.values() if value is not None)
    return f"{_number(values[0])} to {_number(values[-1])} over {len(values)} metrics"


def _join(names: Sequence[str]) -> str:
    """List names; if there are many, list the first ones and count the others."""
    if len(names) <= MAX_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES} more"


def _list_next_steps(result: SearchResult) -> list[str]:
    lines = [
        f"Train this mixture and the {result.baselines[0]} mixture with 3 seeds each: a measured "
        "comparison is better evidence than a prediction."
    ]
    expected, is_negligible = _describe_further_round(result)
    if is_negligible:
        lines.append(f"{expected}.")
    elif result.verdict != "gain" or _is_unreliable(result):
        lines.append(
            f"{expected}. For a further round, run `climb propose`, train its mixtures, and run "
            "`climb recommend` again."
        )
    else:
        lines.append(f"{expected}; `climb propose` lists mixtures for such runs.")
    if None in result.noise.values():
        lines.append("Replicates also measure the observation noise, which is inferred so far.")
    return lines


def _describe_further_round(result: SearchResult) -> tuple[str, bool]:
    """Describe the expected gain of a further round, and say whether it is negligible."""
    n, expected = result.further_round.n_trials, result.further_round.expected_gain
    if expected is None:
        return f"This predictor cannot estimate the expected gain of {n} more runs", False
    gain = f"The expected gain of {n} more runs is {expected:.2g} in score"
    if _is_unreliable(result):
        return f"{gain}, but the predictor is not reliable yet", False
    if expected < _NEGLIGIBLE * abs(result.recommended.score):
        return f"{n} more runs would hardly improve the recommendation", True
    return gain, False


def _is_unreliable(result: SearchResult) -> bool:
    """Whether the predictor has a low rank correlation, or was fitted on too few mixtures."""
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
