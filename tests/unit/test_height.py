"""What candidates are compared by: the score, the pull to natural proportions, and the guard."""

import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.search import Problem, Surrogate, Trials, propose, recommend
from climb.search.height import Height, fitted
from climb.search.promising import PromisingSearcher
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c", "d")
TOKENS_K = np.array([4.0, 3.0, 2.0, 1.0])
X_BEST_K = np.array([0.1, 0.1, 0.2, 0.6])
Y_BEST_K = np.array([0.5, 0.3, 0.1, 0.1])
OBJECTIVE = Objective.parse("3*x.bpb:min + y.prob:max", ("x.bpb", "y.prob"))
CFG = load(settings=["search.trials_per_round=[12, 6]", "search.candidates=300"]).search


def metrics(w_K):
    """A loss that wants much of d, and a probability that falls with the distance from natural."""
    x = np.square(w_K - X_BEST_K).sum()
    y = 1.0 - np.square(w_K - Y_BEST_K).sum()
    return {"x.bpb": float(x), "y.prob": float(y)}


def told(weights_MK):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, w_K), strict=True)),
            "metrics": metrics(w_K),
        }
        for w_K in weights_MK
    ]
    return Trials.from_rows(rows, DOMAINS, ("x.bpb", "y.prob"))


def problem(pull=0.0, max_drop=None, objective=OBJECTIVE):
    limits = Limits(target_tokens=1.0, max_epochs=100.0, pull=pull)
    cfg = CFG.model_copy(update={"max_drop": max_drop})
    space = FeasibleSet.of(DOMAINS, TOKENS_K, limits)
    return Problem(space, objective, BowlPredictor(), PromisingSearcher(), cfg)


KNOWN = told(np.random.default_rng(0).dirichlet(np.ones(4), size=24))


def drops(weights_K, there=None):
    """How much worse than at natural proportions each metric truly is; above 0 is worse."""
    natural = metrics((there or problem()).space.natural_K)
    here = metrics(weights_K)
    return {"x": here["x.bpb"] - natural["x.bpb"], "y": natural["y.prob"] - here["y.prob"]}


def test_the_height_is_the_predicted_score_where_nothing_is_taken_from_it():
    height = fitted(KNOWN, problem())
    weights_MK = np.random.default_rng(1).dirichlet(np.ones(4), size=9)
    score_M = [3 * -metrics(w)["x.bpb"] + metrics(w)["y.prob"] for w in weights_MK]
    np.testing.assert_allclose(height(weights_MK), score_M, atol=1e-9)


def test_it_is_fitted_once_for_the_same_trials_and_problem():
    one = problem()
    assert fitted(KNOWN, one) is fitted(KNOWN, one)
    assert fitted(KNOWN, problem()) is not fitted(KNOWN, problem())


def test_the_pull_takes_its_price_per_nat_and_nothing_from_natural_proportions():
    plain, pulled = fitted(KNOWN, problem()), fitted(KNOWN, problem(pull=0.2))
    space = problem().space
    pair_2K = np.stack([space.natural_K, space.uniform_K])
    nats = float((0.25 * np.log(0.25 / space.natural_K)).sum())
    np.testing.assert_allclose(plain(pair_2K) - pulled(pair_2K), [0.0, 0.2 * nats], atol=1e-9)


def test_a_pull_moves_the_answer_towards_natural_proportions_the_more_the_stronger_it_is():
    away = []
    for pull in (0.0, 0.3, 3.0, 300.0):
        there = problem(pull=pull)
        answer = recommend(KNOWN, there)
        away.append(np.abs(answer.weights_K - there.space.natural_K).sum())
    assert away[0] > away[1] > away[2] > away[3]
    assert away[3] < 0.02


def test_without_a_guard_the_score_alone_decides_and_a_metric_pays_for_it():
    answer = recommend(KNOWN, problem())
    assert drops(answer.weights_K)["y"] > 0.1


@pytest.mark.parametrize("allowed", [0.0, 0.05])
def test_with_a_guard_no_metric_is_predicted_worse_than_natural_by_more_than_allowed(allowed):
    guarded = problem(max_drop=allowed)
    answer = recommend(KNOWN, guarded)
    assert max(drops(answer.weights_K).values()) <= allowed + 1e-9
    free = recommend(KNOWN, problem())
    # It uses what is allowed: a gain that stays behind that of the free answer.
    assert guarded.space.contains(answer.weights_K)
    assert 0.0 <= answer.gain.mean < free.gain.mean


def test_a_wider_guard_allows_a_better_score():
    scores = [
        recommend(KNOWN, problem(max_drop=drop)).score_mean for drop in (0.0, 0.05, 0.1, 10.0)
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[2]
    free = recommend(KNOWN, problem())
    assert scores[3] == free.score_mean


def test_a_guard_of_nothing_leaves_natural_proportions_inside():
    one = Objective.parse("y.prob:max", ("x.bpb", "y.prob"))
    height = fitted(KNOWN, problem(max_drop=0.0, objective=one))
    natural_1K = problem().space.natural_K[None]
    assert height(natural_1K)[0] > -1e6


def test_of_two_mixtures_beyond_the_guard_the_one_that_breaks_it_less_is_higher():
    height = fitted(KNOWN, problem(max_drop=0.0))
    far_K, farther_K = np.array([0.1, 0.1, 0.2, 0.6]), np.array([0.0, 0.0, 0.0, 1.0])
    natural_K = problem().space.natural_K
    heights = height(np.stack([natural_K, far_K, farther_K]))
    assert heights[0] > -10.0
    assert heights[0] > heights[1] > heights[2]
    assert heights[1] < -1e6


def test_a_round_under_a_guard_proposes_its_optimum_inside_the_guard():
    guarded = problem(max_drop=0.05)
    first_K = propose(KNOWN, 1, guarded)[0]
    assert max(drops(first_K).values()) <= 0.05 + 1e-9


def test_the_guard_looks_at_every_metric_in_its_own_direction():
    turned = Objective.parse("y.prob:max + 0.001*x.bpb:max", ("x.bpb", "y.prob"))
    there = dataclasses.replace(problem(max_drop=0.0), objective=turned)
    surrogate = Surrogate.fit(KNOWN, turned, BowlPredictor())
    height = Height.of(surrogate, there)
    less_x_K = X_BEST_K  # x is to be large here, and lowest here
    more_x_K = problem().space.natural_K
    assert height(less_x_K[None])[0] < -1e6 < height(more_x_K[None])[0]
