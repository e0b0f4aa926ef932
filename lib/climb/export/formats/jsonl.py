"""JSON Lines for any trainer: text, domain, doc_id and n_tokens; by default with Zstandard.

    train/law/00000-of-00004.jsonl.zst      kind recipe; kind mixed: train/mixed/...
    weights.json                            the weights in tokens and in documents, and the files

`weights.json` states both units, so that it fits a trainer that draws documents and one that draws
sequences of fixed length:

    {"domains": {"law": {"token_weight": 0.2, "document_weight": 0.01, "files": [...]}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from climb.export.contents import Contents, Kind, Sample, Split, Tokenization
from climb.export.documents import (
    draw_documents,
    name_in_domain,
    read_json_lines,
    repeat_files,
    weigh_documents,
)
from climb.export.format import ShardWriter, Unit
from climb.export.groups import list_weighted
from climb.export.writers.jsonl import ENDINGS, Compression, JsonLinesWriter, check_level

WEIGHTS = "weights.json"


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """JSON Lines; `weights.json` has the weights in tokens and in documents."""

    shard_bytes: int = 1 << 28
    """Bytes of text after which a file ends."""

    compression: Compression = "zstd"
    """zstd, gzip or none."""

    level: int = 3
    """Level of the compression."""

    unit: ClassVar[Unit] = "documents"
    kinds: ClassVar[tuple[Kind, ...]] = ("mixed", "recipe")
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = tuple(ENDINGS.values())
    loader: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the level of the compression.

        Raises:
            ConfigError: the compression has no such level.
        """
        check_level(self.compression, self.level)

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `SPLIT/DOMAIN/INDEX-of-COUNT`."""
        return name_in_domain(split, domain, index, count)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file."""
        return JsonLinesWriter(path, self.compression, level=self.level)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return `weights.json`."""
        documents = weigh_documents(contents)
        groups = {
            name: {
                "token_weight": weight,
                "document_weight": documents[name],
                "files": [file for shard in shards for file in shard.files],
            }
            for name, weight, shards in list_weighted(contents)
        }
        return {WEIGHTS: json.dumps({"domains": groups}, indent=1, ensure_ascii=False) + "\n"}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Raise an error, because JSON Lines is not specific to one trainer.

        Raises:
            ImportError: always.
        """
        raise ImportError("JSON Lines is not specific to one trainer: use read_by_rule")

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw documents by `document_weight`; within a domain in the order of its files."""
        groups = json.loads((folder / WEIGHTS).read_text(encoding="utf-8"))["domains"]
        sources = [
            (g["document_weight"], repeat_files(read_json_lines, [folder / f for f in g["files"]]))
            for g in groups.values()
        ]
        return draw_documents(sources, contents.seed)
