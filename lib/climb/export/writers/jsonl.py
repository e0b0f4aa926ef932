"""Write documents as JSON Lines: one object per line, UTF-8, plain or compressed.

    {"text": "...", "domain": "law", "doc_id": "0f3a", "n_tokens": 812}

Trainers that read JSON Lines use `text` and ignore the other fields. A check uses `n_tokens` to
count the tokens that a loader returned.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from climb.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

Compression = Literal["none", "gzip", "zstd"]

FIELDS = ("text", "domain", "doc_id", "n_tokens")

ENDINGS: dict[Compression, str] = {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}

LEVELS: dict[Compression, tuple[int, int]] = {"gzip": (-1, 9), "zstd": (-(1 << 17), 22)}
"""Lowest and highest level of each compression. For gzip, level -1 means the default of zlib."""

CHUNK = 1 << 20
"""Bytes that a compressor gets at once, so that its output does not depend on batches."""

OFFSET = np.dtype("<u8")


class JsonLinesWriter:
    """Writes one file of documents, and on request the offsets of its lines."""

    def __init__(
        self, path: Path, compression: Compression, *, level: int = 3, offsets: bool = False
    ) -> None:
        """Open the file.

        Args:
            path: path of the file without its ending.
            compression: how the file is compressed; it decides the ending.
            level: level of the compression.
            offsets: also write `NAME.jsonl.idx`: the offsets at which each line starts and the
                last line ends, as 64-bit unsigned integers. Only useful without compression.
        """
        self._file = Path(f"{path}{ENDINGS[compression]}").open("wb")  # noqa: SIM115  # see close
        self._compressor = _open_compressor(compression, level)
        self._pending = bytearray()
        self._index = Path(f"{path}.jsonl.idx").open("wb") if offsets else None  # noqa: SIM115
        self._end = 0
        if self._index is not None:
            self._index.write(np.zeros(1, OFFSET).tobytes())

    def write(self, rows: pa.RecordBatch, ids_N: Sequence[Any] | None) -> None:
        """Append documents."""
        encode = json.JSONEncoder(ensure_ascii=False).encode
        ends_N = np.zeros(rows.num_rows, OFFSET)
        columns = [rows.column(name).to_pylist() for name in FIELDS]
        for i, values in enumerate(zip(*columns, strict=True)):
            line = encode(dict(zip(FIELDS, values, strict=True))).encode()
            self._pending += line
            self._pending += b"\n"
            self._end += len(line) + 1
            ends_N[i] = self._end
            if len(self._pending) >= CHUNK:
                self._write_chunks()
        if self._index is not None:
            self._index.write(ends_N.tobytes())

    def close(self) -> None:
        """Write the bytes that are still pending, and close the files."""
        self._file.write(self._compressor.compress(bytes(self._pending)))
        self._file.write(self._compressor.flush())
        self._file.close()
        if self._index is not None:
            self._index.close()

    def _write_chunks(self) -> None:
        whole = len(self._pending) // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            chunk = bytes(self._pending[start : start + CHUNK])
            self._file.write(self._compressor.compress(chunk))
        del self._pending[:whole]


def check_level(compression: Compression, level: int) -> None:
    """Check that a level is in the range that a compression supports.

    Raises:
        ConfigError: the level is outside the range.
    """
    least, most = LEVELS.get(compression, (level, level))
    if not least <= level <= most:
        raise ConfigError(
            f"JsonLines: level is {level}; for compression {compression} it must be {least} to "
            f"{most}"
        )


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _open_compressor(compression: Compression, level: int) -> _Compressor:
    if compression == "gzip":
        return zlib.compressobj(level, wbits=31)  # a gzip header without name and time
    if compression == "zstd":
        import zstandard

        opened: _Compressor = zstandard.ZstdCompressor(level, write_checksum=True).compressobj()
        return opened
    return _Plain()
