"""The Pareto front: mixtures that no other mixture dominates, the best by the score first."""

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.search import Problem, SearchState, Trials
from climb.search.pareto import find_nondominated, find_pareto_front
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c")
X_BEST_K, Y_BEST_K = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
METRICS = ("x", "y")
OBJECTIVE = Objective.parse("x:min + y:min", METRICS)
CFG = load(settings=["search.candidates=200"]).search
DRAWN_MK = np.random.default_rng(0).dirichlet(np.ones(3), size=16)


def make_trials(weights_MK, domains=DOMAINS):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
            "metrics": {
                "x": float(np.square(weights_K - X_BEST_K).sum()),
                "y": float(np.square(weights_K - Y_BEST_K).sum()),
            },
        }
        for weights_K in weights_MK
    ]
    return Trials.from_rows(rows, domains, METRICS)


def build_state(objective=OBJECTIVE, domains=DOMAINS, weights_MK=DRAWN_MK, **constraints):
    space = FeasibleSet.from_constraints(
        domains, np.ones(3), Constraints(target_tokens=1.0, max_epochs=3.0, **constraints)
    )
    problem = Problem(space, objective, BowlPredictor(), UCBSearcher(), CFG)
    return SearchState.from_trials(make_trials(weights_MK, domains), problem)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([[1.0, 2.0]], [0]),
        ([[1.0, 2.0], [2.0, 1.0]], [0, 1]),
        ([[1.0, 1.0], [2.0, 2.0]], [1]),
        ([[2.0, 2.0], [1.0, 2.0]], [0]),  # equal on one metric, worse on the other
        ([[1.0, 2.0], [1.0, 2.0]], [0]),  # the first of equal rows
        ([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 1.0]], [0, 2, 3]),
        ([[3.0], [1.0], [3.0], [2.0]], [0]),
    ],
    ids=["single", "trade-off", "dominated", "equal on one", "equal", "several", "one metric"],
)
def test_dominated_rows_are_left_out(values, kept):
    assert find_nondominated(np.array(values)).tolist() == kept


def test_nondominated_rows_agree_with_comparing_every_pair():
    values_PQ = np.random.default_rng(1).integers(0, 6, size=(60, 3)).astype(float)
    kept = find_nondominated(values_PQ)
    dominates = [
        [bool((a >= b).all() and (a > b).any()) for a in values_PQ] for b in values_PQ
    ]  # dominates[b][a]: a dominates b
    best = {tuple(values_PQ[p]) for p in range(60) if not any(dominates[p])}
    assert {tuple(values_PQ[p]) for p in kept} == best
    assert len(kept) == len(best)


def test_the_front_of_two_bowls_is_the_line_between_their_minima():
    weights_PK, means_PQ = find_pareto_front(build_state(), 12)
    assert len(weights_PK) >= 6
    # The mixtures between the two minima are the whole true front.
    direction_K = X_BEST_K - Y_BEST_K
    position_P = (weights_PK - Y_BEST_K) @ direction_K / np.square(direction_K).sum()
    nearest_PK = Y_BEST_K + position_P[:, None] * direction_K
    np.testing.assert_allclose(weights_PK, nearest_PK, atol=0.02)
    assert position_P.min() < 0.2
    assert position_P.max() > 0.8
    truth_PQ = np.stack(
        [np.square(weights_PK - best_K).sum(axis=1) for best_K in (X_BEST_K, Y_BEST_K)], axis=1
    )
    np.testing.assert_allclose(means_PQ, truth_PQ, atol=1e-9)


def test_the_first_mixture_is_the_best_by_the_objective():
    objective = Objective.parse("4*x:min + y:min", METRICS)
    weights_PK, means_PQ = find_pareto_front(build_state(objective), 8)
    scores_P = objective.score(means_PQ)
    assert (np.diff(scores_P) <= 1e-12).all()
    # The minimum of 4 x + y is a fifth of the way from the minimum of x to that of y.
    np.testing.assert_allclose(weights_PK[0], 0.8 * X_BEST_K + 0.2 * Y_BEST_K, atol=0.02)


def test_every_mixture_of_the_front_is_feasible_and_nondominated():
    state = build_state(min_weight=0.15)
    weights_PK, means_PQ = find_pareto_front(state, 10)
    assert state.problem.space.contains(weights_PK).all()
    assert len(find_nondominated(-means_PQ)) == len(means_PQ)


def test_one_metric_has_a_front_of_one_mixture():
    weights_PK, means_PQ = find_pareto_front(build_state(Objective.parse("x:min", METRICS)), 5)
    assert means_PQ.shape == (1, 1)
    np.testing.assert_allclose(weights_PK[0], X_BEST_K, atol=0.02)


def test_the_front_follows_the_direction_of_every_metric():
    # x is minimized and y is maximized, far from the minimum of y: both are best with much of a.
    weights_PK, _ = find_pareto_front(build_state(Objective.parse("x:min + 0.2*y:max", METRICS)), 6)
    assert (weights_PK[:, 0] > 0.6).all()


def test_the_front_does_not_depend_on_the_order_of_domains():
    order = [2, 0, 1]
    permuted = tuple(DOMAINS[k] for k in order)
    weights_PK, means_PQ = find_pareto_front(build_state(), 5)
    permuted_PK, permuted_PQ = find_pareto_front(build_state(domains=permuted), 5)
    np.testing.assert_array_equal(permuted_PK, weights_PK[:, order])
    np.testing.assert_array_equal(permuted_PQ, means_PQ)


def test_too_few_mixtures_have_no_front():
    with pytest.raises(SearchError, match="3 distinct mixtures have finished trials"):
        find_pareto_front(build_state(weights_MK=np.eye(3)), 4)
