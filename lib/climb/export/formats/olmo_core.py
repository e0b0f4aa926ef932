"""OLMo-core: files of token ids without a header, and the sources of a mixture.

    source_mixture.yaml   for SourceMixtureList.from_yaml: a source for each domain

The target ratios are shares of the requested tokens, and sum to exactly 1. Documents are
concatenated and cut to instances of the sequence length. The rest at the end of a file, which fills
no instance, is never read, so a domain that has no file as long as a sequence is an error. A source
that would be repeated more often than `max_repetition_ratio` is an error too.

If `requested_tokens` is not a multiple of `global_batch_size`, OLMo-core fills the last batch
evenly from all files. With many files and few batches, this changes the shares, so request whole
batches. A file that is read in part is read from its start, so documents must be in random order.

Axes: S sources, N samples.

Source: source_mixture.py, numpy_dataset.py and data_loader.py in olmo_core/data of ai2-olmo-core
3.0.0.
"""

from __future__ import annotations

import bisect
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from climb.errors import ConfigError
from climb.export.contents import Contents, ExportedDomain, Kind, Sample, Split, Tokenization
from climb.export.format import ShardWriter, Unit
from climb.export.token_files import (
    MOST_SAMPLES,
    find_group,
    limit_samples,
    name_groups,
    name_part,
    require_tokenization,
)
from climb.export.writers.tokens import TokenWriter

FILE = "source_mixture.yaml"
DIGITS = 15
"""Decimal digits of a ratio; a float keeps this many."""

BATCH = 8
"""Sequences of a batch when the export is checked."""

HEADER = """\
# OLMo-core: SourceMixtureList.from_yaml("source_mixture.yaml")
# max_repetition_ratio suffices for requested_tokens up to {tokens}; request a multiple of
# global_batch_size. dtype of the files: {dtype}. vocab_size {vocab}, eos_token_id {end}.
"""


