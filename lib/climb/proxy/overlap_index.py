"""The word n-grams of all evaluation items, in which documents are looked up.

Axes: F fragments of items, W words of all fragments, G n-grams, I items.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from climb.config.sections import ProxyConfig
from climb.files import hash_content, resolve
from climb.proxy import Target
from climb.proxy.items import list_targets, read_records
from climb.quality.ngrams import WordHashes, hash_ngrams, split_words

N_WORDS = 13
"""Number of words of an n-gram, as in GPT-3's check of overlaps (arXiv 2005.14165, appendix C)."""

MIN_WORDS = 5
"""If the question and the right choice of an item have fewer than N_WORDS words together, but at
least this many, all their words are one n-gram. Even fewer words, such as "4 3 7", would match by
chance, so they are no n-gram."""

RULES_VERSION = 2
"""Increased when the rules of this module change, so that documents are checked again."""

PROMPT = re.compile(r"\A\s*Question:|\bAnswer:\s*\Z")
"""Words that a prompt adds to a question. A document may quote the question with these words or
without them, so the index contains both forms of the question."""

CHUNK_ITEMS = 2_000
FILTER_BITS_PER_NGRAM = 16
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: the multiplier of Fibonacci hashing."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of one size: hash and item of each, ordered by hash."""

    hash_G: Hashes
    item_G: NDArray[np.int32]
    filter: NDArray[np.uint8]
    """Bits of a Bloom filter with one hash, which most n-grams of documents do not pass."""

    @classmethod
    def build(cls, hash_G: Hashes, item_G: NDArray[np.int32]) -> Ngrams:
        """Order the n-grams, and leave out repetitions within an item."""
        order = np.lexsort((item_G, hash_G))
        hash_G, item_G = hash_G[order], item_G[order]
        is_new = np.ones(len(hash_G), dtype=bool)
        is_new[1:] = (hash_G[1:] != hash_G[:-1]) | (item_G[1:] != item_G[:-1])
        hash_G, item_G = hash_G[is_new], item_G[is_new]
        n_bits = 1 << max(6, int(FILTER_BITS_PER_NGRAM * len(hash_G)).bit_length())
        bits = np.zeros(n_bits, dtype=bool)
        bits[_find_bits(hash_G, n_bits)] = True
        return cls(hash_G, item_G, np.packbits(bits, bitorder="little"))

    def find(self, hash_G: Hashes) -> NDArray[np.int64]:
        """Find hashes that `self.hash_G` contains, and return their positions in the argument."""
        bit_G = _find_bits(hash_G, 8 * len(self.filter))
        passed = np.flatnonzero(self.filter[bit_G >> 3] >> (bit_G & 7).astype(np.uint8) & 1)
        own_G = hash_G[passed]
        index_G = np.minimum(np.searchsorted(self.hash_G, own_G), len(self.hash_G) - 1)
        found: NDArray[np.int64] = passed[self.hash_G[index_G] == own_G]
        return found

    def list_items(self, value: np.uint64) -> list[int]:
        """List the items with an n-gram of this hash."""
        first, stop = (
            np.searchsorted(self.hash_G, value),
            np.searchsorted(self.hash_G, value, side="right"),
        )
        return [int(item) for item in self.item_G[first:stop]]


def _find_bits(hash_G: Hashes, n_bits: int) -> NDArray[np.int64]:
    shift = np.uint64(64 - (n_bits.bit_length() - 1))
    return (hash_G * GOLDEN >> shift).astype(np.int64)


@dataclass(frozen=True)
class OverlapIndex:
    """The n-grams of the items of several targets, and the items' words, which confirm a match."""

    groups: tuple[tuple[str, str], ...]
    """Name of the target and split (`search` or `report`) of each group of items."""

    group_I: NDArray[np.int16]
    names: tuple[str, ...]
    """Field `id` of each item, or the number of its line."""

    ngrams: Mapping[int, Ngrams]
    """Number of words -> the n-grams with that many words. The keys are in ascending order."""

    texts: bytes
    """Words of the items; the question and each choice have a line each."""

    end_I: NDArray[np.int64]
    """End of each item in `texts`."""

    n_short: int
    """Number of items whose question and right choice together have fewer than MIN_WORDS words."""

    def contains(self, item: int, words: str) -> bool:
        """Whether an item contains these words in this order; `words` separates them by spaces."""
        return any(f" {words} " in text for text in self._read(item))

    def _read(self, item: int) -> Iterator[str]:
        """Yield the question of an item with each choice, with and without words of a prompt."""
        start = int(self.end_I[item - 1]) if item else 0
        text = self.texts[start : int(self.end_I[item])].decode("utf-8", "surrogatepass")
        question, *choices = text.split("\n")
        for choice in choices:
            yield f" {question} {choice} ".replace("  ", " ")
            yield f" question {question} answer {choice} ".replace("  ", " ")


def build_index(groups: Sequence[tuple[str, Target]]) -> OverlapIndex:
    """Index all items of the (split, target) pairs.

    An n-gram has 13 words of a question, or of the question followed by one of its choices. If the
    question with its right choice has fewer words, but at least 5, all words of the two together
    are one n-gram. A question is indexed with and without the words of its prompt. An item of kind
    `text` counts as a question without choices.

    Raises:
        InputError: a file cannot be read, a line is not a valid item, or there is no item.
    """
    builder = _Builder()
    for number, (_, target) in enumerate(groups):
        for record in read_records(target):
            name = record.values.get("id")
            name = name if isinstance(name, str) else str(record.line)
            builder.add(_read_parts(record.values, target.kind), number, name)
    labels = tuple((target.name, split) for split, target in groups)
    return builder.finish(labels)


