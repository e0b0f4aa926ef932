"""`export.json`: the file that makes a folder an export of climb.

It has the format with its fields, the contents, and the plan: all that the files were made from.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb.errors import InputError
from climb.export.contents import Contents, dump_contents, parse_contents
from climb.export.format import Format

INDEX = "export.json"
MARK = "climb-export-1"


@dataclass(frozen=True)
class Export:
    """An export that was read from its folder."""

    spec: Mapping[str, Any]
    """`use` and the fields of the format."""

    contents: Contents

    def load_format(self) -> Format:
        """Import the format; the trainer's interpreter has no pydantic to check its fields."""
        module, name = self.spec["use"].split(":")
        cls = getattr(importlib.import_module(module), name)
        built: Format = cls(**{key: value for key, value in self.spec.items() if key != "use"})
        return built


def render_index(spec: Mapping[str, Any], contents: Contents, plan: Mapping[str, Any]) -> str:
    """Render export.json."""
    values = {
        "mark": MARK,
        "format": dict(spec),
        "contents": dump_contents(contents),
        "plan": dict(plan),
    }
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def read_export(folder: Path) -> Export:
    """Read an export.

    Raises:
        InputError: the folder is not an export.
    """
    values = read_json(folder / INDEX)
    if values.get("mark") != MARK:
        raise InputError(
            f"{folder} is not an export of climb (it has no valid {INDEX}); "
            "write one with `climb export --to FORMAT --out FOLDER`"
        )
    return Export(values["format"], parse_contents(values["contents"], folder))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or only a part of it."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
