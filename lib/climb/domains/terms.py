"""The most distinctive terms of groups of documents.

Axes: K groups (domains), V terms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[^\W\d_]{3,}")
"""Three letters or more, of any script."""


def find_distinctive_terms(documents_K: Sequence[Sequence[str]], n_terms: int) -> list[list[str]]:
    """Find the terms that distinguish each group from the others, best first.

    The weight of a term in a group is tf * log(1 + A / f). tf is its share of the group's terms, f
    its count over all groups, and A the mean number of terms of a group. A term counts once a
    document, so one long document cannot name its group. It must occur in two documents or more.
    English function words are left out.

    Args:
        documents_K: the texts of each group; their order changes nothing.
        n_terms: maximum number of terms per group.

    Returns:
        A list of terms per group; ties are in alphabetical order.

    Source:
        Class-based TF-IDF of BERTopic (arXiv 2203.05794); counting documents is ours.
    """
    counts_K = [_count_documents(texts) for texts in documents_K]
    total: Counter[str] = sum(counts_K, Counter())
    terms = sorted(term for term, n in total.items() if n >= 2)
    if not terms:
        return [[] for _ in documents_K]
    count_KV = np.array([[counts[term] for term in terms] for counts in counts_K], dtype=np.float64)
    weight_KV = compute_class_tf_idf(count_KV)
    best = []
    for weight_V in weight_KV:
        order_V = np.argsort(-weight_V, kind="stable")[:n_terms]
        best.append([terms[v] for v in order_V if weight_V[v] > 0.0])
    return best


def compute_class_tf_idf(count_KV: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the weights of V terms in K groups from their counts, shape (K, V).

    The weight is 0 where the count is 0.
    """
    size_K1 = np.maximum(count_KV.sum(axis=1, keepdims=True), 1.0)
    rarity_V = np.log1p(count_KV.sum() / len(count_KV) / np.maximum(count_KV.sum(axis=0), 1.0))
    weight_KV: NDArray[np.float64] = count_KV / size_K1 * rarity_V
    return weight_KV


def _count_documents(texts: Sequence[str]) -> Counter[str]:
    """Count the texts that each term occurs in."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(WORD.findall(text.lower())) - ENGLISH_STOP_WORDS)
    return counts
