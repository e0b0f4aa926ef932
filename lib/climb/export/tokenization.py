"""How the tokens of an export are stored, from a tokenizer.json."""

from __future__ import annotations

from climb import tokenizer
from climb.errors import ConfigError
from climb.export.contents import Tokenization
from climb.export.format import Format


def describe_tokenizer(json: str, name: str, end_of_text: str | None) -> Tokenization:
    """Describe the tokenizer of an export.

    Args:
        json: text of its tokenizer.json.
        name: name of its recipe.
        end_of_text: token that ends every document; None: a usual one.

    Raises:
        ConfigError: it has no such token.
    """
    opened = tokenizer.open_tokenizer(json)
    try:
        end = tokenizer.find_end_of_text(opened, end_of_text)
    except ConfigError as error:
        raise ConfigError(f"export.end_of_text: {error}") from error
    vocabulary = opened.get_vocab(with_added_tokens=True)
    return Tokenization(name, max(vocabulary.values()) + 1, vocabulary[end])


def check_tokenizer(format: Format, path: str | None) -> None:
    """Check that a tokenizer is configured only where it is used.

    Raises:
        ConfigError: the format stores text.
    """
    if path is not None and not format.stores_tokens:
        raise ConfigError(
            f"export.tokenizer is {path!r}, but {type(format).__name__} stores text, which the "
            "trainer tokenizes; remove export.tokenizer"
        )


def read_own_tokenizer(path: str, end_of_text: str | None) -> tuple[str, Tokenization]:
    """Read a tokenizer that is not that of job count: its JSON text, and its description.

    Args:
        path: `export.tokenizer`.
        end_of_text: `export.end_of_text`.

    Raises:
        PreflightError: the path does not exist.
        ConfigError: it is not a tokenizer, or lacks the token.
    """
    json = tokenizer.read_tokenizer(path, "export.tokenizer")
    return json, describe_tokenizer(json, tokenizer.name_recipe(path, 0, 0), end_of_text)
