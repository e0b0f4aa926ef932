"""The sentences of the report: the verdict, its reasons, and the next steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from climb.mixture import is_same_mixture
from climb.report.data import ReportData
from climb.report.formats import number, share, signed
from climb.report.measured import Measured
from climb.search.gains import Gain
from climb.search.result import WEAK_RANKING

NEGLIGIBLE = 0.01
"""If two conditions hold, the report says that a further round would not help. First, the round's
expected gain, rounded to four decimals, is 0.0000. Second, the unrounded expected gain is at most
this share of the recommendation's gain over the first baseline."""


@dataclass(frozen=True)
class Verdict:
    """The conclusion at the top of the page."""

    tone: Literal["gain", "mixed", "none"]
    headline: str
    summary: str
    reasons: tuple[str, ...] = ()
    """The reasons why a gain over a baseline was not found, then the reasons why the evidence is
    weak. Empty if there are no such reasons."""


def conclude(data: ReportData, held_out: Measured) -> Verdict:
    """Conclude from the gains that were measured with target models.

    If the gain over the first baseline was not measured with target models, conclude from the
    gains of the proxies.
    """
    gains: Mapping[str, Gain] = held_out.score.gains if held_out.score else {}
    reference = data.result.baselines[0]
    if reference not in gains:
        return _conclude_from_proxies(data)
    clear = [name for name, gain in gains.items() if gain.low > 0]
    sizes = _list_gains(gains)
    summary = f"On items that the search never saw, the target model's gain is {sizes}."
    if len(clear) == len(gains):
        headline = f"The recommended mixture beats {_join(clear)}"
        return Verdict("gain", headline, summary, _list_caveats(data))
    reasons = (
        *_explain_no_gain(gains),
        *_explain_lost_gains(data, gains),
        *_list_caveats(data),
    )
    if gains[reference].low > 0:
        missed = [name for name in gains if name not in clear]
        headline = f"The recommended mixture beats {_join(clear)}, but not {_join(missed)}"
        return Verdict("mixed", headline, summary, reasons)
    return Verdict("none", "No gain found", summary, reasons)


def _conclude_from_proxies(data: ReportData) -> Verdict:
    untested = "No target model is trained on the recommended mixture yet: run `climb train`."
    if data.evaluations:
        untested = (
            "The target models of the recommendation and of the first baseline have fewer than two "
            "seeds in common, or lack metrics of the objective."
        )
    gains = data.result.measured_gains
    if not gains:
        return Verdict("none", "No gain found", "The proxies were not compared.", (untested,))
    summary = f"On proxy models, the gain is {_list_gains(gains)}. {untested}"
    if data.result.verdict == "gain":
        return Verdict("mixed", "Proxy models show a gain", summary, _list_caveats(data))
    reasons = (*_explain_no_gain(gains), *_list_caveats(data))
    return Verdict("none", "No gain found", summary, reasons)


