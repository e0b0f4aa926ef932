"""Nanotron: tokenized files of datatrove, a folder for each domain, and a data stage in YAML.

    train/domain=law/part-00000.ds            ids
    train/domain=law/part-00000.ds.index      end of each document in tokens, uint64
    train/domain=law/part-00000.ds.metadata   tokenizer|bytes per id; number of tokens
    nanotron.yaml                             data_stages: folders with weights

A sample is sequence_length + 1 ids of one file. Nanotron's Nanoset makes a list of as many samples
as all folders have together, each from the folder whose share is furthest below its weight. It
shuffles this list, and repeats it. So weights are shares of samples of a fixed length, that is, of
tokens.
Every pass has the same samples: a folder with a small weight is only read in part, from the start
of its files.

Source: utils/dataset.py and pipeline/tokens/tokenizer.py of datatrove 0.10.1; data/nanoset.py and
config/config.py in src/nanotron of github.com/huggingface/nanotron (commit 00708b8 and later). The
package nanotron 0.4 has no Nanoset, so climb computes the order, and datatrove reads the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from climb.export.contents import SPLITS, Contents, Kind, Sample, Split, Tokenization
from climb.export.format import ShardWriter, Unit
from climb.export.groups import find_folder, list_weighted
from climb.export.token_files import (
    MOST_SAMPLES,
    draw_by_deficit,
    find_group,
    name_groups,
    name_part,
    require_tokenization,
)
from climb.export.writers.tokens import TokenWriter

FILE = "nanotron.yaml"


@dataclass(frozen=True, kw_only=True)
class Nanotron:
    """Tokenized files of datatrove with `nanotron.yaml`."""

    unit: ClassVar[Unit] = "tokens"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = "datatrove"

    tokenizer: str = ""
    """Name or folder that nanotron passes to AutoTokenizer; empty: the folder of the export."""

    shard_bytes: int = 1 << 30
    """Bytes of text after which a file ends. Nanotron shuffles files, and then samples."""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `train/domain=law/part-00000`."""
        return name_part(split, domain, index)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start `PATH.ds` and `PATH.ds.index`."""
        return DatatroveWriter(path, require_tokenization(tokenization).dtype)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the stages and the metadata of each file; folders are absolute."""
        import yaml

        tokenization = require_tokenization(contents.tokenization)
        name, size = self.tokenizer or contents.folder, np.dtype(tokenization.dtype).itemsize
        groups = list_weighted(contents)
        dataset = {
            "dataset_folder": [
                str(Path(contents.folder, find_folder(shards))) for _, _, shards in groups
            ],
            "dataset_weights": [weight for _, weight, _ in groups],
            "tokenizer_name": name,
            "vocab_size": tokenization.vocab_size,
            "token_size_in_bytes": size,
        }
        data = {"dataset": dataset, "seed": contents.seed, "num_loading_workers": 1}
        stages = [{"name": "climb", "start_training_step": 1, "data": data}]
        stage = {"tokenizer": {"tokenizer_name_or_path": name}, "data_stages": stages}
        metadata = {
            f"{shard.files[0]}.metadata": f"{name}|{size}\n{shard.tokens}\n{shard.tokens:,} tokens"
            for split in SPLITS
            for _, _, shards in list_weighted(contents, split)
            for shard in shards
        }
        return metadata | {FILE: yaml.safe_dump(stage, sort_keys=False, width=1000)}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield endless samples of datatrove's folder datasets, as `draw_samples` draws them.

        Raises:
            ImportError: datatrove or torch is not installed.
        """
        from datatrove.utils.dataset import DatatroveFolderDataset

        stage = _read_stage(folder)
        dataset = stage["dataset"]
        datasets = [
            DatatroveFolderDataset(
                path,
                seq_len=contents.sequence_length,
                filename_pattern="*.ds",
                recursive=False,
                token_size=dataset["token_size_in_bytes"],
                shuffle=True,
            )
            for path in dataset["dataset_folder"]
        ]
        names = _name_folders(dataset["dataset_folder"], contents)
        lengths = [len(folder_dataset) for folder_dataset in datasets]
        for source, index in draw_samples(dataset["dataset_weights"], lengths, stage["seed"]):
            yield Sample(names[source], len(datasets[source][index]["input_ids"]))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield endless samples, as `draw_samples` draws them.

        Raises:
            ValueError: a file does not match its index or metadata, or a folder has no sample.
        """
        stage = _read_stage(folder)
        dataset, length = stage["dataset"], contents.sequence_length + 1
        names = _name_folders(dataset["dataset_folder"], contents)
        lengths = [
            sum(
                _count_tokens(file, dataset["token_size_in_bytes"]) // length
                for file in sorted(Path(path).glob("*.ds"))
            )
            for path in dataset["dataset_folder"]
        ]
        for source, _ in draw_samples(dataset["dataset_weights"], lengths, stage["seed"]):
            yield Sample(names[source], length)


