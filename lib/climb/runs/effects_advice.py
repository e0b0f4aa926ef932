"""What `climb recommend` says about the effects of single domains."""

from __future__ import annotations

from climb.search.records import EffectsRecord
from climb.search.result import SearchResult
from climb.search.smallest_change import SmallestChange

MAX_METRICS = 10
"""Maximum number of metrics that the text lists; the JSON file has all of them."""

MAX_NAMES = 8
"""Maximum number of names that a sentence lists; the files have all of them."""

_MAX_PAIRS = 3
"""Maximum number of pairs of metrics that the text lists."""


def describe_change(change: SmallestChange) -> list[str]:
    """Describe the smallest change of the natural mixture that improves a metric."""
    moves = ", ".join(f"{name} {100 * by:+.2f} %" for name, by in change.list_moves(MAX_NAMES))
    return [
        "",
        f"Smallest change of the natural mixture that improves {change.metric} by "
        f"{change.improvement:.3g} ± {change.improvement_std:.1g} (predicted): "
        f"{100 * change.moved:.2f} % of the mixture moves.",
        f"- {moves}",
    ]


def list_effects(result: SearchResult) -> list[str]:
    """List each metric's best and worst domain, and the trade-offs between metrics."""
    effects, names = result.effects, list(result.metric_weights)
    listed = names
    if len(names) > MAX_METRICS:
        listed = ["score", *effects.rank_metrics(result.metric_weights)[:MAX_METRICS]]
    lines = [
        f"Change of each metric when {100 * effects.step:g} % of the mixture moves to one domain, "
        "from all domains in proportion to their weights (positive is better):"
    ]
    for name in listed:
        lines.append(f"{name}: {_describe_effects(name, effects)}.")
    if len(names) > MAX_METRICS:
        rest = len(names) - MAX_METRICS
        lines.append(f"These metrics change the score most; {rest} more are in the JSON file.")
    for pair in effects.trade_offs[:_MAX_PAIRS]:
        first, second = pair.metrics
        lines.append(
            f"{first} and {second} trade off (correlation {pair.correlation:.2f}): more "
            f"weight on {pair.domain} changes {first} by {pair.effects[0]:+.2g} and {second} by "
            f"{pair.effects[1]:+.2g}."
        )
    return lines


def _describe_effects(name: str, effects: EffectsRecord) -> str:
    """Name the domains with the best and the worst effect on a metric.

    Effects that do not exceed their standard deviation are left out.
    """
    of_domain = {domain: metrics[name] for domain, metrics in effects.domains.items()}
    clear = {domain: e.mean for domain, e in of_domain.items() if abs(e.mean) > e.std}
    parts = []
    for word, sign in (("best", 1.0), ("worst", -1.0)):
        domain = max(clear, key=lambda name: sign * clear[name], default=None)
        if domain is not None and sign * clear[domain] > 0.0:
            effect = of_domain[domain]
            parts.append(f"{word} {domain} ({effect.mean:+.2g} ± {effect.std:.1g})")
    return ", ".join(parts) or "no effect exceeds its standard deviation"
