"""Terms tell groups apart; names are readable, unique and safe as folder names."""

import numpy as np
import pytest

from climb.terms import class_tf_idf, distinctive_terms, name_groups

LAW = ["the court heard the appeal", "the court and the judge", "an appeal to the court report"]
COOKING = ["the onion and the butter", "butter with onion", "simmer the onion report"]


def test_terms_are_those_of_the_group_and_not_what_all_share():
    law, cooking = distinctive_terms([LAW, COOKING], 2)
    assert law == ["court", "appeal"]
    assert cooking == ["onion", "butter"]


def test_weights_are_share_times_rarity():
    weight_KV = class_tf_idf(np.array([[3.0, 1.0], [0.0, 4.0]]))
    # A = 8 / 2 = 4; the totals are 3 and 5; the group sizes are 4 and 4.
    expected_KV = [[0.75 * np.log(1 + 4 / 3), 0.25 * np.log(1.8)], [0.0, np.log(1.8)]]
    np.testing.assert_allclose(weight_KV, expected_KV, rtol=1e-12)


def test_a_term_that_one_document_repeats_does_not_name_the_group():
    [terms] = distinctive_terms([["spam " * 50, "onion butter", "onion soup"]], 3)
    assert terms == ["onion"]


def test_the_order_of_documents_changes_nothing():
    assert distinctive_terms([LAW[::-1], COOKING], 5) == distinctive_terms([LAW, COOKING[::-1]], 5)


def test_groups_without_words_have_no_terms():
    assert distinctive_terms([["12 34 !!"], []], 3) == [[], []]
    assert distinctive_terms([LAW, ["12"]], 1) == [["court"], []]


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


def test_names_that_come_up_again_get_a_number():
    groups = [["court"], ["court"], [], ["court"], []]
    assert name_groups(groups) == ["court", "court-2", "domain", "court-3", "domain-2"]
