"""Read the tokenizer of an export, and derive how the tokens are stored."""

from __future__ import annotations

from climb import tokenizer
from climb.errors import ConfigError
from climb.export.contents import Tokenization
from climb.export.format import Format


def describe_tokenizer(json: str, name: str, end_of_text: str | None) -> Tokenization:
    """Describe the tokenizer of an export.

    Args:
        json: text of its tokenizer.json.
        name: name of the tokenizer.
        end_of_text: token that ends every document; None: one of the usual end-of-text tokens,
            chosen as for `count.end_of_text`.

    Raises:
        ConfigError: the tokenizer has no end-of-text token.
    """
    opened = tokenizer.open_tokenizer(json)
    end = tokenizer.find_end_of_text(opened, end_of_text, "export.end_of_text")
    vocabulary = opened.get_vocab(with_added_tokens=True)
    return Tokenization(name, max(vocabulary.values()) + 1, vocabulary[end])


def check_tokenizer(format: Format, path: str | None) -> None:
    """Check that no tokenizer is configured for a format that stores text.

    Raises:
        ConfigError: a tokenizer is configured, but the format stores text.
    """
    if path is not None and not format.stores_tokens:
        raise ConfigError(
            f"export.tokenizer is {path!r}, but {type(format).__name__} stores text, which the "
            "trainer tokenizes; remove export.tokenizer"
        )


def read_own_tokenizer(path: str, end_of_text: str | None) -> tuple[str, Tokenization]:
    """Read the tokenizer of `export.tokenizer`; return its JSON text and its description.

    Args:
        path: `export.tokenizer`.
        end_of_text: `export.end_of_text`.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: the file is not a tokenizer, or the tokenizer lacks the end-of-text token.
    """
    json = tokenizer.read_tokenizer(path, "export.tokenizer")
    return json, describe_tokenizer(json, tokenizer.name_recipe(path, 0, 0), end_of_text)
