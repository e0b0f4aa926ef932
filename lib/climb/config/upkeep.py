"""Configuration sections `remove`, `maintain` and `contamination`.

Their values are in conf/default.yaml.
"""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from climb.config.section import Section, check_plain_path


class RemoveConfig(Section):
    """The sources whose documents are deleted by job `remove`. `climb remove` sets these values."""

    sources: tuple[str, ...]
    """Values of `documents.source`."""

    undo: bool
    """Whether an earlier removal is undone instead: the next ingest reads these sources again."""

    dry_run: bool
    """Whether only the report is made, and no table changes."""

    out: str | None
    """JSON file of the report; null: none."""

    _check_out = field_validator("out")(check_plain_path)


class MaintainConfig(Section):
    """What job `maintain` does."""

    dry_run: bool
    """Whether the files that VACUUM would delete are only listed, and no table changes."""


class ContaminationConfig(Section):
    """What job `contamination` does with documents that contain evaluation items."""

    drop: Literal["none", "report", "all", "undo"]
    """Which documents are removed, and rejected by later ingests. none: no documents; those that
    were dropped before stay dropped. report: those that share words with an item of a `report` file
    (docs/targets.md has the rule). all: those that share words with any item. undo: the next ingest
    reads dropped documents again."""
