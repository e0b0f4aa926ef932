"""Escape bytes that are not UTF-8 for a reader that accepts only UTF-8, and restore them.

The CSV reader of pyarrow stops at a row that has both a wrong number of cells and an invalid byte.
Escaped bytes pass through the reader. `clean_cells` then counts and repairs the restored bytes, as
it does for every format.

    b"caf\\xe9"  ->  "caf\\uefe9" in UTF-8  ->  b"caf\\xe9"

An invalid byte b becomes the character U+EF00 + b, which is for private use. If the file contains
such a character already, the bytes of this character are escaped too. So restored bytes are equal
to the original ones.
"""

from __future__ import annotations

import io
import re
from typing import Any, BinaryIO

from climb.ingest.compression import CHUNK_BYTES

UNSAFE = re.compile("[\udc80-\udcff\uef80-\uefff]")
"""An invalid byte as Python's `surrogateescape` decodes it, or a character U+EF80 to U+EFFF."""

ESCAPED = re.compile(rb"\xee[\xbe\xbf][\x80-\xbf]")
"""UTF-8 of U+EF80 to U+EFFF."""


class EscapedFile(io.RawIOBase):
    """The content of a stream as valid UTF-8."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._content = source, memoryview(b"")
        self.has_escaped = False
        """Whether a byte has been escaped so far."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end."""
        if not len(self._content) and (chunk := self._source.read(CHUNK_BYTES)):
            # If the end of a chunk divides a character, the character's bytes count as invalid.
            # This costs only time, because they are escaped and restored like other invalid bytes.
            self._content = memoryview(self._escape(chunk + self._source.readline(CHUNK_BYTES)))
        n = min(len(buffer), len(self._content))
        buffer[:n], self._content = self._content[:n], self._content[n:]
        return n

    def _escape(self, chunk: bytes) -> bytes:
        if _is_utf8(chunk) and not ESCAPED.search(chunk):
            return chunk
        self.has_escaped = True
        text = chunk.decode("utf-8", "surrogateescape")
        return UNSAFE.sub(_escape_character, text).encode()


def restore_bytes(content: bytes) -> bytes:
    """Return the original bytes of a part of an EscapedFile; the part has only whole characters."""
    return ESCAPED.sub(lambda match: bytes([(match[0][1] - 0xBE << 6) + match[0][2]]), content)


def _is_utf8(chunk: bytes) -> bool:
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escape_character(match: re.Match[str]) -> str:
    raw = match[0].encode("utf-8", "surrogateescape")
    return "".join(chr(0xEF00 + byte) for byte in raw)
