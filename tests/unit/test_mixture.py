"""The feasible set: projection, sampling, whole tokens, and limits that collide."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from climb.errors import MixtureError
from climb.mixture import FeasibleSet, apportion, weights_array, weights_by_name

QUICK = settings(max_examples=60, deadline=None)


def small_set(**limits):
    known = {"target_tokens": 100.0, "max_epochs": 2.0} | limits
    return FeasibleSet.of(("a", "b", "c"), [10.0, 40.0, 50.0], **known)


@st.composite
def sets(draw):
    """Feasible sets of 2 to 12 domains, with and without a smallest weight."""
    k = draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tokens_K = rng.gamma(0.7, size=k) + 1e-3
    limits = {
        "target_tokens": tokens_K.sum(),
        "max_epochs": draw(st.floats(1.0, 6.0)),
        "max_share_ratio": draw(st.sampled_from([None, 1.0, 3.0, 15.0])),
        "min_weight": draw(st.sampled_from([0.0, 2e-4, 0.01, 0.1])),
    }
    try:
        return FeasibleSet.of([f"d{i}" for i in range(k)], tokens_K, **limits)
    except MixtureError:  # a smallest weight above too many caps: rightly refused
        reject()


@st.composite
def sets_with_mixtures(draw):
    space = draw(sets())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights_MK = rng.dirichlet(np.full(len(space.domains), 0.3), size=6)
    weights_MK[0] = np.eye(len(space.domains))[0]
    return space, weights_MK


def test_a_cap_is_the_smallest_of_one_epochs_and_share_ratio():
    space = small_set(max_epochs=3.0, max_share_ratio=2.0)
    np.testing.assert_allclose(space.caps_K, [0.2, 0.8, 1.0])


def test_without_epochs_only_the_share_ratio_limits():
    np.testing.assert_allclose(small_set(max_epochs=None, max_share_ratio=5.0).caps_K, [0.5, 1, 1])


def test_too_few_tokens_say_how_many_there_are_and_how_many_are_needed():
    with pytest.raises(MixtureError, match=r"100 tokens times max_epochs 2 give 200 .* needs 400"):
        small_set(target_tokens=400.0)


def test_a_share_ratio_under_one_is_named_as_what_collides():
    with pytest.raises(MixtureError, match=r"caps sum to 0\.5000.*max_share_ratio 0\.5"):
        small_set(max_share_ratio=0.5)
    with pytest.raises(MixtureError, match=r"max_share_ratio is 0\.5; it must be 1 or more"):
        small_set(max_epochs=None, max_share_ratio=0.5)


def test_a_smallest_weight_above_the_caps_names_the_domains_it_shuts_out():
    with pytest.raises(MixtureError, match=r"caps sum to 1\.0000, but to 0\.9000 .*: a\)"):
        small_set(max_epochs=1.0, min_weight=0.2)


def test_a_smallest_weight_that_no_number_of_domains_can_meet_is_refused():
    with pytest.raises(MixtureError, match=r"min_weight 0\.4"):
        FeasibleSet(tuple("abc"), np.ones(3), np.ones(3) / 3, np.full(3, 0.4), 0.4)


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
        FeasibleSet.of(names, tokens, target_tokens=1.0, max_epochs=1.0)


@pytest.mark.parametrize("limits", [{"target_tokens": 0.0}, {"max_epochs": float("inf")}])
def test_limits_must_be_positive_numbers(limits):
    with pytest.raises(MixtureError, match=f"{next(iter(limits))} is .*positive number"):
        small_set(**limits)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.ones(3), np.ones(2), np.ones(3), 0.0), "other lengths"),
        ((np.ones(3), np.ones(3), np.ones(3), 1.0), "min_weight is 1.0"),
        ((np.ones(3), np.ones(3), np.array([1.0, np.nan, 1.0]), 0.0), "finite"),
    ],
)
def test_a_set_made_by_hand_is_checked_too(arrays, message):
    with pytest.raises(MixtureError, match=message):
        FeasibleSet(tuple("abc"), *arrays)


def test_what_a_cap_cuts_goes_to_the_others_in_proportion():
    space = FeasibleSet(tuple("abc"), np.ones(3), np.ones(3) / 3, np.array([0.4, 1.0, 1.0]), 0.0)
    np.testing.assert_allclose(space.project([0.7, 0.2, 0.1]), [0.4, 0.4, 0.2], atol=1e-12)


def test_a_domain_of_weight_zero_gets_something_only_when_the_rest_is_full():
    caps_K = np.array([0.4, 0.5, 1.0, 1.0])
    natural_K = np.array([0.1, 0.3, 0.4, 0.2])
    space = FeasibleSet(tuple("abcd"), np.ones(4), natural_K, caps_K, 0.0)
    np.testing.assert_allclose(
        space.project([0.5, 0.5, 0.0, 0.0]), [0.4, 0.5, 1 / 15, 1 / 30], atol=1e-12
    )
    np.testing.assert_allclose(space.project([0.45, 0.45, 0.1, 0]), [0.4, 0.48, 0.12, 0], atol=0.03)
    assert space.project([0.45, 0.45, 0.1, 0.0])[3] == 0.0


def test_natural_proportions_above_their_caps_are_brought_under_them():
    space = FeasibleSet(
        tuple("abc"), np.ones(3), np.array([0.8, 0.1, 0.1]), np.array([0.5, 1.0, 1.0]), 0.0
    )
    np.testing.assert_allclose(space.project(space.natural_K), [0.5, 0.25, 0.25], atol=1e-12)


def test_small_weights_become_zero_and_the_others_share_what_they_had():
    space = FeasibleSet(tuple("abc"), np.ones(3), np.ones(3) / 3, np.ones(3), 0.1)
    np.testing.assert_allclose(space.project([0.05, 0.38, 0.57]), [0.0, 0.4, 0.6], atol=1e-12)


def test_small_weights_stay_where_the_others_have_no_room():
    caps_K = np.array([0.5, 0.48, 0.5, 0.5])
    space = FeasibleSet(tuple("abcd"), np.ones(4), np.ones(4) / 4, caps_K, 0.1)
    found_K = space.project([0.6, 0.36, 0.03, 0.01])
    np.testing.assert_allclose(found_K[[2, 3]], [0.1, 0.0], atol=1e-12)
    assert space.contains(found_K)


def test_the_largest_caps_are_used_when_the_largest_weights_would_be_too_many():
    caps_K = np.array([0.34, 0.34, 0.3, 0.6, 0.5])
    space = FeasibleSet(tuple("abcde"), np.ones(5), np.ones(5) / 5, caps_K, 0.3)
    found_K = space.project([0.5, 0.3, 0.15, 0.03, 0.02])
    assert space.contains(found_K)


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


@given(sets_with_mixtures())
@QUICK
def test_projection_lands_in_the_set_and_stays_there(drawn):
    space, weights_MK = drawn
    once_MK = space.project(weights_MK)
    assert space.contains(once_MK, tolerance=1e-9).all()
    np.testing.assert_allclose(space.project(once_MK), once_MK, rtol=0, atol=1e-12)


@given(sets_with_mixtures())
@QUICK
def test_permuting_domains_permutes_the_projection(drawn):
    space, weights_MK = drawn
    order_K = np.random.default_rng(len(space.domains)).permutation(len(space.domains))
    there_MK = space.reordered(order_K).project(weights_MK[:, order_K])
    np.testing.assert_allclose(there_MK, space.project(weights_MK)[:, order_K], atol=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_projection_is_the_nearest_under_the_caps_in_kl(seed):
    rng = np.random.default_rng(seed)
    caps_K = rng.uniform(0.25, 0.6, size=5)
    space = FeasibleSet(tuple("abcde"), np.ones(5), np.ones(5) / 5, caps_K, 0.0)
    weights_K = rng.dirichlet(np.ones(5)) * 0.99 + 0.002

    def distance(w_K):
        return float((w_K * np.log(np.maximum(w_K, 1e-12) / weights_K)).sum())

    found = minimize(
        distance,
        caps_K / caps_K.sum(),
        method="SLSQP",
        bounds=[(1e-9, cap) for cap in caps_K],
        constraints={"type": "eq", "fun": lambda w_K: w_K.sum() - 1.0},
        options={"ftol": 1e-12, "maxiter": 300},
    )
    assert distance(space.project(weights_K)) <= found.fun + 1e-6


@given(sets(), st.integers(0, 2**32 - 1))
@QUICK
def test_samples_keep_every_limit(space, seed):
    rng = np.random.default_rng(seed)
    drawn_MK = space.sample(rng, 50, concentration=(0.1, 5.0), temperature=0.5)
    assert drawn_MK.shape == (50, len(space.domains))
    assert space.contains(drawn_MK, tolerance=1e-9).all()


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
    space = FeasibleSet.of(tuple("abc"), [0, 5, 5], target_tokens=5.0, max_epochs=1.0)
    drawn = space.sample(np.random.default_rng(0), 99, concentration=(0.1, 5), temperature=0.5)
    assert drawn[:, 0].max() == 0.0
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


def test_uniform_is_the_feasible_mixture_nearest_to_equal_weights():
    np.testing.assert_allclose(small_set().uniform_K, [0.2, 0.4, 0.4], atol=1e-12)


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
