"""What an export contains: its domains with their weights in tokens, and its shards.

The index files of a trainer, the data card and the check are made from `Contents`. It is stored in
`export.json`. Reading it needs no package, so the trainer's interpreter can read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["mixed", "recipe"]
"""mixed: all documents in one order, each as often as the mixture requires. recipe: the documents
of every domain once, and weights beside them."""

Split = Literal["train", "validation"]

SPLITS: tuple[Split, ...] = ("train", "validation")

MIXED = "mixed"
"""Name of the only group in an export of kind `mixed`. In formats that store tokens, this name is
the `Sample.domain` of the sequences of this group, because they contain several domains."""


@dataclass(frozen=True)
class Tokenization:
    """The tokenizer of an export with tokens, and how its tokens are stored."""

    tokenizer: str
    """Name of the tokenizer. Its file is `tokenizer.json`, unless the files are the user's own."""

    vocab_size: int
    end_of_text_id: int
    """Id of the token that ends every document."""

    @property
    def dtype(self) -> Literal["uint16", "uint32"]:
        """Smallest unsigned integer type that holds all ids."""
        return "uint16" if self.vocab_size <= 1 << 16 else "uint32"


@dataclass(frozen=True)
class Shard:
    """Files of an export that were written together: one file, or a data file and its index."""

    split: Split
    domain: str | None
    """None in an export of kind `mixed`, whose shards contain all domains."""

    files: tuple[str, ...]
    """Sorted paths: relative to the export, or absolute if the files are the user's own."""

    sizes: tuple[int, ...]
    """Bytes of each file."""

    documents: int
    tokens: int
    """In formats that store tokens, the export's tokenizer counts them, with end-of-text tokens. In
    formats of text, job `count` counts them. For the user's own files, PRIOR.csv (the natural
    mixture) has the number of tokens of each domain. It is divided among the shards of the domain,
    in proportion to the sizes of their data files. The sizes of index files do not count."""


@dataclass(frozen=True)
class ExportedDomain:
    """One domain: the share of tokens that a trainer should read, and what its files contain."""

    name: str
    weight: float
    """Wanted share of all tokens that the trainer reads; the weights sum to 1."""

    documents: int
    """Rows of the training split. For the user's own files, 0 if the number is unknown."""

    tokens: int
    """Tokens of the training split, counted as in `Shard.tokens`."""

    squared_tokens: float
    """Sum of (tokens of a document)^2 over the documents of the training split; 0 if unknown."""

    epochs: float
    """How often the target run reads each document of the training split, on average."""

    max_epochs: float | None = None
    """Largest `epochs` that the constraints of the search allow; None: no limit."""

    @property
    def mean_tokens(self) -> float:
        """Tokens per document of the training split; 0 if unknown."""
        return self.tokens / self.documents if self.documents else 0.0


@dataclass(frozen=True)
class Contents:
    """What an export contains."""

    kind: Kind
    domains: tuple[ExportedDomain, ...]
    """Domains with text in the training split, sorted by name."""

    shards: tuple[Shard, ...]
    """Sorted by split, domain and name."""

    tokenization: Tokenization | None
    """None for a format of text."""

    target_tokens: int
    """Tokens of the target run."""

    sequence_length: int
    """Tokens of a training sequence, for formats that write this number into a file, or whose
    loaders read sequences of a fixed length."""

    seed: int
    folder: str
    """Absolute path of the export, for configuration files; `dump_contents` leaves it out."""

    own_files: bool = False
    """Whether the files are the user's own; the export only lists them."""

    def list_shards(self, split: Split, domain: str | None = None) -> list[Shard]:
        """List the shards of a split, or those of one domain in it."""
        return [s for s in self.shards if s.split == split and domain in (None, s.domain)]

    def list_groups(self, split: Split = "train") -> Iterator[tuple[str, float, list[Shard]]]:
        """Yield (name, share of tokens, shards) of each group to which a trainer gives a weight.

        The groups are the domains of a recipe, or one group `mixed` with weight 1. A group without
        shards in the split is left out.
        """
        if self.kind == "mixed":
            groups: list[tuple[str, float, str | None]] = [(MIXED, 1.0, None)]
        else:
            groups = [(domain.name, domain.weight, domain.name) for domain in self.domains]
        for name, weight, domain in groups:
            if shards := self.list_shards(split, domain):
                yield name, weight, shards


@dataclass(frozen=True)
class Sample:
    """A document or sequence that a trainer's loader returned, or a domain's part of a sequence."""

    domain: str
    tokens: int


@dataclass(frozen=True)
class Counted:
    """What a loader returned of one domain."""

    samples: int = 0
    tokens: int = 0


def count_samples(samples: Iterable[Sample]) -> dict[str, Counted]:
    """Count samples and tokens per domain."""
    counts: dict[str, list[int]] = {}
    for sample in samples:
        own = counts.setdefault(sample.domain, [0, 0])
        own[0] += 1
        own[1] += sample.tokens
    return {name: Counted(*own) for name, own in sorted(counts.items())}


def dump_contents(contents: Contents) -> dict[str, Any]:
    """Return the contents as JSON values, without the folder, which may move."""
    values = dataclasses.asdict(contents)
    del values["folder"]
    return values


def parse_contents(values: Mapping[str, Any], folder: Path) -> Contents:
    """Parse what `dump_contents` returned, for an export that is now in `folder`."""
    tokenization: Mapping[str, Any] | None = values["tokenization"]
    return Contents(
        **{name: values[name] for name in _PLAIN},
        folder=str(folder.absolute()),
        domains=tuple(ExportedDomain(**domain) for domain in values["domains"]),
        shards=tuple(map(_parse_shard, values["shards"])),
        tokenization=None if tokenization is None else Tokenization(**tokenization),
    )


def _parse_shard(values: Mapping[str, Any]) -> Shard:
    return Shard(**{**values, "files": tuple(values["files"]), "sizes": tuple(values["sizes"])})


_PLAIN: Sequence[str] = ("kind", "target_tokens", "sequence_length", "seed", "own_files")
