"""What a search says to people: its answer in sentences and a table, and in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet, weights_by_name
from climb.search.answer import Recommendation
from climb.search.compare import Gain
from climb.search.explain import Effects

Array = NDArray[np.float64]

_METRICS_SHOWN, _PAIRS_SHOWN = 6, 3
"""Metrics and pairs of metrics that the text explains; the JSON file holds all."""

_NOTHING = 1e-5
"""Worth of a round, as a share of the score, that is not worth a number."""

_GOOD, _POOR = 0.9, 0.6
"""Held-out Spearman from which a predictor is called good, and under which it is called poor."""


def predicted(
    n_mixtures: int,
    n_runs: int,
    ranks: Mapping[str, float],
    objective: str,
    remarks: Sequence[str],
    out: Path,
) -> str:
    """What `climb predict` says; `ranks` holds the held-out Spearman per metric and of `score`."""
    metrics = {name: rank for name, rank in ranks.items() if name != "score"}
    lines = [
        f"Fitted {len(metrics)} metrics on {n_runs} runs, predicted {n_mixtures} mixtures.",
        f"Held-out runs: the score ({objective}) is ranked at Spearman {_number(ranks['score'])}; "
        f"{_weakest(metrics)}.",
        "Deviations are those of one new run: prediction error, and seed noise where runs repeat.",
    ]
    return "\n".join([*lines, *_notes(remarks), f"wrote {out}"])


def proposed(
    n: int, n_runs: int, learned: bool, searcher: str, remarks: Sequence[str], out: Path
) -> str:
    """What `climb propose` says."""
    how = f"from {n_runs} runs" if learned else f"{n_runs} runs are too few to learn from yet"
    line = f"Proposed {n} mixtures as {searcher} chooses them: {how}."
    return "\n".join([line, *_notes(remarks), f"wrote {out}"])


@dataclass(frozen=True)
class Notes:
    """What surrounds an answer."""

    objective: str
    min_signal: float
    """Variance over mixtures / variance over seeds under which a metric is named as noise."""

    remarks: tuple[str, ...]
    written: tuple[Path, ...]


def recommended(answer: Recommendation, space: FeasibleSet, epochs_K: Array, notes: Notes) -> str:
    """What `climb recommend` says: the mixture, what it gains, how far to trust it, what to do."""
    gain = answer.gain
    lines = [
        f"Best mixture for {notes.objective} (score: higher is better), from {answer.n_trials} "
        f"runs of {answer.n_mixtures} mixtures:",
        "",
        *_table(answer, space, epochs_K),
        "",
        f"Over natural proportions: {_gain(gain)}.",
        f"Over uniform: {_gain(answer.gain_over_uniform)}.",
        f"Verdict: {answer.verdict}."
        + (
            ""
            if answer.verdict == "gain"
            else " The interval holds 0: what the runs show may as well be chance."
        ),
        "",
        "How far to trust it:",
        *(f"- {line}" for line in _doubts(answer, space, notes.min_signal)),
        "",
        "What pulls at it:",
        *(f"- {line}" for line in _pulls(answer.effects)),
        "",
        "Next:",
        *(f"- {line}" for line in _next(answer)),
    ]
    files = ", ".join(map(str, notes.written[:-1])) + f" and {notes.written[-1]}"
    return "\n".join([*lines, *_notes(notes.remarks), f"wrote {files}"])


def as_json(answer: Recommendation, objective: str) -> dict[str, Any]:
    """The answer as plain JSON values; what is unknown is null."""
    return {
        "objective": objective,
        "weights": weights_by_name(answer.domains, answer.weights_K),
        "gain": _interval(answer.gain),
        "gain_over_uniform": _interval(answer.gain_over_uniform),
        "p_better": answer.p_better,
        "verdict": answer.verdict,
        "score": {
            "found": {"mean": answer.score_mean, "std": answer.score_std},
            "natural": {"mean": answer.natural_mean, "std": answer.natural_std},
            "uniform": {"mean": answer.uniform_mean, "std": answer.uniform_std},
        },
        "noise": {
            name: _plain(noise)
            for name, noise in zip(answer.metric_names, answer.noise_Q.tolist(), strict=True)
        },
        "quality": {name: _plain(rank) for name, rank in answer.quality.items()},
        "signal": {
            name: _plain(ratio)
            for name, ratio in zip(
                answer.signal.metric_names, answer.signal.ratio_Q.tolist(), strict=True
            )
        },
        "further_round": vars(answer.further),
        "one_percent_more": answer.effects.as_json(),
        "n_runs": answer.n_trials,
        "n_mixtures": answer.n_mixtures,
    }


def _table(answer: Recommendation, space: FeasibleSet, epochs_K: Array) -> list[str]:
    wide = max(len("domain"), *map(len, space.domains))
    lines = [f"  {'domain':<{wide}}  {'found':>8}  {'natural':>8}  {'epochs':>7}"]
    for k in np.argsort(-answer.weights_K, kind="stable"):
        at_cap = space.caps_K[k] - answer.weights_K[k] < 1e-6 and space.caps_K[k] > 0.0
        lines.append(
            f"  {space.domains[k]:<{wide}}  {100 * answer.weights_K[k]:>6.2f} %  "
            f"{100 * space.natural_K[k]:>6.2f} %  {_epochs(epochs_K[k]):>7}"
            + ("  at its limit" if at_cap else "")
        )
    return lines


def _epochs(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _doubts(answer: Recommendation, space: FeasibleSet, min_signal: float) -> list[str]:
    rank = answer.quality["score"]
    metrics = {name: value for name, value in answer.quality.items() if name != "score"}
    word = "well" if rank >= _GOOD else "passably" if rank >= _POOR else "poorly"
    lines = [
        f"Held-out mixtures are ranked {word}: Spearman {_number(rank)} for the score; "
        f"{_weakest(metrics)}."
    ]
    if np.isnan(answer.noise_Q).any():
        lines.append("No mixture was run twice, so seed noise is not known by itself.")
    else:
        lines.append(
            "Seed noise per run: "
            + ", ".join(
                f"{name} {_number(noise)}"
                for name, noise in zip(answer.metric_names, answer.noise_Q.tolist(), strict=True)
            )
            + "."
        )
    weak = answer.signal.below(min_signal)
    if weak:
        lines.append(
            f"Mostly noise (mixtures move them less than {min_signal:g} times what seeds do): "
            f"{', '.join(weak)}. search.down_weight=true makes them count less."
        )
    lost = [d for d, w in zip(space.domains, answer.weights_K, strict=True) if w == 0.0]
    if lost:
        lines.append(
            f"It leaves out {', '.join(lost)}: right only if the metrics speak for all you need."
        )
    if _few(answer):
        lines.append(
            f"{answer.n_mixtures} mixtures are few for {len(space.domains)} domains; three times "
            "as many as domains is a start."
        )
    return lines


def _pulls(effects: Effects) -> list[str]:
    """The domains that matter most, metric by metric, and the metrics that part ways."""
    lines = ["What one percent more of a domain does, the others giving it in proportion:"]
    for q, name in enumerate(effects.metric_names[:_METRICS_SHOWN]):
        mean_K, std_K = effects.mean_KQ[:, q], effects.std_KQ[:, q]
        best, worst = (
            f"{effects.domains[k]} ({mean_K[k]:+.2g} ± {std_K[k]:.1g})"
            for k in (mean_K.argmax(), mean_K.argmin())
        )
        lines.append(f"{name}: best {best}, worst {worst}.")
    if len(effects.metric_names) > _METRICS_SHOWN:
        lines.append(f"{len(effects.metric_names) - _METRICS_SHOWN} more metrics: the JSON file.")
    for pair in effects.trade_offs[:_PAIRS_SHOWN]:
        helped, cost = pair.metrics
        lines.append(
            f"{helped} and {cost} trade off (correlation {pair.correlation:.2f}): more "
            f"{pair.domain} is worth {pair.effects[0]:+.2g} to the one, {pair.effects[1]:+.2g} to "
            "the other."
        )
    return lines


def _next(answer: Recommendation) -> list[str]:
    lines = [
        "Train this mixture and natural proportions with 3 seeds each: a direct comparison beats "
        "any prediction."
    ]
    worth = _worth(answer)
    if answer.verdict != "gain" or _early(answer):
        lines.append(f"{worth}: ask `climb propose`, train them, and ask again.")
    else:
        lines.append(f"{worth}; `climb propose` names them.")
    if np.isnan(answer.noise_Q).any():
        lines.append("Those repeats also tell the seed noise, which is only inferred so far.")
    return lines


def _worth(answer: Recommendation) -> str:
    """What a further round would be worth, as far as anybody can say."""
    n, worth = answer.further.n_trials, answer.further.worth
    if worth is None:
        return f"What {n} more runs would be worth, this predictor cannot say"
    rise = f"{n} more runs would raise its score by about {worth:.2g}"
    if _early(answer):
        return f"{rise}, by a predictor that is not to be trusted yet"
    if worth < _NOTHING * abs(answer.score_mean):
        return f"{n} more runs would hardly change the answer"
    return rise


def _early(answer: Recommendation) -> bool:
    """Whether the runs are too few, or predicted too badly, to lean on."""
    return not answer.quality["score"] >= _GOOD or _few(answer)


def _few(answer: Recommendation) -> bool:
    return answer.n_mixtures < 3 * len(answer.domains)


def _gain(gain: Gain) -> str:
    return (
        f"{gain.mean:+.4g} (90 % interval {gain.low:+.4g} to {gain.high:+.4g}), better with "
        f"probability {gain.p_better:.2f}"
    )


def _weakest(ranks: Mapping[str, float]) -> str:
    name = min(ranks, key=lambda name: ranks[name] if math.isfinite(ranks[name]) else -2.0)
    return f"the weakest metric is {name} at {_number(ranks[name])}"


def _interval(gain: Gain) -> dict[str, float]:
    return {"mean": gain.mean, "low": gain.low, "high": gain.high}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"


def _notes(remarks: Sequence[str]) -> list[str]:
    return [f"Note: {remark}." for remark in remarks if remark]
