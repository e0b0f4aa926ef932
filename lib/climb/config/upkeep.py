"""Sections of the jobs remove and maintain. Their values are in conf/default.yaml."""

from __future__ import annotations

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
