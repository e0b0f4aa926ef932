"""`export.json`: the file that makes a folder an export of climb.

It stores the format with its fields, the contents, and the plan. The plan describes everything that
the files were made from.
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
from climb.files import is_complete

INDEX = "export.json"
MARK = "climb-export-1"


@dataclass(frozen=True)
class Export:
    """An export that was read from its folder."""

    spec: Mapping[str, Any]
    """`use` and the fields of the format."""

    contents: Contents

    written_to: str
    """Absolute path of the folder when the export was written."""

    def check_files(self) -> None:
        """Check that a trainer can read the files, and that the tokens of samples can be counted.

        Raises:
            ConfigError: the export was moved, and its format cannot be used in the new folder.
            InputError: the export is incomplete, has no numbers of tokens, or names files in the
                folder from which it was moved.
        """
        folder = Path(self.contents.folder)
        if not is_complete(folder):
            raise InputError(
                f"{folder}: a file is missing, or its size differs from complete.json; run "
                "`climb export` again"
            )
        if self.contents.own_files and self.contents.tokenization is None:
            raise InputError(
                f"{folder}: the text files are your own and have no column with token counts, so "
                "they cannot be checked; your own files can be checked only in formats that store "
                "tokens"
            )
        if self.written_to != self.contents.folder and (name := self._find_outdated(folder)):
            raise InputError(
                f"{folder}: {name} names files in {self.written_to}, where the export was "
                "written; export again to the folder from which the trainer reads"
            )

    def _find_outdated(self, folder: Path) -> str | None:
        """Find a file of `describe` that still contains the path from which the export was moved.

        The path of a user's file may contain this old path, and be correct. So a file is outdated
        only if it also differs from the text that `describe` returns for the new folder. Only the
        start of a file is compared with this text, because the data card follows it in README.md.
        """
        for name, text in sorted(self.load_format().describe(self.contents).items()):
            found = _read_text(folder / name)
            if not found.startswith(text) and self.written_to in found:
                return name
        return None

    def load_format(self) -> Format:
        """Create the format from its spec. Its fields are not checked: pydantic may be missing."""
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
        "folder": contents.folder,
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
    return Export(
        values["format"], parse_contents(values["contents"], folder), values.get("folder", "")
    )


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or truncated."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
