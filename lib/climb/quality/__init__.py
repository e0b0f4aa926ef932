"""Scorers: text -> quality scores.

A scorer is a frozen dataclass. Its `load` returns a function that scores a batch of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Score = Callable[[Sequence[str]], dict[str, NDArray[np.float32]]]
"""Maps N texts to a dict: score name -> values_N. Values are finite float32; higher is better."""


@runtime_checkable
class Scorer(Protocol):
    """Computes one or several quality scores with one model or rule set."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, unique among all scorers of a configuration."""

    def load(self, device: str) -> Score:
        """Load the model onto `cpu`, `cuda:0`, ...; put heavy imports into this method."""


@runtime_checkable
class CorpusScorer(Scorer, Protocol):
    """A scorer that finds which n-grams of a document are repeated in many documents."""

    @property
    def min_documents(self) -> int:
        """An n-gram in at least this many documents counts as repeated."""

    def hash_ngrams(self, text: str) -> NDArray[np.uint64]:
        """Return the hashes of the n-grams of a text, one hash per occurrence.

        A scorer may select a sample of the n-grams, and return only the hashes of this sample.
        """

    def load_repeated(self, repeated: NDArray[np.uint64]) -> Score:
        """Return the function that scores texts, given the sorted hashes of repeated n-grams."""
