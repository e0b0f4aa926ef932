"""All files of an export besides its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from climb.export.card import CardFacts, render_card
from climb.export.contents import Contents
from climb.export.croissant import render_croissant
from climb.export.format import Format, describe_files
from climb.export.index import INDEX, render_index
from climb.files import FileDigest


@dataclass(frozen=True)
class FinishedExport:
    """An export whose shards are written."""

    spec: Mapping[str, Any]
    """`use` and the fields of the format."""

    format: Format
    contents: Contents
    plan: Mapping[str, Any]
    """All that the files are made from."""

    name: str
    """Name of the search, or of the file with the mixture."""

    versions: Mapping[str, Any] | None = None
    """Table -> version that was read."""


def render_files(
    export: FinishedExport, facts: CardFacts, digests: Mapping[str, FileDigest]
) -> dict[str, str]:
    """Render the files of the format, the data card, `export.json` and `croissant.json`.

    If the format has a README.md, the card is appended to its text.

    Args:
        export: the export.
        facts: sources, licences, quality and what was dropped.
        digests: path in the folder -> digest, for the files of all shards.

    Returns:
        Path in the folder -> text.

    Raises:
        ComponentError: see `describe_files`.
    """
    files = describe_files(export.format, export.contents)
    card = render_card(export.contents, export.format, facts, export.versions or {}, export.name)
    files["README.md"] = files.get("README.md", "") + card
    files[INDEX] = render_index(export.spec, export.contents, export.plan)
    files["croissant.json"] = render_croissant(export.contents, facts, digests, export.name)
    return files
