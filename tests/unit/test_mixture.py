"""The feasible set: projection, sampling, whole tokens. test_constraints.py tests conflicts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb.errors import MixtureError
from climb.mixture import (
    Constraint,
    Constraints,
    DomainBounds,
    FeasibleSet,
    apportion,
    weights_to_array,
    weights_to_dict,
)

QUICK = settings(max_examples=60, deadline=None)


def build_small(*domain_constraints, **values):
    defaults = {"target_tokens": 100.0, "max_epochs": 2.0}
    constraints = Constraints(**defaults | {"domain_constraints": domain_constraints} | values)
    return FeasibleSet.from_constraints(("a", "b", "c"), [10.0, 40.0, 50.0], constraints)


def build(upper, min_weight=0.0, natural=None, lower=None, groups=()):
    """A set of domains a, b, ... By default the shares are equal and the lower bounds are 0."""
    k = len(upper)
    lower_K = np.zeros(k) if lower is None else np.array(lower)
    bounds = DomainBounds(tuple("abcdefgh"[:k]), lower_K, np.array(upper), min_weight, groups)
    natural_K = np.full(k, 1.0 / k) if natural is None else np.array(natural)
    return FeasibleSet(bounds, np.ones(k), natural_K)


def group(domains, lower=0.0, upper=1.0):
    return Constraint(name=domains, domains=tuple(domains), min_weight=lower, max_weight=upper)


def test_an_upper_bound_is_the_smallest_of_one_epochs_and_share_ratio():
    space = build_small(max_epochs=3.0, max_share_ratio=2.0)
    np.testing.assert_allclose(space.upper_K, [0.2, 0.8, 1.0])


def test_without_epochs_only_the_share_ratio_is_a_bound():
    np.testing.assert_allclose(
        build_small(max_epochs=None, max_share_ratio=5.0).upper_K, [0.5, 1, 1]
    )


@pytest.mark.parametrize(
    ("names", "tokens", "message"),
    [
        (("a", "a", "b"), [1, 2, 3], "duplicate domain names: a"),
        (("a", "b"), [1, 2, 3], "2 domains, but token counts of shape"),
        ((), [], "0 domains"),
        (("a", "b"), [1, -2], "'b' has -2"),
        (("a", "b"), [1, float("nan")], "'b' has nan"),
        (("a", "b"), [0, 0], "all domains have 0 tokens"),
    ],
)
def test_invalid_tokens_are_named(names, tokens, message):
    with pytest.raises(MixtureError, match=message):
        FeasibleSet.from_constraints(names, tokens, Constraints(target_tokens=1.0, max_epochs=1.0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"natural": [0.5, 0.5]}, "3 domains, but 3 token counts and 2 natural weights"),
        ({"lower": [0.0, 0.0]}, "3 domains, but 2 lower and 3 upper bounds"),
        ({"min_weight": 1.0}, "min_weight is 1.0"),
        ({"upper": [1.0, np.nan, 1.0]}, "upper bounds must be finite"),
        ({"lower": [0.0, -0.1, 0.0]}, "lower bounds must be finite and non-negative"),
        ({"lower": [0.0, 0.5, 0.6]}, "lower bounds sum to 1.1"),
        ({"upper": [0.4, 0.4, 0.4], "min_weight": 0.4}, r"search\.min_weight 0\.4"),
    ],
)
def test_bounds_without_constraints_are_checked_too(arrays, message):
    with pytest.raises(MixtureError, match=message):
        build(**({"upper": [1.0, 1.0, 1.0]} | arrays))


def test_what_exceeds_an_upper_bound_goes_to_the_others_in_proportion():
    space = build([0.4, 1.0, 1.0])
    np.testing.assert_allclose(space.project([0.7, 0.2, 0.1]), [0.4, 0.4, 0.2], atol=1e-12)


def test_a_domain_of_weight_zero_gets_weight_only_when_the_others_are_full():
    space = build([0.4, 0.5, 1.0, 1.0], natural=[0.1, 0.3, 0.4, 0.2])
    np.testing.assert_allclose(
        space.project([0.5, 0.5, 0.0, 0.0]), [0.4, 0.5, 1 / 15, 1 / 30], atol=1e-12
    )
    np.testing.assert_allclose(space.project([0.45, 0.45, 0.1, 0]), [0.4, 0.48, 0.12, 0], atol=0.03)
    assert space.project([0.45, 0.45, 0.1, 0.0])[3] == 0.0


def test_a_natural_mixture_above_its_upper_bounds_is_lowered_to_them():
    space = build([0.5, 1.0, 1.0], natural=[0.8, 0.1, 0.1])
    np.testing.assert_allclose(space.project(space.natural_K), [0.5, 0.25, 0.25], atol=1e-12)


def test_small_weights_become_zero_and_the_others_share_them():
    space = build([1.0, 1.0, 1.0], min_weight=0.1)
    np.testing.assert_allclose(space.project([0.05, 0.38, 0.57]), [0.0, 0.4, 0.6], atol=1e-12)


def test_small_weights_stay_where_the_others_are_full():
    space = build([0.5, 0.48, 0.5, 0.5], min_weight=0.1)
    projected_K = space.project([0.6, 0.36, 0.03, 0.01])
    np.testing.assert_allclose(projected_K[[2, 3]], [0.1, 0.0], atol=1e-12)
    assert space.contains(projected_K)


def test_the_largest_upper_bounds_are_used_when_the_largest_weights_are_too_many():
    space = build([0.34, 0.34, 0.3, 0.6, 0.5], min_weight=0.3)
    for weights in ([0.5, 0.3, 0.15, 0.03, 0.02], [0.4, 0.3, 0.3, 0.0, 0.0]):
        assert space.contains(space.project(weights))


def test_what_a_lower_bound_needs_comes_from_the_others_in_proportion():
    space = build([1.0, 1.0, 1.0], lower=[0.4, 0.0, 0.0])
    np.testing.assert_allclose(space.project([0.1, 0.6, 0.3]), [0.4, 0.4, 0.2], atol=1e-12)
    np.testing.assert_allclose(space.project([0.0, 1.0, 0.0]), [0.4, 0.6, 0.0], atol=1e-12)


def test_what_exceeds_a_group_goes_to_the_others_and_ratios_inside_it_stay():
    space = build([1.0] * 4, groups=(group("ab", upper=0.3), group("cd", lower=0.2)))
    np.testing.assert_allclose(
        space.project([0.6, 0.3, 0.06, 0.04]), [0.2, 0.1, 0.42, 0.28], atol=1e-12
    )
    np.testing.assert_allclose(space.project([0.1, 0.1, 0.4, 0.4]), [0.1, 0.1, 0.4, 0.4])


def test_what_a_group_needs_comes_from_the_others_within_the_upper_bounds_of_its_domains():
    space = build([0.25, 1.0, 1.0], groups=(group("ab", lower=0.6),))
    np.testing.assert_allclose(space.project([0.2, 0.1, 0.7]), [0.25, 0.35, 0.4], atol=1e-12)


def test_a_group_of_weight_zero_gets_its_lower_bound_in_proportion_to_natural_shares():
    space = build([1.0] * 4, natural=[0.3, 0.1, 0.5, 0.1], groups=(group("ab", lower=0.4),))
    np.testing.assert_allclose(
        space.project([0.0, 0.0, 1.0, 0.0]), [0.3, 0.1, 0.6, 0.0], atol=1e-12
    )


def test_domains_of_weight_zero_stay_at_zero_where_their_group_is_full_without_them():
    space = build([0.5] * 4, groups=(group("ab", upper=0.4),))
    projected_K = space.project([0.7, 0.0, 0.3, 0.0])
    np.testing.assert_allclose(projected_K, [0.4, 0.0, 0.5, 0.1], atol=1e-12)
    assert projected_K[1] == 0.0


def test_domains_of_weight_zero_stay_at_zero_where_the_lower_bound_of_a_group_fills_the_whole():
    space = build([1.0, 1.0, 0.7, 1.0], groups=(group("ab", lower=0.4),))
    projected_K = space.project([0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(projected_K, [0.2, 0.2, 0.6, 0.0], atol=1e-12)
    assert projected_K[3] == 0.0


def test_a_tiny_weight_is_filled_before_weights_that_are_zero():
    space = build([0.5, 0.3, 0.199999, 1.0])
    np.testing.assert_allclose(
        space.project([0.9, 0.1, 1e-13, 0.0]), [0.5, 0.3, 0.199999, 1e-6], atol=1e-12
    )


def test_a_domain_with_a_lower_bound_stays_when_small_weights_become_zero():
    space = build([1.0] * 3, min_weight=0.1, lower=[0.02, 0.0, 0.0])
    np.testing.assert_allclose(space.project([0.03, 0.05, 0.92]), [0.1, 0.0, 0.9], atol=1e-12)


def test_small_weights_stay_where_their_group_needs_them_for_its_lower_bound():
    space = build([0.08, 0.5, 0.5, 1.0], min_weight=0.05, groups=(group("abc", lower=0.1),))
    projected_K = space.project([0.03, 0.02, 0.04, 0.91])
    np.testing.assert_allclose(projected_K, [0.0, 0.0, 0.1, 0.9], atol=1e-12)
    tight = build([0.08, 0.06, 0.5, 1.0], min_weight=0.05, groups=(group("ab", lower=0.1),))
    np.testing.assert_allclose(tight.project([0.03, 0.02, 0.5, 0.45])[:2], 0.05, atol=1e-12)


def test_the_fallback_support_contains_the_domains_with_a_lower_bound():
    # d is too little for its group, and d and e together are too much: the fallback is e alone.
    space = build(
        [0.9, 0.9, 0.9, 0.2, 0.3],
        min_weight=0.2,
        lower=[0.01, 0.01, 0.01, 0.0, 0.0],
        groups=(group("de", lower=0.25, upper=0.39),),
    )
    projected_K = space.project([0.2, 0.2, 0.2, 0.4, 0.0])
    np.testing.assert_allclose(projected_K, [0.25, 0.25, 0.25, 0.0, 0.25], atol=1e-12)


@pytest.mark.parametrize("upper", [0.11, 0.5])
def test_a_mixture_keeps_its_own_domains_where_a_full_group_leaves_room_for_others(upper):
    # c and d have 0.8; the group has room for one of a and b and not for 0.2; so e is added too.
    space = build([upper, upper, 0.5, 0.3, 0.4], min_weight=0.1, groups=(group("ab", upper=0.15),))
    projected_K = space.project([0.07, 0.08, 0.5, 0.3, 0.05])
    assert space.contains(projected_K, tolerance=1e-12)
    assert projected_K[0] == 0.0
    assert (projected_K[1:] >= 0.1).all()


def test_a_group_with_an_upper_bound_below_the_smallest_weight_is_left_out():
    space = build([1.0] * 3, min_weight=0.1, groups=(group("ab", upper=0.05),))
    np.testing.assert_allclose(space.project([0.5, 0.2, 0.3]), [0.0, 0.0, 1.0], atol=1e-12)


def test_the_fallback_support_is_used_where_the_support_of_a_mixture_does_not_fit():
    # a and b are below the group's lower bound, and with c their smallest weights are too much.
    space = build(
        [0.31, 0.31, 0.34, 0.4, 0.4], min_weight=0.3, groups=(group("abc", lower=0.63, upper=0.66),)
    )
    projected_K = space.project([0.3, 0.3, 0.001, 0.399, 0.0])
    assert space.contains(projected_K, tolerance=1e-12)
    assert projected_K[2] >= 0.3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\); with 3 domains it must be \(3,\) or \(M, 3\)"),
        ([[[1.0, 0.0, 0.0]]], r"shape \(1, 1, 3\); with 3 domains it must be \(3,\) or"),
        ([0.5, 0.6, -0.1], "non-negative"),
        ([0.5, np.nan, 0.5], "finite"),
        ([0.0, 0.0, 0.0], "zeros"),
    ],
)
def test_an_invalid_mixture_cannot_be_projected(weights, message):
    with pytest.raises(MixtureError, match=message):
        build_small().project(weights)


def test_equal_seeds_draw_equal_bytes_in_any_order_of_the_domains():
    space = build_small(target_tokens=60.0)
    draws = [
        some.sample(np.random.default_rng(3), 9, concentration=(0.1, 5.0), temperature=0.5)
        for some in (space, space, space.reorder_domains([2, 0, 1]))
    ]
    assert draws[0].tobytes() == draws[1].tobytes()
    np.testing.assert_allclose(draws[2], draws[0][:, [2, 0, 1]], atol=1e-12)


def test_small_strengths_draw_sparse_mixtures_and_large_ones_the_prior():
    space = build_small(target_tokens=50.0)
    sharp, flat = (
        space.sample(np.random.default_rng(0), 400, concentration=c, temperature=0.5)
        for c in ((0.1, 0.1), (1e5, 1e5))
    )
    assert (sharp.max(axis=1) > 0.95).mean() > 0.5
    prior_K = np.sqrt(space.natural_K) / np.sqrt(space.natural_K).sum()
    np.testing.assert_allclose(flat.mean(axis=0), prior_K, atol=0.005)


def test_a_domain_without_tokens_is_never_drawn():
    for constraints in (
        Constraints(target_tokens=5.0, max_epochs=1.0),
        Constraints(target_tokens=5.0, max_epochs=None),
    ):
        space = FeasibleSet.from_constraints(tuple("abc"), [0, 5, 5], constraints)
        drawn = space.sample(np.random.default_rng(0), 99, concentration=(0.1, 5), temperature=0.5)
        assert drawn[:, 0].max() == 0.0
        assert space.project([1.0, 0.0, 0.0])[0] == 0.0
    np.testing.assert_array_equal(space.epochs([0.0, 0.5, 0.5], 20.0), [0.0, 2.0, 2.0])


def test_tight_constraints_are_sampled_too():
    space = build_small(max_epochs=1.0)
    drawn = space.sample(np.random.default_rng(0), 500, concentration=(0.1, 5), temperature=0.5)
    np.testing.assert_allclose(drawn, np.tile(space.natural_K, (500, 1)), atol=1e-9)


def test_contains_is_false_for_a_mixture_that_violates_a_bound():
    space = build_small(min_weight=0.05)
    rows = [[0.1, 0.4, 0.5], [0.3, 0.3, 0.4], [0.02, 0.4, 0.58], [0.1, 0.4, 0.4], [-0.1, 0.5, 0.6]]
    assert space.contains(rows).tolist() == [True, False, False, False, False]
    assert bool(space.contains(rows[0]))


def test_contains_checks_lower_bounds_and_groups():
    space = build([1.0] * 3, lower=[0.1, 0.0, 0.0], groups=(group("bc", lower=0.5, upper=0.8),))
    rows = [[0.3, 0.7, 0.0], [0.0, 0.7, 0.3], [0.6, 0.2, 0.2], [0.1, 0.9, 0.0]]
    assert space.contains(rows).tolist() == [True, False, False, False]


def test_the_penalty_is_the_kl_penalty_times_the_divergence_from_the_natural_mixture():
    space = build_small(kl_penalty=0.5)
    rows = [[0.1, 0.4, 0.5], [0.0, 0.5, 0.5]]
    expected = [0.0, 0.5 * 0.5 * np.log(0.5 / 0.4)]
    np.testing.assert_allclose(space.penalty(rows), expected, atol=1e-15)
    assert space.penalty(rows[1]) == pytest.approx(expected[1])
    np.testing.assert_array_equal(build_small().penalty(rows), [0.0, 0.0])
    np.testing.assert_allclose(
        space.reorder_domains([2, 0, 1]).penalty([0.5, 0.0, 0.5]), expected[1]
    )


def test_the_penalty_of_a_domain_without_tokens_is_infinite_and_no_feasible_mixture_has_it():
    space = FeasibleSet.from_constraints(
        ("a", "b"), [0, 1], Constraints(target_tokens=1, max_epochs=None, kl_penalty=1.0)
    )
    assert space.penalty([0.5, 0.5]) == np.inf
    assert space.penalty(space.project([0.5, 0.5])) == 0.0


def test_uniform_is_the_feasible_mixture_nearest_to_equal_weights():
    np.testing.assert_allclose(build_small().uniform_K, [0.2, 0.4, 0.4], atol=1e-12)
    grouped = build_small(group("ab", upper=0.4))
    np.testing.assert_allclose(grouped.uniform_K, [0.2, 0.2, 0.6], atol=1e-12)


def test_a_reordered_set_keeps_its_constraints():
    space = build_small(
        group("ab", upper=0.4), Constraint(name="c", domains=("c",), min_weight=0.3), kl_penalty=2.0
    )
    other = space.reorder_domains([2, 0, 1])
    assert (other.bounds.groups, other.kl_penalty, other.domains) == (
        space.bounds.groups,
        2.0,
        ("c", "a", "b"),
    )
    assert other.bounds.reasons == tuple(space.bounds.reasons[k] for k in (2, 0, 1))
    np.testing.assert_array_equal(other.bounds.lower_K, [0.3, 0.0, 0.0])
    np.testing.assert_allclose(
        other.project([0.1, 0.5, 0.4]), space.project([0.5, 0.4, 0.1])[[2, 0, 1]], atol=1e-12
    )


@given(
    st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=30).filter(any),
    st.integers(0, 10**13),
)
@QUICK
def test_apportioned_units_sum_exactly_and_are_within_one_of_their_exact_share(weights, total):
    units_K = apportion(weights, total)
    assert int(units_K.sum()) == total
    share_K = np.array(weights) / np.sum(weights) * total
    assert (np.abs(units_K - share_K) <= 1.0 + 1e-9 * total).all()


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
def test_invalid_weights_are_not_apportioned(weights, total):
    with pytest.raises(MixtureError, match="cannot divide"):
        apportion(weights, total)


def test_a_mixture_is_converted_to_names_and_back():
    by_name = weights_to_dict(("a", "b"), [0.25, 0.75])
    assert by_name == {"a": 0.25, "b": 0.75}
    np.testing.assert_array_equal(weights_to_array(("b", "c", "a"), by_name), [0.75, 0.0, 0.25])
    with pytest.raises(MixtureError, match=r"unknown domains \['b'\]; the domains are \['a'\]"):
        weights_to_array(("a",), by_name)
    np.testing.assert_array_equal(weights_to_array(("a",), {"a": 1.0, "other": 0.0}), [1.0])
