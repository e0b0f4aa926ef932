"""The base class of all configuration sections."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt

PluginSpec = dict[str, Any]
"""`use: module:Class` and the fields of that class; `climb.config.build` creates the object."""


def _check_replicates(value: int) -> int:
    if value == 1:
        raise ValueError("one seed shows no observation noise; set 0, or at least 2")
    return value


Replicates = Annotated[NonNegativeInt, AfterValidator(_check_replicates)]
"""Number of seeds: 0, or at least 2."""


class Section(BaseModel):
    """Frozen; rejects unknown keys. All values are in conf/default.yaml.

    Only the keys of a target task and of a method that may be left out have a default here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
