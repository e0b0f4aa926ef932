"""Score the share of a document that is not repeated in many other documents.

Passages that recur in many documents are boilerplate. Licences, cookie notices and navigation are
fluent text, so rules for single documents accept them.

Axes: N texts, G n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError
from climb.quality import Score
from climb.quality.ngrams import hash_ngrams, hash_word, split_words


@dataclass(frozen=True, kw_only=True)
class RepetitionScorer:
    """Score `unrepeated`: the share of a document's word n-grams that few documents contain.

    Only a sample of all n-grams is examined, about one in `sample`. The score is 1 if none of the
    text's sampled n-grams occurs in `min_documents` or more documents. It is also 1 if the text has
    fewer than n words. The n-grams of the corpus are counted once, when the corpus is first scored.
    Documents that are added later are compared with the same list of repeated n-grams.

    Source:
        Rae et al., arXiv 2112.11446, section A.1.3, and DCLM find near-duplicates with 13-grams.
    """

    uses_gpu: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ("unrepeated",)

    n: int = 13
    """Number of words in an n-gram."""

    min_documents: int = 5
    """An n-gram in at least this many documents counts as repeated."""

    sample: int = 8
    """About one n-gram in this many is counted. The hash of an n-gram decides whether it is
    counted, so the decision is the same in all documents."""

    def __post_init__(self) -> None:
        for name in ("n", "min_documents", "sample"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"RepetitionScorer: {name} is {getattr(self, name)}; it must be at least 1"
                )

    def hash_ngrams(self, text: str) -> NDArray[np.uint64]:
        """Return the hashes of a text's sampled n-grams, shape (G,), one hash per occurrence.

        If no n-gram of the text is sampled, the smallest hash of its n-grams is returned. So copies
        of a short text have a hash in common.
        """
        words = split_words(text)
        if len(words) < self.n:
            return np.empty(0, dtype=np.uint64)
        codes_W = np.array([hash_word(word) for word in words], dtype=np.uint64)
        (hash_G,) = hash_ngrams(codes_W, [self.n])
        hash_G = _mix(hash_G)
        sampled: NDArray[np.uint64] = hash_G[hash_G % np.uint64(self.sample) == 0]
        return sampled if len(sampled) else hash_G.min(keepdims=True)

    def load_repeated(self, repeated: NDArray[np.uint64]) -> Score:
        """Return the function that scores texts.

        Args:
            repeated: hashes of the repeated n-grams, sorted.
        """

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            shares = [self._measure(self.hash_ngrams(text), repeated) for text in texts]
            return {"unrepeated": np.array(shares, dtype=np.float32)}

        return score

    def load(self, device: str) -> Score:
        """Return the scoring function of a corpus without repeated n-grams: every score is 1."""
        return self.load_repeated(np.empty(0, dtype=np.uint64))

    @staticmethod
    def _measure(hash_G: NDArray[np.uint64], repeated: NDArray[np.uint64]) -> float:
        if not len(hash_G) or not len(repeated):
            return 1.0
        index_G = np.minimum(np.searchsorted(repeated, hash_G), len(repeated) - 1)
        return float(1.0 - (repeated[index_G] == hash_G).mean())


def _mix(hash_G: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each hash (SplitMix64): hashes modulo `sample` become nearly uniform."""
    hash_G = (hash_G ^ (hash_G >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hash_G = (hash_G ^ (hash_G >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hash_G ^ (hash_G >> np.uint64(31))
