"""JSON Lines as a stream of bounded lines: plain, gzip or Zstandard, whole or a range of bytes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from climb.errors import one_line
from climb.ingest import InputFile, Unit
from climb.ingest.files import open_filesystem

LOOKED_AT = 100
"""Rows at the start of a file that decide whether it has the columns."""

SKIPPED_BYTES = 1 << 30
"""A line that goes on beyond its cap for longer than this ends the reading of its file."""

PIECE = 1 << 20


class Damaged(Exception):  # noqa: N818  # not an error of the user's until the driver says so
    """A file, or the rest of it, cannot be read."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class LongLine:
    """A line that exceeded the cap; its bytes were hashed and dropped."""

    n_bytes: int
    digest: str


def line_cap(max_chars: int) -> int:
    """Longest line in bytes: twelve for a character escaped as a surrogate pair, and 1 MiB more."""
    return 12 * max_chars + (1 << 20)


def splittable(path: str) -> bool:
    """Whether the file can be read from its middle."""
    return path.lower().endswith(".jsonl")


def read_lines(unit: Unit | InputFile, cap: int) -> Iterator[bytes | LongLine]:
    """Lines that start in the unit's range of bytes; blank lines are left out.

    Memory is bounded by the cap, whatever the file unpacks to.

    Raises:
        Damaged: the compressed stream ends early or is broken, or a line never ends.
    """
    import pyarrow as pa

    start, stop = (unit.start, unit.stop) if isinstance(unit, Unit) else (0, 0)
    try:
        with _opened(unit.root, unit.path) as stream:
            if start:
                stream.seek(start - 1)
                start += _skip_line(stream, stop - start) - 1
            yield from _lines(stream, cap, start, stop)
    except EOFError as error:
        raise Damaged("truncated_file", str(error)) from error
    except (OSError, pa.ArrowException, zlib.error) as error:
        detail = one_line(error)
        reason = "truncated_file" if "Truncated" in detail else "unreadable_file"
        raise Damaged(reason, detail) from error


@contextlib.contextmanager
def _opened(root: str, path: str) -> Iterator[BinaryIO]:
    """The unpacked bytes. Python's gzip checks sums; Arrow's Zstandard notices a cut, which
    the zstandard package does not."""
    import pyarrow as pa

    system = open_filesystem(root)
    if splittable(path):
        with system.open_input_file(path) as raw:
            yield io.BufferedReader(raw, PIECE)
    elif path.lower().endswith(".gz"):
        with system.open_input_stream(path, compression=None) as raw:
            yield gzip.GzipFile(fileobj=io.BufferedReader(raw, PIECE))  # type: ignore[misc]
    else:
        with (
            system.open_input_stream(path, compression=None) as raw,
            pa.CompressedInputStream(raw, "zstd") as unpacked,
        ):
            # Arrow drops what it has of a piece when the stream is cut in it: small pieces.
            yield io.BufferedReader(unpacked, 128 << 10)


def _skip_line(stream: BinaryIO, at_most: int) -> int:
    """Go behind the next line end; give up beyond `at_most` bytes. Returns the bytes read."""
    n_bytes = 0
    while piece := stream.readline(PIECE):
        n_bytes += len(piece)
        if piece.endswith(b"\n") or n_bytes > at_most:
            break
    return n_bytes


def _lines(stream: BinaryIO, cap: int, start: int, stop: int) -> Iterator[bytes | LongLine]:
    position = start
    while (not stop or position < stop) and (line := stream.readline(cap + 1)):
        at_start, cut = position == 0, len(line) > cap and not line.endswith(b"\n")
        position += len(line)
        if at_start:
            _refuse_wide(line)
        if cut:
            long = _rest_of_line(stream, line)
            position += long.n_bytes - len(line)
            yield long
            continue
        # A mark of the file, not of the row that happens to be first: no repair is noted.
        row = line.removeprefix(b"\xef\xbb\xbf") if at_start else line
        if row.strip():
            yield row


def _refuse_wide(line: bytes) -> None:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Damaged("foreign_file", "is UTF-16; JSON Lines are UTF-8 (iconv -f UTF-16 -t UTF-8)")


def _rest_of_line(stream: BinaryIO, head: bytes) -> LongLine:
    """Hash a line to its end without holding it."""
    total, n_bytes = hashlib.sha256(head), len(head)
    while piece := stream.readline(PIECE):
        total.update(piece)
        n_bytes += len(piece)
        if piece.endswith(b"\n"):
            break
        if n_bytes > SKIPPED_BYTES:
            raise Damaged("unreadable_file", f"a line does not end within {SKIPPED_BYTES:,} bytes")
    return LongLine(n_bytes, total.hexdigest())


def parse(line: bytes) -> Any:
    """One line of JSON; invalid bytes become lone surrogates, which cleaning counts.

    Raises:
        ValueError: it is not JSON, or is nested too deeply; the message says which.
    """
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at {error.pos}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def first_objects(file: InputFile, max_chars: int) -> tuple[list[dict[str, Any]], Damaged | None]:
    """The JSON objects among the first rows of a file, and the damage that ended the look.

    A file without any object among these rows counts as damaged.
    """
    objects = []
    first = "there is no line"
    try:
        for line in itertools.islice(read_lines(file, line_cap(max_chars)), LOOKED_AT):
            found = _object_or_reason(line)
            if isinstance(found, dict):
                objects.append(found)
            elif first == "there is no line":
                first = found
    except Damaged as error:
        return objects, error
    if objects:
        return objects, None
    detail = f"none of its first {LOOKED_AT} lines is a JSON object ({first})"
    return [], Damaged("foreign_file", detail)


def _object_or_reason(line: bytes | LongLine) -> dict[str, Any] | str:
    if isinstance(line, LongLine):
        return f"the first has {line.n_bytes:,} bytes"
    try:
        value = parse(line)
    except ValueError as error:
        return f"the first: {error}"
    return value if isinstance(value, dict) else f"the first is {type(value).__name__}"
