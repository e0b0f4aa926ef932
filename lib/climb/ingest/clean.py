"""Decode and clean text, and record a name for each repair.

Every cell goes through the same steps:

1.  A cell of more than 4 * `max_chars` bytes is rejected as too long, without decoding.
2.  Bytes that start with the byte order mark of UTF-16 or UTF-32 are decoded as such (`utf16`,
    `utf32`). All other bytes are decoded as UTF-8.
3.  Each invalid byte and each lone surrogate (JSON's \\ud800) becomes U+FFFD (`invalid_utf8`).
    The cell is rejected if the share of these characters exceeds `max_invalid_share`.
4.  \\r\\n and \\r become \\n (`line_ends`).
5.  All C0 control characters except \\t and \\n are removed (`control`). The noncharacters U+FFFE
    and U+FFFF are removed too (`noncharacter`).
6.  Byte order marks at the start are removed (`bom`).

A source or metadata value that cannot be represented as text is left out. The repairs of its row
then include `left_out_label`.

White space is kept, but at both ends of a text it does not count for `min_chars`. Cleaning a clean
text changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RULES_VERSION = 3
"""Version of the steps above. Raise it whenever a step changes. Otherwise input files that have not
changed would not be read again with the new steps."""

SUSPECT_PATTERN = r"[\x00-\x08\x0b-\x1f]|\xef\xbf[\xbe\xbf]|\A\xef\xbb\xbf"
"""RE2 pattern that matches every valid UTF-8 text that needs a repair. It reads about 500 MB/s."""

MAX_LABEL_CHARS = 10_000
"""Maximum characters of a source or metadata value; longer values are cut."""

WIDE_ENCODINGS = {
    b"\xff\xfe\x00\x00": ("utf-32", "utf32"),
    b"\x00\x00\xfe\xff": ("utf-32", "utf32"),
    b"\xff\xfe": ("utf-16", "utf16"),
    b"\xfe\xff": ("utf-16", "utf16"),
}
"""Byte order mark -> (encoding, repair). UTF-32 comes first: its mark starts like UTF-16's."""

# In valid UTF-8, byte ED is never followed by A0 or more. The three matched bytes are a surrogate.
ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
NONCHARACTER = re.compile("[\ufffe\uffff]")


@dataclass(frozen=True)
class Rejection:
    """Why a row is rejected, with a short detail."""

    reason: str
    detail: str

    digest: str = ""
    """SHA-256 of the rejected content, or of file name and position if the content is unreadable.
    If `digest` is empty, `build_batch` computes the SHA-256 of the cell."""

    n_rows: int = 1
    """Number of rejected rows; above 1 for the unread rows of a damaged Parquet file."""


@dataclass
class CleanedCells:
    """A batch of N cells after cleaning."""

    texts: Any
    """pyarrow large_string of length N; null for null and rejected cells. Texts that
    `reject_by_length` rejects are not null."""

    repairs: list[list[str]]
    rejections: dict[int, Rejection]
    """Row -> its rejection."""


def clean_cell(raw: bytes, max_invalid_share: float) -> tuple[str, list[str]] | Rejection:
    """Apply steps 2 to 6 to one cell.

    Returns:
        The text and the sorted names of its repairs; or a rejection with reason `invalid_utf8`.
    """
    text, n_invalid, decoding_repairs = _decode(raw)
    if n_invalid > max_invalid_share * len(text):
        detail = f"{n_invalid} of {len(text)} characters are invalid"
        return Rejection("invalid_utf8", detail)
    repairs = set(decoding_repairs)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        repairs.add("line_ends")
    for name, pattern in (("control", CONTROL), ("noncharacter", NONCHARACTER)):
        text, n = pattern.subn("", text)
        if n:
            repairs.add(name)
    if text.startswith("\ufeff"):
        text = text.lstrip("\ufeff")
        repairs.add("bom")
    return text, sorted(repairs)


