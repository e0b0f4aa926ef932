"""LitData, the loader of LitGPT: for each domain, chunks of token ids and an index.

    train/domain=law/index.json       made for StreamingDataset(..., item_loader=TokensLoader(...))
    combined.json                     arguments of CombinedStreamingDataset and its datasets

CombinedStreamingDataset draws the source of each block with `random.Random(seed)`. Its weights are
shares of blocks of a fixed length, so they are shares of tokens. Weights require
`iterate_over_all=False`; then a pass ends when one dataset has no block left. The next pass draws
the same sources again, so `shuffle=True` is needed. Without it, a domain that a pass reads only in
part is read from its start each time. Tokens at the end of a chunk that fill no block are never
read.

A chunk starts with uint32 numbers: the number of documents, the byte at which each document starts,
and the byte at which the last document ends. Then the ids follow. A chunk has less than 4 GiB.

Source: writer.py, item_loader.py and combined.py in litdata/streaming of litdata 0.2.76.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from climb.errors import ConfigError
from climb.export.contents import SPLITS, Contents, Kind, Sample, Shard, Split, Tokenization
from climb.export.format import ShardWriter, Unit
from climb.export.groups import find_folder, list_weighted
from climb.export.token_files import name_part, require_tokenization
from climb.export.writers.tokens import TokenWriter

FILE = "combined.json"
FORMATS = {"uint16": "no_header_numpy:5", "uint32": "no_header_numpy:6"}
"""Type of the ids -> LitData's name for an array of this type."""

LEAF = '[1, {"type": null, "context": null, "children_spec": []}]'
"""LitData's description of an item that is one array."""

MOST_BYTES = 1 << 32


