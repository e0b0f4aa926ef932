"""Tokenise texts with the fast tokenizer; tokenise only the start of a text if that suffices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHARS_PER_TOKEN = 6
"""Characters that are tokenised for each token that is kept. English has four to five characters
per token."""

EXTRA_CHARS = 512
"""Characters that are tokenised in addition. Without them, a low `max_tokens` would often need a
second try with more characters."""

EXTRA_TOKENS = 32
"""Minimum number of tokens that a cut text must have beyond those that are kept. A cut can change
only the tokens of the last word. With this many extra tokens, the last word is not kept."""

MAX_WORD_CHARS = 1_000_000
"""A text without a space for this many characters is cut inside a word."""

_GROWTH = 4
_SPACES = (" ", "\n", "\t")


@dataclass(frozen=True)
class TokenEncoder:
    """Texts -> token ids, as many as the model reads; see `cuts` for long texts."""

    tokenizer: Any
    """A `tokenizers.Tokenizer` that truncates to `max_tokens` and does not pad."""

    max_tokens: int
    """Maximum tokens of a text, with the special tokens."""

    cuts: bool
    """Whether the kept tokens are at the start, so that the end of a long text is not needed."""

    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokenise N texts.

        Returns:
            Token ids of each text, shape (n tokens,), truncated to `max_tokens`. They do not depend
            on whether the text was cut.
        """
        ids_N = [np.empty(0, dtype=np.int32)] * len(texts)
        rows = list(range(len(texts)))
        n_chars = CHARS_PER_TOKEN * self.max_tokens + EXTRA_CHARS
        while rows:
            parts = [cut_text(texts[row], n_chars) if self.cuts else texts[row] for row in rows]
            encodings = self.tokenizer.encode_batch_fast(parts)
            longer = []
            for row, part, encoding in zip(rows, parts, encodings, strict=True):
                if len(part) < len(texts[row]) and not self._has_enough(encoding):
                    longer.append(row)
                else:
                    ids_N[row] = np.array(encoding.ids, dtype=np.int32)
            rows, n_chars = longer, n_chars * _GROWTH
        return ids_N

    def _has_enough(self, encoding: Any) -> bool:
        n_special: int = self.tokenizer.num_special_tokens_to_add(False)
        n_cut: int = sum(len(part.ids) - n_special for part in encoding.overflowing)
        return n_cut >= EXTRA_TOKENS


def cut_text(text: str, n_chars: int) -> str:
    """Cut a text before a space, so that no word is cut; see `MAX_WORD_CHARS` for an exception.

    Args:
        text: the whole text.
        n_chars: number of characters to keep. The text is cut at the last space among the
            characters from `n_chars // 2` to `n_chars`. If there is no space among them, the text
            is cut at the first space after `n_chars` characters, so the result is longer.

    Returns:
        The start of the text, or the whole text where it has no more than `n_chars` characters.
    """
    if len(text) <= n_chars:
        return text
    end = max(text.rfind(space, n_chars // 2, n_chars) for space in _SPACES)
    if end < 0:
        limit = n_chars + MAX_WORD_CHARS
        ends = [text.find(space, n_chars, limit) for space in _SPACES]
        end = min((found for found in ends if found >= 0), default=min(limit, len(text)))
    return text[:end].rstrip("".join(_SPACES))


def open_fast_tokenizer(tokenizer: Any, max_tokens: int) -> TokenEncoder | None:
    """Copy the fast tokenizer of a transformers tokenizer, with truncation and without padding.

    Args:
        tokenizer: a tokenizer of the transformers library; None if the model has no tokenizer.
        max_tokens: maximum tokens of a text, with the special tokens.

    Returns:
        None if there is no tokenizer, or if it is written in Python only.
    """
    from tokenizers import Tokenizer

    if not getattr(tokenizer, "is_fast", False):
        return None
    side = tokenizer.truncation_side
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.encode_special_tokens = tokenizer.backend_tokenizer.encode_special_tokens
    fast.enable_truncation(max_tokens, direction=side)
    fast.no_padding()
    return TokenEncoder(fast, max_tokens, cuts=side == "right")
