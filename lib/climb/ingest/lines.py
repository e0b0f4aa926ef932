"""Read JSON Lines as a stream of lines of bounded length.

An uncompressed file can also be read in ranges of bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from climb.ingest import InputFile, Unit
from climb.ingest.clean import WIDE_ENCODINGS
from climb.ingest.compression import (
    CHUNK_BYTES,
    DamagedFileError,
    explain_damage,
    open_unpacked,
)

CHECKED_ROWS = 100
"""Rows at the start of a file that are checked for the configured columns."""

MAX_SKIPPED_BYTES = 1 << 30
"""A line of more bytes than this stops the reading of its file."""


@dataclass(frozen=True)
class LongLine:
    """A line of more bytes than `max_bytes` of `read_lines`. Its bytes are hashed, and not kept."""

    n_bytes: int
    digest: str


def compute_max_line_bytes(max_chars: int) -> int:
    """Compute `max_bytes` of `read_lines`: 12 bytes per character, plus 1 MiB. JSON may write one
    character as two escapes of 6 bytes."""
    return 12 * max_chars + (1 << 20)


def read_lines(unit: Unit, max_bytes: int, window_log: int) -> Iterator[bytes | LongLine]:
    """Read the lines that start in the unit's range of bytes, without blank lines.

    Memory is bounded by `max_bytes`, also for files that unpack to terabytes.

    Args:
        unit: the byte range of a file.
        max_bytes: lines of more bytes become a LongLine.
        window_log: see `open_unpacked`.

    Raises:
        DamagedFileError: the file cannot be read or is UTF-16, or a line does not end within
            MAX_SKIPPED_BYTES.
    """
    start, stop = unit.start, unit.stop
    with explain_damage(), open_unpacked(unit.root, unit.path, window_log) as (stream, _):
        if start:
            stream.seek(start - 1)
            start += _skip_line(stream, stop - start) - 1
        yield from _iterate_lines(stream, max_bytes, start, stop)


def _skip_line(stream: BinaryIO, max_bytes: int) -> int:
    """Skip to the next line end, but stop after `max_bytes`. Return the number of bytes read."""
    n_bytes = 0
    while chunk := stream.readline(CHUNK_BYTES):
        n_bytes += len(chunk)
        if chunk.endswith(b"\n") or n_bytes > max_bytes:
            break
    return n_bytes


def _iterate_lines(
    stream: BinaryIO, max_bytes: int, start: int, stop: int
) -> Iterator[bytes | LongLine]:
    position = start
    while (not stop or position < stop) and (line := stream.readline(max_bytes + 1)):
        at_start = position == 0
        too_long = len(line) > max_bytes and not line.endswith(b"\n")
        position += len(line)
        if at_start:
            reject_utf16_and_utf32(line)
        if too_long:
            long = _hash_rest_of_line(stream, line)
            position += long.n_bytes - len(line)
            yield long
            continue
        # A byte order mark belongs to the file. Its removal is not recorded as a repair of the row.
        row = line.removeprefix(b"\xef\xbb\xbf") if at_start else line
        if row.strip():
            yield row


def reject_utf16_and_utf32(line: bytes) -> None:
    """Raise a DamagedFileError if a file starts with the byte order mark of UTF-16 or UTF-32."""
    for mark, (encoding, _) in WIDE_ENCODINGS.items():
        if line.startswith(mark):
            name = encoding.upper()
            raise DamagedFileError(
                "unsupported_format", f"is {name}; it must be UTF-8 (iconv -f {name} -t UTF-8)"
            )


def _hash_rest_of_line(stream: BinaryIO, head: bytes) -> LongLine:
    """Hash a line to its end without keeping it in memory."""
    digest, n_bytes = hashlib.sha256(head), len(head)
    while chunk := stream.readline(CHUNK_BYTES):
        digest.update(chunk)
        n_bytes += len(chunk)
        if chunk.endswith(b"\n"):
            break
        if n_bytes > MAX_SKIPPED_BYTES:
            raise DamagedFileError(
                "unreadable_file", f"a line does not end within {MAX_SKIPPED_BYTES:,} bytes"
            )
    return LongLine(n_bytes, digest.hexdigest())


def parse_line(line: bytes) -> Any:
    """Parse one line of JSON; invalid bytes become lone surrogates, which `clean_cell` counts.

    Raises:
        ValueError: the line is not JSON, or it is nested too deeply.
    """
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@dataclass
class FileStart:
    """What the first rows of a file show."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    """The JSON objects among the first rows; empty if the file has no rows."""

    is_compressed: bool = False
    damage: DamagedFileError | None = None
    """The error that stopped the reading. If rows were read, but none of them is a JSON object: an
    error that says so."""


def read_start(file: InputFile, max_chars: int, window_log: int) -> FileStart:
    """Read the first rows of a file."""
    start, mistakes = FileStart(), []
    max_bytes = compute_max_line_bytes(max_chars)
    try:
        with explain_damage(), open_unpacked(file.root, file.path, window_log) as opened:
            stream, start.is_compressed = opened
            lines = _iterate_lines(stream, max_bytes, 0, 0)
            for row, line in enumerate(itertools.islice(lines, CHECKED_ROWS)):
                value = _parse_object(line, is_first=row == 0)
                if isinstance(value, dict):
                    start.objects.append(value)
                else:
                    mistakes.append(value)
    except DamagedFileError as error:
        start.damage = error
    if mistakes and not start.objects and start.damage is None:
        detail = f"no JSON object in its first {CHECKED_ROWS} lines ({mistakes[0]})"
        start.damage = DamagedFileError("unsupported_format", detail)
    return start


def _parse_object(line: bytes | LongLine, is_first: bool) -> dict[str, Any] | str:
    """Return the JSON object of a line, or the reason why it has none.

    Raises:
        DamagedFileError: the first line starts a value of several lines.
    """
    if isinstance(line, LongLine):
        return f"the first line has {line.n_bytes:,} bytes, which is too many"
    try:
        value = parse_line(line)
    except ValueError as error:
        if is_first:
            _refuse_several_lines(line)
        return f"the first line is invalid: {error}"
    if isinstance(value, list):
        return "the first line is a JSON array; to convert: jq -c '.[]' FILE > NEW.jsonl"
    return value if isinstance(value, dict) else f"the first line is {value!r:.40}"


def _refuse_several_lines(line: bytes) -> None:
    """Raise a DamagedFileError if an invalid first line starts a value of several lines.

    The first line alone decides, because a later line of such a value can be a JSON object by
    itself: for example, the last element of an array, as no comma follows it.
    """
    start = line.strip()
    filter_ = {b"{": ".", b"[": "'.[]'"}.get(start[:1])
    if filter_ and (start.startswith(b"[") or start.endswith((b"{", b"["))):
        raise DamagedFileError(
            "unsupported_format",
            f"it is one value in several lines; to convert: jq -c {filter_} FILE > NEW.jsonl",
        )