@dataclass(frozen=True)
class _Parts:
    """The parts of an item from which its n-grams are made."""

    context: str
    choices: Sequence[str]
    """A text has one empty choice."""

    label: int


def _read_parts(values: Mapping[str, Any], kind: str) -> _Parts:
    """Read the fields that items of this kind have; all other fields may have any value."""
    if kind == "text":
        return _Parts(values["text"], [""], 0)
    return _Parts(values["context"], values["choices"], values["label"])


class _Builder:
    """Collects items, and hashes them in chunks."""

    def __init__(self) -> None:
        self._code_of = WordHashes()
        self._groups: list[int] = []
        self._names: list[str] = []
        self._texts: list[bytes] = []
        self._fragments: list[tuple[list[int], int, bool]] = []
        self._n_short = 0
        self._found: dict[int, list[tuple[Hashes, NDArray[np.int32]]]] = {}

    def add(self, parts: _Parts, group: int, name: str) -> None:
        """Add one item."""
        question, prompt = split_words(PROMPT.sub(" ", parts.context)), split_words(parts.context)
        choices = [split_words(choice) for choice in parts.choices]
        right, item = parts.label, len(self._names)
        self._groups.append(group)
        self._names.append(name)
        lines = [" ".join(words) for words in (question, *choices)]
        self._texts.append("\n".join(lines).encode("utf-8", "surrogatepass"))
        self._n_short += len(prompt) + len(choices[right]) < MIN_WORDS
        self._add_fragments(question, choices, right, item)
        if prompt != question:
            self._add_fragments(prompt, choices, right, item)
        if item % CHUNK_ITEMS == CHUNK_ITEMS - 1:
            self._hash_fragments()

    def _add_fragments(
        self, question: list[str], choices: list[list[str]], right: int, item: int
    ) -> None:
        """Add the question, and for each choice the end of the question followed by this choice.

        For a short item, add the whole question followed by the right choice.
        """
        codes = self._code_of.hash(question)
        self._fragments.append((codes, item, False))
        for number, words in enumerate(choices):
            n_words = len(question) + len(words)
            if n_words >= N_WORDS:
                ends = codes[-(N_WORDS - 1) :] + self._code_of.hash(words)
                self._fragments.append((ends, item, False))
            elif number == right and n_words >= MIN_WORDS:
                self._fragments.append((codes + self._code_of.hash(words), item, True))

    def finish(self, groups: tuple[tuple[str, str], ...]) -> OverlapIndex:
        """Return the index of all added items."""
        self._hash_fragments()
        ngrams = {}
        for size, found in sorted(self._found.items()):
            hashes, items = zip(*found, strict=True)
            ngrams[size] = Ngrams.build(np.concatenate(hashes), np.concatenate(items))
        return OverlapIndex(
            groups,
            np.array(self._groups, dtype=np.int16),
            tuple(self._names),
            ngrams,
            b"".join(self._texts),
            np.cumsum([len(text) for text in self._texts], dtype=np.int64),
            self._n_short,
        )

    def _hash_fragments(self) -> None:
        """Hash the n-grams of the fragments of a chunk, all in one array."""
        fragments, self._fragments = self._fragments, []
        if not fragments:
            return
        size_F = np.array([len(codes) for codes, _, _ in fragments])
        item_F = np.array([item for _, item, _ in fragments], dtype=np.int32)
        whole_F = np.array([whole for _, _, whole in fragments])
        code_W = np.array([code for codes, _, _ in fragments for code in codes], dtype=np.uint64)
        fragment_W = np.repeat(np.arange(len(fragments)), size_F)
        sizes = sorted({*size_F[whole_F].tolist(), N_WORDS})
        for size, hash_G in zip(sizes, hash_ngrams(code_W, sizes), strict=True):
            first_G = fragment_W[: len(hash_G)]
            inside_G = first_G == fragment_W[size - 1 :] if len(hash_G) else np.zeros(0, dtype=bool)
            wanted_F = ~whole_F if size == N_WORDS else whole_F & (size_F == size)
            chosen = np.flatnonzero(inside_G & wanted_F[first_G])
            if len(chosen):
                pair = (hash_G[chosen], item_F[first_G[chosen]])
                self._found.setdefault(size, []).append(pair)


def list_groups(cfg: ProxyConfig) -> list[tuple[str, Target]]:
    """List all configured files of items, each with its split."""
    splits: tuple[Literal["search", "report"], ...] = ("search", "report")
    return [(split, target) for split in splits for target in list_targets(cfg, split)]


def name_recipe(groups: Sequence[tuple[str, Target]]) -> str:
    """Return an identifier of the check of documents; it changes with the rules and item files."""
    described = [
        [split, target.name, target.kind, target.where, hash_content(resolve(target.path))]
        for split, target in groups
    ]
    text = json.dumps([RULES_VERSION, described])
    return f"{N_WORDS}-words-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
