"""The sentences of the report: the answer, the reasons, and what to look at next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from climb.report.data import Mixture, ReportData
from climb.report.formats import number, share, signed
from climb.report.measured import BASELINES, Measured
from climb.search.compare import Gain

WEAK_RANKING = 0.5
"""Spearman correlation below which the predictor's order of mixtures is hardly better than none."""


@dataclass(frozen=True)
class Verdict:
    """The first thing a reader sees."""

    tone: Literal["gain", "mixed", "none"]
    headline: str
    summary: str
    reasons: tuple[str, ...] = ()
    """Why there is no gain, or why the evidence is weak; empty where it is strong."""


def conclude(data: ReportData, held_out: Measured) -> Verdict:
    """Weigh the larger model's result; where there is none, the proxies'."""
    gains: Mapping[str, Gain] = held_out.score.gains if held_out.score else {}
    if "natural" not in gains:
        return _from_proxies(data, tested=bool(data.evaluations))
    clear = [name for name in BASELINES if name in gains and gains[name].low > 0]
    sizes = _sizes(gains)
    if gains["natural"].low > 0 and len(clear) == len(gains):
        return Verdict(
            "gain",
            f"The found mixture beats {' and '.join(gains)} proportions",
            f"A larger model scored {sizes} on items that the search never saw.",
            _doubts(data),
        )
    reasons = (*_why_not(gains), *_lost_on_the_way(data, gains), *_doubts(data))
    if gains["natural"].low > 0:
        return Verdict(
            "mixed",
            "The found mixture beats natural, but not uniform proportions",
            f"A larger model scored {sizes} on items that the search never saw.",
            reasons,
        )
    return Verdict(
        "none",
        "No gain found",
        f"On items that the search never saw, a larger model scored {sizes}.",
        reasons,
    )


def _from_proxies(data: ReportData, tested: bool) -> Verdict:
    gain = data.direct.get("natural")
    untested = (
        "The larger model has fewer than two seeds in common, or lacks metrics of the objective."
        if tested
        else "No larger model has tested the answer yet: run `climb train`."
    )
    if gain is None:
        return Verdict("none", "No gain found", "The proxies gave no comparison.", (untested,))
    sizes = _sizes(data.direct)
    if data.verdict == "gain":
        summary = f"Proxy models scored {sizes}. {untested}"
        return Verdict("mixed", "The search expects a gain", summary, _doubts(data))
    reasons = (*_why_not(data.direct), *_doubts(data))
    return Verdict("none", "No gain found", f"Proxy models scored {sizes}. {untested}", reasons)


def _sizes(gains: Mapping[str, Gain]) -> str:
    return " and ".join(
        f"{signed(gain.mean)} against {name} "
        f"(90 % interval {signed(gain.low)} to {signed(gain.high)})"
        for name, gain in _ordered(gains)
    )


def _ordered(gains: Mapping[str, Gain]) -> list[tuple[str, Gain]]:
    return [(name, gains[name]) for name in BASELINES if name in gains]


def _why_not(gains: Mapping[str, Gain]) -> list[str]:
    reasons = []
    for name, gain in _ordered(gains):
        half = (gain.high - gain.low) / 2
        if gain.high < 0:
            reasons.append(f"The found mixture is worse than {name}: the interval lies below 0.")
        elif gain.low <= 0:
            reasons.append(
                f"Against {name} the difference, {signed(gain.mean)}, is smaller than what seeds "
                f"alone explain (\N{PLUS-MINUS SIGN}{number(half)}): it may be chance."
            )
    return reasons


def _lost_on_the_way(data: ReportData, gains: Mapping[str, Gain]) -> list[str]:
    """Baselines that the proxies beat and the larger model did not."""
    return [
        f"On the proxies the gain over {name} was clear ({signed(data.direct[name].mean)}); it did "
        "not carry over to the larger model and the unseen items."
        for name, gain in _ordered(gains)
        if gain.low <= 0 and name in data.direct and data.direct[name].low > 0
    ]


