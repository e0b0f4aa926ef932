"""The feasible set: projection, sampling, whole tokens. Limits that collide: test_limits.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb.errors import MixtureError
from climb.limits import Limit, Limits
from climb.mixture import FeasibleSet, apportion, weights_array, weights_by_name

QUICK = settings(max_examples=60, deadline=None)


def small_set(*rules, **limits):
    known = {"target_tokens": 100.0, "max_epochs": 2.0, "rules": rules} | limits
    return FeasibleSet.of(("a", "b", "c"), [10.0, 40.0, 50.0], Limits(**known))


def by_hand(caps, min_weight=0.0, natural=None, floors=None, groups=()):
    """A set of domains a, b, ... with these caps; equal shares and no floors unless given."""
    k = len(caps)
    return FeasibleSet(
        tuple("abcdefgh"[:k]),
        np.ones(k),
        np.full(k, 1.0 / k) if natural is None else np.array(natural),
        np.zeros(k) if floors is None else np.array(floors),
        np.array(caps),
        min_weight,
        groups,
    )


def group(domains, least=0.0, most=1.0):
    return Limit(name=domains, domains=tuple(domains), min_weight=least, max_weight=most)


def test_a_cap_is_the_smallest_of_one_epochs_and_share_ratio():
    space = small_set(max_epochs=3.0, max_share_ratio=2.0)
    np.testing.assert_allclose(space.caps_K, [0.2, 0.8, 1.0])


def test_without_epochs_only_the_share_ratio_limits():
    np.testing.assert_allclose(small_set(max_epochs=None, max_share_ratio=5.0).caps_K, [0.5, 1, 1])


@pytest.mark.parametrize(
    ("names", "tokens", "message"),
    [
        (("a", "a", "b"), [1, 2, 3], "named twice: a"),
        (("a", "b"), [1, 2, 3], "2 domains, but token counts of shape"),
        ((), [], "0 domains"),
        (("a", "b"), [1, -2], "'b' has -2"),
        (("a", "b"), [1, float("nan")], "'b' has nan"),
        (("a", "b"), [0, 0], "all domains are empty"),
    ],
)
def test_tokens_that_make_no_sense_are_named(names, tokens, message):
    with pytest.raises(MixtureError, match=message):
        FeasibleSet.of(names, tokens, Limits(target_tokens=1.0, max_epochs=1.0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"natural": [0.5, 0.5]}, "other lengths"),
        ({"min_weight": 1.0}, "min_weight is 1.0"),
        ({"caps": [1.0, np.nan, 1.0]}, "caps must be finite"),
        ({"floors": [0.0, -0.1, 0.0]}, "floors must be finite and non-negative"),
        ({"floors": [0.0, 0.5, 0.6]}, "floors sum to 1.1"),
        ({"caps": [0.4, 0.4, 0.4], "min_weight": 0.4}, r"search\.min_weight 0\.4"),
    ],
)
def test_a_set_made_by_hand_is_checked_too(arrays, message):
    with pytest.raises(MixtureError, match=message):
        by_hand(**({"caps": [1.0, 1.0, 1.0]} | arrays))


def test_what_a_cap_cuts_goes_to_the_others_in_proportion():
    space = by_hand([0.4, 1.0, 1.0])
    np.testing.assert_allclose(space.project([0.7, 0.2, 0.1]), [0.4, 0.4, 0.2], atol=1e-12)


def test_a_domain_of_weight_zero_gets_something_only_when_the_rest_is_full():
    space = by_hand([0.4, 0.5, 1.0, 1.0], natural=[0.1, 0.3, 0.4, 0.2])
    np.testing.assert_allclose(
        space.project([0.5, 0.5, 0.0, 0.0]), [0.4, 0.5, 1 / 15, 1 / 30], atol=1e-12
    )
    np.testing.assert_allclose(space.project([0.45, 0.45, 0.1, 0]), [0.4, 0.48, 0.12, 0], atol=0.03)
    assert space.project([0.45, 0.45, 0.1, 0.0])[3] == 0.0


def test_natural_proportions_above_their_caps_are_brought_under_them():
    space = by_hand([0.5, 1.0, 1.0], natural=[0.8, 0.1, 0.1])
    np.testing.assert_allclose(space.project(space.natural_K), [0.5, 0.25, 0.25], atol=1e-12)


def test_small_weights_become_zero_and_the_others_share_what_they_had():
    space = by_hand([1.0, 1.0, 1.0], min_weight=0.1)
    np.testing.assert_allclose(space.project([0.05, 0.38, 0.57]), [0.0, 0.4, 0.6], atol=1e-12)


def test_small_weights_stay_where_the_others_have_no_room():
    space = by_hand([0.5, 0.48, 0.5, 0.5], min_weight=0.1)
    found_K = space.project([0.6, 0.36, 0.03, 0.01])
    np.testing.assert_allclose(found_K[[2, 3]], [0.1, 0.0], atol=1e-12)
    assert space.contains(found_K)


def test_the_largest_caps_are_used_when_the_largest_weights_would_be_too_many():
    space = by_hand([0.34, 0.34, 0.3, 0.6, 0.5], min_weight=0.3)
    for weights in ([0.5, 0.3, 0.15, 0.03, 0.02], [0.4, 0.3, 0.3, 0.0, 0.0]):
        assert space.contains(space.project(weights))


def test_what_a_floor_takes_comes_from_the_others_in_proportion():
    space = by_hand([1.0, 1.0, 1.0], floors=[0.4, 0.0, 0.0])
    np.testing.assert_allclose(space.project([0.1, 0.6, 0.3]), [0.4, 0.4, 0.2], atol=1e-12)
    np.testing.assert_allclose(space.project([0.0, 1.0, 0.0]), [0.4, 0.6, 0.0], atol=1e-12)


def test_what_a_group_may_not_have_goes_to_the_others_and_ratios_inside_it_stay():
    space = by_hand([1.0] * 4, groups=(group("ab", most=0.3), group("cd", least=0.2)))
    np.testing.assert_allclose(
        space.project([0.6, 0.3, 0.06, 0.04]), [0.2, 0.1, 0.42, 0.28], atol=1e-12
    )
    np.testing.assert_allclose(space.project([0.1, 0.1, 0.4, 0.4]), [0.1, 0.1, 0.4, 0.4])


def test_what_a_group_must_have_comes_from_the_others_and_caps_hold_inside_it():
    space = by_hand([0.25, 1.0, 1.0], groups=(group("ab", least=0.6),))
    np.testing.assert_allclose(space.project([0.2, 0.1, 0.7]), [0.25, 0.35, 0.4], atol=1e-12)


def test_a_group_of_weight_zero_gets_its_least_in_proportion_to_natural_shares():
    space = by_hand([1.0] * 4, natural=[0.3, 0.1, 0.5, 0.1], groups=(group("ab", least=0.4),))
    np.testing.assert_allclose(
        space.project([0.0, 0.0, 1.0, 0.0]), [0.3, 0.1, 0.6, 0.0], atol=1e-12
    )


def test_domains_of_weight_zero_stay_there_where_their_group_is_full_without_them():
    space = by_hand([0.5] * 4, groups=(group("ab", most=0.4),))
    found_K = space.project([0.7, 0.0, 0.3, 0.0])
    np.testing.assert_allclose(found_K, [0.4, 0.0, 0.5, 0.1], atol=1e-12)
    assert found_K[1] == 0.0


def test_domains_of_weight_zero_stay_there_where_a_group_s_least_fills_the_whole():
    space = by_hand([1.0, 1.0, 0.7, 1.0], groups=(group("ab", least=0.4),))
    found_K = space.project([0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(found_K, [0.2, 0.2, 0.6, 0.0], atol=1e-12)
    assert found_K[3] == 0.0


def test_however_small_a_weight_is_it_comes_before_the_weights_that_are_zero():
    space = by_hand([0.5, 0.3, 0.199999, 1.0])
    np.testing.assert_allclose(
        space.project([0.9, 0.1, 1e-13, 0.0]), [0.5, 0.3, 0.199999, 1e-6], atol=1e-12
    )


def test_a_domain_with_a_floor_stays_when_small_weights_go():
    space = by_hand([1.0] * 3, min_weight=0.1, floors=[0.02, 0.0, 0.0])
    np.testing.assert_allclose(space.project([0.03, 0.05, 0.92]), [0.1, 0.0, 0.9], atol=1e-12)


def test_small_weights_stay_where_their_group_would_miss_its_least():
    space = by_hand([0.08, 0.5, 0.5, 1.0], min_weight=0.05, groups=(group("abc", least=0.1),))
    found_K = space.project([0.03, 0.02, 0.04, 0.91])
    np.testing.assert_allclose(found_K, [0.0, 0.0, 0.1, 0.9], atol=1e-12)
    tight = by_hand([0.08, 0.06, 0.5, 1.0], min_weight=0.05, groups=(group("ab", least=0.1),))
    np.testing.assert_allclose(tight.project([0.03, 0.02, 0.5, 0.45])[:2], 0.05, atol=1e-12)


def test_another_choice_of_domains_still_holds_those_with_a_floor():
    # d holds too little for its group, and d and e together are too much: e alone stands in.
    space = by_hand(
        [0.9, 0.9, 0.9, 0.2, 0.3],
        min_weight=0.2,
        floors=[0.01, 0.01, 0.01, 0.0, 0.0],
        groups=(group("de", least=0.25, most=0.39),),
    )
    found_K = space.project([0.2, 0.2, 0.2, 0.4, 0.0])
    np.testing.assert_allclose(found_K, [0.25, 0.25, 0.25, 0.0, 0.25], atol=1e-12)


@pytest.mark.parametrize("cap", [0.11, 0.5])
def test_a_mixture_keeps_its_own_domains_where_a_full_group_leaves_room_for_others(cap):
    # c and d hold 0.8; the group has room for one of a and b and not for 0.2; so e comes back too.
    space = by_hand([cap, cap, 0.5, 0.3, 0.4], min_weight=0.1, groups=(group("ab", most=0.15),))
    found_K = space.project([0.07, 0.08, 0.5, 0.3, 0.05])
    assert space.contains(found_K, tolerance=1e-12)
    assert found_K[0] == 0.0
    assert (found_K[1:] >= 0.1).all()


def test_a_group_that_holds_less_than_the_smallest_weight_is_left_out():
    space = by_hand([1.0] * 3, min_weight=0.1, groups=(group("ab", most=0.05),))
    np.testing.assert_allclose(space.project([0.5, 0.2, 0.3]), [0.0, 0.0, 1.0], atol=1e-12)


def test_another_choice_of_domains_stands_in_where_a_mixture_s_own_does_not_fit():
    # a and b hold too little for the group's least, and with c their smallest weights are too much.
    space = by_hand(
        [0.31, 0.31, 0.34, 0.4, 0.4], min_weight=0.3, groups=(group("abc", least=0.63, most=0.66),)
    )
    found_K = space.project([0.3, 0.3, 0.001, 0.399, 0.0])
    assert space.contains(found_K, tolerance=1e-12)
    assert found_K[2] >= 0.3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.5], "last axis must hold 3"),
        ([[[1.0, 0.0, 0.0]]], "last axis must hold 3"),
        ([0.5, 0.6, -0.1], "non-negative"),
        ([0.5, np.nan, 0.5], "finite"),
        ([0.0, 0.0, 0.0], "zeros"),
    ],
)
def test_what_is_no_mixture_cannot_be_projected(weights, message):
    with pytest.raises(MixtureError, match=message):
        small_set().project(weights)


def test_equal_seeds_draw_equal_bytes_whatever_the_order_of_the_domains():
    space = small_set(target_tokens=60.0)
    draws = [
        some.sample(np.random.default_rng(3), 9, concentration=(0.1, 5.0), temperature=0.5)
        for some in (space, space, space.reordered([2, 0, 1]))
    ]
    assert draws[0].tobytes() == draws[1].tobytes()
    np.testing.assert_allclose(draws[2], draws[0][:, [2, 0, 1]], atol=1e-12)


def test_small_strengths_draw_sparse_mixtures_and_large_ones_the_prior():
    space = small_set(target_tokens=50.0)
    sharp, flat = (
        space.sample(np.random.default_rng(0), 400, concentration=c, temperature=0.5)
        for c in ((0.1, 0.1), (1e5, 1e5))
    )
    assert (sharp.max(axis=1) > 0.95).mean() > 0.5
    prior_K = np.sqrt(space.natural_K) / np.sqrt(space.natural_K).sum()
    np.testing.assert_allclose(flat.mean(axis=0), prior_K, atol=0.005)


def test_a_domain_without_tokens_is_never_drawn():
    for limits in (
        Limits(target_tokens=5.0, max_epochs=1.0),
        Limits(target_tokens=5.0, max_epochs=None),
    ):
        space = FeasibleSet.of(tuple("abc"), [0, 5, 5], limits)
        drawn = space.sample(np.random.default_rng(0), 99, concentration=(0.1, 5), temperature=0.5)
        assert drawn[:, 0].max() == 0.0
        assert space.project([1.0, 0.0, 0.0])[0] == 0.0
    np.testing.assert_array_equal(space.epochs([0.0, 0.5, 0.5], 20.0), [0.0, 2.0, 2.0])


def test_tight_limits_are_sampled_without_a_loop_that_stalls():
    space = small_set(max_epochs=1.0)
    drawn = space.sample(np.random.default_rng(0), 500, concentration=(0.1, 5), temperature=0.5)
    np.testing.assert_allclose(drawn, np.tile(space.natural_K, (500, 1)), atol=1e-9)


def test_contains_names_what_breaks_a_limit():
    space = small_set(min_weight=0.05)
    rows = [[0.1, 0.4, 0.5], [0.3, 0.3, 0.4], [0.02, 0.4, 0.58], [0.1, 0.4, 0.4], [-0.1, 0.5, 0.6]]
    assert space.contains(rows).tolist() == [True, False, False, False, False]
    assert bool(space.contains(rows[0]))


def test_contains_sees_floors_and_groups():
    space = by_hand([1.0] * 3, floors=[0.1, 0.0, 0.0], groups=(group("bc", least=0.5, most=0.8),))
    rows = [[0.3, 0.7, 0.0], [0.0, 0.7, 0.3], [0.6, 0.2, 0.2], [0.1, 0.9, 0.0]]
    assert space.contains(rows).tolist() == [True, False, False, False]


def test_the_penalty_is_the_pull_times_the_divergence_from_natural_shares():
    space = small_set(pull=0.5)
    rows = [[0.1, 0.4, 0.5], [0.0, 0.5, 0.5]]
    expected = [0.0, 0.5 * 0.5 * np.log(0.5 / 0.4)]
    np.testing.assert_allclose(space.penalty(rows), expected, atol=1e-15)
    assert space.penalty(rows[1]) == pytest.approx(expected[1])
    np.testing.assert_array_equal(small_set().penalty(rows), [0.0, 0.0])
    np.testing.assert_allclose(space.reordered([2, 0, 1]).penalty([0.5, 0.0, 0.5]), expected[1])


def test_the_penalty_of_a_domain_without_tokens_is_infinite_and_no_mixture_of_the_set_has_it():
    space = FeasibleSet.of(("a", "b"), [0, 1], Limits(target_tokens=1, max_epochs=None, pull=1.0))
    assert space.penalty([0.5, 0.5]) == np.inf
    assert space.penalty(space.project([0.5, 0.5])) == 0.0


def test_uniform_is_the_feasible_mixture_nearest_to_equal_weights():
    np.testing.assert_allclose(small_set().uniform_K, [0.2, 0.4, 0.4], atol=1e-12)
    held = small_set(group("ab", most=0.4))
    np.testing.assert_allclose(held.uniform_K, [0.2, 0.2, 0.6], atol=1e-12)


def test_a_reordered_set_keeps_its_limits():
    space = small_set(
        group("ab", most=0.4), Limit(name="c", domains=("c",), min_weight=0.3), pull=2.0
    )
    other = space.reordered([2, 0, 1])
    assert (other.groups, other.pull, other.domains) == (space.groups, 2.0, ("c", "a", "b"))
    assert other.reasons == tuple(space.reasons[k] for k in (2, 0, 1))
    np.testing.assert_array_equal(other.floors_K, [0.3, 0.0, 0.0])
    np.testing.assert_allclose(
        other.project([0.1, 0.5, 0.4]), space.project([0.5, 0.4, 0.1])[[2, 0, 1]], atol=1e-12
    )


@given(
    st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=30).filter(any),
    st.integers(0, 10**13),
)
@QUICK
def test_apportioned_units_sum_exactly_and_are_within_one_of_their_due(weights, total):
    units_K = apportion(weights, total)
    assert int(units_K.sum()) == total
    due_K = np.array(weights) / np.sum(weights) * total
    assert (np.abs(units_K - due_K) <= 1.0 + 1e-9 * total).all()


def test_ties_go_to_the_lower_index():
    assert apportion([1, 1, 1], 5).tolist() == [2, 2, 1]
    assert apportion([0.5, 0.5], 0).tolist() == [0, 0]


def test_permuting_domains_permutes_the_apportioned_units():
    weights_K, order_K = np.array([0.11, 0.23, 0.19, 0.47]), [2, 0, 3, 1]
    np.testing.assert_array_equal(
        apportion(weights_K[order_K], 1_000_003), apportion(weights_K, 1_000_003)[order_K]
    )


@pytest.mark.parametrize(
    ("weights", "total"), [([0.5, 0.5], -1), ([0.0, 0.0], 3), ([1.0, -1.0], 3), ([np.nan], 3)]
)
def test_nonsense_is_not_apportioned(weights, total):
    with pytest.raises(MixtureError, match="cannot share"):
        apportion(weights, total)


def test_names_and_arrays_turn_into_each_other():
    named = weights_by_name(("a", "b"), [0.25, 0.75])
    assert named == {"a": 0.25, "b": 0.75}
    np.testing.assert_array_equal(weights_array(("b", "c", "a"), named), [0.75, 0.0, 0.25])
    with pytest.raises(MixtureError, match=r"unknown domains \['b'\]; known: \['a'\]"):
        weights_array(("a",), named)
    np.testing.assert_array_equal(weights_array(("a",), {"a": 1.0, "gone": 0.0}), [1.0])
