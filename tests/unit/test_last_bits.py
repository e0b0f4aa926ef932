"""Inputs that differ in their last bits, as on another processor, give the same recommendation."""

import dataclasses

import numpy as np
import pytest
from linear_model import Plane

from climb.config import load
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Problem, SearchState, Surrogate, Trials, recommend
from climb.search.acquisition import INFEASIBLE, PenalizedScore
from climb.search.calibration import Calibration, Inflation
from climb.search.knowledge_gradient import estimate_further_round
from climb.search.local_search import search_locally
from climb.search.optimize import maximize
from climb.search.pareto import find_nondominated, find_pareto_front
from climb.search.pattern_search import pattern_search
from climb.search.searchers.published import RandomSearcher
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.world import PlantedWorld

VARIANTS = 20
SHIFT = 1e-14
"""Relative: some last bits of a double."""

ALLOWED = 1e-3
"""Of the surrogate's standard deviation at the recommendation, which is less than the standard
deviation of the score over mixtures."""

WORLD = PlantedWorld.build(4, 2, 0.1, 0)
CFG = load(settings=["search.trials_per_round=[10, 6, 4]", "search.candidates=200"]).search
PROBLEM = Problem(WORLD.space, WORLD.objective, GPPredictor(), UCBSearcher(), CFG)


def draw(world, n):
    return world.space.sample(
        np.random.default_rng([world.seed, 7]), n, concentration=(0.1, 5.0), temperature=0.5
    )


