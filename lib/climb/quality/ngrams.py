"""Words of texts, and hashes of their n-grams.

Axes: W words, G n-grams.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+")
PRIME = np.uint64(1_099_511_628_211)


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words: runs of letters, digits and underscores."""
    return WORD.findall(text.lower())


def hash_word(word: str) -> int:
    """Hash a word."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def hash_ngrams(codes_W: NDArray[np.uint64], sizes: Sequence[int]) -> Iterator[NDArray[np.uint64]]:
    """Yield one array for each size n: the hashes of all n-grams in text order, shape (W - n + 1,).

    Args:
        codes_W: hashes of the words.
        sizes: numbers of words in an n-gram, ascending. The hashes of each size are computed from
            the hashes of the previous size.
    """
    hash_G, n = np.zeros(len(codes_W) + 1, dtype=np.uint64), 0
    for size in sizes:
        while n < size and len(hash_G):
            hash_G = hash_G[:-1] * PRIME + codes_W[n:]
            n += 1
        yield hash_G


class WordHashes(dict[str, int]):
    """Word -> hash. The hashes are kept for the next texts, because most words occur again."""

    MAX_WORDS = 1_000_000

    def hash(self, words: Sequence[str]) -> list[int]:
        """Hash words, each as `hash_word` does."""
        if len(self) > self.MAX_WORDS:
            self.clear()
        return list(map(self.__getitem__, words))

    def __missing__(self, word: str) -> int:
        value = self[word] = hash_word(word)
        return value
