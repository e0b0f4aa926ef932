"""Published quality rules that need no model: Gopher, C4 and FineWeb, with their thresholds.

Each paper removes a document that violates any rule of the paper. Here a rule is a set of
statistics of `climb.quality.statistics`, each with its accepted range. Several thresholds for the
same property, for example for repeated n-grams of 5, 6, ... and 10 words, count as one rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.quality import Score
from climb.quality.statistics import compute_text_statistics

Limits = Mapping[str, tuple[float, float]]
"""Statistic -> smallest and largest accepted value."""

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
"""Source: Raffel et al., arXiv 1910.10683, section 2.2. Two rules of the paper are left out: the
rule on bad words needs a list from a separate file, and the removal of repeated spans needs the
whole corpus."""

FINEWEB: Mapping[str, Limits] = {
    "punctuated lines": {"punctuated_lines": (nextafter(0.12, 1), 1)},
    "repeated line characters": {"duplicate_line_chars": (0, nextafter(0.10, 0))},
    "short lines": {"short_lines": (0, nextafter(0.67, 0))},
}
"""Source: Penedo et al., arXiv 2406.17557, section 3.6. In this paper, a value that equals a
threshold violates the rule. So each limit that is written with `nextafter` is the accepted
floating-point number nearest to the paper's threshold."""

FAMILIES: Mapping[str, Mapping[str, Limits]] = {"gopher": GOPHER, "c4": C4, "fineweb": FINEWEB}
"""Family -> rules. A family is the rule set of one paper."""

MAX_SCORE = 5.0
"""Scores range from 0 to 5 as in CLIMB, so that CLIMB's threshold of 3 applies."""

POINTS_PER_VIOLATION = 0.5
"""Points that each violated rule subtracts from `rules`. The rules are made for web pages. Typical
code violates three of the sixteen rules and gets 3.5; machine logs violate six and get 2. The
threshold 3 separates code from machine logs."""


@dataclass(frozen=True, kw_only=True)
class RuleScorer:
    """Scores documents by the published rules.

    The score `rules` is 5 minus half a point per violated rule, but at least 0. The scores
    `gopher`, `c4` and `fineweb` belong to one paper each. Such a score is 5 if the document
    violates no rule of this paper, else 0. So the mean of the score over the documents of a cluster
    is five times the share of documents that the paper keeps.
    """

    uses_gpu: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """The score over all rules, then one score per paper."""
        return ("rules", *FAMILIES)

    def load(self, device: str) -> Score:
        """Return the scoring function; there is nothing to load, and the device is ignored."""

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            violated = [find_violated_rules(text) for text in texts]
            points = [max(0.0, MAX_SCORE - POINTS_PER_VIOLATION * len(rules)) for rules in violated]
            scores = {"rules": np.array(points, dtype=np.float32)}
            for family in FAMILIES:
                passes = [all(rule[0] != family for rule in rules) for rules in violated]
                scores[family] = MAX_SCORE * np.array(passes, dtype=np.float32)
            return scores

        return score


def find_violated_rules(text: str) -> list[tuple[str, str]]:
    """Return a pair (family, rule) for each rule that a text violates, in the order of FAMILIES."""
    values = compute_text_statistics(text)
    return [
        (family, rule)
        for family, rules in FAMILIES.items()
        for rule, limits in rules.items()
        if not all(low <= values[name] <= high for name, (low, high) in limits.items())
    ]
