"""The tokenizer that counts, shards and proxies share: one that is given, or a byte-level BPE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from climb.config.sections import CountConfig
from climb.errors import ConfigError, InputError
from climb.files import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
KNOWN_ENDS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[SEP]")
SAMPLE_CHARS = 20_000
"""Of each sampled document the BPE sees this much: one long book must not decide the merges."""


def recipe(cfg: CountConfig) -> str:
    """Name the tokenizer: its content where a path is given, else how it is trained."""
    if cfg.path is None:
        return f"bpe-{cfg.vocab_size}-{cfg.sample_documents}"
    return f"file-{hashlib.sha256(read_json(cfg.path).encode()).hexdigest()[:12]}"


def read_json(path: str) -> str:
    """Text of tokenizer.json, given as a file or as the folder that holds it.

    Raises:
        PreflightError: nothing is there.
        ConfigError: it is no tokenizer of the `tokenizers` library.
    """
    from tokenizers import Tokenizer

    found = resolve(path)
    file = found / "tokenizer.json" if found.is_dir() else found
    try:
        text = file.read_text(encoding="utf-8")
        Tokenizer.from_str(text)
    except Exception as error:
        raise ConfigError(
            f"count.path {path!r}: {file} is not a tokenizer.json: {error}"
        ) from error
    return text


def train_json(texts: Iterable[str], vocab_size: int) -> str:
    """Train a byte-level BPE and return its JSON.

    Raises:
        InputError: there is no text.
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
        raise InputError("the corpus holds no text to train a tokenizer on")
    tokenizer.train_from_iterator(sample, trainer)
    return str(tokenizer.to_str())


def end_of_text_id(tokenizer: Tokenizer, name: str | Path = "the tokenizer") -> int:
    """Id of the token that separates documents.

    Raises:
        ConfigError: the tokenizer has none of the usual ones.
    """
    for token in KNOWN_ENDS:
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    raise ConfigError(f"{name} has no end-of-text token; one of {list(KNOWN_ENDS)} is needed")
