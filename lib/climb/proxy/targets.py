"""Read and check the items of a target, and split them into passages of token ids."""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb.errors import InputError
from climb.proxy import Target
from climb.tokenizer import TokenizerFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer


CHECKED_ITEMS = 100
"""Items at the start of a file that are checked before a run."""


@dataclass(frozen=True)
class Passage:
    """A context and its continuations, which are predicted independently of each other."""

    context: tuple[int, ...]
    """Token ids; at least the end-of-text token, which precedes every document."""

    continuations: tuple[tuple[int, ...], ...]
    """Token ids of each continuation; none is empty."""


@dataclass(frozen=True)
class Item:
    """One item of a target as token ids."""

    passages: tuple[Passage, ...]
    """Multiple choice: one passage with a continuation per choice. Text: one passage per window,
    each with one continuation."""

    n_bytes: tuple[int, ...]
    """UTF-8 bytes of each choice, or of the whole text."""

    label: int
    """Index of the right choice; 0 for a text."""


def load_items(target: Target, tokenizer: TokenizerFile, sequence: int) -> tuple[Item, ...]:
    """Read the items of a target. They are cached, since a worker trains many proxies.

    Args:
        target: file, kind and limit.
        tokenizer: the tokenizer of the model.
        sequence: maximum input of the model in tokens; longer contexts lose their beginning.

    Raises:
        InputError: the file cannot be read, a line is not a valid item, or there is no item.
    """
    stamps = tuple(_read_stamp(path) for path in (target.path, tokenizer.path))
    return _load_items(target, tokenizer, sequence, stamps)


@functools.lru_cache(maxsize=32)
def _load_items(
    target: Target, tokenizer: TokenizerFile, sequence: int, stamps: tuple[tuple[int, int], ...]
) -> tuple[Item, ...]:
    records = []
    for where, line in _read_lines(target):
        record = _parse_line(line, target.kind, where)
        records.append((hashlib.sha256(line).digest(), record))
    if not records:
        raise InputError(f"target {target.name!r}: {target.path} contains no items")
    records.sort(key=lambda pair: pair[0])
    builder = _PassageBuilder(tokenizer.open(), tokenizer.find_end_of_text_id(), sequence)
    build = builder.build_choices if target.kind == "choices" else builder.build_text
    return tuple(build(record) for _, record in records[: target.limit])


def check_first_items(target: Target) -> None:
    """Check the first items of a target, before anything is trained.

    Raises:
        InputError: the file cannot be read, one of these lines is not a valid item, or there is
            no item.
    """
    n = 0
    for where, line in itertools.islice(_read_lines(target), CHECKED_ITEMS):
        _parse_line(line, target.kind, where)
        n += 1
    if not n:
        raise InputError(f"target {target.name!r}: {target.path} contains no items")


def _read_stamp(path: str) -> tuple[int, int]:
    """Return size and modification time, so that a changed file is not read from the cache."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _read_lines(target: Target) -> Iterator[tuple[str, bytes]]:
    """Read the lines that are not blank, each with its location for error messages."""
    opener = gzip.open if target.path.endswith(".gz") else open
    try:
        with opener(target.path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"target {target.name!r}: {target.path} line {number}", line.strip()
    except (OSError, EOFError) as error:  # gzip: bad magic, bad checksum, truncated
        raise InputError(
            f"target {target.name!r}: {target.path} cannot be read: {error}"
        ) from error


def _parse_line(line: bytes, kind: str, where: str) -> dict[str, Any]:
    """Parse one line, and check every field that is used.

    Raises:
        InputError: the line is not JSON, or a field is wrong.
    """
    try:
        record = json.loads(line)
    except ValueError as error:  # also bytes that are not UTF-8
        raise InputError(f"{where} is not JSON: {error}") from error
    mistake = _find_mistake(record, kind)
    if mistake:
        raise InputError(f"{where}: {mistake}")
    return dict(record)


def _find_mistake(record: Any, kind: str) -> str | None:
    """Describe the first mistake of a record; None if it is valid."""
    if not isinstance(record, dict):
        return f"is a JSON {type(record).__name__}; it must be an object"
    text_key = "text" if kind == "text" else "context"
    text = record.get(text_key)
    if not isinstance(text, str):
        return f"{text_key!r} is {text!r}; it must be a string"
    if kind == "text":
        return None if text else "'text' is empty"
    choices, label = record.get("choices"), record.get("label")
    if not isinstance(choices, list) or len(choices) < 2:
        return f"'choices' is {choices!r}; it must be a list of at least two strings"
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return f"'choices' is {choices!r}; every choice must be a string that is not blank"
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(choices):
        return f"'label' is {label!r}; it must be an index into {len(choices)} choices"
    return None


@dataclass(frozen=True)
class _PassageBuilder:
    """Splits texts into passages within the maximum input of a model."""

    tokenizer: Tokenizer
    end_of_text: int
    sequence: int

    def build_choices(self, record: dict[str, Any]) -> Item:
        """Build a multiple-choice item; white space at the context's end moves to the choices.

        So tokens have the same boundaries as in running text.

        Source: lm-evaluation-harness, `TemplateLM._encode_pair`.
        """
        context = record["context"].rstrip()
        gap = record["context"][len(context) :]
        continuations, n_bytes = [], []
        for choice in record["choices"]:
            ids, text = self._truncate_choice(gap + choice)
            continuations.append(ids)
            n_bytes.append(_count_utf8_bytes(text))
        # The last token of a continuation is predicted and is not part of the input.
        max_context = self.sequence + 1 - max(map(len, continuations))
        ids = (self.end_of_text, *self._encode(context).ids)
        passage = Passage(ids[-max_context:], tuple(continuations))
        return Item((passage,), tuple(n_bytes), record["label"])

    def build_text(self, record: dict[str, Any]) -> Item:
        """Build a text item of windows that overlap by half, so that later windows have context."""
        ids = [self.end_of_text, *self._encode(record["text"]).ids]
        passages, first, stride = [], 1, max(1, self.sequence // 2)
        while first < len(ids):
            end = min(len(ids), self.sequence + 1) if first == 1 else min(len(ids), first + stride)
            start = max(0, end - self.sequence - 1)
            passages.append(Passage(tuple(ids[start:first]), (tuple(ids[first:end]),)))
            first = end
        return Item(tuple(passages), (_count_utf8_bytes(record["text"]),), 0)

    def _truncate_choice(self, choice: str) -> tuple[tuple[int, ...], str]:
        """Truncate a choice to `sequence` tokens; return its token ids and its text."""
        encoded = self._encode(choice)
        if len(encoded.ids) <= self.sequence:
            return tuple(encoded.ids), choice
        end = encoded.offsets[self.sequence - 1][1]
        return tuple(encoded.ids[: self.sequence]), choice[:end]

    def _encode(self, text: str) -> Any:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _count_utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))
