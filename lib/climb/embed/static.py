"""Embed a document as the mean of static token vectors.

Axes: N texts, V tokens of the vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from climb.config.plugins import ModelPath
from climb.embed import Embed
from climb.errors import ConfigError, PreflightError, one_line
from climb.files import resolve
from climb.tokenizer import open_tokenizer

CHARS_PER_TOKEN = 8
"""Before a text is tokenised, it is cut to `max_tokens` times this many characters. English has
about four characters per token."""


@dataclass(frozen=True, kw_only=True)
class StaticEmbedder:
    """Mean of token vectors, scaled to norm 1; all zero for a text without known tokens.

    The vector ignores word order and keeps the topic; clustering needs nothing else. On corpora
    with known sources, clusters of these vectors agree better with the sources than clusters of
    the vectors of a small transformer, at sixty times the speed (see docs/decisions/embedding.md).
    A vector depends only on its own text, bit for bit.

    Source:
        The default table is wordllama's l2_supercat (github.com/dleemiller/WordLlama).
    """

    needs: ClassVar[tuple[str, ...]] = ("safetensors", "tokenizers")
    """Packages that `load` imports."""

    uses_gpu: ClassVar[bool] = False
    """Whether the loaded embedder computes on a GPU; True for a class without this attribute."""

    table: ModelPath
    """A safetensors file with one matrix, (V, D)."""

    tokenizer: ModelPath
    """The tokenizer.json; its token ids are the row numbers of the table."""

    dim: int
    max_tokens: int
    """Maximum tokens of a document; the rest of a longer document is ignored."""

    length_power: float
    """A token vector of norm v enters the mean with norm v ^ length_power. The norms of a table
    are weights that were learned for retrieval: 1 keeps them, 0 weighs all tokens equally."""

    def __post_init__(self) -> None:
        """Check the limit.

        Raises:
            ConfigError: max_tokens is below 1.
        """
        if self.max_tokens < 1:
            raise ConfigError(
                f"StaticEmbedder: max_tokens is {self.max_tokens}; it must be at least 1"
            )

    def load(self, device: str) -> Embed:
        """Read table and tokenizer. The CPU is used for every `device`: the work is only additions.

        Raises:
            PreflightError: a file is missing or invalid, or tokenizer and table do not match.
        """
        table_VD = _read_table(self.table, self.dim)
        tokenizer = _read_tokenizer(self.tokenizer, self.max_tokens, n_rows=len(table_VD))
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
        if unknown is not None:
            table_VD[unknown] = 0.0  # the unknown token carries no topic
        lengths_V1 = np.linalg.norm(table_VD, axis=1, keepdims=True)
        table_VD *= np.maximum(lengths_V1, 1e-12) ** (self.length_power - 1.0)
        n_chars = self.max_tokens * CHARS_PER_TOKEN

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            encodings = tokenizer.encode_batch_fast(
                [text[:n_chars] for text in texts], add_special_tokens=False
            )
            return average_token_vectors([encoding.ids for encoding in encodings], table_VD)

        return embed


def average_token_vectors(
    ids_N: Sequence[Sequence[int]], table_VD: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Average the token vectors of each document, and scale the mean to norm 1.

    Args:
        ids_N: one sequence of token ids per document; an id is a row number of the table.
        table_VD: token vectors, shape (V, D). They are float64: their sum is then so exact that
            the float32 vector of a document does not depend on the other documents of the batch.

    Returns:
        vectors_ND, float32; zero for a document without tokens.
    """
    ends = np.concatenate([[0], np.cumsum([len(ids) for ids in ids_N], dtype=np.int64)])
    ids = np.fromiter(chain.from_iterable(ids_N), dtype=np.int64, count=int(ends[-1]))
    shape = (len(ids_N), len(table_VD))
    counts_NV = sparse.csr_array((np.ones(len(ids)), ids, ends), shape=shape)
    counts_NV.sum_duplicates()  # a token that occurs ten times is one entry of value ten
    sums_ND = counts_NV @ table_VD
    norms_N1 = np.linalg.norm(sums_ND, axis=1, keepdims=True)
    units_ND = np.zeros_like(sums_ND)
    np.divide(sums_ND, norms_N1, out=units_ND, where=norms_N1 > 1e-12)
    vectors_ND: NDArray[np.float32] = units_ND.astype(np.float32)
    return vectors_ND


def _read_table(path: str, dim: int) -> NDArray[np.float64]:
    """Read the one matrix of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = _resolve_file(path)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise PreflightError(f"token table {path!r} is not a safetensors file: {error}") from error
    except TypeError as error:  # NumPy has no bfloat16
        raise PreflightError(
            f"token table {path!r} has numbers that NumPy cannot read ({error}); convert it to "
            "float32 or float16"
        ) from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if len(tensors) != 1 or len(next(iter(shapes.values()))) != 2:
        raise PreflightError(
            f"token table {path!r} contains {shapes}; "
            "it must contain one matrix of shape (tokens, dim)"
        )
    table_VD: NDArray[np.float64] = next(iter(tensors.values())).astype(np.float64)
    if table_VD.shape[1] != dim:
        raise PreflightError(
            f"token table {path!r} has vectors of width {table_VD.shape[1]}; "
            f"embed.embedder.dim is {dim}"
        )
    return table_VD


def _read_tokenizer(path: str, max_tokens: int, n_rows: int) -> Any:
    """Read a tokenizer.json, and check that the table has a row for every token id."""
    try:
        tokenizer = open_tokenizer(_resolve_file(path).read_text(encoding="utf-8"), max_tokens)
    except Exception as error:  # the library raises bare Exceptions
        text = one_line(error)
        raise PreflightError(f"tokenizer {path!r} cannot be read: {text}") from error
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= n_rows:
        raise PreflightError(
            f"tokenizer {path!r} has ids up to {largest}, but the token table has only {n_rows} "
            "rows; use the tokenizer that belongs to the table"
        )
    return tokenizer


def _resolve_file(path: str) -> Path:
    file = resolve(path)
    if not file.is_file():
        raise PreflightError(
            f"{path!r} is a folder; set embed.embedder.table to a .safetensors file, and "
            "embed.embedder.tokenizer to a .json file"
        )
    return file
