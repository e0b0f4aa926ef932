"""Write and read the pair of files that Megatron calls an indexed dataset: `.bin` and `.idx`.

`.bin` has the token ids. climb writes each document as one sequence. `.idx` has these parts, all
numbers little-endian:

1.  the seven letters `MMIDIDX`, and two zero bytes
2.  the version, which is 1 (8 bytes)
3.  the code of the dtype (1 byte)
4.  the number N of sequences (8 bytes)
5.  the number of entries in part 8, which is N + 1 (8 bytes)
6.  the length of each sequence in tokens (int32)
7.  the offset of each sequence in `.bin`, in bytes (int64)
8.  the index of each document's first sequence, and N as the last entry (int64)

Source: megatron/core/datasets/indexed_dataset.py of megatron-core 0.16.1.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.export.contents import Tokenization
from climb.export.writers.tokens import BLOCK, TokenWriter

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<QBQQ")
CODES: dict[int, np.dtype[Any]] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
"""Code of the dtype in `.idx` -> dtype of the token ids. The format has no code for uint32."""


class IndexedWriter(TokenWriter):
    """Writes `PATH.bin`, and `PATH.idx` at the end."""

    def __init__(self, path: Path, tokenization: Tokenization) -> None:
        super().__init__(
            path.with_name(path.name + ".bin"), {"uint16": "u2", "uint32": "i4"}[tokenization.dtype]
        )
        self._index = path.with_name(path.name + ".idx")

    def close(self) -> None:
        """Write the index from the lengths of the documents."""
        code = next(code for code, dtype in CODES.items() if dtype == self.dtype)
        with self._index.open("wb") as file:
            file.write(MAGIC)
            file.write(HEADER.pack(1, code, self.n_documents, self.n_documents + 1))
            for lengths_N in self.read_lengths():
                file.write(lengths_N.astype("<i4").tobytes())
            file.write(np.zeros(min(self.n_documents, 1), dtype="<i8").tobytes())
            # A document starts where the one before it ends. The end of the last document of the
            # file is not written, because no document starts there.
            left = self.n_documents - 1
            for ends_N in self.read_ends():
                file.write((ends_N[:left] * self.dtype.itemsize).astype("<i8").tobytes())
                left -= len(ends_N)
            for start in range(0, self.n_documents + 1, BLOCK):
                stop = min(start + BLOCK, self.n_documents + 1)
                file.write(np.arange(start, stop, dtype="<i8").tobytes())
        super().close()


def read_lengths(prefix: Path) -> NDArray[np.int32]:
    """Read the number of tokens of each document, int32, from an index.

    Raises:
        OSError: a file is missing.
        ValueError: the index does not have this format, or does not match the token file.
    """
    index, data = prefix.with_name(prefix.name + ".idx"), prefix.with_name(prefix.name + ".bin")
    content, start = index.read_bytes(), len(MAGIC) + HEADER.size
    if len(content) < start or not content.startswith(MAGIC):
        raise ValueError(f"{index} is not an index of Megatron; export again")
    version, code, n_sequences, n_documents = HEADER.unpack_from(content, len(MAGIC))
    if (
        version != 1
        or code not in CODES
        or len(content) != start + 12 * n_sequences + 8 * n_documents
    ):
        raise ValueError(f"{index} is not a complete index of Megatron; export again")
    lengths_N = np.frombuffer(content, "<i4", n_sequences, start)
    offsets_N = np.frombuffer(content, "<i8", n_sequences, start + 4 * n_sequences)
    ends_N = np.cumsum(lengths_N, dtype=np.int64) * CODES[code].itemsize
    starts_N = np.concatenate([[0], ends_N])
    if data.stat().st_size != starts_N[-1] or not np.array_equal(offsets_N, starts_N[:-1]):
        raise ValueError(f"{index} and {data} do not match in size or offsets; export again")
    return lengths_N
