"""Mixtures that no other beats on every metric, from the best by the score to the ends."""

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.search import Problem, Trials
from climb.search.pareto import pareto, undominated
from climb.search.promising import PromisingSearcher
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c")
X_BEST_K, Y_BEST_K = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
NAMES = ("x", "y")
OBJECTIVE = Objective.parse("x:min + y:min", NAMES)
CFG = load(settings=["search.candidates=200"]).search


def space(domains=DOMAINS, **limits):
    return FeasibleSet.of(domains, np.ones(3), Limits(target_tokens=1.0, max_epochs=3.0, **limits))


def told(weights_MK, domains=DOMAINS):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, w_K), strict=True)),
            "metrics": {
                "x": float(np.square(w_K - X_BEST_K).sum()),
                "y": float(np.square(w_K - Y_BEST_K).sum()),
            },
        }
        for w_K in weights_MK
    ]
    return Trials.from_rows(rows, domains, NAMES)


DRAWN_MK = np.random.default_rng(0).dirichlet(np.ones(3), size=16)


def problem(objective=OBJECTIVE, **limits):
    return Problem(space(**limits), objective, BowlPredictor(), PromisingSearcher(), CFG)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([[1.0, 2.0]], [0]),
        ([[1.0, 2.0], [2.0, 1.0]], [0, 1]),
        ([[1.0, 1.0], [2.0, 2.0]], [1]),
        ([[2.0, 2.0], [1.0, 2.0]], [0]),  # as good on one, worse on the other
        ([[1.0, 2.0], [1.0, 2.0]], [0]),  # of equal ones the first
        ([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 1.0]], [0, 2, 3]),
        ([[3.0], [1.0], [3.0], [2.0]], [0]),
    ],
    ids=["alone", "apart", "beaten", "half beaten", "equal", "several", "one metric"],
)
def test_what_another_beats_on_every_metric_is_left_out(rows, kept):
    assert undominated(np.array(rows)).tolist() == kept


def test_undominated_rows_agree_with_comparing_every_pair():
    better_PQ = np.random.default_rng(1).integers(0, 6, size=(60, 3)).astype(float)
    kept = undominated(better_PQ)
    beats = [
        [bool((a >= b).all() and (a > b).any()) for a in better_PQ] for b in better_PQ
    ]  # beats[b][a]: a beats b
    best = {tuple(better_PQ[p]) for p in range(60) if not any(beats[p])}
    assert {tuple(better_PQ[p]) for p in kept} == best
    assert len(kept) == len(best)


def test_the_front_of_two_opposite_bowls_spans_them():
    weights_PK, means_PQ = pareto(told(DRAWN_MK), 12, problem())
    assert len(weights_PK) >= 6
    # Every mixture between the bottoms is on the true front, and nothing else is.
    along_P = (weights_PK - Y_BEST_K) @ (X_BEST_K - Y_BEST_K) / np.square(X_BEST_K - Y_BEST_K).sum()
    nearest_PK = Y_BEST_K + along_P[:, None] * (X_BEST_K - Y_BEST_K)
    np.testing.assert_allclose(weights_PK, nearest_PK, atol=0.02)
    assert along_P.min() < 0.2
    assert along_P.max() > 0.8
    truth_PQ = np.stack(
        [np.square(weights_PK - best_K).sum(axis=1) for best_K in (X_BEST_K, Y_BEST_K)], axis=1
    )
    np.testing.assert_allclose(means_PQ, truth_PQ, atol=1e-9)


def test_the_first_of_the_front_is_the_best_by_the_objective_itself():
    uneven = Objective.parse("4*x:min + y:min", NAMES)
    weights_PK, means_PQ = pareto(told(DRAWN_MK), 8, problem(uneven))
    scores_P = uneven.score(means_PQ)
    assert (np.diff(scores_P) <= 1e-12).all()
    # The bottom of 4 x + y lies a fifth of the way from x's bottom to y's.
    np.testing.assert_allclose(weights_PK[0], 0.8 * X_BEST_K + 0.2 * Y_BEST_K, atol=0.02)


def test_no_mixture_of_a_front_is_beaten_by_another_nor_leaves_the_set():
    there = problem(min_weight=0.15)
    weights_PK, means_PQ = pareto(told(DRAWN_MK), 10, there)
    assert there.space.contains(weights_PK).all()
    assert len(undominated(-means_PQ)) == len(means_PQ)


def test_one_metric_has_a_front_of_one_mixture():
    alone = Objective.parse("x:min", NAMES)
    weights_PK, means_PQ = pareto(told(DRAWN_MK), 5, problem(alone))
    assert means_PQ.shape == (1, 1)
    np.testing.assert_allclose(weights_PK[0], X_BEST_K, atol=0.02)


def test_a_metric_to_be_large_is_not_mistaken_for_one_to_be_small():
    # x is to be small and y large: far from y's bottom, so both want much of a.
    agreed = Objective.parse("x:min + 0.2*y:max", NAMES)
    weights_PK, _ = pareto(told(DRAWN_MK), 6, problem(agreed))
    assert (weights_PK[:, 0] > 0.6).all()


def test_the_front_is_the_same_in_another_order_of_domains():
    order = [2, 0, 1]
    turned = tuple(DOMAINS[k] for k in order)
    there = Problem(space(turned), OBJECTIVE, BowlPredictor(), PromisingSearcher(), CFG)
    here_PK, here_PQ = pareto(told(DRAWN_MK), 5, problem())
    there_PK, there_PQ = pareto(told(DRAWN_MK, turned), 5, there)
    np.testing.assert_array_equal(there_PK, here_PK[:, order])
    np.testing.assert_array_equal(there_PQ, here_PQ)


def test_too_few_mixtures_have_no_front():
    with pytest.raises(SearchError, match="3 distinct mixtures were trained to the end"):
        pareto(told(np.eye(3)), 4, problem())
