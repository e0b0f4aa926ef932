"""Sections of the mixed dataset and of its exports. Their values are in conf/default.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, field_validator

from climb.config.section import PluginSpec, Section, check_path, check_plain_path


class MixConfig(Section):
    """The mixed dataset."""

    tokens: PositiveInt | None
    """Tokens of the dataset; null: search.target_tokens."""

    export: str | None
    """Folder of the Parquet dataset with manifest and data card; null: <storage.root>/mixed."""

    text: bool
    """Whether table corpus has the texts. false: it has only the ids of documents, and exports read
    the texts from table documents. Ids take a hundredth of the space."""

    _check_export = field_validator("export")(check_path)


class ExportConfig(Section):
    """The mixture in the format of a trainer."""

    format: PluginSpec
    """Format of the trainer; `climb export --to` sets it by its short name."""

    path: str | None
    """Folder of the export, a path that every node can open; null: export/ in storage.files (or
    root)."""

    kind: Literal["mixed", "recipe"] | None
    """mixed: one shuffled set of documents, each as often as the mixture requires. recipe: the
    documents of every domain once, and weights. null: the format's default."""

    tokenizer: str | None
    """A tokenizer.json, or a folder with one, for formats that store tokens; null: the tokenizer of
    job `count`."""

    end_of_text: str | None
    """Token at the end of every document in formats that store tokens; null: chosen as for
    count.end_of_text."""

    sequence_length: PositiveInt
    """Tokens of a training sequence, for formats that store it."""

    validation_share: float = Field(ge=0, le=0.5)
    """Share of the documents in the validation split; a hash of the document id selects them."""

    _check_path = field_validator("path")(check_plain_path)
