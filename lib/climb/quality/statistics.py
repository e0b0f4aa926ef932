"""Statistics of one text for the quality rules: shares of its lines, words and characters.

White space separates words, line feeds separate lines, and empty lines separate paragraphs. A share
of characters counts only the characters within lines, paragraphs or words, not those between them.
So indentation and empty lines have no effect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""Gopher: an English text contains at least two of these words."""

BULLETS = ("•", "‣", "▪", "◦", "●", "- ", "* ")
ELLIPSES = ("...", "…")
QUOTES = "\"'\u201d\u2019"
END_MARKS = (".", "?", "!", *QUOTES)
"""Marks with which a complete line of text ends: full stop, question mark, exclamation mark or
closing quote. C4 removes lines that end without such a mark. FineWeb requires that enough lines end
with such a mark."""

REMOVED_LINES = (
    *("javascript", "terms of use", "privacy policy", "cookie policy"),
    *("uses cookies", "use of cookies", "use cookies"),
)
"""C4 removes lines that contain one of these phrases, in upper or lower case."""

SENTENCE_END = re.compile(rf"[.?!](?=[{QUOTES})\]]*(?:\s|$))")
MIN_LINE_WORDS = 5
MAX_WORD_CHARS = 1000
"""C4 removes lines with fewer than MIN_LINE_WORDS words or a word longer than MAX_WORD_CHARS."""

SHORT_LINE_CHARS = 30
"""FineWeb: a line of at most 30 characters is short."""


def compute_text_statistics(text: str) -> dict[str, float]:
    """Compute all statistics that `climb.quality.rules` uses. An undefined statistic is 0."""
    words = text.split()
    lines = _strip_units(text.split("\n"))
    paragraphs = _strip_units(re.split(r"\n\s*\n", text))
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
        "bullet_lines": _compute_share(line.startswith(BULLETS) for line in lines),
        "ellipsis_lines": _compute_share(line.endswith(ELLIPSES) for line in lines),
        "punctuated_lines": _compute_share(line.endswith(END_MARKS) for line in lines),
        "short_lines": _compute_share(len(line) <= SHORT_LINE_CHARS for line in lines),
        "duplicate_lines": _compute_share(_mark_repeats(lines)),
        "duplicate_line_chars": _compute_repeated_char_share(lines),
        "duplicate_paragraphs": _compute_share(_mark_repeats(paragraphs)),
        "duplicate_paragraph_chars": _compute_repeated_char_share(paragraphs),
        "kept_sentences": sum(_count_sentences(line) for line in lines if _keeps_c4_line(line)),
        "curly_brackets": text.count("{"),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        **compute_ngram_statistics(words),
    }


def compute_ngram_statistics(words: Sequence[str]) -> dict[str, float]:
    """Compute the shares of a text's characters in repeated word n-grams, as defined by Gopher.

    Args:
        words: the words of the text in order.

    Returns:
        `top_N_gram_chars` (N = 2, 3, 4): share of characters in all occurrences of the most
        frequent n-gram, 0 if no n-gram occurs twice. `duplicate_N_gram_chars` (N = 5 to 10):
        share of characters in n-grams that also occur earlier in the text. A character in several
        such n-grams counts once.
    """
    codes: dict[str, int] = {}
    ids = np.array([codes.setdefault(word, len(codes)) for word in words], dtype=np.uint64)
    chars = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(chars)])
    total = max(1, int(ends[-1]))
    values: dict[str, float] = {}
    hashes = ids
    for n in range(2, 11):
        # n-gram i is words[i : i + n]; each iteration adds one word to its hash, modulo 2^64.
        hashes = hashes[:-1] * np.uint64(0x9E3779B97F4A7C15) + ids[n - 1 :]
        if n <= 4:
            values[f"top_{n}_gram_chars"] = _count_top_chars(hashes, ends, n) / total
        else:
            covered = _mark_covered_words(hashes, len(ids), n)
            values[f"duplicate_{n}_gram_chars"] = int(chars[covered].sum()) / total
    return values


def _count_top_chars(hashes: NDArray[np.uint64], ends: NDArray[np.int64], n: int) -> int:
    """Count the characters in all occurrences of the most frequent n-gram.

    If several n-grams are the most frequent, the one with the most characters counts.
    """
    if len(hashes) == 0:
        return 0
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    if counts.max() < 2:
        return 0
    top = first[counts == counts.max()]
    return int(counts.max() * (ends[top + n] - ends[top]).max())


def _mark_covered_words(hashes: NDArray[np.uint64], n_words: int, n: int) -> NDArray[np.bool_]:
    """Mark the words in n-grams that also occur earlier in the text."""
    repeated = np.ones(len(hashes), dtype=bool)
    repeated[np.unique(hashes, return_index=True)[1]] = False
    edges = np.zeros(n_words + 1, dtype=np.int64)
    edges[: len(repeated)] += repeated
    edges[n : n + len(repeated)] -= repeated
    return np.cumsum(edges[:n_words]) > 0


def _strip_units(parts: Iterable[str]) -> list[str]:
    return [unit for part in parts if (unit := part.strip())]


def _compute_share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / max(1, len(values))


def _mark_repeats(units: Sequence[str]) -> list[bool]:
    """Return for each unit whether an equal unit precedes it."""
    first: dict[str, int] = {}
    return [first.setdefault(unit, i) != i for i, unit in enumerate(units)]


def _compute_repeated_char_share(units: Sequence[str]) -> float:
    """Compute the share of characters in repeated units, those that equal an earlier unit."""
    pairs = zip(units, _mark_repeats(units), strict=True)
    n_repeated = sum(len(unit) for unit, is_repeat in pairs if is_repeat)
    return n_repeated / max(1, sum(map(len, units)))


def _keeps_c4_line(line: str) -> bool:
    words, lowered = line.split(), line.lower()
    return (
        line.endswith(END_MARKS)
        and not line.endswith(ELLIPSES)
        and len(words) >= MIN_LINE_WORDS
        and max(map(len, words)) <= MAX_WORD_CHARS
        and not any(phrase in lowered for phrase in REMOVED_LINES)
    )


def _count_sentences(line: str) -> int:
    return max(1, len(SENTENCE_END.findall(line)))
