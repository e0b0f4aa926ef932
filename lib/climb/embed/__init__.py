"""Embedders: text -> vectors.

An embedder is a frozen dataclass. Its `load` returns a function that embeds a batch of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.config.sections import EmbedConfig

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts -> vectors_ND: float32, finite, norm 1. A text of unknown tokens has the zero vector."""


@runtime_checkable
class Embedder(Protocol):
    """Configuration of an embedding model that is not loaded yet."""

    @property
    def dim(self) -> int:
        """Width D of the vectors."""

    def load(self, device: str) -> Embed:
        """Load the model onto `cpu`, `cuda:0`, ...; put heavy imports into this method."""


def build_embedder(cfg: EmbedConfig) -> Embedder:
    """Build the embedder of section `embed`.

    Raises:
        ConfigError: the embedder cannot be built.
    """
    embedder: Embedder = build(cfg.embedder, Embedder, batch_tokens=cfg.batch_tokens)
    return embedder
