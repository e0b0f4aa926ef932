"""What a group of documents is about: its most distinctive terms, and a name made of them.

Axes: K groups (domains), V terms.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[^\W\d_]{3,}")
"""Three letters or more, of any script."""

NAME_TERMS = 3
"""Terms in a name."""

NAME_TERM_CHARS = 20
"""Characters of a term that enter a name: domain names become folder and column names."""


def distinctive_terms(documents_K: Sequence[Sequence[str]], n_terms: int) -> list[list[str]]:
    """The terms that set each group apart from the others, best first.

    The weight of a term in a group is tf * log(1 + A / f): its share of the group's terms, times
    how rare it is, where f counts it over all groups and A is the mean number of terms of a group.
    A term is counted once a document, so that one long document cannot name its group, and only if
    two documents hold it. English function words are left out.

    Args:
        documents_K: the texts of each group; their order changes nothing.
        n_terms: terms per group, at most.

    Returns:
        A list of terms per group; ties are in alphabetical order.

    Source:
        Class-based TF-IDF of BERTopic (arXiv 2203.05794); counting documents is ours.
    """
    counts_K = [_document_counts(texts) for texts in documents_K]
    total: Counter[str] = sum(counts_K, Counter())
    terms = sorted(term for term, n in total.items() if n >= 2)
    if not terms:
        return [[] for _ in documents_K]
    count_KV = np.array([[counts[term] for term in terms] for counts in counts_K], dtype=np.float64)
    weight_KV = class_tf_idf(count_KV)
    best = []
    for weight_V in weight_KV:
        order_V = np.argsort(-weight_V, kind="stable")[:n_terms]
        best.append([terms[v] for v in order_V if weight_V[v] > 0.0])
    return best


def class_tf_idf(count_KV: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of V terms in K groups from their counts; 0 where a count is 0."""
    size_K1 = np.maximum(count_KV.sum(axis=1, keepdims=True), 1.0)
    rarity_V = np.log1p(count_KV.sum() / len(count_KV) / np.maximum(count_KV.sum(axis=0), 1.0))
    weight_KV: NDArray[np.float64] = count_KV / size_K1 * rarity_V
    return weight_KV


def name_groups(terms_K: Sequence[Sequence[str]]) -> list[str]:
    """A name per group from its first terms: lower-case ASCII letters joined by `-`, and unique.

    Forms of a word that is in the name already are passed over ("court", "courts"). A group
    without a term in Latin letters is called `domain`; what comes up again gets `-2`, `-3`, ...
    """
    names: list[str] = []
    taken: set[str] = set()
    for terms in terms_K:
        name = "-".join(_name_parts(terms)) or "domain"
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}-{n}"
        taken.add(unique)
        names.append(unique)
    return names


def _document_counts(texts: Sequence[str]) -> Counter[str]:
    """In how many of the texts each term stands."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(WORD.findall(text.lower())) - ENGLISH_STOP_WORDS)
    return counts


def _name_parts(terms: Sequence[str]) -> list[str]:
    parts: list[str] = []
    for term in terms:
        plain = unicodedata.normalize("NFKD", term).encode("ascii", "ignore").decode()
        part = re.sub(r"[^a-z]", "", plain.lower())[:NAME_TERM_CHARS]
        known = any(part.startswith(p) or p.startswith(part) for p in parts)
        if part and not known and len(parts) < NAME_TERMS:
            parts.append(part)
    return parts