def make_rows(world, n):
    mixtures_TK = draw(world, n)
    return [
        world.make_row(w_K, int(i >= n // 2), "proposal", 0) for i, w_K in enumerate(mixtures_TK)
    ]


def shift(row, random):
    """The row with every weight and metric changed in its last bits."""
    return row | {
        part: {name: x * (1.0 + random.uniform(-SHIFT, SHIFT)) for name, x in row[part].items()}
        for part in ("weights", "metrics")
    }


ROWS = make_rows(WORLD, 12)
SHIFTED = [
    WORLD.make_trials([shift(row, random) for row in ROWS])
    for random in map(np.random.default_rng, range(VARIANTS))
]
TRIALS = WORLD.make_trials(ROWS)
SURROGATE = Surrogate.fit(TRIALS, WORLD.objective, GPPredictor())


def state_of(trials, problem=PROBLEM):
    return SearchState.from_trials(trials, problem)


def tolerance_at(weights_K):
    own = float(SURROGATE.predict_score(weights_K[None])[1][0])
    over_mixtures = float(SURROGATE.predict_mean(draw(WORLD, 500)).std())
    assert 0.0 < own < over_mixtures
    return ALLOWED * own


def test_the_recommendation_and_the_gain_of_a_round_do_not_depend_on_last_bits():
    plain = recommend(state_of(TRIALS))
    score = SURROGATE.predict_mean(plain.weights_K[None])[0]
    tolerance = tolerance_at(plain.weights_K)
    assert plain.further_round.expected_gain > tolerance
    for trials in SHIFTED:
        other = recommend(state_of(trials))
        assert abs(SURROGATE.predict_mean(other.weights_K[None])[0] - score) <= tolerance
        difference = other.further_round.expected_gain - plain.further_round.expected_gain
        assert abs(difference) <= tolerance


def test_the_pareto_front_does_not_depend_on_last_bits():
    weights_PK, means_PQ = find_pareto_front(state_of(TRIALS), 3)
    tolerance = tolerance_at(weights_PK[0])
    for trials in SHIFTED:
        other_PK, other_PQ = find_pareto_front(state_of(trials), 3)
        assert other_PK.shape == weights_PK.shape
        np.testing.assert_allclose(other_PQ, means_PQ, rtol=0.0, atol=tolerance)
        np.testing.assert_allclose(
            SURROGATE.predict_means(other_PK), means_PQ, rtol=0.0, atol=tolerance
        )


@pytest.mark.parametrize(
    ("seed", "bounds", "kl_penalty", "max_drop"),
    [(3, {"min_weight": 0.03}, 0.0, None), (2, {"min_weight": 0.01}, 0.02, 0.0)],
    ids=["smallest weight", "KL penalty and outcome constraint"],
)
def test_a_search_ends_at_one_score_whatever_its_steps(seed, bounds, kl_penalty, max_drop):
    world = PlantedWorld.build(12, 2, 0.1, seed)
    space = dataclasses.replace(
        world.space,
        bounds=dataclasses.replace(world.space.bounds, **bounds),
        kl_penalty=kl_penalty,
    )
    problem = Problem(space, world.objective, GPPredictor(), UCBSearcher(), CFG)
    trials = world.make_trials(make_rows(world, 40))
    surrogate = Surrogate.fit(trials, world.objective, GPPredictor())
    score = PenalizedScore.build(surrogate, space, max_drop)
    reached = []
    for steps in range(5):
        random = np.random.default_rng(steps)
        best_K = maximize(score, problem.sample(random, 400), trials.weights_TK, random)[0]
        assert space.contains(best_K)
        reached.append(score(best_K[None])[0])
    assert min(reached) > -INFEASIBLE
    # A hundredth of the tolerance: these are other steps, and not only other last bits.
    assert np.ptp(reached) <= 1e-5 * surrogate.predict_mean(trials.weights_TK).std()


def test_a_local_search_never_decreases_the_score_and_stays_feasible():
    uneven = Objective.parse("task0.bpb:min + 0.1*task1.bpb:min", WORLD.metric_names)
    space = dataclasses.replace(
        WORLD.space, bounds=dataclasses.replace(WORLD.space.bounds, min_weight=0.02)
    )
    score = PenalizedScore.build(Surrogate.fit(TRIALS, uneven, GPPredictor()), space, 0.4)
    increased = 0
    for start_K in space.project(draw(WORLD, 40)):
        before = float(score(start_K[None])[0])
        reached_K, value = search_locally(start_K, score)
        assert space.contains(reached_K)
        assert value == pytest.approx(score(reached_K[None])[0], rel=1e-12)
        if before <= -INFEASIBLE:
            np.testing.assert_array_equal(reached_K, start_K)
        else:
            assert value >= before
            increased += value > before
    assert increased >= 5


def test_a_local_search_never_removes_the_only_domain_of_a_mixture():
    names = WORLD.space.domains
    free = Constraints(target_tokens=1.0, max_epochs=None)
    space = FeasibleSet.from_constraints(names, np.ones(len(names)), free)
    score = PenalizedScore.build(SURROGATE, space, None)
    for alone_K in np.eye(len(space.domains)) * np.nextafter(1.0, 0.0):
        np.testing.assert_array_equal(space.project(alone_K), alone_K)
        reached_K, _ = search_locally(alone_K, score)
        assert space.contains(reached_K)


def test_a_pattern_search_leaves_the_random_numbers_of_its_caller_unchanged():
    random = np.random.default_rng(0)
    before = random.bit_generator.state
    pattern_search(WORLD.space.uniform_K[None], WORLD.space, WORLD.compute_scores, random)
    assert random.bit_generator.state == before


def test_a_start_takes_the_same_steps_whatever_happens_to_the_others():
    def score(weights_MK):
        return -np.square(weights_MK - WORLD.best_K).sum(axis=1)

    start_K, far_K = WORLD.space.project(np.eye(4)[:2])
    ends = []
    for other_K in (WORLD.best_K, far_K):  # one that converges at once, one that needs many steps
        reached_SK, _ = pattern_search(
            np.stack([start_K, other_K]), WORLD.space, score, np.random.default_rng(0)
        )
        ends.append(reached_SK)
    distance_SS = np.abs(ends[0][:, None] - ends[1]).max(axis=2)
    assert distance_SS.min() <= 1e-12


def test_an_increase_within_rounding_is_not_taken():
    random = np.random.default_rng(1)

    def flat(weights_MK):
        return 3.0 + 1e-15 * random.normal(size=len(weights_MK))

    starts_SK = WORLD.space.project(np.eye(4))
    reached_SK, _ = pattern_search(starts_SK, WORLD.space, flat, np.random.default_rng(0))
    for start_K in starts_SK:
        assert (reached_SK == start_K).all(axis=1).any()


DOMAINS = ("a", "b", "c")


def opposite_metrics(slopes, max_drop=0.0, seed=0):
    """Two metrics that favour opposite ends of one plane; by default neither may get worse."""
    space = FeasibleSet.from_constraints(
        DOMAINS, np.ones(3), Constraints(target_tokens=1.0, max_epochs=3.0)
    )
    objective = Objective.parse("x:max + 0.5*y:min", ("x", "y"))
    cfg = CFG.model_copy(update={"max_drop": max_drop, "seed": seed})
    problem = Problem(
        space, objective, Plane(std=0.3, noise=0.01, slopes=slopes), RandomSearcher(), cfg
    )
    mixtures_TK = np.random.default_rng(0).dirichlet(np.ones(3), size=10)
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, w_K), strict=True)),
            "metrics": {"x": 0.0, "y": 0.0},
        }
        for w_K in mixtures_TK
    ]
    return state_of(Trials.from_rows(rows, DOMAINS, ("x", "y")), problem)


