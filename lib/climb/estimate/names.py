"""Names that the options --rate and --parameters accept.

Another name is an error, because it would have no effect.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from climb.config import Config
from climb.config.section import PluginSpec
from climb.errors import ConfigError
from climb.estimate.rates import Rates, parse_assignments

TRAINED = ("base", "search", "target_base", "train")
"""Stages that train models. A rate with such a name is in tokens per second."""

STAGES = (
    *("ingest", "count", "embed", "score", "cluster", "prune", "pack"),
    *("mix", "report", *TRAINED),
)


def name_rate(section: str, spec: PluginSpec) -> str:
    """Return the name of a plug-in's rate, such as `embed.StaticEmbedder`, `scorer.RuleScorer`."""
    return f"{section}.{str(spec['use']).rpartition(':')[2]}"


def list_rates(cfg: Config, rates: Rates) -> list[str]:
    """List the names of the rates that an estimate can use.

    These are the names in `rates`, the fixed seconds of stages, the stages that train models, and
    the configured plug-ins.
    """
    return sorted(
        {
            *rates.by_name,
            *(f"fixed.{stage}" for stage in STAGES),
            *TRAINED,
            name_rate("embed", cfg.embed.embedder),
            *(name_rate("scorer", spec) for spec in cfg.score.scorers),
        }
    )


def list_models(cfg: Config) -> list[str]:
    """List the configuration keys of models, such as `proxy.model`, that --parameters accepts."""
    scorers = (f"score.scorers.{index}" for index in range(len(cfg.score.scorers)))
    return ["embed.embedder", "proxy.model", *scorers, "train.model"]


def parse_own(option: str, texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Parse `NAME=VALUE` options, and check the names.

    Args:
        option: the option, for messages.
        texts: what the user gives.
        known: the names that an estimate uses.

    Raises:
        ConfigError: a text does not have the form NAME=VALUE, or a name is unknown; the message
            lists the known names.
    """
    found = parse_assignments(texts, option)
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{option} {name} is unknown and would change nothing{hint} "
                f"(known: {', '.join(known)})"
            )
    return found
