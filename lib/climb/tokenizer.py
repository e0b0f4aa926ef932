"""The tokenizer of counts, shards and proxies: a configured one, or a trained byte-level BPE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from climb.errors import ConfigError, InputError
from climb.files import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
USUAL_ENDS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[SEP]")
SAMPLE_CHARS = 20_000
"""Characters of each sampled document that the BPE is trained on, so that no long one dominates."""


def name_recipe(path: str | None, vocab_size: int, sample_documents: int) -> str:
    """Name a tokenizer: by its content where a path is configured, else by how it is trained.

    Args:
        path: a tokenizer.json or a folder with one; None trains a byte-level BPE.
        vocab_size: size of the trained vocabulary.
        sample_documents: documents that the BPE is trained on.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: the file is not a tokenizer of the `tokenizers` library.
    """
    if path is None:
        return f"bpe-{vocab_size}-{sample_documents}"
    return f"file-{hashlib.sha256(read_tokenizer(path).encode()).hexdigest()[:12]}"


def read_tokenizer(path: str) -> str:
    """Read the JSON text of a tokenizer from a tokenizer.json or a folder with one.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: the file is not a tokenizer of the `tokenizers` library.
    """
    from tokenizers import Tokenizer

    resolved = resolve(path)
    file = resolved / "tokenizer.json" if resolved.is_dir() else resolved
    try:
        text = file.read_text(encoding="utf-8")
        Tokenizer.from_str(text)
    except Exception as error:
        raise ConfigError(
            f"count.path {path!r}: {file} is not a tokenizer.json: {error}"
        ) from error
    return text


def train_bpe(texts: Iterable[str], vocab_size: int) -> str:
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
    sample = [text[:SAMPLE_CHARS] for text in texts]
    if not any(sample):
        raise InputError("the corpus has no text to train a tokenizer on")
    tokenizer.train_from_iterator(sample, trainer)
    return str(tokenizer.to_str())


def find_end_of_text_id(tokenizer: Tokenizer, name: str | Path = "the tokenizer") -> int:
    """Find the id of the token that separates documents.

    Args:
        tokenizer: the loaded tokenizer.
        name: its name in the error message.

    Raises:
        ConfigError: the tokenizer has none of the usual end-of-text tokens.
    """
    for token in USUAL_ENDS:
        token_id = tokenizer.token_to_id(token)
        if token_id is not None:
            return int(token_id)
    raise ConfigError(f"{name} has no end-of-text token; it needs one of {list(USUAL_ENDS)}")
