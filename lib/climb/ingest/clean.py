"""Bytes -> text that every later stage can rely on, with a name for each repair.

The rule, for every cell alike:

1.  A cell of more than 4 bytes for each of `max_chars` is too long; it is not looked at further.
2.  Bytes that start with the byte order mark of UTF-16 or UTF-32 are decoded as such (`utf16`,
    `utf32`), all others as UTF-8.
3.  Each invalid byte and each lone surrogate (JSON's \\ud800) becomes U+FFFD (`invalid_utf8`).
    Where more than `max_invalid_share` of the characters came from these, the cell is rejected.
4.  \\r\\n and \\r become \\n (`line_ends`).
5.  NUL and the other C0 controls but \\t and \\n are removed (`control`), and so are the
    noncharacters U+FFFE and U+FFFF (`noncharacter`).
6.  Byte order marks at the start are removed (`bom`).

White space stays, but does not count for `min_chars`. Cleaning a clean text changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RULES = 1
"""Number of this rule; raise it with every change, so that unchanged files are read again."""

SUSPECT = r"[\x00-\x08\x0b-\x1f]|\xef\xbf[\xbe\xbf]|\A\xef\xbb\xbf"
"""Valid UTF-8 that needs a repair has one of these (bytes, RE2); about 500 MB a second."""

LABEL_CHARS = 10_000
"""Sources and metadata values are cut to this: they name a document and do not carry one."""

WIDE = {
    b"\xff\xfe\x00\x00": ("utf-32", "utf32"),
    b"\x00\x00\xfe\xff": ("utf-32", "utf32"),
    b"\xff\xfe": ("utf-16", "utf16"),
    b"\xfe\xff": ("utf-16", "utf16"),
}
"""Byte order mark -> encoding, name of the repair; UTF-32 first, as it starts like UTF-16."""

# In UTF-8, ED is never followed by A0 or more: such three bytes are one encoded surrogate.
ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
NONCHARACTER = re.compile("[\ufffe\uffff]")


@dataclass(frozen=True)
class Rejection:
    """Why a row is no document, and short evidence."""

    reason: str
    detail: str

    digest: str = ""
    """SHA-256 of what was rejected; empty stands for that of the cell."""

    n_rows: int = 1
    """Rows that this stands for: the rest of a damaged file whose footer counts them."""


@dataclass
class Cleaned:
    """A batch of N cells after cleaning."""

    texts: Any
    """pyarrow large_string of length N; null where rejected or given as null."""

    repairs: list[list[str]]
    rejections: dict[int, Rejection]
    """Row -> why it is rejected."""


def clean_cell(raw: bytes, max_invalid_share: float) -> tuple[str, list[str]] | Rejection:
    """Apply steps 2 to 6 of the rule to one cell.

    Returns:
        The text and the names of its repairs, sorted; or the rejection `invalid_utf8`.
    """
    text, n_invalid, found = _decode(raw)
    if n_invalid > max_invalid_share * len(text):
        share = f"{n_invalid} of {len(text)} characters are invalid"
        return Rejection("invalid_utf8", share)
    repairs = set(found)
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
    """Text, number of characters that stand for something invalid, and repairs."""
    for mark, (encoding, repair) in WIDE.items():
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


def clean_cells(cells: Any, max_invalid_share: float) -> Cleaned:
    """Apply steps 2 to 6 to a pyarrow large_binary array; only suspect cells go through Python."""
    import pyarrow as pa
    import pyarrow.compute as pc

    suspect = pc.fill_null(pc.match_substring_regex(cells, SUSPECT), False)
    rejections: dict[int, Rejection] = {}
    repairs: list[list[str]] = [[] for _ in range(len(cells))]
    try:
        texts = cells.cast(pa.large_string())
    except pa.ArrowInvalid:  # it does not say which: look at all cells of this batch
        texts, suspect = None, pc.is_valid(cells)
    rows = pc.indices_nonzero(suspect).to_pylist()
    if not rows:
        return Cleaned(texts, repairs, rejections)
    mended: list[bytes | None] = []
    for row in rows:
        result = clean_cell(cells[row].as_py(), max_invalid_share)
        if isinstance(result, Rejection):
            rejections[row] = result
            mended.append(None)
        else:
            mended.append(result[0].encode())
            repairs[row] = result[1]
    replaced = pc.replace_with_mask(cells, suspect, pa.array(mended, pa.large_binary()))
    texts = replaced.cast(pa.large_string())
    return Cleaned(texts, repairs, rejections)


def check_lengths(cleaned: Cleaned, min_chars: int, max_chars: int) -> None:
    """Reject texts that are empty, too short (white space stripped) or too long."""
    import numpy as np
    import pyarrow.compute as pc

    here_N = np.asarray(pc.is_valid(cleaned.texts))
    chars_N = np.asarray(pc.fill_null(pc.utf8_length(cleaned.texts), 0))
    stripped = pc.utf8_length(pc.utf8_trim_whitespace(cleaned.texts))
    stripped_N = np.asarray(pc.fill_null(stripped, 0))
    wrong_N = here_N & ((stripped_N < min_chars) | (chars_N > max_chars))
    for row in np.flatnonzero(wrong_N).tolist():
        n = int(stripped_N[row])
        if n == 0:
            cleaned.rejections[row] = Rejection("empty", "no characters but white space")
        elif n < min_chars:
            start = repr(cleaned.texts[row].as_py().strip()[:80])
            cleaned.rejections[row] = Rejection("too_short", f"{n} characters: {start}")
        else:
            cleaned.rejections[row] = Rejection("too_long", f"{int(chars_N[row])} characters")


def label(value: Any) -> str | None:
    """A source or metadata value as clean text of at most LABEL_CHARS; None stays None.

    Numbers, lists and objects become JSON.
    """
    if value is None:
        return None
    if isinstance(value, bytes) and value.isascii():
        value = value.decode()
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return value[:LABEL_CHARS]
    if isinstance(value, bool | int | float | list | dict):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    cleaned = clean_cell(raw, 1.0)
    return None if isinstance(cleaned, Rejection) else cleaned[0][:LABEL_CHARS]


def metadata_json(names: Sequence[str], values: Sequence[Any]) -> str:
    """Metadata as JSON with sorted keys; absent values are left out."""
    labels = {name: label(value) for name, value in zip(names, values, strict=True)}
    present = {name: text for name, text in labels.items() if text is not None}
    return json.dumps(present, sort_keys=True, ensure_ascii=False)