class DatatroveWriter(TokenWriter):
    """Writes `PATH.ds`, and the ends of documents to `PATH.ds.index`."""

    def __init__(self, path: Path, dtype: str) -> None:
        super().__init__(path.with_name(path.name + ".ds"), dtype)
        self._index = path.with_name(path.name + ".ds.index")

    def close(self) -> None:
        """Write the index."""
        with self._index.open("wb") as file:
            for ends_N in self.read_ends():
                file.write(ends_N.astype("<u8").tobytes())
        super().close()


def draw_samples(weights: list[float], lengths: list[int], seed: int) -> Iterator[tuple[int, int]]:
    """Yield endless pairs (index of a folder, index of a sample in it) by the rules of a Nanoset.

    Args:
        weights: weight of each folder.
        lengths: samples of each folder.
        seed: seed of the shuffle.

    Raises:
        ValueError: a folder has no sample.
    """
    if not all(lengths):
        raise ValueError(
            f"dataset_folder[{lengths.index(0)}] of nanotron.yaml has too few tokens for a sample; "
            "export more documents, or lower export.sequence_length"
        )
    n_samples = min(sum(lengths), MOST_SAMPLES)
    sources_N = np.fromiter(islice(draw_by_deficit(weights), n_samples), dtype=np.int64)
    samples_N = np.empty_like(sources_N)
    for source, length in enumerate(lengths):
        chosen_N = sources_N == source
        samples_N[chosen_N] = np.arange(chosen_N.sum()) % length
    # Nanoset shuffles with another random generator, so the order here differs from Nanoset's. But
    # a pass here and a pass of Nanoset contain the same samples, if a pass of Nanoset has no more
    # than MOST_SAMPLES samples.
    order_N = np.random.default_rng(seed).permutation(n_samples)
    while True:
        yield from zip(sources_N[order_N].tolist(), samples_N[order_N].tolist(), strict=True)


def _read_stage(folder: Path) -> dict[str, Any]:
    """Return the section `data` of the first stage."""
    import yaml

    text = (folder / FILE).read_text(encoding="utf-8")
    stage: dict[str, Any] = yaml.safe_load(text)["data_stages"][0]["data"]
    return stage


def _name_folders(folders: list[str], contents: Contents) -> list[str]:
    """Return the domain of each folder, or `mixed`."""
    groups = {
        str(PurePosixPath(file).parent): group for file, group in name_groups(contents).items()
    }
    return [find_group(groups, path) for path in folders]


def _count_tokens(path: Path, size: int) -> int:
    """Return the number of tokens of a file.

    Raises:
        ValueError: its index or its metadata has another number.
    """
    tokens = path.stat().st_size // size
    ends_N = np.fromfile(f"{path}.index", dtype="<u8")
    described = int(Path(f"{path}.metadata").read_text(encoding="utf-8").splitlines()[1])
    if ends_N[-1] != tokens or described != tokens:
        raise ValueError(
            f"{path} has {tokens} tokens; its index has {ends_N[-1]}, its metadata {described}; "
            "export again"
        )
    return tokens
