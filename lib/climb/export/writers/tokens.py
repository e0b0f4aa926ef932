"""Write token ids one after another to a file without a header, and record where documents end.

This is what OLMo-core, nanotron and Megatron read: the ids of all documents in the order of the
rows, little-endian, each document with its end-of-text id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 16
"""Documents whose lengths are read at once."""


class TokenWriter:
    """Writes the ids of documents to one file, and their lengths to a temporary one."""

    def __init__(self, path: Path, dtype: str) -> None:
        """Open the file.

        Args:
            path: path of the file with its ending.
            dtype: type of the stored ids; they are stored little-endian.
        """
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._file = path.open("wb")
        self._lengths = tempfile.TemporaryFile()  # noqa: SIM115  # until the shard is closed
        self.n_documents = self.n_tokens = 0

    def write(self, rows: pa.RecordBatch, ids_N: Sequence[Any] | None) -> None:
        """Append documents; see `climb.export.format.ShardWriter`."""
        if ids_N is None:
            raise TypeError("a format that stores tokens got no token ids")
        if len(ids_N) == 0:
            return
        lengths_N = np.array([len(ids) for ids in ids_N], dtype="<i8")
        self._file.write(np.concatenate(ids_N).astype(self.dtype, copy=False).tobytes())
        self._lengths.write(lengths_N.tobytes())
        self.n_documents += len(lengths_N)
        self.n_tokens += int(lengths_N.sum())

    def close(self) -> None:
        """Close the file, and delete the temporary file of the lengths."""
        self._file.close()
        self._lengths.close()

    def read_lengths(self) -> Iterator[NDArray[np.int64]]:
        """Yield the number of tokens of each document, int64, in blocks."""
        self._lengths.seek(0)
        while block := self._lengths.read(BLOCK * 8):
            yield np.frombuffer(block, dtype="<i8")

    def read_ends(self) -> Iterator[NDArray[np.int64]]:
        """Yield the number of tokens up to the end of each document, int64, in blocks."""
        done = 0
        for lengths_N in self.read_lengths():
            ends_N = done + np.cumsum(lengths_N)
            done = int(ends_N[-1])
            yield ends_N
