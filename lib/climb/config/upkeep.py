"""Sections of the jobs remove, maintain and contamination; values are in conf/default.yaml."""

from __future__ import annotations

from typing import Literal

from climb.config.section import Section


class RemoveConfig(Section):
    """Which sources job remove removes. `climb remove` sets these values."""

    sources: tuple[str, ...]
    """Values of `documents.source`."""

    undo: bool
    """Whether the next ingest may read these sources again, instead of a removal."""

    dry_run: bool
    """Whether the report alone is made; no table changes."""

    out: str | None
    """JSON file of the report; null: none."""


class MaintainConfig(Section):
    """What job maintain does."""

    dry_run: bool
    """Whether only the files are listed that VACUUM would delete; no table changes."""


class ContaminationConfig(Section):
    """What job contamination does with documents that contain evaluation items."""

    drop: Literal["none", "report", "all", "undo"]
    """Which documents are removed, and rejected by later ingests: none more; those that share
    words with an item of a `report` file (docs/targets.md has the rule); with any item. undo: the
    next ingest reads the dropped documents again."""
