"""Find the evaluation items that documents contain.

Axes: W words of several documents, G n-grams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.proxy.overlap_index import OverlapIndex
from climb.quality.ngrams import WORD, WordHashes, hash_ngrams, split_words

BATCH_WORDS = 500_000
"""Maximum words of documents that are looked up together; a longer document is looked up alone."""


@dataclass(frozen=True)
class Overlap:
    """The longest run of words that a document shares with an item."""

    target: str
    split: str
    """`search` or `report`."""

    item: str
    """Field `id` of the item, or the number of its line."""

    start: int
    """Position of the run's first character in the lower-case text of the document."""

    n_words: int
    words: str
    """The words of the first n-gram of the run."""


def find_overlaps(texts: Sequence[str], index: OverlapIndex) -> Iterator[list[Overlap]]:
    """Yield the overlaps of each text, at most one per item, in the order of their positions."""
    code_of = WordHashes()
    batch: list[list[str]] = []
    n_words = first = 0
    for number, text in enumerate(texts):
        words = split_words(text)
        if batch and n_words + len(words) > BATCH_WORDS:
            yield from _find_in_batch(texts[first:number], batch, index, code_of)
            batch, n_words, first = [], 0, number
        batch.append(words)
        n_words += len(words)
    if batch:
        yield from _find_in_batch(texts[first:], batch, index, code_of)


def _find_in_batch(
    texts: Sequence[str], batch: Sequence[list[str]], index: OverlapIndex, code_of: WordHashes
) -> Iterator[list[Overlap]]:
    """Look up all documents of a batch in one array."""
    size_N = np.array([len(words) for words in batch])
    first_N = np.cumsum(size_N) - size_N
    code_W = np.array([code for words in batch for code in code_of.hash(words)], dtype=np.uint64)
    document_W = np.repeat(np.arange(len(batch)), size_N)
    hits: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for size, hash_G in zip(index.ngrams, hash_ngrams(code_W, list(index.ngrams)), strict=True):
        for position in _find_positions(hash_G, document_W, size, index):
            document = int(document_W[position])
            start = position - int(first_N[document])
            ngram = " ".join(batch[document][start : start + size])
            for item in index.ngrams[size].list_items(hash_G[position]):
                if index.contains(item, ngram):
                    hits.setdefault(document, {}).setdefault(item, []).append((start, size))
    for document, (text, words) in enumerate(zip(texts, batch, strict=True)):
        found = hits.get(document)
        yield [] if found is None else _describe(found, text, words, index)


def _find_positions(
    hash_G: NDArray[np.uint64], document_W: NDArray[np.int64], size: int, index: OverlapIndex
) -> list[int]:
    """Return the positions of the n-grams whose hash is also the hash of an n-gram of an item.

    N-grams with words of two documents are left out.
    """
    found = index.ngrams[size].find(hash_G)
    inside = document_W[found] == document_W[found + size - 1]
    return [int(position) for position in found[inside]]


def _describe(
    found: dict[int, list[tuple[int, int]]], text: str, words: list[str], index: OverlapIndex
) -> list[Overlap]:
    """Describe the longest run of words that a document shares with each item."""
    starts = [match.start() for match in WORD.finditer(text.lower())]
    overlaps = []
    for item, ngrams in found.items():
        first, n_words = _find_longest_run(sorted(ngrams))
        target, split = index.groups[index.group_I[item]]
        size = next(size for start, size in ngrams if start == first)
        shared = " ".join(words[first : first + size])
        overlaps.append(Overlap(target, split, index.names[item], starts[first], n_words, shared))
    return sorted(overlaps, key=lambda o: (o.start, o.target, o.split, o.item))


def _find_longest_run(ngrams: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the index of the first word and the number of words of the longest run.

    Args:
        ngrams: (index of the first word, number of words) of each n-gram, in order.
    """
    best = (0, 0)
    run_start = previous = -2
    for start, size in ngrams:
        run_start = run_start if start - previous <= 1 else start
        previous = start
        if start + size - run_start > best[1]:
            best = (run_start, start + size - run_start)
    return best
