"""Embedders: text -> vectors.

An embedder is a frozen dataclass. Its `load` returns a function that embeds a batch of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.config.sections import EmbedConfig

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts -> vectors_ND: float32, finite, norm 1; zero vectors for texts without known tokens."""


@runtime_checkable
class StreamingEmbed(Protocol):
    """An `Embed` that can also read batches ahead, which keeps a GPU busy."""

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """N texts -> vectors_ND."""

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[NDArray[np.float32]]:
        """Yield vectors_ND of each batch, in the order of the batches."""


@runtime_checkable
class Embedder(Protocol):
    """Configuration of an embedding model that is not loaded yet."""

    @property
    def dim(self) -> int:
        """Width D of the vectors."""

    def load(self, device: str) -> Embed:
        """Load the model onto `cpu`, `cuda:0`, ...; put heavy imports into this method."""


def embed_stream(
    embed: Embed | StreamingEmbed, batches: Iterable[Sequence[str]]
) -> Iterator[NDArray[np.float32]]:
    """Yield vectors_ND of each batch; batches are read ahead if the embedder supports it."""
    if isinstance(embed, StreamingEmbed):
        return embed.stream(batches)
    return (embed(texts) for texts in batches)


def build_embedder(cfg: EmbedConfig) -> Embedder:
    """Build the embedder of section `embed`.

    Raises:
        ConfigError: the embedder cannot be built.
    """
    embedder: Embedder = build(cfg.embedder, Embedder, **offer_batch_tokens(cfg))
    return embedder


def offer_batch_tokens(cfg: EmbedConfig) -> dict[str, int]:
    """Return the field `batch_tokens` for embedders that have it; no field if the key is null."""
    return {} if cfg.batch_tokens is None else {"batch_tokens": cfg.batch_tokens}
