"""Text -> vectors. A recipe (frozen dataclass) whose `load` gives a function of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.config.sections import EmbedConfig

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts -> vectors_ND: float32, finite, of length 1, or all zero for a text of unknown tokens."""


@runtime_checkable
class Embedder(Protocol):
    """An embedding model that is not loaded yet."""

    @property
    def dim(self) -> int:
        """Width D of its vectors."""

    def load(self, device: str) -> Embed:
        """Load the model onto `cpu`, `cuda:0`, ...; heavy imports belong in here."""


def embedder_of(cfg: EmbedConfig) -> Embedder:
    """The embedder that section `embed` names.

    Raises:
        ConfigError: it cannot be built.
    """
    embedder: Embedder = build(cfg.embedder, Embedder, batch_tokens=cfg.batch_tokens)
    return embedder
