"""The folder of an export: resumed after a kill, and complete or not there.

    OUT.unfinished/plan.json            what the export is made from
    OUT.unfinished/shards/000000.json   the record of a finished shard
    OUT.writing/...                     the files; OUT itself on a mount that refuses renames

An export that is started again with the same plan goes on with the shards that have no record. With
another plan it starts from the beginning. At the end the folder gets its name, and OUT.unfinished
is deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from climb.errors import ConfigError
from climb.export.index import INDEX, MARK, read_json
from climb.files import FileDigest, can_rename, is_complete, mark_complete, write_recorded

UNFINISHED, WRITING, OLD = ".unfinished", ".writing", ".old"


@dataclass(frozen=True)
class Target:
    """The folder of an export, and the folders beside it while it is written."""

    path: Path

    @property
    def unfinished(self) -> Path:
        """Plan and records; it exists from the first file of the export to its last."""
        return self._add(UNFINISHED)

    @property
    def records(self) -> Path:
        """The records of finished shards."""
        return self.unfinished / "shards"

    @property
    def old(self) -> Path:
        """The export that is replaced."""
        return self._add(OLD)

    @cached_property
    def data(self) -> Path:
        """Where files are written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self._add(WRITING) if can_rename(self.path.parent) else self.path

    def _add(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def read_plan(self) -> Mapping[str, Any] | None:
        """Read the plan of the complete export in the folder; None if there is none.

        Raises:
            ConfigError: the folder has files that are not an export.
        """
        if not self.path.exists() or not any(self.path.iterdir()) or self.unfinished.exists():
            return None
        values = read_json(self.path / INDEX)
        if values.get("mark") != MARK:
            raise ConfigError(
                f"export.path: {self.path} contains files that are not an export of climb, and an "
                "export would replace them; name a folder that is new or empty"
            )
        plan = values.get("plan")
        return plan if isinstance(plan, dict) and is_complete(self.path) else None

    def start(self, plan: Mapping[str, Any]) -> bool:
        """Prepare the folders; return whether an export of the same plan was begun before."""
        if read_json(self.unfinished / "plan.json") == plan:
            return True
        for folder in (self.unfinished, self.data):
            if folder.exists():
                shutil.rmtree(folder)
        self.records.mkdir(parents=True)
        self.data.mkdir(parents=True, exist_ok=True)
        write_recorded(self.unfinished / "plan.json", lambda: [_dump(plan)])
        return False

    def finish(self, files: Mapping[str, str], digests: Mapping[str, FileDigest]) -> None:
        """Write the last files, mark the export as complete, and give it its name.

        Args:
            files: path in the folder -> text.
            digests: those of the shards.
        """
        if not (self.data / INDEX).exists() or not is_complete(self.data):
            written = {name: self._write_text(name, text) for name, text in files.items()}
            mark_complete(self.data, {**digests, **written})
        if self.data != self.path:
            if self.old.exists():
                shutil.rmtree(self.old)
            if self.path.exists():
                self.path.rename(self.old)
            self.data.rename(self.path)
        shutil.rmtree(self.unfinished)
        if self.old.exists():
            shutil.rmtree(self.old)

    def _write_text(self, name: str, text: str) -> FileDigest:
        return write_recorded(self.data / name, lambda: [text.encode()])


def _dump(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
