"""Sections of the jobs train and report. Their values are in conf/default.yaml."""

from __future__ import annotations

from pydantic import PositiveInt

from climb.config.section import PluginSpec, Section


class TrainConfig(Section):
    """The target model, which tests the recommendation on items that the search does not use."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of its base checkpoint, trained once on the natural mixture; all runs continue it."""

    tokens: PositiveInt
    """Tokens of each run after the base checkpoint."""

    seeds: PositiveInt
    """Runs per mixture; an interval needs at least 2."""


class ReportConfig(Section):
    """The HTML report."""

    path: str | None
    """File to write; null: report.html in storage.files (or root)."""