def _decode(raw: bytes) -> tuple[str, int, list[str]]:
    """Return the text, the number of its invalid characters, and the repairs."""
    for mark, (encoding, repair) in WIDE_ENCODINGS.items():
        if raw.startswith(mark):
            text = raw.decode(encoding, "replace")
            n_invalid = text.count("\ufffd")
            return text, n_invalid, [repair, "invalid_utf8"] if n_invalid else [repair]
    try:
        return raw.decode(), 0, []
    except UnicodeDecodeError:
        text = ENCODED_SURROGATE.sub(b"\xff", raw).decode("utf-8", "surrogateescape")
        text, n_invalid = SURROGATE.subn("\ufffd", text)
        return text, n_invalid, ["invalid_utf8"]


def clean_cells(cells: Any, max_invalid_share: float) -> CleanedCells:
    """Apply steps 2 to 6 to a pyarrow large_binary array of N cells.

    Only cells that match SUSPECT_PATTERN go through `clean_cell`. But if any cell has invalid
    UTF-8, all N cells go through `clean_cell`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    suspect = pc.fill_null(pc.match_substring_regex(cells, SUSPECT_PATTERN), False)
    rejections: dict[int, Rejection] = {}
    repairs: list[list[str]] = [[] for _ in range(len(cells))]
    try:
        texts = cells.cast(pa.large_string())
    except pa.ArrowInvalid:  # the error does not name the cell, so every cell is checked
        texts, suspect = None, pc.is_valid(cells)
    rows = pc.indices_nonzero(suspect).to_pylist()
    if not rows:
        return CleanedCells(texts, repairs, rejections)
    cleaned: list[bytes | None] = []
    for row in rows:
        result = clean_cell(cells[row].as_py(), max_invalid_share)
        if isinstance(result, Rejection):
            rejections[row] = result
            cleaned.append(None)
        else:
            cleaned.append(result[0].encode())
            repairs[row] = result[1]
    replaced = pc.replace_with_mask(cells, suspect, pa.array(cleaned, pa.large_binary()))
    texts = replaced.cast(pa.large_string())
    return CleanedCells(texts, repairs, rejections)


def reject_by_length(cleaned: CleanedCells, min_chars: int, max_chars: int) -> None:
    """Add rejections for texts that are empty, too short or too long.

    Args:
        cleaned: the batch; its `rejections` are changed in place.
        min_chars: minimum characters, without white space at both ends.
        max_chars: maximum characters, white space included.
    """
    import numpy as np
    import pyarrow.compute as pc

    valid_N = np.asarray(pc.is_valid(cleaned.texts))
    chars_N = np.asarray(pc.fill_null(pc.utf8_length(cleaned.texts), 0))
    stripped = pc.utf8_length(pc.utf8_trim_whitespace(cleaned.texts))
    stripped_N = np.asarray(pc.fill_null(stripped, 0))
    rejected_N = valid_N & ((stripped_N < min_chars) | (chars_N > max_chars))
    for row in np.flatnonzero(rejected_N).tolist():
        n = int(stripped_N[row])
        if n == 0:
            cleaned.rejections[row] = Rejection("empty", "no characters but white space")
        elif n < min_chars:
            start = repr(cleaned.texts[row].as_py().strip()[:80])
            cleaned.rejections[row] = Rejection("too_short", f"{n} characters: {start}")
        else:
            cleaned.rejections[row] = Rejection("too_long", f"{int(chars_N[row])} characters")


def clean_label(value: Any) -> str | None:
    """Convert a source or metadata value to clean text of at most MAX_LABEL_CHARS characters.

    Numbers, lists and objects become JSON. None stays None.
    """
    if value is None:
        return None
    if isinstance(value, bytes) and value.isascii():
        value = value.decode()
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return value[:MAX_LABEL_CHARS]
    if isinstance(value, bool | int | float | list | dict):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    cleaned = clean_cell(raw, 1.0)
    return None if isinstance(cleaned, Rejection) else cleaned[0][:MAX_LABEL_CHARS]


def encode_metadata(names: Sequence[str], labels: Sequence[str | None]) -> str:
    """Encode metadata as a JSON object with sorted keys, without null values."""
    present = {name: label for name, label in zip(names, labels, strict=True) if label is not None}
    return json.dumps(present, sort_keys=True, ensure_ascii=False)
