"""Terms distinguish groups; names are readable, unique and safe as folder names."""

import numpy as np
import pytest

from climb.domains.names import match_earlier, name_groups, rename
from climb.domains.terms import compute_divergence, find_distinctive_terms

LAW = ["the court heard the appeal", "the court and the judge", "an appeal to the court, report"]
COOKING = ["the onion and the butter", "butter with onion", "simmer the onion, report"]


def test_terms_are_frequent_in_their_group_and_rare_in_the_others():
    law, cooking = find_distinctive_terms([LAW, COOKING], 2)
    assert law == ["court", "appeal"]
    assert cooking == ["onion", "butter"]


def test_a_weight_is_a_part_of_the_divergence_from_the_other_documents():
    weight_V = compute_divergence(np.array([6.0, 2.0]), np.array([7.0, 12.0]), 8, 20)
    # q = (7 - 6 + 0.5) / (20 - 8 + 1); the second term is more frequent elsewhere.
    np.testing.assert_allclose(weight_V, [0.75 * np.log(0.75 / (1.5 / 13)), 0.0], rtol=1e-12)


def test_nouns_come_before_verbs_and_pairs_before_their_words():
    court = ["Today he ruled that the appeal court was open."] * 3
    court += ["She ruled on the appeal court."] * 2
    other = ["The soup is in the pot, and they eat the soup."] * 5
    terms = find_distinctive_terms([court, other], 4)[0]
    assert terms[0] == "appeal court"
    assert terms.index("court") < terms.index("ruled")


def test_a_noun_comes_before_a_verb_that_twice_as_many_documents_have():
    group = ["She ruled again."] * 6 + ["She ruled on the court."] * 4
    other = ["They eat in the kitchen."] * 10
    terms = find_distinctive_terms([group, other], 2)[0]
    assert terms == ["court", "ruled"]


def test_words_that_name_no_topic_are_left_out():
    texts = ["Most people know that the market in the new year was good."] * 4
    assert find_distinctive_terms([texts, ["Rain fell on the hills."] * 4], 5)[0] == ["market"]


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


def test_a_pair_of_words_is_used_as_a_whole_or_not_at_all():
    terms = ["film", "television series", "series finale", "drama"]
    assert name_groups([terms]) == ["film-television-series"]
    assert name_groups([["court", "judge", "prime minister", "jury"]]) == ["court-judge-jury"]


def test_a_domain_keeps_its_name_if_most_of_its_documents_stay_together():
    earlier = {"law": ["a", "b", "c", "d"], "food": ["e", "f"], "gone": ["g", "h"]}
    now = {"a": 1, "b": 1, "c": 1, "d": 0, "e": 0, "f": 0}
    assert match_earlier(earlier, now) == {1: "law", 0: "food"}
    assert match_earlier(earlier, {"a": 0, "b": 0, "c": 1, "d": 1}) == {}
    # Two domains become one: it keeps the name of the larger one, and of none if they are equal.
    assert match_earlier(earlier, dict.fromkeys("abcdef", 0)) == {0: "law"}
    assert match_earlier(earlier, dict.fromkeys("abef", 0)) == {}


def test_the_words_of_a_pair_are_compared_too():
    assert name_groups([["courts court", "law"]]) == ["law"]


def test_new_names_avoid_those_that_are_kept():
    assert name_groups([["court"], ["onion"]], taken=["court"]) == ["court-2", "onion"]


def test_given_names_replace_the_names_that_domains_would_have():
    assert rename(["court-appeal", "onion"], {"onion": "food"}) == ["court-appeal", "food"]


def test_words_with_marks_are_whole_words():
    hindi = ["\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e"] * 3
    terms = find_distinctive_terms([hindi, LAW], 3)[0]
    assert "\u092d\u093e\u0937\u093e" in terms
    french = ["la liberte\u0301 et l\u2019e\u0301galite\u0301"] * 3
    assert "libert\u00e9" in find_distinctive_terms([french, LAW], 5)[0]
