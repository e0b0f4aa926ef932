"""The items that a model is measured on: read, checked, and cut into passages of token ids."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb.errors import InputError
from climb.proxy import Target
from climb.tokenizer import end_of_text_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Passage:
    """A context and the texts to be predicted after it, each as if the others were not there."""

    context: tuple[int, ...]
    """Token ids; at least the end-of-text token, which stands before every document."""

    tails: tuple[tuple[int, ...], ...]
    """Token ids of each text to be predicted; none is empty."""


@dataclass(frozen=True)
class Item:
    """One item of a target, ready for a model."""

    passages: tuple[Passage, ...]
    """One of a multiple-choice item, a tail per choice; or the windows of a text, a tail each."""

    n_bytes: tuple[int, ...]
    """UTF-8 bytes of each choice, or of the whole text."""

    label: int
    """Index of the right choice; 0 for a text."""


def load_items(target: Target, tokenizer_path: str, sequence: int) -> tuple[Item, ...]:
    """Read a target's items; kept from run to run, since a worker trains many proxies.

    Args:
        target: file, kind and limit.
        tokenizer_path: tokenizer.json.
        sequence: tokens that the model looks at; longer contexts lose their beginning.

    Raises:
        InputError: the file cannot be read, a line is not such an item, or there is no item.
    """
    stamps = tuple(_stamp(path) for path in (target.path, tokenizer_path))
    return _load_items(target, tokenizer_path, sequence, stamps)


@functools.lru_cache(maxsize=32)
def _load_items(
    target: Target, tokenizer_path: str, sequence: int, stamps: tuple[tuple[int, int], ...]
) -> tuple[Item, ...]:
    from tokenizers import Tokenizer

    chosen = []
    for where, line in _lines(target):
        record = _checked(line, target.kind, where)
        chosen.append((hashlib.sha256(line).digest(), record))
    if not chosen:
        raise InputError(f"target {target.name!r}: {target.path} holds no items")
    chosen.sort(key=lambda pair: pair[0])
    tokenizer = Tokenizer.from_file(tokenizer_path)
    cut = _Cutter(tokenizer, end_of_text_id(tokenizer, tokenizer_path), sequence)
    make = cut.choices if target.kind == "choices" else cut.text
    return tuple(make(record) for _, record in chosen[: target.limit])


def _stamp(path: str) -> tuple[int, int]:
    """Size and time of change: what tells a changed file from the one that was read before."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _lines(target: Target) -> Iterator[tuple[str, bytes]]:
    """Lines that are not blank, each with the words that name it in a message."""
    opener = gzip.open if target.path.endswith(".gz") else open
    try:
        with opener(target.path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"target {target.name!r}: {target.path} line {number}", line.strip()
    except (OSError, EOFError) as error:  # gzip: bad magic, bad checksum, cut short
        raise InputError(
            f"target {target.name!r}: {target.path} cannot be read: {error}"
        ) from error


def _checked(line: bytes, kind: str, where: str) -> dict[str, Any]:
    """Parse one line and look at every field that is used."""
    try:
        record = json.loads(line)
    except ValueError as error:  # also bytes that are not UTF-8
        raise InputError(f"{where} is not JSON: {error}") from error
    wrong = _what_is_wrong(record, kind)
    if wrong:
        raise InputError(f"{where}: {wrong}")
    return dict(record)


def _what_is_wrong(record: Any, kind: str) -> str | None:
    """One clause, or None."""
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
class _Cutter:
    """Turns texts into passages that fit a model."""

    tokenizer: Tokenizer
    end_of_text: int
    sequence: int

    def choices(self, record: dict[str, Any]) -> Item:
        """White space at the context's end moves to the choices, as token boundaries want it.

        Source: lm-evaluation-harness, `TemplateLM._encode_pair`.
        """
        context = record["context"].rstrip()
        gap = record["context"][len(context) :]
        tails, n_bytes = [], []
        for choice in record["choices"]:
            ids, text = self._fit(gap + choice)
            tails.append(ids)
            n_bytes.append(_size(text))
        # A tail's last token is predicted, never looked at.
        room = self.sequence + 1 - max(map(len, tails))
        ids = (self.end_of_text, *self._encode(context).ids)
        return Item((Passage(ids[-room:], tuple(tails)),), tuple(n_bytes), record["label"])

    def text(self, record: dict[str, Any]) -> Item:
        """Windows that overlap by half, so that all but a text's beginning has a context."""
        ids = [self.end_of_text, *self._encode(record["text"]).ids]
        passages, done, stride = [], 1, max(1, self.sequence // 2)
        while done < len(ids):
            end = min(len(ids), self.sequence + 1) if done == 1 else min(len(ids), done + stride)
            start = max(0, end - self.sequence - 1)
            passages.append(Passage(tuple(ids[start:done]), (tuple(ids[done:end]),)))
            done = end
        return Item(tuple(passages), (_size(record["text"]),), 0)

    def _fit(self, choice: str) -> tuple[tuple[int, ...], str]:
        """A choice that is longer than a whole sequence is judged by its beginning."""
        encoded = self._encode(choice)
        if len(encoded.ids) <= self.sequence:
            return tuple(encoded.ids), choice
        end = encoded.offsets[self.sequence - 1][1]
        return tuple(encoded.ids[: self.sequence]), choice[:end]

    def _encode(self, text: str) -> Any:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _size(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))
