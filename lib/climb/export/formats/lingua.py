"""Meta Lingua: a folder for each domain with chunks of JSON Lines, and the section `data`.

    data.yaml                               `data:` with root_dir, sources, seed and seq_len
    train/law/law.chunk.00.jsonl            kind mixed: train/mixed/...
    validation/law/law.00.val.jsonl

Lingua gives every rank one chunk of each domain. Chunks beyond the number of ranks are never read.
If there are more ranks than chunks, the number of ranks must be a multiple of the number of chunks
of every domain. One chunk, the default, fits any number n of ranks: each rank reads every n-th
line.

Source: facebookresearch/lingua, `lingua/data.py`, read 2026-11-27 and executed outside of this
project: `choose_source` draws one document at a time, so the weights count documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.export.contents import Contents, Kind, Sample, Split, Tokenization
from climb.export.documents import (
    draw_documents,
    read_json_lines,
    repeat_files,
    weigh_documents,
)
from climb.export.format import ShardWriter, Unit
from climb.export.groups import find_folder, list_weighted
from climb.export.writers.jsonl import JsonLinesWriter

DATA, PATTERN = "data.yaml", "*.chunk.*.jsonl"


@dataclass(frozen=True, kw_only=True)
class Lingua:
    """Folders of chunks, and the section `data` of a configuration of Lingua."""

    shard_bytes: int = 1 << 62
    """Bytes of text after which a chunk ends; with the default, each domain has one chunk."""

    unit: ClassVar[Unit] = "documents"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = ""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `train/DOMAIN/DOMAIN.chunk.INDEX` or `validation/DOMAIN/DOMAIN.INDEX.val`."""
        name = domain or "mixed"
        number = f"{index:0{max(2, len(str(count - 1)))}d}"
        chunk = f"{name}.chunk.{number}" if split == "train" else f"{name}.{number}.val"
        return f"{split}/{name}/{chunk}"

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a chunk."""
        return JsonLinesWriter(path, "none")

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the section `data` of a configuration."""
        import yaml

        documents = weigh_documents(contents)
        sources = {
            find_folder(shards).rpartition("/")[2]: documents[name]
            for name, _, shards in list_weighted(contents)
        }
        values = {
            "root_dir": str(Path(contents.folder, "train")),
            "sources": sources,
            "seed": contents.seed,
            "seq_len": contents.sequence_length,
        }
        text = yaml.safe_dump({"data": values}, sort_keys=False, allow_unicode=True)
        return {DATA: f"# sources: share of documents\n{text}"}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Raise an error, because Lingua is not a Python package.

        Raises:
            ImportError: always.
        """
        raise ImportError("Lingua is not a Python package: use read_by_rule")

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw documents as a single rank does: with the weights and folders of `data.yaml`."""
        import yaml

        values: dict[str, Any] = yaml.safe_load((folder / DATA).read_text(encoding="utf-8"))["data"]
        root = Path(values["root_dir"])
        sources = [
            (weight, repeat_files(read_json_lines, sorted((root / source).glob(PATTERN))))
            for source, weight in values["sources"].items()
        ]
        return draw_documents(sources, values["seed"])
