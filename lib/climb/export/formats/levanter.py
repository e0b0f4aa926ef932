"""Levanter (Marin): JSON Lines for each domain, and the section `data` of a configuration.

    data.yaml                               `data:` with components, train_weights and a block size
    train/law/00000-of-00004.jsonl.gz       kind mixed: train/mixed/...
    validation/law/00000-of-00001.jsonl.gz

Add `tokenizer` and `cache_dir` to the section. Levanter fills blocks of `mixture_block_size`
sequences. The number of sequences of a domain in a block is its weight times the block size,
rounded down. The domain with the largest weight also gets the sequences that remain. With
Levanter's default block size of 2048, a domain with less than 0.05 % of the tokens would never be
read.

Source: marin-levanter 0.2.20.dev202606180959 (PyPI), `data/text/datasets.py` and `data/mixture.py`.
Running it showed that weights count sequences of a fixed length, each of one component. So the
weights count tokens.
Levanter 1.1 on PyPI is an older state of the project, with `configs` instead of `components`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError
from climb.export.contents import Contents, Kind, Sample, Split, Tokenization
from climb.export.documents import (
    list_files,
    name_in_domain,
    pack_documents,
    read_json_lines,
    repeat_files,
    take_next,
)
from climb.export.format import ShardWriter, Unit
from climb.export.groups import check_pattern, escape_name, list_weighted
from climb.export.writers.jsonl import ENDINGS, JsonLinesWriter

DATA = "data.yaml"

MOST_BLOCK_SIZE = (1 << 16) - 1

PATTERN = "*?[]{}\\"
"""Characters with a meaning in URLs of Levanter: it expands braces and patterns."""


@dataclass(frozen=True, kw_only=True)
class Levanter:
    """JSON Lines with gzip, and the section `data` of a configuration of Levanter."""

    shard_bytes: int = 1 << 28
    """Bytes of text after which a file ends."""

    block_size: int = 1 << 15
    """Sequences of a block; every domain has a fixed number of them. Levanter allows at most
    65,535."""

    unit: ClassVar[Unit] = "tokens"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = (ENDINGS["gzip"],)
    loader: ClassVar[str] = "levanter"

    def __post_init__(self) -> None:
        """Check the size of a block.

        Raises:
            ConfigError: Levanter would reject the size.
        """
        if not 1 <= self.block_size <= MOST_BLOCK_SIZE:
            raise ConfigError(
                f"Levanter: block_size is {self.block_size}; it must be 1 to {MOST_BLOCK_SIZE}"
            )

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `SPLIT/DOMAIN/INDEX-of-COUNT`."""
        return name_in_domain(split, domain, index, count)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file."""
        return JsonLinesWriter(path, "gzip", level=6)

    def check_folder(self, folder: str, has_validation: bool) -> None:
        """Check the path of the export; see `climb.export.format.check_early`.

        Raises:
            ConfigError: Levanter would take the path for a pattern.
        """
        check_pattern(folder, "Levanter", PATTERN)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the section `data` of a configuration.

        Raises:
            ConfigError: a domain with a positive weight has no sequence in a block, or Levanter
                would take a path for a pattern.
        """
        import yaml

        validation = {name: shards for name, _, shards in contents.list_groups("validation")}
        components: dict[str, Any] = {}
        weights: dict[str, float] = {}
        for name, weight, shards in list_weighted(contents):
            component = escape_name(name)
            weights[component] = weight
            urls = {"train_urls": shards, "validation_urls": validation.get(name, [])}
            source = {key: _list_urls(contents, of_split) for key, of_split in urls.items()}
            components[component] = {"source": {"type": "url"} | source}
        self._check_weights({name: weight for name, weight, _ in list_weighted(contents)})
        values = {
            "components": components,
            "train_weights": weights,
            "mixture_block_size": self.block_size,
        }
        text = yaml.safe_dump({"data": values}, sort_keys=False, allow_unicode=True)
        return {DATA: f"# train_weights: share of tokens\n{text}"}

    def _check_weights(self, weights: dict[str, float]) -> None:
        counts = _count_sequences(list(weights.values()), self.block_size)
        for name, count in zip(weights, counts, strict=True):
            if count == 0:
                raise ConfigError(
                    f"Levanter: domain {name} has the weight {weights[name]:.2g}, which "
                    f"gives it no sequence in a block of {self.block_size} sequences, so it would "
                    f"never be read; raise block_size (at most {MOST_BLOCK_SIZE}), or set the "
                    "weight to 0"
                )

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the sequences of Levanter's training set for `data.yaml`.

        A sequence is yielded as one sample for each domain of its documents. Levanter tokenizes all
        text before it starts, so it gets only the first file of each domain. A stub replaces the
        tokenizer: it encodes a document as the index of the document's domain, repeated once for
        each token of the document.
        """
        import tempfile

        import haliax  # type: ignore[import-not-found]
        import jax  # type: ignore[import-not-found]
        from levanter.schedule import BatchSchedule  # type: ignore[import-not-found]

        names = [domain.name for domain in contents.domains]
        with tempfile.TemporaryDirectory() as cache:
            configuration = _read_configuration(folder, cache, names)
            axis = haliax.Axis("position", contents.sequence_length)
            key = jax.random.PRNGKey(contents.seed)
            sequences = configuration.train_set(axis, BatchSchedule(64), key=key).as_sync_dataset()
            start = 0
            while True:
                for sequence in sequences.get_batch(range(start, start + 64)):
                    counts_K = np.bincount(np.asarray(sequence.tokens.array))
                    yield from (
                        Sample(names[k], int(counts_K[k])) for k in np.flatnonzero(counts_K)
                    )
                start += 64

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Fill blocks with sequences as `data.yaml` configures them."""
        values = _read_section(folder)
        sources = [
            repeat_files(read_json_lines, list(map(Path, component["source"]["train_urls"])))
            for component in values["components"].values()
        ]
        packed = [pack_documents(source, contents.sequence_length) for source in sources]
        weights = [values["train_weights"][name] for name in values["components"]]
        counts_G = _count_sequences(weights, values["mixture_block_size"])
        generator = np.random.default_rng(contents.seed)
        while True:
            for group in generator.permutation(np.repeat(np.arange(len(packed)), counts_G)):
                yield from take_next(packed[group])