def _doubts(data: ReportData) -> tuple[str, ...]:
    doubts = []
    if "natural" in data.mixtures and _equal(data.mixtures["found"], data.mixtures["natural"]):
        doubts.append("The search found nothing better than natural proportions themselves.")
    ranking = last_ranking(data)
    if ranking is not None and ranking < WEAK_RANKING:
        doubts.append(
            f"The predictor ranks unseen mixtures badly (Spearman {number(ranking, 2)} on the "
            "score): more trials, or longer ones, would help most."
        )
    gain = data.direct.get("natural")
    if gain is not None and gain.low <= 0 and data.evaluations:
        doubts.append(
            f"On the proxies the gain over natural proportions, {signed(gain.mean)}, was not "
            "clear of 0."
        )
    return tuple(doubts)


def _equal(a: Mixture, b: Mixture) -> bool:
    names = a.weights.keys() | b.weights.keys()
    return all(abs(a.weights.get(n, 0.0) - b.weights.get(n, 0.0)) < 1e-6 for n in names)


def last_ranking(data: ReportData) -> float | None:
    """Spearman correlation of predicted and measured score in the last round that has one."""
    for entry in reversed((data.evidence.get("quality") or {}).get("rounds") or []):
        value = entry.get("spearman", {}).get("score")
        if value is not None and math.isfinite(value):
            return float(value)
    return None


def next_steps(data: ReportData) -> list[str]:
    """What a person should look at next, from what the rows say."""
    steps = []
    found, failed = data.mixtures["found"], [t for t in data.trials if not t.finished]
    if not data.evaluations:
        steps.append("Run `climb train`: a larger model on items that the search never saw.")
    if failed:
        steps.append(f"{len(failed)} of {len(data.trials)} trials failed; their errors are above.")
    if data.max_epochs is not None:
        most = dict.fromkeys(found.epochs, data.max_epochs) | dict(data.own_epochs)
        capped = [n for n, e in sorted(found.epochs.items()) if e > 0.98 * most[n]]
        for limit in sorted({most[n] for n in capped}):
            names = ", ".join(n for n in capped if most[n] == limit)
            key = "search.max_epochs" if limit == data.max_epochs else "max_epochs in search.limits"
            steps.append(
                f"{names}: at the limit of {number(limit, 1)} epochs. More text of that kind, or a "
                f"higher {key}, may help."
            )
    dropped = [n for n, w in sorted(found.weights.items()) if w == 0.0]
    if dropped:
        steps.append(f"{', '.join(dropped)}: left out entirely. Read their examples above.")
    ranking = last_ranking(data)
    if ranking is not None and ranking < WEAK_RANKING:
        steps.append("Raise proxy.trial_tokens or search.trials_per_round: the ranking is weak.")
    steps += _noisy(data) + _further_round(data)
    largest = max(data.domains, key=lambda d: (d.token_share, d.name), default=None)
    if largest is not None and largest.token_share > 0.5:
        steps.append(
            f"{largest.name} holds {share(largest.token_share, 0)} of all tokens: a lower "
            "prune.merge_height (or more prune.domains) would give the search more to choose from."
        )
    return steps


def _noisy(data: ReportData) -> list[str]:
    """Metrics that seeds move about as much as mixtures do."""
    noisy = data.evidence.get("noisy") or []
    if not noisy:
        return []
    return [
        f"{', '.join(noisy)}: mostly noise. Longer proxies (proxy.trial_tokens) would tell more; "
        "with search.down_weight=true such a metric counts for less."
    ]


def _further_round(data: ReportData) -> list[str]:
    """What one more round of trials would be worth, where the search says so."""
    further = data.evidence.get("further") or {}
    worth, n = further.get("worth"), further.get("n_trials")
    if worth is None or n is None:
        return []
    gain = data.direct.get("natural")
    part = ""
    if gain is not None and gain.low > 0.0:
        part = f", {share(worth / gain.mean, 0)} of the gain over natural proportions"
    if float(f"{worth:.4f}") == 0.0:
        return [f"A further round of {n} trials would change nothing that the predictor foresees."]
    return [
        f"A further round of {n} trials is worth {signed(worth)} of score{part}: append {n} to "
        "search.trials_per_round and run `climb search` again."
    ]
