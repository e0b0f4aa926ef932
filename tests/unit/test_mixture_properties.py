"""Properties of every feasible set, on random ones with bounds, epoch limits and groups."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from climb.mixture import FeasibleSet, apportion
from climb.testing.spaces import draw_feasible_set

SEEDS = st.integers(0, 2**32 - 1)
QUICK = settings(max_examples=60, deadline=None)


@st.composite
def sets(draw, largest=40):
    """Feasible sets of 2 to 40 domains; about a quarter have no smallest weight."""
    return draw_feasible_set(draw(st.integers(2, largest)), draw(SEEDS))


@st.composite
def sets_with_mixtures(draw, largest=40):
    """A set, and mixtures all over the simplex: corners, sparse ones, flat ones."""
    space = draw(sets(largest))
    k = len(space.domains)
    rng = np.random.default_rng(draw(SEEDS))
    drawn = [rng.dirichlet(np.full(k, strength), size=5) for strength in (0.05, 0.3, 3.0)]
    mixtures_MK = np.vstack([np.eye(k)[:3], np.full((1, k), 1.0 / k), *drawn])
    return space, mixtures_MK


def drop_min_weight(space):
    """The same set without a smallest weight."""
    return replace(space, bounds=replace(space.bounds, min_weight=0.0))


def compute_kl(weights_K, from_K):
    """KL divergence of one mixture from another without zeros."""
    return float((weights_K * np.log(np.maximum(weights_K, 1e-300) / from_K)).sum())


def build_group_rows(space):
    """Rows that sum the weights of each group, and the bounds of the sums."""
    rows_GK = np.zeros((len(space.bounds.groups), len(space.domains)))
    for row_K, group in zip(rows_GK, space.bounds.groups, strict=True):
        row_K[space.bounds.columns(group)] = 1.0
    lower_G = np.array([group.min_weight for group in space.bounds.groups])
    upper_G = np.array([group.max_weight for group in space.bounds.groups])
    return rows_GK, lower_G, upper_G


@given(sets_with_mixtures())
@QUICK
def test_a_projection_is_feasible_and_projecting_it_again_changes_no_bit(drawn):
    space, mixtures_MK = drawn
    once_MK = space.project(mixtures_MK)
    assert space.contains(once_MK, tolerance=1e-12).all()
    assert space.project(once_MK).tobytes() == once_MK.tobytes()


@given(sets_with_mixtures())
@QUICK
def test_a_projected_weight_is_zero_or_at_least_the_smallest_and_within_its_bounds(drawn):
    space, mixtures_MK = drawn
    projected_MK = space.project(mixtures_MK)
    assert ((projected_MK == 0.0) | (projected_MK >= space.min_weight)).all()
    assert (
        projected_MK[:, space.bounds.lower_K > 0.0]
        >= space.bounds.lower_K[space.bounds.lower_K > 0.0]
    ).all()
    assert (projected_MK <= space.upper_K).all()


@given(sets_with_mixtures())
@QUICK
def test_a_mixture_has_the_same_projection_alone_and_in_a_batch(drawn):
    space, mixtures_MK = drawn
    together_MK = space.project(mixtures_MK)
    for alone_K, projected_K in zip(mixtures_MK, together_MK, strict=True):
        assert space.project(alone_K).tobytes() == projected_K.tobytes()


@given(sets_with_mixtures(), SEEDS)
@QUICK
def test_permuting_domains_permutes_the_projection(drawn, seed):
    space, mixtures_MK = drawn
    order_K = np.random.default_rng(seed).permutation(len(space.domains))
    there_MK = space.reorder_domains(order_K).project(mixtures_MK[:, order_K])
    np.testing.assert_allclose(there_MK, space.project(mixtures_MK)[:, order_K], atol=1e-12)


@given(sets_with_mixtures(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_without_a_smallest_weight_no_feasible_mixture_is_nearer_in_kl(drawn, seed):
    space, mixtures_MK = drawn
    space = drop_min_weight(space)
    rng = np.random.default_rng(seed)
    others_MK = space.project(rng.dirichlet(np.ones(len(space.domains)), size=50))
    for weights_K in 0.999 * mixtures_MK[-3:] + 0.001 / len(space.domains):
        projected_K = space.project(weights_K)
        nearer_MK = 0.9 * projected_K + 0.1 * others_MK  # the set is convex, so it contains these
        nearest = min(compute_kl(other_K, weights_K) for other_K in [*others_MK, *nearer_MK])
        assert compute_kl(projected_K, weights_K) <= nearest + 1e-12


@given(sets_with_mixtures())
@settings(max_examples=40, deadline=None)
def test_without_a_smallest_weight_the_projection_has_a_certificate(drawn):
    # A point of a convex set is the nearest if no other point of the set is in the direction of
    # descent. A linear programme decides that for all points.
    space, mixtures_MK = drawn
    space = drop_min_weight(space)
    rows_GK, lower_G, upper_G = build_group_rows(space)
    for weights_K in 0.999 * mixtures_MK[-2:] + 0.001 / len(space.domains):
        projected_K = space.project(weights_K)
        slope_K = np.log(np.maximum(projected_K, 1e-300) / weights_K) * (space.upper_K > 0.0)
        lowest = linprog(
            slope_K,
            A_ub=np.vstack([rows_GK, -rows_GK]),
            b_ub=np.concatenate([upper_G, -lower_G]),
            A_eq=np.ones((1, len(projected_K))),
            b_eq=[1.0],
            bounds=np.column_stack([space.bounds.lower_K, space.upper_K]),
        )
        assert slope_K @ projected_K <= lowest.fun + 1e-8


@pytest.mark.parametrize("seed", range(6))
def test_a_general_solver_finds_the_same_nearest_mixture(seed):
    space = drop_min_weight(draw_feasible_set(5, seed))
    weights_K = np.random.default_rng(seed).dirichlet(np.ones(5)) * 0.99 + 0.002
    rows_GK, lower_G, upper_G = build_group_rows(space)
    inside = [{"type": "eq", "fun": lambda w_K: w_K.sum() - 1.0}]
    for row_K, lower, upper in zip(rows_GK, lower_G, upper_G, strict=True):
        inside.append({"type": "ineq", "fun": lambda w_K, r=row_K, b=lower: r @ w_K - b})
        inside.append({"type": "ineq", "fun": lambda w_K, r=row_K, b=upper: b - r @ w_K})
    solved = minimize(
        compute_kl,
        space.project(space.natural_K) * 0.9 + 0.02,
        args=(weights_K,),
        method="SLSQP",
        bounds=np.column_stack([np.maximum(space.bounds.lower_K, 1e-9), space.upper_K + 1e-9]),
        constraints=inside,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    np.testing.assert_allclose(space.project(weights_K), solved.x, atol=1e-4)


@given(sets(), SEEDS)
@QUICK
def test_samples_are_feasible_and_equal_seeds_draw_equal_bytes(space, seed):
    first_MK, again_MK = (
        space.sample(np.random.default_rng(seed), 40, concentration=(0.1, 5.0), temperature=0.5)
        for _ in range(2)
    )
    assert first_MK.shape == (40, len(space.domains))
    assert space.contains(first_MK, tolerance=1e-12).all()
    assert first_MK.tobytes() == again_MK.tobytes()


@given(sets(), SEEDS)
@QUICK
def test_samples_do_not_depend_on_the_order_of_domains(space, seed):
    order_K = np.random.default_rng(seed).permutation(len(space.domains))
    here_MK, there_MK = (
        some.sample(np.random.default_rng(seed), 20, concentration=(0.1, 5.0), temperature=0.5)
        for some in (space, space.reorder_domains(order_K))
    )
    np.testing.assert_allclose(there_MK, here_MK[:, order_K], atol=1e-12)


@given(sets(), SEEDS, st.integers(1, 10**13))
@QUICK
def test_apportioned_tokens_sum_exactly_and_follow_the_weights(space, seed, total):
    weights_K = space.sample(
        np.random.default_rng(seed), 1, concentration=(0.1, 5.0), temperature=0.5
    )[0]
    tokens_K = apportion(weights_K, total)
    assert int(tokens_K.sum()) == total
    assert (np.abs(tokens_K - weights_K * total) <= 1.0 + 1e-9 * total).all()


@pytest.mark.parametrize("seed", range(20))
def test_no_sample_and_no_projection_violates_a_constraint(seed):
    rng = np.random.default_rng(seed)
    n_domains = int(rng.integers(5, 201))
    space: FeasibleSet = draw_feasible_set(n_domains, seed)
    drawn_MK = space.sample(rng, 500, concentration=(0.1, 5.0), temperature=0.5)
    projected_MK = space.project(drawn_MK * np.exp(rng.normal(size=drawn_MK.shape)))
    for mixtures_MK in (drawn_MK, projected_MK):
        assert space.contains(mixtures_MK, tolerance=1e-11).all()
        epochs_MK = np.stack([space.epochs(w_K, space.tokens_K.sum()) for w_K in mixtures_MK])
        assert (epochs_MK <= space.upper_K / space.natural_K * (1.0 + 1e-9)).all()


def test_a_random_set_whose_group_sums_to_1_and_a_rounding_error_is_feasible():
    space = draw_feasible_set(6, 517)
    assert space.contains(space.project(space.natural_K[None, :]), tolerance=1e-11).all()


def test_random_sets_have_every_kind_of_constraint():
    spaces = [draw_feasible_set(12, seed) for seed in range(40)]
    assert any(space.min_weight == 0.0 for space in spaces)
    assert any(space.min_weight > 0.01 for space in spaces)
    assert any(space.kl_penalty > 0.0 for space in spaces)
    groups = [group for space in spaces for group in space.bounds.groups]
    assert any(group.min_weight > 0.0 for group in groups)
    assert any(group.max_weight < 1.0 for group in groups)
    reasons = {reason for space in spaces for pair in space.bounds.reasons for reason in pair}
    for kind in ("search.max_epochs", ": max_epochs", ": min_weight", ": max_weight"):
        assert any(kind in reason for reason in reasons)
