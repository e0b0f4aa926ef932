"""Open files as streams of uncompressed bytes.

The compression of a file is detected from its first bytes; its name does not matter. So a file that
is called .gz but is not compressed (an HTTP server unpacked it) is read too.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from climb.errors import one_line
from climb.ingest.walk import open_input_file

CHUNK_BYTES = 1 << 20

FRAME_BYTES = 4 << 10
"""Compressed bytes of Zstandard that are unpacked at a time. They contain at most 1,024 blocks, and
a block unpacks to at most 128 KiB, so memory is bounded."""

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
}
"""First bytes -> compression."""


class DamagedFileError(Exception):
    """A file, or the rest of it, cannot be read.

    It is not a ClimbError, because the caller catches it and records a rejection or a problem.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@contextlib.contextmanager
def explain_damage() -> Iterator[None]:
    """Convert the errors of libraries that cannot read a file to a DamagedFileError."""
    import pyarrow as pa

    try:
        yield
    except EOFError as error:
        raise DamagedFileError("truncated_file", str(error)) from error
    except (OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise DamagedFileError("unreadable_file", one_line(error)) from error


def detect_compression(head: bytes) -> str | None:
    """Return the compression of a file with these first bytes; None: it is not compressed."""
    # A skippable frame of Zstandard (metadata) may come first. It starts with a number from
    # 0x184D2A50 to 0x184D2A5F, little-endian.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


@contextlib.contextmanager
def open_unpacked(root: str, path: str, window_log: int) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file as a stream of uncompressed bytes.

    Args:
        root: URI of the file system; empty for local files.
        path: path in it.
        window_log: base-2 logarithm of the largest accepted Zstandard window in bytes.

    Yields:
        The stream, and whether the file is compressed. A plain file can be read from any byte.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open_input_file(root, path))
        head = raw.read(8)
        raw.seek(0)
        buffered: Any = io.BufferedReader(raw, CHUNK_BYTES)
        compression = detect_compression(head)
        # Python's gzip reader verifies checksums. The readers of gzip, bz2 and xz have a buffer of
        # their own. Another buffer around them would lose the end of a truncated file.
        openers: dict[str, Callable[[Any], Any]] = {
            "gzip": lambda file: gzip.GzipFile(fileobj=file),
            "bz2": bz2.BZ2File,
            "xz": lzma.LZMAFile,
            "zstd": lambda file: io.BufferedReader(_ZstandardFile(file, window_log), 128 << 10),
        }
        if compression is None:
            yield buffered, False
        else:
            yield stack.enter_context(openers[compression](buffered)), True


class _ZstandardFile(io.RawIOBase):
    """The content of all frames of a Zstandard file.

    It replaces the reader of package zstandard, which raises no error if the last frame is
    truncated, or if other bytes follow the last frame.
    """

    def __init__(self, source: BinaryIO, window_log: int) -> None:
        import zstandard

        self._source, self._window_log = source, window_log
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << window_log)
        self._frame: Any = None
        self._rest, self._content = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not len(self._content) and self._read_more():
            pass
        n = min(len(buffer), len(self._content))
        buffer[:n], self._content = self._content[:n], self._content[n:]
        return n

    def _read_more(self) -> bool:
        """Decompress one chunk; return whether there may be more."""
        import zstandard

        chunk = self._rest[:FRAME_BYTES] or self._source.read(FRAME_BYTES)
        self._rest = self._rest[FRAME_BYTES:]
        if not chunk:
            if self._frame is not None:
                raise EOFError("Truncated: the last Zstandard frame does not end")
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._content = memoryview(self._frame.decompress(chunk))
        except zstandard.ZstdError as error:
            raise OSError(self._explain(str(error))) from error
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data + self._rest, None
        return True

    def _explain(self, error: str) -> str:
        if "too much memory" not in error:
            return error
        return (
            f"its Zstandard window is larger than 2^{self._window_log} bytes; set "
            "ingest.zstd_window_log to a larger value (at most 31, which needs 2 GiB in a task), "
            "or compress the file again without --long"
        )
