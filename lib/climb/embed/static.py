"""A table with one vector per token: a document is the mean of its tokens' vectors.

Legend: N texts, V tokens of the vocabulary, D width.
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

CHARS_PER_TOKEN = 8
"""Of a text, this many characters per wanted token are tokenised; English has about four."""


@dataclass(frozen=True, kw_only=True)
class StaticEmbedder:
    """Mean of token vectors, scaled to length 1; all zero where the table knows no token of a text.

    Order of words is lost and topic stays, which is what clusters are made of: on known sources
    it agrees better than a small transformer, at sixty times its speed (DECISIONS.md).
    A vector depends on its own text alone, to the last bit.

    Source:
        The table that is the default is wordllama's l2_supercat (github.com/dleemiller/WordLlama).
    """

    needs: ClassVar[tuple[str, ...]] = ("safetensors", "tokenizers")
    """Packages that it imports when it is used."""

    table: ModelPath
    """A safetensors file with one matrix, (V, D)."""

    tokenizer: ModelPath
    """The tokenizer.json whose ids are the table's rows."""

    dim: int
    max_tokens: int
    """Tokens of a document that are read, from its beginning."""

    length_power: float
    """A token vector of length v enters the mean with length v ^ this. A table's lengths are
    weights, learned for finding a passage by its rare words: 1 keeps them, 0 weighs all alike."""

    def __post_init__(self) -> None:
        """Refuse a limit that reads nothing."""
        if self.max_tokens < 1:
            raise ConfigError(f"StaticEmbedder: max_tokens is {self.max_tokens}; at least 1")

    def load(self, device: str) -> Embed:
        """Read table and tokenizer. It computes on the CPU whatever the device: it only adds.

        Raises:
            PreflightError: a file is missing, is not what it should be, or the two do not fit.
        """
        table_VD = _read_table(self.table, self.dim)
        tokenizer = _read_tokenizer(self.tokenizer, n_rows=len(table_VD))
        tokenizer.enable_truncation(self.max_tokens)
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
        if unknown is not None:
            table_VD[unknown] = 0.0  # "something unknown" says nothing about the topic
        lengths_V1 = np.linalg.norm(table_VD, axis=1, keepdims=True)
        table_VD *= np.maximum(lengths_V1, 1e-12) ** (self.length_power - 1.0)
        n_chars = self.max_tokens * CHARS_PER_TOKEN

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            encodings = tokenizer.encode_batch_fast(
                [text[:n_chars] for text in texts], add_special_tokens=False
            )
            return mean_vectors([encoding.ids for encoding in encodings], table_VD)

        return embed


def mean_vectors(
    ids_N: Sequence[Sequence[int]], table_VD: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean of the rows that each document names, scaled to length 1; zero where it names none.

    Args:
        ids_N: rows of the table, with repetitions, one sequence per document.
        table_VD: token vectors, shape (V, D), float64: a document's sum is exact enough that
            its float32 result does not depend on what else is in the batch.

    Returns:
        vectors_ND, float32.
    """
    ends = np.concatenate([[0], np.cumsum([len(ids) for ids in ids_N], dtype=np.int64)])
    ids = np.fromiter(chain.from_iterable(ids_N), dtype=np.int64, count=int(ends[-1]))
    shape = (len(ids_N), len(table_VD))
    counts_NV = sparse.csr_array((np.ones(len(ids)), ids, ends), shape=shape)
    counts_NV.sum_duplicates()  # a word that stands there ten times is one row, times ten
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

    file = _file(path)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise PreflightError(f"token table {path!r} is not a safetensors file: {error}") from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if len(tensors) != 1 or len(next(iter(shapes.values()))) != 2:
        raise PreflightError(f"token table {path!r} holds {shapes}; it must hold one matrix (V, D)")
    table_VD: NDArray[np.float64] = next(iter(tensors.values())).astype(np.float64)
    if table_VD.shape[1] != dim:
        raise PreflightError(
            f"token table {path!r} has vectors of width {table_VD.shape[1]}; "
            f"embed.embedder.dim is {dim}"
        )
    return table_VD


def _read_tokenizer(path: str, n_rows: int) -> Any:
    """Read a tokenizer.json whose every id is a row of the table."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(_file(path)))
    except Exception as error:  # the library raises bare Exceptions
        text = one_line(error)
        raise PreflightError(f"tokenizer {path!r} cannot be read: {text}") from error
    tokenizer.no_padding()
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= n_rows:
        raise PreflightError(
            f"tokenizer {path!r} has ids up to {largest}, the token table has {n_rows} rows: "
            "they do not belong together"
        )
    return tokenizer


def _file(path: str) -> Path:
    found = resolve(path)
    if not found.is_file():
        raise PreflightError(f"model path {path!r} is a folder; it must be a file")
    return found
