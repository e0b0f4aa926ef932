"""What the quality rules look at: shares of lines, words and characters of one text.

Words are what white space separates, lines what line feeds separate, paragraphs what empty lines
separate. A share "of chars" counts the characters of the units it is about (lines, paragraphs,
words), so that indentation and empty lines neither help nor harm.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""Gopher: an English text holds at least two of them."""

BULLETS = ("•", "‣", "▪", "◦", "●", "- ", "* ")
ELLIPSES = ("...", "…")
QUOTES = "\"'\u201d\u2019"
END_MARKS = (".", "?", "!", *QUOTES)
"""C4, FineWeb: full stop, question mark, exclamation mark or end quotation mark."""

REMOVED_LINES = (
    *("javascript", "terms of use", "privacy policy", "cookie policy"),
    *("uses cookies", "use of cookies", "use cookies"),
)
"""C4 takes out lines that hold one of these, in any case."""

SENTENCE_END = re.compile(rf"[.?!](?=[{QUOTES})\]]*(?:\s|$))")
MIN_LINE_WORDS = 5
MAX_WORD_CHARS = 1000
"""C4 keeps lines of at least so many words, and no longer word."""

SHORT_LINE_CHARS = 30
"""FineWeb: a line of at most so many characters is short."""


def text_statistics(text: str) -> dict[str, float]:
    """Every statistic that a rule of `climb.quality.rules` names; all finite, 0 where undefined."""
    words = text.split()
    lines = _units(text.split("\n"))
    paragraphs = _units(re.split(r"\n\s*\n", text))
    n_words = max(1, len(words))
    counts = Counter(words)
    with_letters = sum(n for word, n in counts.items() if any(map(str.isalpha, word)))
    bare = {word.lower().strip(".,;:!?\"'()") for word in counts}
    return {
        "n_words": len(words),
        "mean_word_length": sum(map(len, words)) / n_words,
        "hashes_per_word": text.count("#") / n_words,
        "ellipses_per_word": sum(map(text.count, ELLIPSES)) / n_words,
        "alphabetic_words": with_letters / n_words,
        "stop_words": len(STOP_WORDS & bare),
        "bullet_lines": _share(line.startswith(BULLETS) for line in lines),
        "ellipsis_lines": _share(line.endswith(ELLIPSES) for line in lines),
        "punctuated_lines": _share(line.endswith(END_MARKS) for line in lines),
        "short_lines": _share(len(line) <= SHORT_LINE_CHARS for line in lines),
        "duplicate_lines": _share(_repeats(lines)),
        "duplicate_line_chars": _share_of_chars(lines),
        "duplicate_paragraphs": _share(_repeats(paragraphs)),
        "duplicate_paragraph_chars": _share_of_chars(paragraphs),
        "kept_sentences": sum(_n_sentences(line) for line in lines if _c4_keeps(line)),
        "curly_brackets": text.count("{"),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        **ngram_statistics(words),
    }


def ngram_statistics(words: Sequence[str]) -> dict[str, float]:
    """How much of a text its repeated word n-grams cover, as Gopher counts it.

    Args:
        words: the text's words in order.

    Returns:
        `top_N_gram_chars` (N = 2, 3, 4): share of characters in the most frequent n-gram, all its
        occurrences, 0 where nothing occurs twice. `duplicate_N_gram_chars` (N = 5 to 10): share of
        characters in n-grams that occurred before, each character counted once.
    """
    codes: dict[str, int] = {}
    ids = np.array([codes.setdefault(word, len(codes)) for word in words], dtype=np.uint64)
    chars = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(chars)])
    total = max(1, int(ends[-1]))
    found: dict[str, float] = {}
    hashes = ids
    for n in range(2, 11):
        # n-gram i is words[i : i + n]; its hash grows by one word each round, modulo 2^64.
        hashes = hashes[:-1] * np.uint64(0x9E3779B97F4A7C15) + ids[n - 1 :]
        if n <= 4:
            found[f"top_{n}_gram_chars"] = _top_chars(hashes, ends, n) / total
        else:
            covered = _covered(hashes, len(ids), n)
            found[f"duplicate_{n}_gram_chars"] = int(chars[covered].sum()) / total
    return found


def _top_chars(hashes: NDArray[np.uint64], ends: NDArray[np.int64], n: int) -> int:
    """Characters in all occurrences of the most frequent n-gram; the longest where several are."""
    if len(hashes) == 0:
        return 0
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    if counts.max() < 2:
        return 0
    top = first[counts == counts.max()]
    return int(counts.max() * (ends[top + n] - ends[top]).max())


def _covered(hashes: NDArray[np.uint64], n_words: int, n: int) -> NDArray[np.bool_]:
    """Which words lie in an n-gram that stood earlier in the text."""
    again = np.ones(len(hashes), dtype=bool)
    again[np.unique(hashes, return_index=True)[1]] = False
    edges = np.zeros(n_words + 1, dtype=np.int64)
    edges[: len(again)] += again
    edges[n : n + len(again)] -= again
    return np.cumsum(edges[:n_words]) > 0


def _units(parts: Iterable[str]) -> list[str]:
    return [unit for part in parts if (unit := part.strip())]


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / max(1, len(values))


def _repeats(units: Sequence[str]) -> list[bool]:
    """For each unit, whether an equal one stood before it."""
    first: dict[str, int] = {}
    return [first.setdefault(unit, i) != i for i, unit in enumerate(units)]


def _share_of_chars(units: Sequence[str]) -> float:
    """Share of the units' characters that stand in repeated units."""
    repeated = sum(len(unit) for unit, again in zip(units, _repeats(units), strict=True) if again)
    return repeated / max(1, sum(map(len, units)))


def _c4_keeps(line: str) -> bool:
    words, lowered = line.split(), line.lower()
    return (
        line.endswith(END_MARKS)
        and not line.endswith(ELLIPSES)
        and len(words) >= MIN_LINE_WORDS
        and max(map(len, words)) <= MAX_WORD_CHARS
        and not any(phrase in lowered for phrase in REMOVED_LINES)
    )


def _n_sentences(line: str) -> int:
    return max(1, len(SENTENCE_END.findall(line)))
