"""The penalized score: predicted score, KL penalty, and the outcome constraint `max_drop`."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from climb.config import load
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.search import Problem, SearchState, Surrogate, Trials, propose, recommend
from climb.search.acquisition import PenalizedScore
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c", "d")
TOKENS_K = np.array([4.0, 3.0, 2.0, 1.0])
X_BEST_K = np.array([0.1, 0.1, 0.2, 0.6])
Y_BEST_K = np.array([0.5, 0.3, 0.1, 0.1])
METRICS = ("x.bpb", "y.prob")
OBJECTIVE = Objective.parse("3*x.bpb:min + y.prob:max", METRICS)
CFG = load(settings=["search.trials_per_round=[12, 6]", "search.candidates=300"]).search


def compute_metrics(weights_K):
    """Compute a loss that is lowest with much of d, and a probability highest near natural."""
    x = np.square(weights_K - X_BEST_K).sum()
    y = 1.0 - np.square(weights_K - Y_BEST_K).sum()
    return {"x.bpb": float(x), "y.prob": float(y)}


def make_trials(weights_MK):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
            "metrics": compute_metrics(weights_K),
        }
        for weights_K in weights_MK
    ]
    return Trials.from_rows(rows, DOMAINS, METRICS)


def build_problem(kl_penalty=0.0, max_drop=None, objective=OBJECTIVE):
    constraints = Constraints(target_tokens=1.0, max_epochs=100.0, kl_penalty=kl_penalty)
    cfg = CFG.model_copy(update={"max_drop": max_drop})
    space = FeasibleSet.from_constraints(DOMAINS, TOKENS_K, constraints)
    return Problem(space, objective, BowlPredictor(), UCBSearcher(), cfg)


TRIALS = make_trials(np.random.default_rng(0).dirichlet(np.ones(4), size=24))
NATURAL_K = build_problem().space.natural_K


def build_state(**settings):
    return SearchState.from_trials(TRIALS, build_problem(**settings))


@pytest.fixture(scope="module")
def unconstrained():
    """The recommendation without an outcome constraint."""
    return recommend(build_state())


def compute_drops(weights_K):
    """Compute how much worse than at the natural mixture each metric truly is."""
    natural, own = compute_metrics(NATURAL_K), compute_metrics(weights_K)
    return {"x": own["x.bpb"] - natural["x.bpb"], "y": natural["y.prob"] - own["y.prob"]}


def test_without_penalties_it_is_the_predicted_score():
    penalized = build_state().penalized
    weights_MK = np.random.default_rng(1).dirichlet(np.ones(4), size=9)
    metrics = [compute_metrics(w) for w in weights_MK]
    score_M = [3 * -one["x.bpb"] + one["y.prob"] for one in metrics]
    np.testing.assert_allclose(penalized(weights_MK), score_M, atol=1e-9)


def test_it_is_fitted_once_per_state():
    state = build_state()
    assert state.penalized is state.penalized
    assert state.penalized is not build_state().penalized


def test_the_kl_penalty_is_subtracted_per_nat_and_is_zero_at_the_natural_mixture():
    plain = build_state().penalized
    penalized = build_state(kl_penalty=0.2).penalized
    uniform_K = build_problem().space.uniform_K
    pair_2K = np.stack([NATURAL_K, uniform_K])
    nats = float((0.25 * np.log(0.25 / NATURAL_K)).sum())
    np.testing.assert_allclose(plain(pair_2K) - penalized(pair_2K), [0.0, 0.2 * nats], atol=1e-9)


def test_a_larger_kl_penalty_moves_the_recommendation_nearer_to_the_natural_mixture():
    distance = []
    for kl_penalty in (0.0, 0.3, 3.0, 300.0):
        recommendation = recommend(build_state(kl_penalty=kl_penalty))
        distance.append(np.abs(recommendation.weights_K - NATURAL_K).sum())
    assert distance[0] > distance[1] > distance[2] > distance[3]
    assert distance[3] < 0.02


def test_without_max_drop_one_metric_may_become_much_worse(unconstrained):
    assert compute_drops(unconstrained.weights_K)["y"] > 0.1


@pytest.mark.parametrize("max_drop", [0.0, 0.05])
def test_no_metric_of_the_recommendation_is_predicted_worse_than_max_drop(max_drop, unconstrained):
    state = build_state(max_drop=max_drop)
    recommendation = recommend(state)
    assert max(compute_drops(recommendation.weights_K).values()) <= max_drop + 1e-9
    assert state.problem.space.contains(recommendation.weights_K)
    # The constraint costs a part of the gain, but not all of it.
    assert 0.0 <= recommendation.gain.mean < unconstrained.gain.mean


def test_forbidden_mixtures_rank_below_allowed_ones_whatever_the_unit_of_the_score():
    """A sum of losses over a corpus may be 1e12 nats; the second mixture has a too low accuracy."""
    means_MQ = np.array([[1e12, 0.98], [0.9e12, 0.97]])
    surrogate = SimpleNamespace(
        predict_means=lambda weights_MK: means_MQ, weights_Q=np.array([-1.0, 1.0])
    )
    space = SimpleNamespace(penalty=lambda weights_MK: 0.0)
    score = PenalizedScore(surrogate, space, np.array([-np.inf, 0.975]))
    allowed, forbidden = score(np.full((2, 4), 0.25))
    assert forbidden < allowed


def test_a_larger_max_drop_allows_a_better_score(unconstrained):
    scores = [recommend(build_state(max_drop=x)).score_mean for x in (0.0, 0.05, 0.1, 10.0)]
    assert scores == sorted(scores)
    assert scores[0] < scores[2]
    assert scores[3] == unconstrained.score_mean


def test_the_natural_mixture_satisfies_max_drop_zero():
    objective = Objective.parse("y.prob:max", METRICS)
    penalized = build_state(max_drop=0.0, objective=objective).penalized
    assert penalized(NATURAL_K[None])[0] > -1e6


def test_of_two_infeasible_mixtures_the_one_with_the_smaller_violation_ranks_higher():
    penalized = build_state(max_drop=0.0).penalized
    far_K, farther_K = np.array([0.1, 0.1, 0.2, 0.6]), np.array([0.0, 0.0, 0.0, 1.0])
    scores = penalized(np.stack([NATURAL_K, far_K, farther_K]))
    assert scores[0] > -10.0
    assert scores[0] > scores[1] > scores[2]
    assert scores[1] < -1e6


def test_a_round_proposes_an_optimum_that_satisfies_max_drop():
    first_K = propose(TRIALS, 1, build_problem(max_drop=0.05))[0]
    assert max(compute_drops(first_K).values()) <= 0.05 + 1e-9


def test_max_drop_follows_the_direction_of_every_metric():
    objective = Objective.parse("y.prob:max + 0.001*x.bpb:max", METRICS)
    problem = dataclasses.replace(build_problem(max_drop=0.0), objective=objective)
    surrogate = Surrogate.fit(TRIALS, objective, BowlPredictor())
    penalized = PenalizedScore.build(surrogate, problem.space, problem.cfg.max_drop)
    low_x_K, high_x_K = X_BEST_K, NATURAL_K  # x is maximized here, and lowest at X_BEST_K
    assert penalized(low_x_K[None])[0] < -1e6 < penalized(high_x_K[None])[0]
