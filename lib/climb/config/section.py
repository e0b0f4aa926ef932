"""The base class of all configuration sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt

from climb.files import is_uri

PluginSpec = dict[str, Any]
"""`use: module:Class` and the fields of that class; `climb.config.build` creates the object."""


def _check_replicates(value: int) -> int:
    if value == 1:
        raise ValueError(
            "one seed shows no observation noise; set this number to 0, or to at least 2"
        )
    return value


def check_path(value: str | None) -> str | None:
    """Check a path or URI, and replace `~` by the home folder.

    Raises:
        ValueError: the text is empty, which would mean the working directory.
    """
    if value is not None and not value.strip():
        raise ValueError("the path is empty; is a variable of the shell unset?")
    return str(Path(value).expanduser()) if value is not None and value[0] == "~" else value


def check_plain_path(value: str | None) -> str | None:
    """Check a path as `check_path` does; a URI is an error too.

    Raises:
        ValueError: the text is empty or a URI.
    """
    if value is not None and is_uri(value):
        raise ValueError(
            f"{value!r} is a URI, but these files are written as plain paths; mount the storage, "
            "or set a folder that every node can open"
        )
    return check_path(value)


Replicates = Annotated[NonNegativeInt, AfterValidator(_check_replicates)]
"""Number of seeds: 0, or at least 2."""


class Section(BaseModel):
    """Frozen; rejects unknown keys. All values are in conf/default.yaml.

    Only keys that may be left out have a default here: some keys of a target task or a method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
