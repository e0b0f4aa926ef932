"""What formats with tokens have in common: paths and weights of shards, and how samples are drawn.

Trainers that read sequences of a fixed length draw samples by weights of files. All sequences have
the same number of tokens, so the weights are shares of tokens, and need no conversion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from climb.errors import ConfigError
from climb.export.contents import MIXED, Contents, Split, Tokenization

MOST_SAMPLES = 1 << 17
"""Largest number of samples that a loader prepares for a check."""


@dataclass(frozen=True)
class TokenFile:
    """A shard, and its share of all tokens that a trainer reads."""

    files: tuple[str, ...]
    """Paths in the folder of the export, sorted."""

    weight: float


def name_folder(split: Split, domain: str | None) -> str:
    """Return the folder of a domain in a split; its path has no white space.

    Args:
        split: the split of its documents.
        domain: the domain, already escaped for a path; None in an export of kind `mixed`.
    """
    name = MIXED if domain is None else f"domain={domain}"
    path = re.sub(r"\s", lambda space: quote(space[0]), name)
    return f"{split}/{path}"


def name_part(split: Split, domain: str | None, index: int) -> str:
    """Return the path of a shard without its endings, such as `train/domain=law/part-00000`."""
    return f"{name_folder(split, domain)}/part-{index:05d}"


def require_tokenization(tokenization: Tokenization | None) -> Tokenization:
    """Return the tokenization.

    Raises:
        ConfigError: there is none.
    """
    if tokenization is None:
        raise ConfigError(
            "export.tokenizer is empty, but the format stores tokens; set it to a tokenizer.json"
        )
    return tokenization


def weigh_shards(contents: Contents, split: Split = "train") -> list[TokenFile]:
    """Divide the weight of each domain between its shards, in proportion to their tokens.

    If the files are the user's own, the numbers of tokens of the shards are only estimates. So the
    weight is then divided in proportion to the sizes of the shards' data files. Domains with weight
    0 and shards without tokens are left out: some loaders reject a weight of 0.
    """
    files = []
    for _, weight, shards in contents.list_groups(split):
        counts = [shard.sizes[0] if contents.own_files else shard.tokens for shard in shards]
        total = sum(counts)
        for shard, count in zip(shards, counts, strict=True):
            if weight > 0.0 and count > 0:
                share = weight * count / total
                files.append(TokenFile(shard.files, share))
    return files


def name_groups(contents: Contents, split: Split = "train") -> dict[str, str]:
    """Return the group of each file: path in the folder of the export -> domain, or `mixed`."""
    return {
        file: group
        for group, _, shards in contents.list_groups(split)
        for shard in shards
        for file in shard.files
    }


def find_group(groups: dict[str, str], path: str) -> str:
    """Return the group of a file, by its path in a configuration, which may be absolute.

    Raises:
        ValueError: the export has no such file.
    """
    parts = Path(path).parts
    for start in range(len(parts)):
        if group := groups.get(str(Path(*parts[start:]))):
            return group
    raise ValueError(
        f"a configuration names {path}, which is not a file of the export; export again"
    )


def limit_samples(contents: Contents) -> int:
    """Return the number of samples of the target run, or MOST_SAMPLES if that is less."""
    return max(1, min(contents.target_tokens // contents.sequence_length, MOST_SAMPLES))


def draw_by_deficit(weights: Sequence[float]) -> Iterator[int]:
    """Yield the index of a source for each sample, in the order of Megatron and nanotron.

    Each sample is of the source whose share so far is furthest below its weight: sample n, counted
    from 0, is of the source with the largest weight * max(n, 1) - (samples of the source so far).
    Of equal sources, the first is used.

    Source: build_blending_indices in megatron/core/datasets/helpers.cpp of megatron-core 0.16.1.
    """
    weights_S = np.asarray(weights, dtype=np.float64) / sum(weights)
    counts_S, n = np.zeros(len(weights)), 0
    while True:
        source = int(np.argmax(weights_S * max(n, 1) - counts_S))
        counts_S[source] += 1
        n += 1
        yield source
