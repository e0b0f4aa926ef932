"""The newest change of a Delta table, read from the end of its log without Spark.

Only the newest commit files are read, so the time does not depend on the size of the table. A log
that this module does not understand is an error, never "unchanged".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb.errors import TableError
from climb.tables import CHANGING

LOG = "_delta_log"

COMMIT = re.compile(r"\d{20}\.json")

UNPUBLISHED = ("_commits", "_staged_commits")
"""Folders for commits that a catalog coordinates: the newest commits may be only there."""


@dataclass(frozen=True)
class Change:
    """A commit of a table. If a table is deleted and created again, the digest changes."""

    version: int
    digest: str
    """Hash of what the commit records about itself: time, operation, inputs, transaction id. For a
    table that other programs write: hash of the commit file's size and time."""


def read_last_change(table: Path) -> Change | None:
    """Read the newest commit that changed rows; upkeep such as OPTIMIZE does not count.

    Args:
        table: folder of the table.

    Returns:
        The commit; None if the table does not exist.

    Raises:
        TableError: the log cannot be read, or does not show which commit last changed rows.
    """
    commits = _list_commits(table)
    for version in sorted(commits, reverse=True):
        info = _read_commit_info(commits[version])
        if info.get("operation") in CHANGING:
            text = json.dumps(info, sort_keys=True)
            return Change(version, hashlib.sha256(text.encode()).hexdigest()[:16])
        if version and version - 1 not in commits:
            break
    if not commits:
        return None
    raise TableError(f"the log of table {table} does not show the newest change of its rows")


def read_last_commit(table: Path) -> Change:
    """Read the newest commit, of any operation, of a table that other programs write.

    Raises:
        TableError: there is no readable log.
    """
    commits = _list_commits(table)
    if not commits:
        raise TableError(f"{table} has no log of a Delta table")
    newest = max(commits)
    status = commits[newest].stat()
    text = f"{status.st_size} {status.st_mtime_ns}"
    return Change(newest, hashlib.sha256(text.encode()).hexdigest()[:16])


def _list_commits(table: Path) -> dict[int, Path]:
    """List the commit files of a table by version; no files if the table does not exist."""
    log = table / LOG
    try:
        names = {path.name: path for path in log.iterdir()} if log.is_dir() else {}
        hidden = [name for name in UNPUBLISHED if name in names and any(names[name].iterdir())]
    except OSError as error:
        raise TableError(f"the log of table {table} cannot be read: {error.strerror}") from error
    if hidden:
        raise TableError(f"table {table} has commits outside its log, in {hidden[0]}")
    return {int(name[:20]): path for name, path in names.items() if COMMIT.fullmatch(name)}


def _read_commit_info(path: Path) -> dict[str, Any]:
    """Read the line `commitInfo` of a commit file; Spark writes it as the first line of the file.

    Raises:
        TableError: the file cannot be read, or has no such line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                action = json.loads(line)
                if "commitInfo" in action:
                    return dict(action["commitInfo"])
    except (OSError, ValueError, TypeError) as error:
        raise TableError(f"commit {path} cannot be read: {error}") from error
    raise TableError(f"commit {path} does not record its operation")
