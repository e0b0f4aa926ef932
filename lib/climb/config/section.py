"""What every section of the configuration is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

PluginSpec = dict[str, Any]
"""`use: module:Class` and that class's fields; `climb.config.build` makes the object."""


class Section(BaseModel):
    """Every section is frozen, knows all its keys, and leaves every value to conf/default.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
