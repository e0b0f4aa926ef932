"""Terms distinguish groups; names are readable, unique and safe as folder names."""

import numpy as np
import pytest

from climb.domains.names import name_groups
from climb.domains.terms import compute_class_tf_idf, find_distinctive_terms

LAW = ["the court heard the appeal", "the court and the judge", "an appeal to the court report"]
COOKING = ["the onion and the butter", "butter with onion", "simmer the onion report"]


def test_terms_are_frequent_in_their_group_and_rare_in_the_others():
    law, cooking = find_distinctive_terms([LAW, COOKING], 2)
    assert law == ["court", "appeal"]
    assert cooking == ["onion", "butter"]


def test_a_weight_is_share_times_rarity():
    weight_KV = compute_class_tf_idf(np.array([[3.0, 1.0], [0.0, 4.0]]))
    # A = 8 / 2 = 4; the totals are 3 and 5; the group sizes are 4 and 4.
    expected_KV = [[0.75 * np.log(1 + 4 / 3), 0.25 * np.log(1.8)], [0.0, np.log(1.8)]]
    np.testing.assert_allclose(weight_KV, expected_KV, rtol=1e-12)


def test_a_term_that_one_document_repeats_does_not_name_the_group():
    [terms] = find_distinctive_terms([["spam " * 50, "onion butter", "onion soup"]], 3)
    assert terms == ["onion"]


def test_the_order_of_documents_changes_nothing():
    assert find_distinctive_terms([LAW[::-1], COOKING], 5) == find_distinctive_terms(
        [LAW, COOKING[::-1]], 5
    )


def test_groups_without_words_have_no_terms():
    assert find_distinctive_terms([["12 34 !!"], []], 3) == [[], []]
    assert find_distinctive_terms([LAW, ["12"]], 1) == [["court"], []]


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        (["court", "courts", "appeal", "judge", "jury"], "court-appeal-judge"),
        (["Café", "crème"], "cafe-creme"),
        (["право", "суд"], "domain"),
        ([], "domain"),
        (["x" * 60], "x" * 20),
        (["../../etc"], "etc"),
    ],
)
def test_a_name_is_made_of_ascii_letters(terms, name):
    assert name_groups([terms]) == [name]


def test_a_repeated_name_gets_a_number():
    groups = [["court"], ["court"], [], ["court"], []]
    assert name_groups(groups) == ["court", "court-2", "domain", "court-3", "domain-2"]
