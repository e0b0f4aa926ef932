"""What a whole run prints last: the mixture beside natural proportions, and where to look."""

from __future__ import annotations

from typing import Any

from climb import tables
from climb.config import Config
from climb.report import verdict_of
from climb.spark.report import read_report
from climb.spark.store import Store
from climb.tracking import how_to_open


def summarise(store: Store, cfg: Config) -> str:
    """The answer as text, largest weight first."""
    mixtures = {row["method"]: row for row in store.rows(tables.MIXTURES, search=cfg.search.name)}
    found, natural = mixtures["found"], mixtures["natural"]
    width = max(len(name) for name in found["weights"])
    lines = ["", f"{'domain':<{width}}  natural    found   epochs"]
    for name, weight in sorted(found["weights"].items(), key=lambda item: (-item[1], item[0])):
        share, epochs = natural["weights"][name], found["epochs"][name]
        lines.append(f"{name:<{width}}  {share:7.1%}  {weight:7.1%}  {epochs:7.2f}")
    return "\n".join([*lines, "", *_verdict(store, cfg, found), "", *_places(store, cfg)])


def _verdict(store: Store, cfg: Config, found: dict[str, Any]) -> list[str]:
    """The report's own verdict, and beside it what the proxies alone say."""
    verdict = verdict_of(read_report(store, cfg))
    proxies = (
        f"On the proxies: {found['verdict']}, {found['gain_mean']:+.4f} over natural proportions "
        f"(90 % interval {found['gain_low']:+.4f} to {found['gain_high']:+.4f})."
    )
    return [f"{verdict.headline}.", verdict.summary, *verdict.reasons, proxies]


def _places(store: Store, cfg: Config) -> list[str]:
    """Where the run left its tables, dataset, report and tracked runs."""
    return [
        f"tables   {store.cfg.catalog or store.folder('tables')}",
        f"dataset  {cfg.mix.export or store.folder('mixed')}",
        f"report   {cfg.report.path or store.files('report.html')}",
        f"MLflow   {how_to_open(cfg)}",
    ]
