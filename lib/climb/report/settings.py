"""The settings that a result was made with; the configuration may have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from climb.config import Config, replace_section
from climb.errors import ConfigError


def restore_settings(cfg: Config, recorded: Mapping[str, Any] | None) -> tuple[Config, str]:
    """Return the configuration with the recorded settings of section `search`, and a note.

    Args:
        cfg: the configuration of this run.
        recorded: JSON values of section `search` that the result was made with; None: unknown.

    Returns:
        The configuration, and one line that names the settings that differ; empty if none does.
    """
    configured = cfg.search.model_dump(mode="json")
    if recorded is None:
        return cfg, ""
    changed = [key for key in configured if key in recorded and recorded[key] != configured[key]]
    if not changed:
        return cfg, ""
    names = ", ".join(f"search.{key}" for key in changed)
    made_with = {key: recorded.get(key, value) for key, value in configured.items()}
    try:
        made = replace_section(cfg, "search", made_with, "table mixtures")
    except ConfigError:  # written by another version of climb
        return cfg, (
            f"The result was made with other values of {names}, which this version of climb does "
            "not accept; the configured values are shown."
        )
    return made, (
        f"The configuration now has other values of {names}; the values that the result was made "
        "with are shown."
    )
