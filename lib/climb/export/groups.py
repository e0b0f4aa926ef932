"""Groups of shards, and their folders; names of domains in paths.

A trainer gives a weight to each group. The groups are the domains, or one group with all domains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from climb.errors import ConfigError
from climb.export.contents import Contents, Shard, Split


def escape_name(name: str) -> str:
    """Escape the name of a domain for use in a path, as Spark and Hive do, and `}` too.

    Levanter rejects paths with a single `}`. A name that has only dots is escaped too, because `.`
    and `..` are other folders. Names that differ stay different, because `%` is escaped.
    """
    unsafe = "." if not name.strip(".") else r"[\x00-\x1f\"#%'*/:=?\\\x7f{}\[\]^]"
    return re.sub(unsafe, lambda match: f"%{ord(match[0]):02X}", name)


def check_pattern(path: str, trainer: str, characters: str = "*?[]") -> None:
    """Check that a trainer does not take a path for a pattern or a chain of file systems (`::`).

    Args:
        path: the folder of the export, or a file of the user.
        trainer: who reads the path.
        characters: those that have a meaning in the trainer's patterns.

    Raises:
        ConfigError: the path contains one of the characters, or `::`.
    """
    if found := [text for text in (*characters, "::") if text in path]:
        raise ConfigError(
            f"{trainer}: the path {path!r} contains {found[0]!r}, so {trainer} would not read it "
            "as the name of a folder or file; use another path"
        )


def list_weighted(
    contents: Contents, split: Split = "train"
) -> list[tuple[str, float, list[Shard]]]:
    """List (name, share of tokens, shards) of each group that has a positive weight."""
    return [group for group in contents.list_groups(split) if group[1] > 0.0]


def find_folder(shards: Sequence[Shard]) -> str:
    """Return the folder that the files of the shards are in."""
    return str(PurePosixPath(shards[0].files[0]).parent)
