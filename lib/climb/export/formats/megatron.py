"""Megatron-LM and Megatron-Bridge: `.bin` and `.idx` for each shard, and weighted lists of them.

    blend.txt    --data-args-path, with --split 1,0,0: weight prefix weight prefix ...
    blend.json   --per-split-data-args-path: a list for each of train, valid and test

The weights count samples of a fixed length, so they are shares of tokens. Megatron splits lists at
white space, and rejects a weight of 0. `blend.json` needs all three keys; a split without documents
is null.

Source: megatron/core/datasets (utils.py, blended_megatron_dataset_builder.py, blended_dataset.py,
gpt_dataset.py) of megatron-core 0.16.1, and get_blend_and_blend_per_split in
megatron/training/utils.py of Megatron-LM.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ConfigError
from climb.export.contents import Contents, Kind, Sample, Split, Tokenization
from climb.export.format import ShardWriter, Unit
from climb.export.token_files import (
    draw_by_deficit,
    find_group,
    limit_samples,
    name_groups,
    name_part,
    require_tokenization,
    weigh_shards,
)
from climb.export.writers.indexed import IndexedWriter, read_lengths


@dataclass(frozen=True, kw_only=True)
class IndexedDatasets:
    """What Megatron and NeMo Automodel have in common: `.bin` and `.idx` for each shard."""

    unit: ClassVar[Unit] = "tokens"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]] = (".bin", ".idx")
    needs_all_endings: ClassVar[bool] = True

    shard_bytes: int = 1 << 31
    """Bytes of text after which a shard ends. Each shard is a prefix in the lists."""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `train/domain=law/part-00000`."""
        return name_part(split, domain, index)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start `PATH.bin` and `PATH.idx`."""
        return IndexedWriter(path, require_tokenization(tokenization))

    def check_folder(self, folder: str, has_validation: bool) -> None:
        """Check the path of the export; see `climb.export.format.check_early`.

        Raises:
            ConfigError: the path has white space.
        """
        check_white_space(folder)


@dataclass(frozen=True, kw_only=True)
class Megatron(IndexedDatasets):
    """Indexed datasets with `blend.txt` and `blend.json`."""

    loader: ClassVar[str] = "megatron.core"

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return both lists; the prefixes are absolute paths.

        Raises:
            ConfigError: a path has white space.
        """
        train = list_prefixes(contents, "train")
        lines = [f"{train[i]} {train[i + 1]}\n" for i in range(0, len(train), 2)]
        valid = list_prefixes(contents, "validation") or None
        splits = {"train": train, "valid": valid, "test": None}
        return {"blend.txt": "".join(lines), "blend.json": json.dumps(splits, indent=2) + "\n"}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the samples of Megatron's blended GPT dataset, built from both lists.

        Raises:
            ImportError: megatron-core is not installed.
            ValueError: the lists differ.
        """
        from megatron.core.datasets.utils import get_blend_from_list

        text = (folder / "blend.txt").read_text(encoding="utf-8")
        splits = json.loads((folder / "blend.json").read_text(encoding="utf-8"))
        blends = [get_blend_from_list(splits[name]) for name in ("train", "valid", "test")]
        if get_blend_from_list(text.split()) != blends[0]:
            raise ValueError("blend.txt and blend.json have different lists; export again")
        groups = name_groups(contents)
        names = [find_group(groups, f"{prefix}.bin") for prefix in blends[0][0]]
        with open_cache() as cache:
            dataset = _build_dataset(blends[0], contents, cache)
            for index in range(len(dataset)):
                sample = dataset[index]
                # For a single prefix, the loader returns no blend, so samples have no dataset_id.
                source = int(sample.get("dataset_id", 0))
                yield Sample(names[source], len(sample["tokens"]))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield endless samples, each from the prefix whose share is furthest below its weight."""
        blend = json.loads((folder / "blend.json").read_text(encoding="utf-8"))["train"]
        if (folder / "blend.txt").read_text(encoding="utf-8").split() != blend:
            raise ValueError("blend.txt and blend.json have different lists; export again")
        weights, prefixes = [float(weight) for weight in blend[::2]], blend[1::2]
        yield from sample_prefixes(weights, prefixes, contents)


def list_prefixes(contents: Contents, split: Split) -> list[str]:
    """List weight, prefix, weight, prefix, ... of the shards of a split.

    Raises:
        ConfigError: a path has white space.
    """
    listed = []
    for shard in weigh_shards(contents, split):
        prefix = str(Path(contents.folder, shard.files[0]).with_suffix(""))
        check_white_space(prefix)
        listed += [repr(shard.weight), prefix]
    return listed


def check_white_space(path: str) -> None:
    """Check that a prefix, or the folder of the export, has no white space.

    Raises:
        ConfigError: the path has white space, where Megatron would split its lists.
    """
    if path.split() != [path]:
        raise ConfigError(
            f"the path {path!r} contains white space, where Megatron splits lists; use another path"
        )


def sample_prefixes(
    weights: list[float], prefixes: list[str], contents: Contents
) -> Iterator[Sample]:
    """Check the files of indexed datasets, and then yield endless samples of them."""
    groups = name_groups(contents)
    names = [find_group(groups, f"{prefix}.bin") for prefix in prefixes]
    for prefix in prefixes:
        read_lengths(Path(prefix))
    for source in draw_by_deficit(weights):
        yield Sample(names[source], contents.sequence_length)


@dataclass(frozen=True)
class StubTokenizer:
    """The attributes of a tokenizer that a GPT dataset of Megatron or NeMo Automodel reads."""

    vocab_size: int
    eod: int
    name_or_path: str = "export"
    pad_token_id: int = -1

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def eos_token_id(self) -> int:
        """Id of the end-of-text token, under the name that Automodel uses."""
        return self.eod

    @property
    def unique_identifiers(self) -> dict[str, int]:
        """Keys that distinguish Megatron's index files of different tokenizers."""
        return {"vocab_size": self.vocab_size}


@contextlib.contextmanager
def open_cache() -> Iterator[str]:
    """Yield a temporary folder for index files, in a process group of one process.

    Without a folder for its cache, Megatron writes these files beside the prefixes. With such a
    folder, it needs a process group.
    """
    import torch.distributed as dist

    own_group = not dist.is_initialized()
    if own_group:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with tempfile.TemporaryDirectory(prefix="climb-") as cache:
            yield cache
    finally:
        if own_group:
            dist.destroy_process_group()


def _build_dataset(blend: Any, contents: Contents, cache: str) -> Any:
    """Build Megatron's dataset of the training split."""
    from megatron.core.datasets.blended_megatron_dataset_builder import (
        BlendedMegatronDatasetBuilder,
    )
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    tokenization = require_tokenization(contents.tokenization)
    config = GPTDatasetConfig(
        random_seed=contents.seed,
        sequence_length=contents.sequence_length,
        blend_per_split=[blend, None, None],
        path_to_cache=cache,
        tokenizer=StubTokenizer(tokenization.vocab_size, tokenization.end_of_text_id),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    sizes = [limit_samples(contents), 0, 0]
    return BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[0]
