"""Run a text model over a stream of texts. The texts of a batch have similar lengths.

    texts -> token ids (a thread) -> windows sorted by length -> batches (the device) -> values

Which texts share a batch depends on the texts and their order only, never on time. At most two
batches are on the device, and the thread is at most a few windows ahead, so memory is bounded.

Axes: N texts, D values of each text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Wait = Callable[[], NDArray[np.float32]]
"""Waits for a batch that was launched, and returns its values_ND."""

CHUNK_TEXTS = 256
"""Texts that are tokenised in one call: enough to keep all threads of the tokenizer busy."""

FIRST_BATCHES, MAX_BATCHES = 2, 32
"""Batches in the first window, and in the largest one. A window has twice as many batches as the
window before it, so that the device starts early and later windows have little padding."""

AHEAD_WINDOWS = 3
"""Number of windows of the largest size that may be tokenised ahead of the device. Each text is
counted with the largest number of tokens that it can have."""

AHEAD_CHARS = 32_000_000
"""Characters of texts that may wait for the tokenizer. The list of texts that is read last may
bring their number above this."""

IN_FLIGHT = 2
"""Batches on the device at a time: one computes while the next one is prepared."""


class TextModel(Protocol):
    """A model that is loaded: encodes texts, and computes the values of a batch."""

    @property
    def width(self) -> int:
        """Number of values D of a text."""

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of a text."""

    def encode(self, texts: Sequence[str]) -> Sequence[Any]:
        """Encode texts in a second thread; `len` of a result is its number of tokens."""

    def launch(self, encoded: Sequence[Any], length: int) -> Wait:
        """Start a batch, each text padded to `length` tokens, and return how to wait for it."""


@dataclass(frozen=True)
class Batching:
    """How texts are divided into batches."""

    batch_tokens: int
    """Maximum tokens of a batch, padding included."""

    multiple: int = 1
    """Lengths are padded to a multiple of this number; GPUs are slow at other lengths."""

    exact: bool = False
    """Whether only texts of equal length share a batch, so that nothing is padded. A text's values
    then do not depend on the other texts, apart from the rounding of matrix products."""


