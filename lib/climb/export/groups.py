"""Groups of an export that a trainer weights: their folders, and names of domains in paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from climb.export.contents import Contents, Shard, Split


def escape_name(name: str) -> str:
    """Escape the name of a domain for use in a path, as Spark and Hive do.

    A name that has only dots is escaped too, because `.` and `..` are other folders. Names that
    differ stay different, because `%` is escaped.
    """
    unsafe = "." if not name.strip(".") else r"[\x00-\x1f\"#%'*/:=?\\\x7f{\[\]^]"
    return re.sub(unsafe, lambda match: f"%{ord(match[0]):02X}", name)


def list_weighted(
    contents: Contents, split: Split = "train"
) -> list[tuple[str, float, list[Shard]]]:
    """List (name, share of tokens, shards) of each group that has a positive weight."""
    return [group for group in contents.list_groups(split) if group[1] > 0.0]


def find_folder(shards: Sequence[Shard]) -> str:
    """Return the folder that the files of the shards are in."""
    return str(PurePosixPath(shards[0].files[0]).parent)
