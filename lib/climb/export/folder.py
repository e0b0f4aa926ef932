"""Write the folder of an export, OUT. A killed export is resumed by the next start.

    .OUT.climb-export/plan.json            what the export is made from
    .OUT.climb-export/shards/000000.json   the record of a finished shard
    .OUT.climb-export/data/...             the files, until `data` is renamed to OUT
    .OUT.climb-export/old/...              the export that is replaced

If an export is started again with the same plan, it writes only the shards that have no record.
With another plan it starts from the beginning. At the end `data` is renamed to OUT, so OUT is
complete or absent at any time.

On a mount that refuses renames, the files are written to OUT itself, so an older export is deleted
first. An incomplete export has no valid `complete.json`.

An export that was moved is still current: only those files that contain the absolute path of its
folder are written again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from climb.errors import ConfigError
from climb.export.index import INDEX, MARK, read_export, read_json, render_index
from climb.files import FileDigest, can_rename, is_complete, mark_complete, write_recorded
from climb.files.complete import locate_mark, read_mark
from climb.progress import log

CARD = "README.md"
PLAN = "plan.json"
STATE = ".{name}.climb-export"
"""Template of the name of the state folder beside OUT. The folder is created before OUT changes,
and deleted after the last change of OUT."""


def follow_link(path: Path) -> Path:
    """Return the target of a symbolic link, or the path itself, so that no link is replaced."""
    return path.resolve() if path.is_symlink() else path


@dataclass(frozen=True)
class Target:
    """The folder of an export, and the state folder that is beside it during the export."""

    path: Path
    """Absolute path of the folder; no symbolic link."""

    @property
    def state(self) -> Path:
        """The folder that contains the plan, the records, and the files of an unfinished export."""
        return self.path.with_name(STATE.format(name=self.path.name))

    @property
    def records(self) -> Path:
        """The records of finished shards."""
        return self.state / "shards"

    @cached_property
    def data(self) -> Path:
        """Where files are written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.state / "data" if can_rename(self.path.parent) else self.path

    def _read_plan(self) -> Mapping[str, Any] | None:
        """Read the plan of the export in the folder; None without a complete export.

        Raises:
            ConfigError: the folder has files that are not an export, or the path of the folder, or
                one of its parents, is a file.
        """
        existing = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not existing.is_dir():
            raise ConfigError(f"export.path: {existing} is a file; set export.path to a folder")
        if not self.path.exists() or not any(self.path.iterdir()):
            return None
        values = read_json(self.path / INDEX)
        if values.get("mark") != MARK:
            if self.data == self.path and self.state.exists():
                return None  # an export was killed here
            raise ConfigError(
                f"export.path: {self.path} contains files that are not an export of climb, and an "
                "export would replace them; name a folder that is new or empty"
            )
        plan = values.get("plan")
        return plan if isinstance(plan, dict) and is_complete(self.path) else None

    def is_current(self, plan: Mapping[str, Any]) -> bool:
        """Whether the folder has a complete export of this plan.

        If the folder has such an export, the state folder is deleted. A process that was killed can
        have left it: either after this export was complete, or while it wrote an export of another
        plan. If the export was moved, the files that contain its absolute path are written again.

        Raises:
            ConfigError: the folder has files that are not an export; the path of the folder, or one
                of its parents, is a file; or the format cannot be used in this folder.
        """
        if self._read_plan() != json.loads(_dump(plan)):
            return False
        if self.state.exists():
            shutil.rmtree(self.state)
        if read_json(self.path / INDEX).get("folder", str(self.path)) != str(self.path):
            self._update_paths(plan)
        return True

    def _update_paths(self, plan: Mapping[str, Any]) -> None:
        """Write those files again that contain the absolute path of the folder, which was moved."""
        export = read_export(self.path)
        format, contents = export.load_format(), export.contents
        old = format.describe(replace(contents, folder=export.written_to))
        # README.md is not written again, because it never contains the absolute path. `describe`
        # returns README.md without the data card, so writing it again would delete the card.
        texts = {
            name: text
            for name, text in format.describe(contents).items()
            if text != old.get(name) and name != CARD
        }
        texts[INDEX] = render_index(export.spec, contents, plan)
        recorded = read_mark(self.path) or {}
        locate_mark(self.path, is_folder=True).unlink()
        written = {name: _write_text(self.path / name, text) for name, text in texts.items()}
        mark_complete(self.path, {**recorded, **written})
        log("export", f"{self.path} was moved from {export.written_to}; its paths are updated")

    def start(self, plan: Mapping[str, Any]) -> bool:
        """Prepare the folders; return whether an export of the same plan was begun before."""
        if read_json(self.state / PLAN) == json.loads(_dump(plan)):
            return True
        # The state folder exists until the end. Without it, unfinished files in OUT would be taken
        # for the user's files.
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / PLAN).unlink(missing_ok=True)
        for folder in (self.records, self.state / "data", self.data):
            if folder.exists():
                shutil.rmtree(folder)
        self.records.mkdir()
        self.data.mkdir(parents=True)
        write_recorded(self.state / PLAN, lambda: [_dump(plan)])
        return False

    def finish(self, files: Mapping[str, str], digests: Mapping[str, FileDigest]) -> None:
        """Write the last files, mark the export as complete, and rename its folder to OUT.

        Args:
            files: path in the folder -> text.
            digests: path in the folder -> digest, for the files of all shards.
        """
        if not (self.data / INDEX).exists() or not is_complete(self.data):
            written = {n: _write_text(self.data / n, text) for n, text in files.items()}
            mark_complete(self.data, {**digests, **written})
        if self.data != self.path:
            old = self.state / "old"
            if self.path.exists():
                if old.exists():
                    shutil.rmtree(old)
                self.path.rename(old)
            self.data.rename(self.path)
        shutil.rmtree(self.state)


def _write_text(path: Path, text: str) -> FileDigest:
    return write_recorded(path, lambda: [text.encode()])


def _dump(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
