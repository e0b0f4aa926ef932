"""An embedder without model weights, for tests that need vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.embed import Embed


@dataclass(frozen=True, kw_only=True)
class HashedWords:
    """Each word has a random direction; a text has the normalized sum of its words' directions.

    Texts that share words have similar vectors. A text without words has the zero vector.
    """

    dim: int

    def load(self, device: str) -> Embed:
        """Return the embedding function; no model is loaded."""

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            sums_ND = np.zeros((len(texts), self.dim))
            for row, text in enumerate(texts):
                for word in text.lower().split():
                    sums_ND[row] += self._draw_direction(word)
            norms_N1 = np.linalg.norm(sums_ND, axis=1, keepdims=True)
            units_ND = sums_ND / np.where(norms_N1 > 0, norms_N1, 1.0)
            vectors_ND: NDArray[np.float32] = units_ND.astype(np.float32)
            return vectors_ND

        return embed

    def _draw_direction(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dim)
