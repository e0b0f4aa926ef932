"""What a whole run prints last: the mixture, the verdict, and where the results are."""

from __future__ import annotations

from collections.abc import Mapping

from climb.report import ReportData, conclude_report

MAX_NAME = 40
"""Maximum number of characters of a domain's name."""


def summarize(data: ReportData, locations: Mapping[str, str]) -> str:
    """Format the last lines of a run.

    Args:
        data: what the report shows; the job `report` has read it already.
        locations: where the results are: name -> path or command.
    """
    result = data.result
    recommended, reference = result.mixtures[0], result.mixtures[1]
    width = max(len("domain"), *(min(len(name), MAX_NAME) for name in recommended.weights))
    column = max(11, len(reference.name))
    lines = ["", f"{'domain':<{width}}  {reference.name:>{column}}  recommended   epochs"]
    for name, weight in sorted(recommended.weights.items(), key=lambda item: (-item[1], item[0])):
        epochs = recommended.epochs[name]
        shown = "-" if epochs is None else f"{epochs:.2f}"
        lines.append(
            f"{name[:MAX_NAME]:<{width}}  {reference.weights[name]:{column}.1%}  {weight:11.1%}"
            f"  {shown:>7}"
        )
    verdict = conclude_report(data)
    gain = result.gains[reference.name]
    proxies = (
        f"On the proxies: {gain.verdict}, {gain.mean:+.4f} over the {reference.name} mixture "
        f"(90 % interval {gain.low:+.4f} to {gain.high:+.4f}, {gain.test})."
    )
    lines += ["", f"{verdict.headline}.", verdict.summary, *verdict.reasons, proxies, ""]
    wide = max(map(len, locations))
    return "\n".join([*lines, *(f"{name:<{wide}}  {at}" for name, at in locations.items())])
