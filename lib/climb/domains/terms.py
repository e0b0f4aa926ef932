"""The most distinctive terms of groups of documents: nouns, and pairs such as `blood cells`.

No language model and no metadata is used. A word counts as a noun where it follows an article, a
preposition or another content word, or begins with a capital letter after another word. Elsewhere,
for example after `to` or a personal pronoun, a word does not count as a noun.

Axes: K groups (domains), V terms.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TOKEN = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f\u0900-\u0dff])+(?:['\u2019]\w+)?|[^\s\w]|\n|\d+")
"""Pattern that matches words, and also the punctuation marks, line ends and numbers at which a
phrase of words ends. The scripts of India write vowels as marks, which Python does not count as
letters."""

APOSTROPHES = frozenset("'\u2019")
"""A word with one of these characters is in no term: contractions such as `I'm` name no topic."""

MIN_CHARS = 3
"""Minimum number of letters of a word in a term."""

BEFORE_NOUN = frozenset(
    (
        *("the", "a", "an", "this", "that", "these", "those", "his", "her", "its", "their", "our"),
        *("your", "my", "any", "each", "every", "some", "no", "of", "in", "for", "on", "with"),
        *("by", "from", "at", "as", "and", "or", "other", "many", "most", "several", "both"),
        *("between", "into", "about", "per"),
    )
)
"""English words that often come before a noun or its adjectives."""

GENERIC = frozenset(
    (
        *("said", "says", "say", "year", "years", "time", "times", "way", "ways", "thing"),
        *("things", "people", "person", "new", "good", "great", "little", "right", "make"),
        *("makes", "made", "use", "used", "using", "need", "like", "just", "know", "really"),
        *("think", "want", "look", "come", "day", "days", "called", "different", "following"),
        *("including", "based", "old", "best", "large", "small", "long", "high", "number", "did"),
        *("does", "figure", "sure", "gonna", "guy", "guys"),
    )
)
"""English words that are frequent in every kind of text and name no topic."""

PAIR_WEIGHT = 1.6
"""Factor of a pair of words. A pair is more informative than a single word, but rarer."""

NOUN_SHARE = 0.5
"""The noun factor of a word (see `_measure_nouns`) is 1 if at least this share of its occurrences
is in the place of a noun. The measured share of a word is smoothed before it is compared."""

MIN_DOCUMENT_SHARE = 0.02
"""A term must occur in at least this share of its group's documents, and in at least two."""


@dataclass
class _Counts:
    """Counts over a group of documents."""

    documents: Counter[str] = field(default_factory=Counter)
    """Term -> number of documents that have it."""

    as_noun: Counter[str] = field(default_factory=Counter)
    """Word -> number of occurrences in the place of a noun."""

    all: Counter[str] = field(default_factory=Counter)
    """Word -> number of occurrences."""


def find_distinctive_terms(documents_K: Sequence[Sequence[str]], n_terms: int) -> list[list[str]]:
    """Find the terms that distinguish each group from the others, best first.

    The weight of a term in a group is p * log(p / q), times the square of the noun factor of its
    last word, and times `PAIR_WEIGHT` for a pair. p is the share of the group's documents that have
    the term, and q is the share of the documents of all other groups that have the term. A term
    counts once per document, so one long document cannot determine the terms of its group.

    Args:
        documents_K: the texts of each group; their order changes nothing.
        n_terms: maximum number of terms per group.

    Returns:
        A list of terms per group; ties are in alphabetical order.

    Source:
        p * log(p / q) is the term's part of the Kullback-Leibler divergence. The idea to take
        phrases between function words is from RAKE (Rose et al., 2010).
    """
    counts_K = [_count(texts) for texts in documents_K]
    total: Counter[str] = sum((counts.documents for counts in counts_K), Counter())
    nouns = _measure_nouns(counts_K)
    n_documents = sum(map(len, documents_K))
    best = []
    for texts, counts in zip(documents_K, counts_K, strict=True):
        least = max(2, MIN_DOCUMENT_SHARE * len(texts))
        terms = sorted(term for term, n in counts.documents.items() if n >= least)
        own_V = np.array([counts.documents[term] for term in terms], dtype=np.float64)
        all_V = np.array([total[term] for term in terms], dtype=np.float64)
        weight_V = compute_divergence(own_V, all_V, len(texts), n_documents)
        weight_V *= np.array([_weigh_term(term, nouns) for term in terms])
        order_V = np.argsort(-weight_V, kind="stable")[:n_terms]
        best.append([terms[v] for v in order_V if weight_V[v] > 0.0])
    return best


def compute_divergence(
    own_V: NDArray[np.float64], all_V: NDArray[np.float64], n_own: int, n_all: int
) -> NDArray[np.float64]:
    """Compute p * log(p / q) of V terms from the numbers of documents that have them.

    Args:
        own_V: how many documents of the group have the term.
        all_V: how many documents of all groups have the term.
        n_own: number of documents of the group.
        n_all: number of documents of all groups.

    Returns:
        The weights; 0 for a term that is not more frequent in the group than elsewhere.
    """
    p_V = own_V / max(n_own, 1)
    q_V = (all_V - own_V + 0.5) / (n_all - n_own + 1.0)
    weight_V: NDArray[np.float64] = p_V * np.log(np.maximum(p_V / q_V, 1.0))
    return weight_V


def _measure_nouns(counts_K: Sequence[_Counts]) -> dict[str, float]:
    """Return the noun factor of each word: how likely it is a noun, from 0.3 to 1."""
    as_noun: Counter[str] = sum((counts.as_noun for counts in counts_K), Counter())
    seen: Counter[str] = sum((counts.all for counts in counts_K), Counter())
    return {
        word: min(max((as_noun[word] + 1) / (n + 3) / NOUN_SHARE, 0.3), 1.0)
        for word, n in seen.items()
    }


def _weigh_term(term: str, nouns: dict[str, float]) -> float:
    """Return the factor by which the weight of a term is multiplied.

    It is the squared noun factor of the last word (the head), times `PAIR_WEIGHT` for a pair.
    """
    words = term.split()
    pair = PAIR_WEIGHT if len(words) > 1 else 1.0
    return pair * nouns[words[-1]] ** 2


def _count(texts: Sequence[str]) -> _Counts:
    """Count the documents of each word and pair, and how often each word is in a noun's place."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts = _Counts()
    for text in texts:
        found: set[str] = set()
        before, phrase = "", list[str]()
        for token in TOKEN.findall(unicodedata.normalize("NFC", text)):
            word = token.lower()
            is_content = len(word) >= MIN_CHARS and word[0].isalpha()
            is_content = is_content and not APOSTROPHES & set(word)
            if not is_content or word in ENGLISH_STOP_WORDS:
                before, phrase = word, []
                continue
            counts.all[word] += 1
            is_name = token[0].isupper() and before.isalpha()
            counts.as_noun[word] += before in BEFORE_NOUN or bool(phrase) or is_name
            if word not in GENERIC:
                found.add(word)
                if phrase and phrase[-1] not in GENERIC and phrase[-1] != word:
                    found.add(f"{phrase[-1]} {word}")
            phrase.append(word)
            before = word
        counts.documents.update(found)
    return counts
