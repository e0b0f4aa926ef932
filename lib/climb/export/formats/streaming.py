"""MosaicML streaming: an MDS folder for each domain, and a list of streams with proportions.

    streams.yaml                            `streams:` for the dataset section of LLM Foundry
    train/law/index.json
    train/law/00000-of-00004.mds            kind mixed: train/mixed/...
    validation/law/...

    import yaml
    from streaming import Stream, StreamingDataset
    values = yaml.safe_load(open("streams.yaml"))
    streams = [Stream(**stream) for stream in values.pop("streams").values()]
    dataset = StreamingDataset(streams=streams, batch_size=8, **values)

Source: mosaicml-streaming 0.13.0. Running it showed that `proportion` counts samples, which are
documents here. In an epoch each stream has its proportion of the samples, rounded to whole samples.
In a small export this rounding matters, so climb sets `epoch_size` above the number of documents.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from climb.errors import ConfigError
from climb.export.contents import SPLITS, Contents, Kind, Sample, Shard, Split, Tokenization
from climb.export.documents import (
    draw_documents,
    name_in_domain,
    parse_sample,
    repeat_files,
    weigh_documents,
)
from climb.export.format import ShardWriter, Unit
from climb.export.groups import find_folder, list_weighted
from climb.export.writers.mds import MdsWriter, describe_file

STREAMS, INDEX = "streams.yaml", "index.json"

MOST_SHARD_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """MDS folders and a list of streams for MosaicML streaming and LLM Foundry."""

    shard_bytes: int = 1 << 26
    """Bytes of text after which a file ends; at most 1 GiB, so that the file is below 4 GiB."""

    unit: ClassVar[Unit] = "documents"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = "streaming"

    def __post_init__(self) -> None:
        """Check the size of a file.

        Raises:
            ConfigError: a file could have more bytes than its offsets of 32 bits allow.
        """
        if self.shard_bytes > MOST_SHARD_BYTES:
            raise ConfigError(
                f"Streaming: shard_bytes is {self.shard_bytes}; it must be at most "
                f"{MOST_SHARD_BYTES}, so that every MDS file stays below 4 GiB"
            )

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `SPLIT/DOMAIN/INDEX-of-COUNT`."""
        return name_in_domain(split, domain, index, count)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file."""
        return MdsWriter(path)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return `streams.yaml` and the index of every folder."""
        import yaml

        indices = {
            f"{find_folder(shards)}/{INDEX}": _describe_index(shards)
            for split in SPLITS
            for _, _, shards in contents.list_groups(split)
        }
        documents = weigh_documents(contents)
        streams = {
            name: {
                "local": str(Path(contents.folder, find_folder(shards))),
                "proportion": documents[name],
            }
            for name, _, shards in list_weighted(contents)
        }
        values = {"streams": streams, "shuffle": True, "shuffle_seed": contents.seed}
        n_documents = sum(domain.documents for domain in contents.domains)
        if (size := _find_epoch_size(contents, documents)) > n_documents:
            values["epoch_size"] = size
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return {STREAMS: f"# proportion: share of documents\n{text}", **indices}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the samples of a StreamingDataset for `streams.yaml`, one epoch after another."""
        import yaml
        from streaming import Stream, StreamingDataset  # type: ignore[import-not-found]

        values = yaml.safe_load((folder / STREAMS).read_text(encoding="utf-8"))
        streams = [Stream(**stream) for stream in values.pop("streams").values()]
        dataset = StreamingDataset(streams=streams, batch_size=1, **values)
        while True:
            yield from map(parse_sample, dataset)

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw documents with the proportions of `streams.yaml`.

        The documents are read from the MDS files that the `index.json` of each stream lists.
        """
        import yaml

        values = yaml.safe_load((folder / STREAMS).read_text(encoding="utf-8"))
        sources = []
        for stream in values["streams"].values():
            index = json.loads(Path(stream["local"], INDEX).read_text(encoding="utf-8"))
            files = [Path(stream["local"], s["raw_data"]["basename"]) for s in index["shards"]]
            sources.append((stream["proportion"], repeat_files(read_mds, files)))
        return draw_documents(sources, values["shuffle_seed"])


def read_mds(path: Path) -> Iterator[Sample]:
    """Yield the documents of an MDS file that climb wrote."""
    with path.open("rb") as file:
        (n_documents,) = struct.unpack("<I", file.read(4))
        offsets = struct.unpack(f"<{n_documents + 1}I", file.read(4 * n_documents + 4))
        file.seek(offsets[0])
        for start, stop in itertools.pairwise(offsets):
            sample = file.read(stop - start)
            id_length, domain_length, _ = struct.unpack("<3I", sample[:12])
            end = 12 + id_length + domain_length
            (n_tokens,) = struct.unpack("<q", sample[end : end + 8])
            yield Sample(sample[12 + id_length : end].decode(), n_tokens)


def _find_epoch_size(contents: Contents, documents: dict[str, float]) -> int:
    """Return the size of an epoch in which one long document has at most 0.1 % of the tokens.

    The size is a number of samples. Here, a long document has the mean length of the domain with
    the longest documents. A mixed export needs no size, so 0 is returned.
    """
    if contents.kind == "mixed":
        return 0
    means = {domain.name: domain.mean_tokens for domain in contents.domains}
    mean = sum(share * means[name] for name, share in documents.items())
    return math.ceil(1000 * max(means[name] for name in documents) / mean)


def _describe_index(shards: list[Shard]) -> str:
    entries: list[dict[str, Any]] = [
        describe_file(PurePosixPath(file).name, size, shard.documents)
        for shard in shards
        for file, size in zip(shard.files, shard.sizes, strict=True)
    ]
    return json.dumps({"version": 2, "shards": entries}, sort_keys=True)