@dataclass
class _Window:
    """Texts that are sorted by length together, and their values."""

    encoded: list[Any]
    values_ND: NDArray[np.float32]
    n_missing: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the texts."""
        self.n_missing = len(self.encoded)


def split_batches(
    lengths_N: NDArray[np.int64], batch_tokens: int, exact: bool = False
) -> list[NDArray[np.int64]]:
    """Split texts into batches within a token budget; texts of similar length share a batch.

    Args:
        lengths_N: tokens of each text.
        batch_tokens: maximum tokens of a batch with all its texts padded to the longest one. A
            text with more tokens is alone in its batch.
        exact: put only texts of equal length into a batch.

    Returns:
        For each batch, the indices of its texts; the batch of the longest texts comes first. Every
        text is in exactly one batch. Texts of equal length keep their order.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    sorted_N = lengths_N[order_N]
    batches, start = [], 0
    while start < len(order_N):
        end = start + max(1, batch_tokens // max(1, int(sorted_N[start])))
        if exact:
            equal = int(np.searchsorted(-sorted_N, -sorted_N[start], side="right"))
            end = min(end, equal)
        batches.append(order_N[start:end])
        start = end
    return batches


def run_model(model: TextModel, texts: Sequence[str], batching: Batching) -> NDArray[np.float32]:
    """Compute the values of N texts.

    Returns:
        values_ND.
    """
    return next(stream_model(model, [texts], batching))


def stream_model(
    model: TextModel, batches: Iterable[Sequence[str]], batching: Batching
) -> Iterator[NDArray[np.float32]]:
    """Compute the values of each list of texts, in the order of the lists; read lists ahead.

    Args:
        model: computes the values.
        batches: lists of texts. At least one window is read before the first result.
        batching: how texts are divided into batches for the device. Such a batch may have texts of
            several lists.

    Yields:
        values_ND of each list, float32.
    """
    sizes: deque[int] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as pool:
        reader = _Reader(model, iter(batches), batching, pool, sizes)
        try:
            yield from _regroup(_compute(model, reader, batching), sizes, model.width)
        finally:
            reader.cancel()


class _Reader:
    """Reads texts, has them tokenised, and returns them in windows."""

    def __init__(
        self,
        model: TextModel,
        batches: Iterator[Sequence[str]],
        batching: Batching,
        pool: ThreadPoolExecutor,
        sizes: deque[int],
    ) -> None:
        self._model, self._batches, self._pool, self._sizes = model, batches, pool, sizes
        self._batch_tokens = max(batching.batch_tokens, model.max_tokens)
        # Encoded chunks in order, each with its number of characters and maximum number of tokens.
        self._chunks: deque[tuple[Future[Sequence[Any]], int, int]] = deque()
        self._is_exhausted = False

    def read_ahead(self) -> None:
        """Give texts to the tokenizer until it is far enough ahead."""
        limit = AHEAD_WINDOWS * MAX_BATCHES * self._batch_tokens
        while not self._is_exhausted:
            n_chars = sum(chars for future, chars, _ in self._chunks if not future.done())
            n_tokens = sum(tokens for _, _, tokens in self._chunks)
            if self._chunks and (n_chars >= AHEAD_CHARS or n_tokens >= limit):
                return
            self._read_batch()

    def iterate_windows(self) -> Iterator[_Window]:
        """Yield the encoded texts of all lists in windows of growing size."""
        n_batches = FIRST_BATCHES
        while True:
            encoded: list[Any] = []
            n_tokens = 0
            while n_tokens < n_batches * self._batch_tokens:
                if not self._chunks:
                    self.read_ahead()
                    if not self._chunks:
                        break
                chunk = self._chunks.popleft()[0].result()
                encoded.extend(chunk)
                # An empty text counts as one token, so that a window has a bounded number of texts.
                n_tokens += sum(max(1, len(each)) for each in chunk)
            if not encoded:
                return
            yield _Window(encoded, np.empty((len(encoded), self._model.width), np.float32))
            n_batches = min(2 * n_batches, MAX_BATCHES)

    def cancel(self) -> None:
        """Forget the texts that are not tokenised yet."""
        for future, _, _ in self._chunks:
            future.cancel()

    def _read_batch(self) -> None:
        texts = next(self._batches, None)
        if texts is None:
            self._is_exhausted = True
            return
        self._sizes.append(len(texts))
        for start in range(0, len(texts), CHUNK_TEXTS):
            chunk = texts[start : start + CHUNK_TEXTS]
            lengths = [len(text) for text in chunk]
            most_tokens = sum(min(length + 2, self._model.max_tokens) for length in lengths)
            future = self._pool.submit(self._model.encode, chunk)
            self._chunks.append((future, sum(lengths), most_tokens))


def _compute(
    model: TextModel, reader: _Reader, batching: Batching
) -> Iterator[NDArray[np.float32]]:
    """Compute the values of all windows, in their order."""
    in_flight: deque[tuple[_Window, NDArray[np.int64], Wait]] = deque()

    def finish() -> Iterator[NDArray[np.float32]]:
        window, rows, wait = in_flight.popleft()
        window.values_ND[rows] = wait()
        window.n_missing -= len(rows)
        if window.n_missing == 0:
            yield window.values_ND

    for window in reader.iterate_windows():
        lengths_N = np.array([len(each) for each in window.encoded], dtype=np.int64)
        lengths_N = np.maximum(lengths_N, 1)  # a text without tokens is one token of padding
        padded_N = -(-lengths_N // batching.multiple) * batching.multiple
        np.minimum(padded_N, np.maximum(lengths_N, model.max_tokens), out=padded_N)
        for rows in split_batches(padded_N, batching.batch_tokens, batching.exact):
            batch = [window.encoded[row] for row in rows]
            in_flight.append((window, rows, model.launch(batch, int(padded_N[rows[0]]))))
            reader.read_ahead()  # while the device computes
            if len(in_flight) >= IN_FLIGHT:
                yield from finish()
    while in_flight:
        yield from finish()


def _regroup(
    parts: Iterator[NDArray[np.float32]], sizes: deque[int], width: int
) -> Iterator[NDArray[np.float32]]:
    """Regroup the values of windows into one array for each list of texts in the input."""
    kept: list[NDArray[np.float32]] = [np.empty((0, width), np.float32)]
    for part in parts:
        kept.append(part)
        if sizes and sum(map(len, kept)) >= sizes[0]:
            joined_ND = np.concatenate(kept)
            start = 0
            while sizes and start + sizes[0] <= len(joined_ND):
                size = sizes.popleft()
                yield joined_ND[start : start + size]
                start += size
            kept = [joined_ND[start:]]
    while sizes:  # only empty lists remain
        yield np.empty((sizes.popleft(), width), np.float32)
