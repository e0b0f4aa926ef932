"""Published quality rules that need no weights: Gopher, C4 and FineWeb, with their own limits.

Each paper throws a document away that breaks any of its rules. Here a rule is a few statistics of
`climb.quality.statistics`, each with the range that passes; rules that look at the same thing in
several sizes (n-grams of 5, 6, ... 10 words) count as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from climb.quality import Score
from climb.quality.statistics import text_statistics

Limits = Mapping[str, tuple[float, float]]
"""Statistic -> smallest and largest value that passes."""

GOPHER: Mapping[str, Limits] = {
    "words": {"n_words": (50, 100_000)},
    "word length": {"mean_word_length": (3, 10)},
    "symbols": {"hashes_per_word": (0, 0.1), "ellipses_per_word": (0, 0.1)},
    "bullets": {"bullet_lines": (0, 0.9)},
    "ellipses": {"ellipsis_lines": (0, 0.3)},
    "alphabetic words": {"alphabetic_words": (0.8, 1)},
    "stop words": {"stop_words": (2, inf)},
    "repeated lines": {
        "duplicate_lines": (0, 0.30),
        "duplicate_paragraphs": (0, 0.30),
        "duplicate_line_chars": (0, 0.20),
        "duplicate_paragraph_chars": (0, 0.20),
    },
    "top n-grams": {
        "top_2_gram_chars": (0, 0.20),
        "top_3_gram_chars": (0, 0.18),
        "top_4_gram_chars": (0, 0.16),
    },
    "repeated n-grams": {
        "duplicate_5_gram_chars": (0, 0.15),
        "duplicate_6_gram_chars": (0, 0.14),
        "duplicate_7_gram_chars": (0, 0.13),
        "duplicate_8_gram_chars": (0, 0.12),
        "duplicate_9_gram_chars": (0, 0.11),
        "duplicate_10_gram_chars": (0, 0.10),
    },
}
"""Source: Rae et al., arXiv 2112.11446, section A.1.1 and table A1."""

C4: Mapping[str, Limits] = {
    "sentences": {"kept_sentences": (3, inf)},
    "curly brackets": {"curly_brackets": (0, 0)},
    "lorem ipsum": {"lorem_ipsum": (0, 0)},
}
"""Source: Raffel et al., arXiv 1910.10683, section 2.2; without its list of bad words, which is
somebody else's file, and without its removal of repeated spans, which needs the whole corpus."""

FINEWEB: Mapping[str, Limits] = {
    "punctuated lines": {"punctuated_lines": (nextafter(0.12, 1), 1)},
    "repeated line characters": {"duplicate_line_chars": (0, nextafter(0.10, 0))},
    "short lines": {"short_lines": (0, nextafter(0.67, 0))},
}
"""Source: Penedo et al., arXiv 2406.17557, section 3.6; reaching a limit breaks the rule."""

FAMILIES: Mapping[str, Mapping[str, Limits]] = {"gopher": GOPHER, "c4": C4, "fineweb": FINEWEB}

BEST = 5.0
"""Scores run from 0 to 5, as CLIMB's, so that its threshold of 3 means something."""

COST = 0.5
"""Points of `rules` that each broken rule costs. The papers judge web pages, and code breaks three
rules of sixteen by its nature, machine logs six: at half a point each, 3 lies between them."""


@dataclass(frozen=True, kw_only=True)
class RuleScorer:
    """How well a document keeps the published rules.

    `rules` is 5 less half a point for each broken rule, at least 0. `gopher`, `c4` and `fineweb`
    are 5 where that paper would keep the document and 0 where it would not: a cluster's mean is
    five times the share that the paper keeps.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The grade over all rules, then each paper's verdict."""
        return ("rules", *FAMILIES)

    def load(self, device: str) -> Score:
        """There is nothing to load, and the device does not matter."""

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            broken = [broken_rules(text) for text in texts]
            grades = [max(0.0, BEST - COST * len(rules)) for rules in broken]
            scores = {"rules": np.array(grades, dtype=np.float32)}
            for family in FAMILIES:
                kept = [all(rule[0] != family for rule in rules) for rules in broken]
                scores[family] = BEST * np.array(kept, dtype=np.float32)
            return scores

        return score


def broken_rules(text: str) -> list[tuple[str, str]]:
    """The rules that a text breaks, as (family, rule), in the order of the tables above."""
    found = text_statistics(text)
    return [
        (family, rule)
        for family, rules in FAMILIES.items()
        for rule, limits in rules.items()
        if not all(low <= found[name] <= high for name, (low, high) in limits.items())
    ]
