"""The share of a document that recurs elsewhere: licences have much of it, other text little."""

import numpy as np
import pytest

from climb.config import recipe_of
from climb.errors import ConfigError
from climb.quality.repetition import RepetitionScorer
from climb.testing.contracts_text import check_scorer

LICENCE = (
    "permission is hereby granted free of charge to any person obtaining a copy of this software "
    "and associated documentation files to deal in the software without restriction including the "
    "rights to use copy modify merge publish distribute and sell copies of the software"
)


def score(scorer, texts):
    """Count the n-grams of these texts as of a whole corpus, and score them."""
    own = [np.unique(scorer.hash_ngrams(text)) for text in texts]
    found, counts = np.unique(np.concatenate(own), return_counts=True)
    return scorer.load_repeated(found[counts >= scorer.min_documents])(texts)["unrepeated"]


def words(seed, n=60):
    rng = np.random.default_rng(seed)
    return " ".join(f"word{rng.integers(0, 5000)}" for _ in range(n))


def test_a_passage_that_recurs_in_many_documents_lowers_the_score():
    scorer = RepetitionScorer(sample=1)
    texts = [f"{words(i, 20)} {LICENCE}" for i in range(6)] + [words(100 + i) for i in range(6)]
    scores = score(scorer, texts)
    assert scores[:6].max() < 0.5
    np.testing.assert_array_equal(scores[6:], 1.0)


def test_a_passage_of_fewer_documents_does_not_count():
    scorer = RepetitionScorer(sample=1, min_documents=5)
    scores = score(scorer, [f"{words(i, 20)} {LICENCE}" for i in range(4)])
    np.testing.assert_array_equal(scores, 1.0)


def test_repetition_inside_one_document_does_not_count():
    scores = score(RepetitionScorer(sample=1), [f"{LICENCE} " * 9])
    np.testing.assert_array_equal(scores, 1.0)


def test_case_and_punctuation_change_nothing():
    scorer = RepetitionScorer(sample=1)
    shouted = LICENCE.upper().replace(" ", ", ")
    np.testing.assert_array_equal(scorer.hash_ngrams(LICENCE), scorer.hash_ngrams(shouted))


def test_a_sample_estimates_the_share_of_all_ngrams():
    texts = [f"{words(i, 60)} {LICENCE}" for i in range(40)]
    full, sampled = (score(RepetitionScorer(sample=sample), texts).mean() for sample in (1, 4))
    assert full == pytest.approx(sampled, abs=0.15)


def test_hashes_are_the_same_on_every_machine():
    assert RepetitionScorer(sample=1).hash_ngrams(LICENCE)[:2].tolist() == [
        10100543358871015262,
        5132448533985727771,
    ]


def test_the_scorer_keeps_the_contract():
    check_scorer(RepetitionScorer())
    assert recipe_of(RepetitionScorer()).startswith("RepetitionScorer-")
    with pytest.raises(ConfigError, match="min_documents is 0; it must be at least 1"):
        RepetitionScorer(min_documents=0)