def _count_sequences(weights: Sequence[float], size: int) -> NDArray[np.int64]:
    """Count the sequences of each component in a block.

    The component with the largest weight also gets the sequences that remain.
    """
    weights_G = np.asarray(weights)
    counts_G: NDArray[np.int64] = (weights_G / weights_G.sum() * size).astype(np.int64)
    counts_G[counts_G.argmax()] += size - counts_G.sum()
    return counts_G


def _list_urls(contents: Contents, shards: Sequence[Any]) -> list[str]:
    urls = [str(Path(contents.folder, file)) for file in list_files(shards, ENDINGS["gzip"])]
    for url in urls:
        check_pattern(url, "Levanter", PATTERN)
    return urls


def _read_section(folder: Path) -> dict[str, Any]:
    import yaml

    section: dict[str, Any] = yaml.safe_load((folder / DATA).read_text(encoding="utf-8"))["data"]
    return section


def _read_configuration(folder: Path, cache: str, names: Sequence[str]) -> Any:
    """Read `data.yaml` as Levanter does, with one file of each domain and a stub tokenizer."""
    import dataclasses

    import draccus  # type: ignore[import-not-found]
    from levanter.data.text import LmDataConfig  # type: ignore[import-not-found]

    configuration = draccus.decode(LmDataConfig, _read_section(folder))
    text_format = _make_domain_format({name: number for number, name in enumerate(names)})
    components = {}
    for name, component in configuration.components.items():
        urls = component.source.train_urls[:1]
        source = dataclasses.replace(component.source, train_urls=urls)
        components[name] = dataclasses.replace(component, source=source, format=text_format)
    changed = {"components": components, "cache_dir": cache}
    return dataclasses.replace(
        configuration, **changed, tokenizer="passthrough", vocab_size=len(names)
    )


def _make_domain_format(numbers: dict[str, int]) -> Any:
    """Return a Levanter format that encodes a document as the index of its domain, repeated."""
    from levanter.data._preprocessor import BatchProcessor  # type: ignore[import-not-found]
    from levanter.data.text.formats import TextLmDatasetFormat  # type: ignore[import-not-found]

    class Processor(BatchProcessor):  # type: ignore[misc]
        output_exemplar: ClassVar[Any] = {"input_ids": np.zeros(0, np.int32)}
        num_cpus: ClassVar[int] = 1
        metadata: ClassVar[dict[str, Any]] = {}

        def __call__(self, batch: Sequence[Any]) -> list[dict[str, Any]]:
            return [
                {"input_ids": np.full(row["n_tokens"], numbers[row["domain"]], np.int32)}
                for row in batch
            ]

    class DomainFormat(TextLmDatasetFormat):  # type: ignore[misc]
        def build_preprocessor(self, tokenizer: Any, **_options: bool) -> Any:
            return Processor()

    return DomainFormat()
