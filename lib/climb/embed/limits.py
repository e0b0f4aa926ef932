"""Check the configured maximum tokens of a document against the limit of a transformer."""

from __future__ import annotations

from typing import Any

from climb.errors import ComponentError


def check_max_tokens(key: str, max_tokens: int, path: str, model: Any) -> None:
    """Check that a model accepts documents of `max_tokens` tokens.

    Args:
        key: name of the setting with the configured limit, for the message.
        max_tokens: the configured limit.
        path: path of the model, for the message.
        model: a model of the transformers library; None: there is no limit.

    Raises:
        ComponentError: the model accepts fewer tokens.
    """
    longest = find_max_tokens(model)
    if longest is not None and max_tokens > longest:
        raise ComponentError(
            f"{key} is {max_tokens}; {path!r} accepts at most {longest} tokens; lower max_tokens"
        )


def find_max_tokens(model: Any) -> int | None:
    """Find the maximum tokens of a text; None if the model has no limit.

    If a model has a table of position embeddings, the number of its rows is a hard limit. RoBERTa
    and its relatives reserve the rows up to and including the row of the padding token, so a table
    of 514 rows allows only 512 tokens.
    """
    modules = model.named_modules() if hasattr(model, "named_modules") else ()
    for name, module in modules:
        n_rows = getattr(module, "num_embeddings", None)
        if name.rpartition(".")[2] == "position_embeddings" and n_rows is not None:
            return int(n_rows if module.padding_idx is None else n_rows - module.padding_idx - 1)
    config = getattr(model, "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    # DeBERTa has relative positions instead of a table. In XLNet, `longest` is -1: no limit.
    is_relative = getattr(config, "relative_attention", False)
    return None if longest is None or longest < 1 or is_relative else int(longest)
