"""Split the items of a target into passages of token ids."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb.errors import InputError
from climb.proxy import Target
from climb.proxy.items import read_records
from climb.tokenizer import TokenizerFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Passage:
    """A context and its continuations, which are predicted independently of each other."""

    context: tuple[int, ...]
    """Token ids; never empty, since the end-of-text token precedes every document."""

    continuations: tuple[tuple[int, ...], ...]
    """Token ids of each continuation; none is empty."""


@dataclass(frozen=True)
class Item:
    """One item of a target as token ids."""

    passages: tuple[Passage, ...]
    """Multiple choice: one passage with a continuation per choice. Text: one passage per window,
    each with one continuation."""

    n_bytes: tuple[int, ...]
    """Multiple choice: UTF-8 bytes of each choice as it is scored. A choice is truncated to the
    maximum input of the model. Text: UTF-8 bytes of the text."""

    n_characters: tuple[int, ...]
    """Multiple choice: characters of each choice as it is scored, without its leading white space.
    Text: characters of the text."""

    label: int
    """Index of the right choice; 0 for a text."""


def load_items(target: Target, tokenizer: TokenizerFile, sequence: int) -> tuple[Item, ...]:
    """Read the items of a target. The items are cached, since a worker trains many proxies.

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
    records = sorted(read_records(target), key=lambda record: record.digest)
    builder = _PassageBuilder(tokenizer.open(), tokenizer.find_end_of_text_id(), sequence)
    build = builder.build_choices if target.kind == "choices" else builder.build_text
    return tuple(build(record.values) for record in records[: target.limit])


def _read_stamp(path: str) -> tuple[int, int]:
    """Return size and modification time, so that a changed file is not read from the cache."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class _PassageBuilder:
    """Splits texts into passages within the maximum input of a model."""

    tokenizer: Tokenizer
    end_of_text: int
    sequence: int

    def build_choices(self, record: dict[str, Any]) -> Item:
        """Build a multiple-choice item; white space at the context's end moves to the choices.

        Context and choice are encoded together, and the tokens after those of the context belong
        to the choice. So tokens have the same boundaries as in running text.

        Source: lm-evaluation-harness 0.4.13, `TemplateLM._encode_pair`; `acc_norm` in
        `ConfigurableTask.process_results` divides by the characters of a choice, without the white
        space between context and choice.
        """
        context = record["context"].rstrip()
        gap = record["context"][len(context) :]
        before = self._encode(context).ids
        encoded = [self._encode_choice(context, gap + c, before) for c in record["choices"]]
        continuations = tuple(ids for ids, _ in encoded)
        # The last token of a continuation is predicted and is not part of the input.
        max_context = self.sequence + 1 - max(map(len, continuations))
        passage = Passage((self.end_of_text, *before)[-max_context:], continuations)
        n_bytes = tuple(_count_utf8_bytes(text) for _, text in encoded)
        n_characters = tuple(max(1, len(text.lstrip())) for _, text in encoded)
        return Item((passage,), n_bytes, n_characters, record["label"])

    def build_text(self, record: dict[str, Any]) -> Item:
        """Build a text item of windows that overlap by half, so that later windows have context."""
        ids = [self.end_of_text, *self._encode(record["text"]).ids]
        passages, first, stride = [], 1, max(1, self.sequence // 2)
        while first < len(ids):
            end = min(len(ids), self.sequence + 1) if first == 1 else min(len(ids), first + stride)
            start = max(0, end - self.sequence - 1)
            passages.append(Passage(tuple(ids[start:first]), (tuple(ids[first:end]),)))
            first = end
        text = record["text"]
        return Item(tuple(passages), (_count_utf8_bytes(text),), (len(text),), 0)

    def _encode_choice(
        self, context: str, choice: str, before: list[int]
    ) -> tuple[tuple[int, ...], str]:
        """Encode a choice after its context, truncated to `sequence` tokens.

        Args:
            context: does not end in white space.
            choice: starts with the white space after the context.
            before: token ids of the context.

        Returns:
            The token ids of the choice, and its text.
        """
        encoded, skipped = self._encode(context + choice), len(context)
        ids, offsets = encoded.ids[len(before) :], encoded.offsets[len(before) :]
        if not ids:
            # No token is left for the choice: one token covers both the context's last characters
            # and the whole choice. So the choice is encoded alone.
            encoded, skipped = self._encode(choice), 0
            ids, offsets = encoded.ids, encoded.offsets
        if len(ids) <= self.sequence:
            return tuple(ids), choice
        end = offsets[self.sequence - 1][1] - skipped
        return tuple(ids[: self.sequence]), choice[:end]

    def _encode(self, text: str) -> Any:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _count_utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))
