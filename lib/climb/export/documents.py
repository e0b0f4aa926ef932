"""What formats of text have in common: shares of documents, paths of shards, reading of files.

Functions that read files yield one `Sample` per document: each row of a file has the domain of its
document and the number of tokens.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from climb.export.contents import Contents, Kind, Sample, Shard, Split, Tokenization
from climb.export.format import ShardWriter, check_positive
from climb.export.groups import list_weighted
from climb.export.units import convert_weights
from climb.export.writers.parquet import COLUMNS, GROUP_BYTES, ParquetWriter

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ParquetFolders:
    """Base class of the formats that write a folder of Parquet files for each group."""

    shard_bytes: int = 1 << 28
    """Bytes of text after which a file ends."""

    group_bytes: int = GROUP_BYTES
    """Bytes of text after which a row group ends."""

    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the size of a row group.

        Raises:
            ConfigError: it is not positive.
        """
        check_positive(self, "group_bytes")

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `SPLIT/DOMAIN/INDEX-of-COUNT`."""
        return name_in_domain(split, domain, index, count)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file."""
        path = path.with_name(f"{path.name}.parquet")
        return ParquetWriter(path, COLUMNS, group_bytes=self.group_bytes)


def weigh_documents(contents: Contents) -> dict[str, float]:
    """Return the weights for a trainer that counts documents; groups without weight are left out.

    Returns:
        Name of the group -> share of documents; the shares sum to 1.
    """
    if contents.kind == "mixed":
        return {name: 1.0 for name, _, _ in list_weighted(contents)}
    means = {domain.name: domain.mean_tokens for domain in contents.domains}
    return convert_weights({name: weight for name, weight, _ in list_weighted(contents)}, means)


def name_in_domain(split: Split, domain: str | None, index: int, count: int) -> str:
    """Name a shard `SPLIT/DOMAIN/00000-of-00004`: a folder for each group of a split."""
    return f"{split}/{domain or 'mixed'}/{index:05d}-of-{count:05d}"


def list_files(shards: Sequence[Shard], ending: str) -> list[str]:
    """List those files of the shards that have this ending."""
    return [file for shard in shards for file in shard.files if file.endswith(ending)]


def read_json_lines(path: Path) -> Iterator[Sample]:
    """Yield the documents of JSON Lines; the ending of the name determines the compression."""
    with _open_text(path) as lines:
        for line in lines:
            yield parse_sample(json.loads(line))


def read_parquet(path: Path) -> Iterator[Sample]:
    """Yield the documents of a Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["domain", "n_tokens"])
            yield from (parse_sample(row) for row in rows.to_pylist())


def parse_sample(row: Mapping[str, Any]) -> Sample:
    """Return the sample that a row with `domain` and `n_tokens` describes."""
    return Sample(str(row["domain"]), int(row["n_tokens"]))


def repeat_files(
    read: Callable[[Path], Iterator[Sample]], files: Sequence[Path]
) -> Iterator[Sample]:
    """Yield the documents of files in order, over and over."""
    while True:
        empty = True
        for file in files:
            for sample in read(file):
                empty = False
                yield sample
        if empty:
            return


def draw_documents(
    sources: Sequence[tuple[float, Iterator[Sample]]], seed: int
) -> Iterator[Sample]:
    """Draw documents from sources with probabilities proportional to weights, without an end."""
    weights_G = np.array([weight for weight, _ in sources])
    generator = np.random.default_rng(seed)
    while True:
        for group in generator.choice(len(sources), size=1024, p=weights_G / weights_G.sum()):
            yield take_next(sources[group][1])


def draw_sequences(
    sources: Sequence[tuple[float, Iterator[Sample]]], length: int, seed: int
) -> Iterator[Sample]:
    """Draw sequences of `length` tokens, each packed from the documents of one source.

    A sequence is yielded as one sample for each domain of its documents.
    """
    weights_G = np.array([weight for weight, _ in sources])
    generator = np.random.default_rng(seed)
    packed = [pack_documents(documents, length) for _, documents in sources]
    while True:
        for group in generator.choice(len(sources), size=1024, p=weights_G / weights_G.sum()):
            yield from take_next(packed[group])


def take_next(source: Iterator[T]) -> T:
    """Return the next document or sequence of a source that should have no end.

    Raises:
        ValueError: the source has ended, because its files are missing or empty.
    """
    for value in source:
        return value
    raise ValueError("a domain with a positive weight has no documents in its files; export again")


def pack_documents(documents: Iterator[Sample], length: int) -> Iterator[list[Sample]]:
    """Pack documents into sequences; the rest of a document continues in the next sequence."""
    counts: dict[str, int] = {}
    missing = length
    for document in documents:
        rest = document.tokens
        while rest > 0:
            part = min(rest, missing)
            counts[document.domain] = counts.get(document.domain, 0) + part
            rest, missing = rest - part, missing - part
            if missing == 0:
                yield [Sample(domain, tokens) for domain, tokens in counts.items()]
                counts, missing = {}, length


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rt", encoding="utf-8")  # type: ignore[return-value]
    if path.suffix == ".zst":
        import zstandard

        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
        return io.TextIOWrapper(stream, encoding="utf-8")
    return path.open(encoding="utf-8")
