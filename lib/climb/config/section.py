"""The base class of all configuration sections."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

PluginSpec = dict[str, Any]
"""`use: module:Class` and the fields of that class; `climb.config.build` creates the object."""


class Section(BaseModel):
    """Frozen; rejects unknown keys; has no default values: all values are in conf/default.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