def shifted_slopes():
    random = np.random.default_rng(2)
    shift_V3 = random.uniform(-SHIFT, SHIFT, size=(VARIANTS, 3))
    return [tuple(shifted_3) for shifted_3 in np.array([0.05, 0.0, -0.05]) * (1.0 + shift_V3)]


def test_the_natural_mixture_satisfies_outcome_constraints_where_its_means_cancel():
    for slopes in shifted_slopes():
        state = opposite_metrics(slopes)
        score, space = state.penalized, state.problem.space
        natural_K = space.project(space.natural_K)
        several_MK = np.stack([np.eye(3)[0], natural_K, np.eye(3)[2], natural_K])
        assert (score(several_MK)[[1, 3]] > -INFEASIBLE).all()
        # Another sum of the same weights differs in its last bits, and satisfies them too.
        shifted_K = natural_K * (1.0 + 1e-15 * np.array([1.0, 0.0, -1.0]))
        assert score(shifted_K[None])[0] > -INFEASIBLE


def test_the_gain_of_a_round_under_such_constraints_does_not_depend_on_last_bits():
    uncertain = Calibration(0.0, 0.0, 0.0, Inflation(level=1.0), 1.0)
    for slopes in shifted_slopes():
        # The standard deviation of the slopes is 0.3: less than a thousandth of it.
        gain = estimate_further_round(opposite_metrics(slopes), uncertain).expected_gain
        assert gain < 1e-3 * 0.3


def test_a_recommendation_that_no_outcome_can_change_leaves_nothing_to_gain():
    """The mean of simulated outcomes is exact where one candidate stays the best in all of them."""
    exact = Calibration(0.0, 1.0, 0.0, Inflation(level=1.0), 1.0)
    for seed in range(4):
        state = opposite_metrics((100.0, 0.0, -100.0), max_drop=None, seed=seed)
        gain = estimate_further_round(state, exact).expected_gain
        assert gain == pytest.approx(0.0, abs=1e-9)


def test_rounding_does_not_decide_which_of_two_optima_is_dominated():
    tie = 1e-6
    same = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    for sign in (1.0, -1.0):
        shifted_PQ = same + sign * np.array([[1e-15, 0.0], [0.0, 1e-15], [0.0, 0.0]])
        assert find_nondominated(shifted_PQ, tie).tolist() == [0, 2]
        # The second is worse on one metric, and better on the other by rounding alone.
        nearly_PQ = np.array([[1.0, 2.0], [1.0 + sign * 1e-15, 1.5]])
        assert find_nondominated(nearly_PQ, tie).tolist() == [0]


def test_a_front_of_near_ties_is_never_empty():
    near_PQ = np.random.default_rng(3).normal(size=(40, 3)) * 1e-6
    kept = find_nondominated(near_PQ, 1e-6)
    assert len(kept) >= 1
    best = near_PQ.sum(axis=1).argmax()
    assert (near_PQ[kept].sum(axis=1) >= near_PQ[best].sum() - 3.0 * 1e-6).any()