@dataclass(frozen=True, kw_only=True)
class OlmoCore:
    """Memory-mapped token ids with `source_mixture.yaml`."""

    unit: ClassVar[Unit] = "tokens"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]] = (".npy",)
    loader: ClassVar[str] = "olmo_core"

    shard_bytes: int = 1 << 31
    """Bytes of text after which a shard ends. OLMo-core can only read files of less than 2^32
    tokens."""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `train/domain=law/part-00000`."""
        return name_part(split, domain, index)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start `PATH.npy`, which has no NumPy header."""
        dtype = require_tokenization(tokenization).dtype
        return TokenWriter(path.with_name(path.name + ".npy"), dtype)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the list of sources; the paths are absolute.

        Raises:
            ConfigError: no file of a domain is as long as a sequence.
        """
        import yaml

        tokenization = require_tokenization(contents.tokenization)
        header = HEADER.format(
            tokens=contents.target_tokens,
            dtype=tokenization.dtype,
            vocab=tokenization.vocab_size,
            end=tokenization.end_of_text_id,
        )
        text = yaml.safe_dump({"sources": list_sources(contents)}, sort_keys=False, width=1000)
        return {FILE: header + text}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield one epoch of OLMo-core's data loader, built from the list of sources.

        Raises:
            ImportError: ai2-olmo-core is not installed.
            OLMoConfigurationError: a source has too few tokens for the target run.
        """
        with tempfile.TemporaryDirectory(prefix="climb-") as work:
            loader = _build_loader(folder, contents, work)
            ends = [end for _, end in loader.dataset.offsets]
            groups = name_groups(contents)
            names = [find_group(groups, str(path)) for path in loader.dataset.paths]
            loader.reshuffle(epoch=1)
            for batch in loader:
                for index, ids in zip(batch["index"].tolist(), batch["input_ids"], strict=True):
                    yield Sample(names[bisect.bisect_right(ends, index)], len(ids))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the instances of one epoch in random order.

        If the epoch has more than MOST_SAMPLES instances, MOST_SAMPLES are drawn at random instead.

        Raises:
            ValueError: a source has too few tokens.
        """
        import yaml

        sources = yaml.safe_load((folder / FILE).read_text(encoding="utf-8"))["sources"]
        groups, rng = name_groups(contents), np.random.default_rng(contents.seed)
        names = [find_group(groups, source["paths"][0]) for source in sources]
        counts_S = np.array([_count_instances(source, contents) for source in sources])
        total = counts_S.sum()
        if total > MOST_SAMPLES:
            drawn_N = rng.choice(len(names), MOST_SAMPLES, p=counts_S / total)
        else:
            drawn_N = rng.permutation(np.repeat(np.arange(len(names)), counts_S))
        for source in drawn_N:
            yield Sample(names[source], contents.sequence_length)


def list_sources(contents: Contents) -> list[dict[str, Any]]:
    """List the sources of a mixture as YAML values; domains without weight are left out.

    The tokens are counted from the sizes of the files: for the user's own files, `Shard.tokens` is
    only an estimate.

    Raises:
        ConfigError: no file of a domain is as long as a sequence.
    """
    size = np.dtype(require_tokenization(contents.tokenization).dtype).itemsize
    groups = [(name, weight, shards) for name, weight, shards in contents.list_groups() if shards]
    ratios = round_exactly([weight for _, weight, _ in groups])
    domains = {domain.name: domain for domain in contents.domains}
    sources = []
    for (name, weight, shards), ratio in zip(groups, ratios, strict=True):
        if ratio > 0.0:
            counts = [shard.sizes[0] // size for shard in shards]
            _check_length(name, max(counts), contents.sequence_length)
            domain = domains[name] if contents.kind == "recipe" else None
            source = {
                "source_name": name,
                "target_ratio": ratio,
                "max_repetition_ratio": limit_repetition(
                    domain, weight * contents.target_tokens / sum(counts)
                ),
                "paths": [str(Path(contents.folder, shard.files[0])) for shard in shards],
            }
            sources.append(source)
    return sources


def _check_length(name: str, longest: int, length: int) -> None:
    """Check that the longest file of a domain has at least as many tokens as a sequence.

    OLMo-core would read nothing of a domain whose files are all shorter.

    Raises:
        ConfigError: the longest file is too short.
    """
    if longest < length:
        raise ConfigError(
            f"OLMo-core: a sequence has {length} tokens, but the longest file of {name} has only "
            f"{longest}, so the domain would never be read; lower export.sequence_length, raise "
            "shard_bytes, or set the weight to 0"
        )


def limit_repetition(domain: ExportedDomain | None, needed: float) -> float:
    """Return how often a source may be repeated: the search's limit, or the run's need if larger.

    The run may need more than the search allowed: the validation split removes documents, and the
    tokenizer of the export may count other numbers of tokens than job `count`.

    Args:
        domain: the domain of the source, which may have a limit `max_epochs`; None for a mixed
            export, whose documents are repeated already.
        needed: tokens that the target run reads from the source, divided by the source's tokens.
    """
    if domain is not None and domain.max_epochs is not None:
        limit = max(domain.max_epochs, 1.0)
        return limit if limit >= 1.000001 * needed else math.ceil(1001 * needed) / 1000
    epochs = 0.0 if domain is None else domain.epochs
    # One percent more, so that the last batch of a run can be filled.
    return float(math.ceil(1.01 * max(epochs, needed)))


def round_exactly(weights: list[float]) -> list[float]:
    """Normalize weights and round them to decimals whose sum is exactly 1.

    The largest remainders are rounded up.
    """
    total, unit = sum(map(Fraction, weights)), 10**DIGITS
    exact = [Fraction(weight) / total * unit for weight in weights]
    parts = [int(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda i: (parts[i] - exact[i], i))
    for index in order[: unit - sum(parts)]:
        parts[index] += 1
    return [part / unit for part in parts]


def _count_instances(source: dict[str, Any], contents: Contents) -> int:
    """Count the instances that OLMo-core reads from a source, before it fills the last batch."""
    dtype = np.dtype(require_tokenization(contents.tokenization).dtype)
    sizes = [Path(path).stat().st_size // dtype.itemsize for path in source["paths"]]
    needed = int(contents.target_tokens * source["target_ratio"])
    if needed > int(sum(sizes) * source["max_repetition_ratio"]):
        raise ValueError(
            f"source {source['source_name']} has {sum(sizes)} tokens; the run needs {needed}, more "
            f"than max_repetition_ratio ({source['max_repetition_ratio']}) allows; export again"
        )
    whole, rest = divmod(needed / sum(sizes), 1.0)
    whole_instances = sum(size // contents.sequence_length for size in sizes)
    rest_instances = sum(math.ceil(rest * size) // contents.sequence_length for size in sizes)
    return int(whole) * whole_instances + rest_instances


def _build_loader(folder: Path, contents: Contents, work: str) -> Any:
    """Build OLMo-core's data loader for as many samples as a check may read."""
    from olmo_core.data import NumpyDataLoaderConfig, NumpyFSLDatasetConfig, TokenizerConfig
    from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList

    tokenization = require_tokenization(contents.tokenization)
    sources = SourceMixtureList.from_yaml(folder / FILE)
    length = contents.sequence_length
    batch = BATCH * length

    def request(tokens: int) -> SourceMixtureDatasetConfig:
        return SourceMixtureDatasetConfig(
            source_list=sources,
            requested_tokens=max(1, tokens // batch) * batch,
            global_batch_size=batch,
            seed=contents.seed,
            render_tables=False,
            quiet=True,
        )

    # Request the tokens of the whole run, because this fails if a source has too few tokens.
    request(contents.target_tokens).build(
        npdtype=np.dtype(tokenization.dtype).type, sequence_length=length
    )
    dataset = NumpyFSLDatasetConfig.from_src_mix(
        request(limit_samples(contents) * length),
        tokenizer=TokenizerConfig(
            vocab_size=tokenization.vocab_size,
            eos_token_id=tokenization.end_of_text_id,
            pad_token_id=tokenization.end_of_text_id,
        ),
        dtype=tokenization.dtype,
        sequence_length=length,
        work_dir=work,
    ).build()
    config = NumpyDataLoaderConfig(global_batch_size=batch, seed=contents.seed, work_dir=work)
    return config.build(dataset)