def _join(names: Sequence[str]) -> str:
    """Join names: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _list_gains(gains: Mapping[str, Gain]) -> str:
    return " and ".join(
        f"{signed(gain.mean)} over {name} (90 % interval {signed(gain.low)} to {signed(gain.high)})"
        for name, gain in gains.items()
    )


def _explain_no_gain(gains: Mapping[str, Gain]) -> list[str]:
    reasons = []
    for name, gain in gains.items():
        half_width = (gain.high - gain.low) / 2
        if gain.high < 0:
            reasons.append(
                f"The recommended mixture is worse than {name}: the interval is below 0."
            )
        elif gain.low <= 0:
            reasons.append(
                f"The difference from {name} is {signed(gain.mean)} \N{PLUS-MINUS SIGN} "
                f"{number(half_width)} (90 % interval). The interval contains 0, so the difference "
                "may be due to chance."
            )
    return reasons


def _explain_lost_gains(data: ReportData, gains: Mapping[str, Gain]) -> list[str]:
    """List the gains that are clear on the proxies, but not on the target model."""
    measured = data.result.measured_gains
    return [
        f"On the proxies, the gain over {name} was clear ({signed(measured[name].mean)}). It did "
        "not transfer to the target model and the unseen items."
        for name, gain in gains.items()
        if gain.low <= 0 and name in measured and measured[name].low > 0
    ]


def _list_caveats(data: ReportData) -> tuple[str, ...]:
    """List what weakens the evidence."""
    result, caveats = data.result, []
    reference = result.mixtures[1]
    if is_same_mixture(result.recommended.weights, reference.weights):
        caveats.append(f"The search found nothing better than the {reference.name} mixture.")
    ranking = result.last_spearman
    if ranking is not None and ranking < WEAK_RANKING:
        caveats.append(
            f"The predictor ranks unseen mixtures poorly (Spearman {number(ranking, 2)} on the "
            "score). More trials or longer trials would help most."
        )
    gain = result.measured_gains.get(reference.name)
    if gain is not None and gain.low <= 0 and data.evaluations:
        caveats.append(
            f"On the proxies, the gain over the {reference.name} mixture ({signed(gain.mean)}) was "
            "not clear: its 90 % interval contains 0 or is below it."
        )
    return tuple(caveats)


def list_next_steps(data: ReportData) -> list[str]:
    """List recommended next steps for the user."""
    steps = []
    trials = data.unique_trials
    failed = [trial for trial in trials if trial.status == "failed"]
    if not data.evaluations:
        steps.append(
            "Run `climb train`: it tests a target model on items that the search never saw."
        )
    if failed:
        steps.append(f"{len(failed)} of {len(trials)} trials failed; their errors are above.")
    steps += _list_domain_limits(data)
    dropped = [n for n, w in sorted(data.result.recommended.weights.items()) if w == 0.0]
    if dropped:
        steps.append(f"{', '.join(dropped)}: weight 0. Read the examples of each of them above.")
    ranking = data.result.last_spearman
    if ranking is not None and ranking < WEAK_RANKING:
        steps.append(
            "Raise proxy.trial_tokens or search.trials_per_round: the predictor ranks unseen "
            "mixtures poorly."
        )
    steps += _list_low_signal(data) + _describe_further_round(data)
    largest = max(data.domains, key=lambda d: (d.token_share, d.name), default=None)
    if largest is not None and largest.token_share > 0.5:
        steps.append(
            f"{largest.name} has {share(largest.token_share, 0)} of all tokens. A lower "
            "prune.merge_height or a higher prune.domains splits it into smaller domains."
        )
    return steps


def _list_domain_limits(data: ReportData) -> list[str]:
    """List the domains that reach their limit of epochs."""
    epochs = data.result.recommended.epochs
    limits = {name: data.domain_max_epochs.get(name, data.max_epochs) for name in epochs}
    capped = {
        name: limit
        for name, value in sorted(epochs.items())
        if (limit := limits[name]) is not None and value is not None and value > 0.98 * limit
    }
    steps = []
    for limit in sorted(set(capped.values())):
        names = ", ".join(name for name in capped if capped[name] == limit)
        key = "search.max_epochs"
        if limit != data.max_epochs:
            key = "max_epochs in search.constraints"
        steps.append(
            f"{names}: at the limit of {number(limit, 1)} epochs. More text of that kind, or a "
            f"higher {key}, may help."
        )
    return steps


def _list_low_signal(data: ReportData) -> list[str]:
    """List the metrics with a low signal-to-noise ratio."""
    names = data.result.low_signal_metrics
    if not names:
        return []
    return [
        f"{', '.join(names)}: mostly noise. Longer proxy runs (proxy.trial_tokens) would "
        "reduce the noise; search.down_weight=true gives such a metric less weight."
    ]


def _describe_further_round(data: ReportData) -> list[str]:
    """State the expected gain of a further round, if the predictor can estimate it."""
    expected, n = data.result.further_round.expected_gain, data.result.further_round.n_trials
    if expected is None:
        return []
    reference = data.result.baselines[0]
    scale = abs(data.result.gains[reference].mean)
    if float(f"{expected:.4f}") == 0.0 and expected <= NEGLIGIBLE * scale:
        return [f"A further round of {n} trials has an expected gain of 0: it would not help."]
    gain = data.result.measured_gains.get(reference)
    part = ""
    if gain is not None and gain.low > 0.0:
        part = f", {share(expected / gain.mean, 0)} of the gain over the {reference} mixture"
    return [
        f"A further round of {n} trials has an expected gain of {signed(expected)} in score{part}: "
        f"append {n} to search.trials_per_round and run `climb search` again."
    ]
