"""The tokenizer of counts, shards and proxies: a configured one, or a trained byte-level BPE."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from climb.errors import ConfigError, InputError
from climb.files import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
USUAL_ENDS = (
    *(END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    *("<|im_end|>", "[SEP]"),
)
"""Tokens that end a document in published tokenizers (the fifth is DeepSeek's). Climb uses the
first of them that is a special token of the tokenizer. If none of them is a special token, it uses
the first that is in the vocabulary (see `open_tokenizer`). Special tokens have precedence, because
Gemma has `</s>` as an ordinary token for an HTML tag."""

SAMPLE_CHARS = 20_000
"""The BPE is trained on at most this many characters from the start of a document, so that no long
document dominates."""

ENCODED_TEXTS = 256
ENCODED_CHARS = 1 << 20
"""Maximum texts and characters that are encoded together. The library needs some 100 bytes for a
token until its id is copied, so a whole Arrow batch of long texts would need gigabytes."""


def name_recipe(path: str | None, vocab_size: int, sample_documents: int) -> str:
    """Name a tokenizer: by its content where a path is configured, else by how it is trained.

    Args:
        path: a tokenizer.json or a folder with one; None trains a byte-level BPE.
        vocab_size: size of the trained vocabulary.
        sample_documents: number of documents that the BPE is trained on.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: the file is not a tokenizer of the `tokenizers` library.
    """
    if path is None:
        return f"bpe-{vocab_size}-{sample_documents}"
    text = read_tokenizer(path)
    # If `open_tokenizer` changes the tokenizer, its name gets a mark. Earlier versions of climb did
    # not change it, and gave it a name without mark. So their counts are not reused.
    mark = "split special tokens" if _is_changed(text) else ""
    return f"file-{hashlib.sha256((text + mark).encode()).hexdigest()[:12]}"


def read_tokenizer(path: str, key: str = "count.path") -> str:
    """Read the JSON text of a tokenizer from a tokenizer.json or a folder with one.

    Args:
        path: the file or the folder.
        key: configuration key that has the path, for messages.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: the folder has no tokenizer.json, or the file is not a tokenizer of the
            `tokenizers` library.
    """
    resolved = resolve(path)
    file = resolved / "tokenizer.json" if resolved.is_dir() else resolved
    if resolved.is_dir() and not file.exists():
        raise ConfigError(
            f"{key} {path!r} has no tokenizer.json; write it with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        text = file.read_text(encoding="utf-8")
        open_tokenizer(text)
    except Exception as error:
        raise ConfigError(f"{key} {path!r}: {file} is not a tokenizer.json: {error}") from error
    return text


def train_json(texts: Iterable[str], vocab_size: int) -> str:
    """Train a byte-level BPE and return its JSON text.

    Args:
        texts: the training documents.
        vocab_size: size of the vocabulary, with the end-of-text token.

    Raises:
        InputError: no document has text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    n_chars = 0

    def cut() -> Iterator[str]:
        nonlocal n_chars
        for text in texts:
            n_chars += len(text)
            yield text[:SAMPLE_CHARS]

    tokenizer.train_from_iterator(cut(), trainer)
    if not n_chars:
        raise InputError("the corpus has no text to train a tokenizer on")
    return str(tokenizer.to_str())


@functools.lru_cache(maxsize=4)
def open_tokenizer(text: str, max_tokens: int | None = None) -> Tokenizer:
    """Open a tokenizer.json without its stored truncation and padding.

    A file may contain settings of its last use: truncation would shorten documents, and padding
    would lengthen them. Text that looks like a special token is encoded as plain text. Otherwise a
    document could contain the end-of-text token. Some models, such as Unigram, have a special
    token as an ordinary piece of their vocabulary. They get the text of this token in two parts, so
    that they do not return the special token. If none of `USUAL_ENDS` is a special token, the first
    of them in the vocabulary ends a document by default. If plain text would be encoded as this
    token too, the token is made special.

    Args:
        text: the JSON text of the file. Each process caches the open tokenizer.
        max_tokens: length to which documents are truncated; None keeps all tokens.
    """
    tokenizer = _open_untruncated(text)
    if pieces := _find_special_pieces(tokenizer):
        _split_pieces(tokenizer, pieces)
    if max_tokens is not None:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _open_untruncated(text: str) -> Tokenizer:
    tokenizer = _load(text)
    end = _find_usual_end(tokenizer)
    if end is not None and end not in _list_special(tokenizer) and _is_made_from(tokenizer, end):
        values, flags = json.loads(text), ("single_word", "lstrip", "rstrip", "normalized")
        added = {"id": tokenizer.token_to_id(end), "content": end, **dict.fromkeys(flags, False)}
        others = [token for token in values["added_tokens"] if token["content"] != end]
        values["added_tokens"] = [*others, added | {"special": True}]
        tokenizer = _load(json.dumps(values))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _load(text: str) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.lru_cache(maxsize=4)
def _is_changed(text: str) -> bool:
    """Whether `open_tokenizer` changes which text becomes a special or end-of-text token."""
    opened, plain = _open_untruncated(text), _load(text)
    return _list_special(opened) != _list_special(plain) or bool(_find_special_pieces(opened))


def _list_special(tokenizer: Tokenizer) -> list[str]:
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    return [token.content for _, token in added if token.special]


def _find_special_pieces(tokenizer: Tokenizer) -> list[str]:
    """Find the special tokens that the model returns when their text is encoded as plain text.

    Tokens of one character are left out, because they cannot be split.
    """
    split = [token for token in _list_special(tokenizer) if len(token) > 1]
    return [token for token in split if _is_made_from(tokenizer, token)]


def _is_made_from(tokenizer: Tokenizer, token: str, text: str | None = None) -> bool:
    """Whether `text` inside a document is encoded as `token`; None: check the token's own text."""
    text = token if text is None else text
    for before, after in (("", ""), ("a", "a"), ("a ", " a")):
        encoding = tokenizer.encode(before + text + after, add_special_tokens=False)
        wanted = (tokenizer.token_to_id(token), (len(before), len(before + text)))
        if any(found == wanted for found in zip(encoding.ids, encoding.offsets, strict=True)):
            return True
    return False


def _split_pieces(tokenizer: Tokenizer, pieces: Sequence[str]) -> None:
    """Append a pre-tokenizer that splits each piece after its first character.

    Giving the piece a low score instead would not suffice. Unknown characters have an even lower
    score, so the model could still choose the piece.
    """
    from tokenizers import Regex, pre_tokenizers

    starts = "|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in pieces)
    split = pre_tokenizers.Split(Regex(starts), "merged_with_previous")
    before = tokenizer.pre_tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*([before] if before else []), split])