@dataclass(frozen=True, kw_only=True)
class LitData:
    """Chunks of token ids, an index for each domain, and `combined.json`."""

    unit: ClassVar[Unit] = "tokens"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = "litdata"

    shard_bytes: int = 1 << 28
    """Bytes of text after which a chunk ends. Chunks are shuffled, and then the blocks in them."""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `train/domain=law/part-00000`."""
        return name_part(split, domain, index)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start the chunk `PATH.bin`."""
        return ChunkWriter(path, require_tokenization(tokenization).dtype)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return an index for each domain and split, and the arguments of the loader.

        Raises:
            ConfigError: a domain has no block of tokens in any chunk.
        """
        files, datasets = dict[str, str](), list[dict[str, Any]]()
        for split in SPLITS:
            for _, _, shards in list_weighted(contents, split):
                files[f"{find_folder(shards)}/index.json"] = self._index(shards, contents)
        # A block has one token more than the inputs, for the labels, as in LitGPT.
        block_size = contents.sequence_length + 1
        for name, weight, shards in list_weighted(contents):
            _check_blocks(name, shards, block_size)
            datasets.append({"input_dir": find_folder(shards), "weight": weight})
        arguments = {
            "block_size": block_size,
            "shuffle": True,
            "iterate_over_all": False,
            "seed": contents.seed,
            "datasets": datasets,
        }
        return files | {FILE: json.dumps(arguments, indent=2) + "\n"}

    def _index(self, shards: list[Shard], contents: Contents) -> str:
        tokenization = require_tokenization(contents.tokenization)
        dtype = tokenization.dtype
        chunks = [
            {
                "chunk_bytes": 4 * (s.documents + 2) + s.tokens * np.dtype(dtype).itemsize,
                "chunk_size": s.documents,
                "dim": s.tokens,
                "filename": PurePosixPath(s.files[0]).name,
            }
            for s in shards
        ]
        config = {
            "chunk_bytes": self.shard_bytes,
            "chunk_size": None,
            "compression": None,
            "data_format": [FORMATS[dtype]],
            "data_spec": LEAF,
            "encryption": None,
            "item_loader": "TokensLoader",
        }
        index: dict[str, Any] = {"chunks": chunks, "config": config}
        # LitData reuses cached chunks of a remote folder as long as `updated_at` is the same.
        version = json.dumps([index, contents.seed, tokenization.tokenizer])
        index["updated_at"] = hashlib.sha256(version.encode()).hexdigest()[:16]
        return json.dumps(index, sort_keys=True)

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the blocks of one pass of LitData's combined dataset.

        The next pass would draw the same sources, so it would tell nothing more about the weights.

        Raises:
            ImportError: litdata is not installed.
        """
        from litdata import CombinedStreamingDataset, StreamingDataset
        from litdata.streaming.item_loader import TokensLoader

        arguments = json.loads((folder / FILE).read_text(encoding="utf-8"))
        names = _name_folders(contents)
        datasets = [
            StreamingDataset(
                str(folder / dataset["input_dir"]),
                item_loader=TokensLoader(block_size=arguments["block_size"]),
                shuffle=arguments["shuffle"],
                seed=arguments["seed"],
                transform=lambda block, name=names[dataset["input_dir"]]: Sample(name, len(block)),
            )
            for dataset in arguments["datasets"]
        ]
        combined = CombinedStreamingDataset(
            datasets,
            seed=arguments["seed"],
            weights=[dataset["weight"] for dataset in arguments["datasets"]],
            iterate_over_all=arguments["iterate_over_all"],
        )
        yield from combined

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the blocks of one pass, drawn as LitData draws them.

        Raises:
            ValueError: an index does not match its chunks, or a domain has no block.
        """
        from random import Random

        arguments = json.loads((folder / FILE).read_text(encoding="utf-8"))
        folders = [dataset["input_dir"] for dataset in arguments["datasets"]]
        weights = [dataset["weight"] for dataset in arguments["datasets"]]
        blocks = [_count_blocks(folder / path, arguments["block_size"]) for path in folders]
        names = _name_folders(contents)
        rng, left = Random(arguments["seed"]), list(blocks)
        while left[source := rng.choices(range(len(folders)), weights)[0]]:
            left[source] -= 1
            yield Sample(names[folders[source]], arguments["block_size"])
        if left == blocks:
            raise ValueError(
                f"{folders[source]} has too few tokens for a block; lower export.sequence_length "
                "and export again"
            )


class ChunkWriter(TokenWriter):
    """Writes the ids to a temporary file first, since the header of the chunk needs all offsets."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._ids = path.with_name(path.name + ".ids")
        self._chunk = path.with_name(path.name + ".bin")
        super().__init__(self._ids, dtype)

    def close(self) -> None:
        """Write the chunk.

        Raises:
            ConfigError: the chunk has 4 GiB or more.
        """
        header = 4 * (self.n_documents + 2)
        size = header + self.n_tokens * self.dtype.itemsize
        if size >= MOST_BYTES:
            raise ConfigError(
                f"LitData: a chunk has {size} bytes, but must have less than 4 GiB; "
                "lower shard_bytes"
            )
        with self._chunk.open("wb") as chunk:
            chunk.write(np.array([self.n_documents, header], dtype="<u4").tobytes())
            for ends_N in self.read_ends():
                chunk.write((header + ends_N * self.dtype.itemsize).astype("<u4").tobytes())
            super().close()
            with self._ids.open("rb") as ids:
                shutil.copyfileobj(ids, chunk, 1 << 20)
        self._ids.unlink()


def _check_blocks(name: str, shards: list[Shard], block_size: int) -> None:
    """Check that a domain has a block, since a draw of a domain without blocks ends the pass.

    Raises:
        ConfigError: no chunk has enough tokens.
    """
    most = max(shard.tokens for shard in shards)
    if most < block_size:
        raise ConfigError(
            f"LitData: no chunk of {name} has the {block_size} tokens of a block, the largest has "
            f"{most}; lower export.sequence_length, raise shard_bytes, or set the weight to 0"
        )


def _name_folders(contents: Contents) -> dict[str, str]:
    """Return the domain of each folder of the training split, or `mixed`."""
    return {find_folder(shards): name for name, _, shards in contents.list_groups()}


def _count_blocks(folder: Path, block_size: int) -> int:
    """Count the blocks that the chunks of an index have.

    Raises:
        ValueError: a chunk is not as its index describes it.
    """
    index, count = json.loads((folder / "index.json").read_text(encoding="utf-8")), 0
    formats = {value: np.dtype(key).itemsize for key, value in FORMATS.items()}
    for chunk in index["chunks"]:
        path, header = folder / chunk["filename"], 4 * (chunk["chunk_size"] + 2)
        size = header + chunk["dim"] * formats[index["config"]["data_format"][0]]
        with path.open("rb") as file:
            first = np.frombuffer(file.read(header), dtype="<u4")
        expected = (chunk["chunk_size"], header, size)
        if (first[0], first[1], first[-1]) != expected or path.stat().st_size != size:
            raise ValueError(f"{path} is not as {folder}/index.json describes it; export again")
        count += chunk["dim"] // block_size
    return count
