"""torchtitan: Parquet folders, and a module that configures its interleaved loader.

    climb_data.py                           make_dataloader(): the configuration of the loader
    train/law/00000-of-00004.parquet        kind mixed: train/mixed/...
    validation/law/00000-of-00001.parquet

In a configuration of torchtitan, with this folder in PYTHONPATH:

    from climb_data import make_dataloader
    config.dataloader = make_dataloader()

Source: torchtitan 0.3.0 (PyPI), `hf_datasets/text_datasets.py` and `interleaved.py`. Running it
showed that each source packs its documents into sequences of a fixed length before sources are
interleaved. So the weights count tokens.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.export.contents import Contents, Sample
from climb.export.documents import (
    ParquetFolders,
    draw_sequences,
    read_parquet,
    repeat_files,
)
from climb.export.format import Unit
from climb.export.groups import check_pattern, find_folder, list_weighted

MODULE = "climb_data.py"

CONFIGURATION = '''"""Configure torchtitan 0.3.0 to read the mixture in this folder.

from climb_data import make_dataloader
config.dataloader = make_dataloader()
"""

from pathlib import Path

# Folder of a domain -> share of sequences, which is its share of tokens.
WEIGHTS = %(weights)s
SEED = %(seed)d
DATASET = "climb"


def load_folder(path):
    """Load the Parquet files of a folder."""
    from datasets import load_dataset

    files = sorted(str(file) for file in Path(path).glob("*.parquet"))
    return load_dataset("parquet", data_files=files, split="train", streaming=True)


def get_text(sample):
    """Return the text of a document."""
    return sample["text"]


def make_dataloader(seed=SEED):
    """Return the configuration of the loader, and register how it reads a folder."""
    from torchtitan.hf_datasets import DatasetConfig
    from torchtitan.hf_datasets.text_datasets import (
        DATASETS,
        HFDataSource,
        InterleavedHuggingFaceTextDataLoader,
    )

    folder = Path(__file__).resolve().parent
    DATASETS[DATASET] = DatasetConfig(str(folder), load_folder, get_text)
    sources = [
        HFDataSource(dataset=DATASET, dataset_path=str(folder / path), weight=weight)
        for path, weight in WEIGHTS.items()
    ]
    return InterleavedHuggingFaceTextDataLoader.Config(sources=sources, seed=seed)
'''


@dataclass(frozen=True, kw_only=True)
class Torchtitan(ParquetFolders):
    """Parquet folders, and a module that configures the interleaved loader of torchtitan."""

    unit: ClassVar[Unit] = "tokens"
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = "torchtitan"

    def check_folder(self, folder: str, has_validation: bool) -> None:
        """Check the path of the export; see `climb.export.format.check_early`.

        Raises:
            ConfigError: `datasets`, with which torchtitan reads, would take it for a pattern.
        """
        check_pattern(folder, "datasets")

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the module with the configuration."""
        weights = {find_folder(shards): weight for _, weight, shards in list_weighted(contents)}
        text = json.dumps(weights, indent=4, ensure_ascii=False)
        return {MODULE: CONFIGURATION % {"weights": text, "seed": contents.seed}}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the sequences of torchtitan's loader for `climb_data.py`.

        A sequence is yielded as one sample for each domain of its documents. A stub replaces the
        tokenizer: it encodes a document as the index of the document's domain, repeated once for
        each token of the document.
        """
        from torchtitan.hf_datasets.text_datasets import (  # type: ignore[import-not-found]
            DATASETS,
            InterleavedHuggingFaceTextDataLoader,
        )

        module = _run_module(folder)
        configuration = module["make_dataloader"]()
        numbers: dict[str, int] = {}
        DATASETS[module["DATASET"]].sample_processor = _describe_row
        loader = InterleavedHuggingFaceTextDataLoader(
            configuration,
            dp_world_size=1,
            dp_rank=0,
            tokenizer=_DomainTokenizer(numbers),
            seq_len=contents.sequence_length,
            local_batch_size=1,
        )
        for inputs, _ in loader:
            ids = inputs["input"].flatten().tolist()
            names = list(numbers)
            yield from (Sample(names[i], ids.count(i)) for i in sorted(set(ids)))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw sequences with the weights of `climb_data.py` from its folders."""
        module = _run_module(folder)
        sources = [
            (weight, repeat_files(read_parquet, sorted((folder / path).glob("*.parquet"))))
            for path, weight in module["WEIGHTS"].items()
        ]
        return draw_sequences(sources, contents.sequence_length, module["SEED"])


class _DomainTokenizer:
    """Encodes what `_describe_row` returns."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers

    def encode(self, text: str, **_options: bool) -> list[int]:
        tokens, _, domain = text.partition(" ")
        number = self._numbers.setdefault(domain, len(self._numbers))
        # The loader shifts inputs and targets within a document, which costs one token.
        return [number] * (int(tokens) + 1)


def _describe_row(row: Mapping[str, Any]) -> str:
    return f"{row['n_tokens']} {row['domain']}"


def _run_module(folder: Path) -> dict[str, Any]:
    return runpy.run_path(str(folder / MODULE), run_name="climb_data")