def split_texts(texts: Sequence[str]) -> Iterator[slice]:
    """Divide texts into slices to encode together; a text over `ENCODED_CHARS` is its own slice."""
    start = n_chars = 0
    for stop, text in enumerate(texts):
        n_chars += len(text)
        if stop > start and (n_chars > ENCODED_CHARS or stop - start == ENCODED_TEXTS):
            yield slice(start, stop)
            start, n_chars = stop, len(text)
    if start < len(texts):
        yield slice(start, len(texts))


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the token ids of each text, without special tokens."""
    for part in split_texts(texts):
        for encoding in tokenizer.encode_batch_fast(list(texts[part]), add_special_tokens=False):
            yield encoding.ids


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json, and the token that separates documents in shards and items."""

    path: str
    end_of_text: str = END_OF_TEXT

    def open(self) -> Tokenizer:
        """Open the file; see `open_tokenizer`."""
        return open_tokenizer(Path(self.path).read_text(encoding="utf-8"))

    def find_end_of_text_id(self) -> int:
        """Return the id of the end-of-text token.

        Raises:
            ConfigError: the tokenizer does not have this token.
        """
        token_id = self.open().token_to_id(find_end_of_text(self.open(), self.end_of_text))
        assert token_id is not None, "find_end_of_text returns a token of the tokenizer"
        return token_id


def find_end_of_text(
    tokenizer: Tokenizer, configured: str | None, key: str = "count.end_of_text"
) -> str:
    """Find the token that separates documents.

    Args:
        tokenizer: the open tokenizer.
        configured: the configured token; None chooses one of `USUAL_ENDS`.
        key: configuration key of the token, for error messages.

    Raises:
        ConfigError: the tokenizer lacks the configured token, or has none of the usual ones, or
            would encode text inside a document as the token.
    """
    if configured is not None and tokenizer.token_to_id(configured) is None:
        raise ConfigError(f"{key} is {configured!r}, but the tokenizer has no such token")
    special = _list_special(tokenizer)
    token = _find_usual_end(tokenizer) if configured is None else configured
    if token is None:
        raise ConfigError(
            f"the tokenizer has none of the usual end-of-text tokens {list(USUAL_ENDS)}; set "
            f"{key} to the token that ends a document (special tokens: {sorted(special)[:20]})"
        )
    if token not in special:
        _check_only_ends(tokenizer, token, key)
    return token


def _find_usual_end(tokenizer: Tokenizer) -> str | None:
    special = _list_special(tokenizer)
    usual = sorted(USUAL_ENDS, key=lambda token: token not in special)
    return next((token for token in usual if tokenizer.token_to_id(token) is not None), None)


def _check_only_ends(tokenizer: Tokenizer, token: str, key: str) -> None:
    """Raise ConfigError if a token that is not special could also occur inside a document."""
    id_ = tokenizer.token_to_id(token)
    assert id_ is not None, "the token is one of the tokenizer"
    decoded = tokenizer.decode([id_], skip_special_tokens=False)
    if any(_is_made_from(tokenizer, token, text) for text in (token, decoded)):
        raise ConfigError(
            f"{key} is {token!r}, which is not a special token, so it would also occur inside "
            f"documents; set {key} to a special token ({_list_special(tokenizer)[:20]}), or mark "
            "this one as special in tokenizer.json"
        )
