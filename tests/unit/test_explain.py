"""What one percent more of a domain does, and which metrics want different domains."""

import dataclasses

import numpy as np
import pytest

from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Surrogate, Trials
from climb.search.explain import STEP, Effects, effects
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c")
SLOPES_QK = np.array([[0.3, -0.2, 0.0], [0.1, 0.5, -0.4]])
HERE_K = np.array([0.5, 0.3, 0.2])
NAMES = ("x.bpb", "y.prob")
OBJECTIVE = Objective.parse("2*x.bpb:min + 0.5*y.prob:max", NAMES)
DRAWN_MK = np.random.default_rng(0).dirichlet(np.ones(3), size=20)


def told(metrics_MQ, names=NAMES):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, w_K), strict=True)),
            "metrics": dict(zip(names, map(float, m_Q), strict=True)),
        }
        for w_K, m_Q in zip(DRAWN_MK, metrics_MQ, strict=True)
    ]
    return Trials.from_rows(rows, DOMAINS, names)


def linear(spread=0.01):
    trials = told(1.0 + DRAWN_MK @ SLOPES_QK.T)
    return Surrogate.fit(trials, OBJECTIVE, BowlPredictor(spread=spread))


def explained(surfaces, objective):
    """Effects at HERE_K of surfaces that are known exactly."""
    names = objective.metric_names
    metrics_MQ = np.stack([surface(DRAWN_MK) for surface in surfaces], axis=1)
    surrogate = Surrogate.fit(told(metrics_MQ, names), objective, BowlPredictor(spread=1e-4))
    return effects(surrogate, DOMAINS, HERE_K, 1.0)


def test_effects_on_a_linear_surface_are_its_slopes_and_better_is_above_zero():
    found = effects(linear(), DOMAINS, HERE_K, 1.0)
    # From w to w + STEP (e_k - w) a plane rises by STEP times (its slope in k - its height at w).
    rise_KQ = STEP * (SLOPES_QK.T - SLOPES_QK @ HERE_K)
    np.testing.assert_allclose(found.mean_KQ, rise_KQ * [-1.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(found.score_K, rise_KQ @ [-2.0, 0.5], atol=1e-12)
    assert found.metric_names == NAMES


def test_the_spread_of_an_effect_is_that_of_a_difference_inflated_as_held_out_trials_ask():
    found = effects(linear(spread=0.01), DOMAINS, HERE_K, 3.0)
    # Two predictions that know nothing of each other, each off by 0.01.
    np.testing.assert_allclose(found.std_KQ, 3.0 * 0.01 * np.sqrt(2.0))
    np.testing.assert_allclose(found.score_std_K, found.std_KQ @ [2.0, 0.5])


def test_where_a_predictor_knows_how_errors_go_together_a_small_step_is_surer_than_a_place():
    noise_MQ = 0.05 * np.random.default_rng(1).normal(size=(20, 2))
    trials = told(1.0 + DRAWN_MK @ SLOPES_QK.T + noise_MQ)
    surrogate = Surrogate.fit(trials, OBJECTIVE, GPPredictor())
    found = effects(surrogate, DOMAINS, HERE_K, 1.0)
    _, std_1Q = surrogate.metrics(HERE_K[None])
    assert (found.std_KQ < 0.3 * std_1Q).all()
    assert (found.std_KQ > 0.0).all()


def test_more_of_the_domain_that_a_metric_lacks_helps_it_and_more_of_what_it_has_too_much_costs():
    best_K = np.array([0.2, 0.3, 0.5])  # HERE_K has too much of a, enough of b, too little of c
    bowl = Objective.parse("x:min", ("x",))
    found = explained([lambda w: np.square(w - best_K).sum(axis=1)], bowl)
    assert found.score_K[2] > 0.0 > found.score_K[0]
    assert abs(found.score_K[1]) < min(found.score_K[2], -found.score_K[0])


def bowl_at(best_K):
    return lambda w: np.square(w - np.array(best_K)).sum(axis=1)


def test_two_opposite_bowls_trade_off_and_the_domain_they_fight_over_is_named():
    pair = Objective.parse("x:min + y:min", ("x", "y"))
    found = explained([bowl_at([0.9, 0.05, 0.05]), bowl_at([0.05, 0.05, 0.9])], pair)
    (trade,) = found.trade_offs
    assert trade.correlation < -0.4
    assert trade.domain in {"a", "c"}
    assert trade.metrics == (("x", "y") if trade.domain == "a" else ("y", "x"))
    helped, cost = trade.effects
    assert helped > 0.0 > cost
    k = DOMAINS.index(trade.domain)
    columns = [found.metric_names.index(name) for name in trade.metrics]
    np.testing.assert_array_equal(trade.effects, found.mean_KQ[k, columns])


def test_equal_bowls_do_not_trade_off_nor_does_a_metric_that_no_domain_moves():
    pair = Objective.parse("x:min + y:min", ("x", "y"))
    assert explained([bowl_at([0.9, 0.05, 0.05])] * 2, pair).trade_offs == ()
    flat = [bowl_at([0.9, 0.05, 0.05]), lambda w: np.ones(len(w))]
    assert explained(flat, pair).trade_offs == ()


def test_a_metric_to_be_large_and_one_to_be_small_trade_off_by_what_is_better_not_larger():
    rising = [lambda w: w[:, 0], lambda w: w[:, 0]]
    agree = Objective.parse("x:max + y:max", ("x", "y"))
    against = Objective.parse("x:max + y:min", ("x", "y"))
    assert explained(rising, agree).trade_offs == ()
    (trade,) = explained(rising, against).trade_offs
    assert trade.correlation == pytest.approx(-1.0)
    assert trade.effects[0] == pytest.approx(-trade.effects[1])


def with_means(mean_KQ):
    names = tuple(f"m{q}" for q in range(mean_KQ.shape[1]))
    domains = tuple(f"d{k}" for k in range(len(mean_KQ)))
    nothing_K = np.zeros(len(mean_KQ))
    return Effects(domains, names, mean_KQ, np.zeros_like(mean_KQ), nothing_K, nothing_K)


def test_effects_within_their_spread_make_no_trade_off():
    apart_KQ = np.array([[0.2, -0.2], [-0.1, 0.1], [-0.1, 0.1]])
    for std, pairs in ((0.19, 1), (0.21, 0)):
        found = dataclasses.replace(with_means(apart_KQ), std_KQ=np.full((3, 2), std))
        assert len(found.trade_offs) == pairs


def test_the_worst_five_pairs_are_named_worst_first():
    found = with_means(np.random.default_rng(3).normal(size=(5, 8)))
    pairs = np.corrcoef(found.mean_KQ.T)[np.triu_indices(8, 1)]
    assert (pairs <= -0.3).sum() > 5
    shown = [trade.correlation for trade in found.trade_offs]
    np.testing.assert_allclose(shown, np.sort(pairs)[:5])


def test_a_pair_that_hardly_runs_against_each_other_is_not_named():
    x_K = np.array([1.0, -1.0, 1.0, -1.0])
    across_K = np.array([1.0, 1.0, -1.0, -1.0])
    mild = np.stack([x_K, -0.29 * x_K + np.sqrt(1 - 0.29**2) * across_K], axis=1)
    clear = np.stack([x_K, -0.31 * x_K + np.sqrt(1 - 0.31**2) * across_K], axis=1)
    assert with_means(mild).trade_offs == ()
    assert with_means(clear).trade_offs[0].correlation == pytest.approx(-0.31)


def test_reordering_domains_turns_rows_and_changes_no_sentence():
    found = effects(linear(), DOMAINS, HERE_K, 1.0)
    turned = found.reordered(np.array([2, 0, 1]))
    assert turned.domains == ("c", "a", "b")
    np.testing.assert_array_equal(turned.mean_KQ, found.mean_KQ[[2, 0, 1]])
    np.testing.assert_array_equal(turned.score_K, found.score_K[[2, 0, 1]])
    assert turned.trade_offs == found.trade_offs


def test_the_json_says_by_domain_what_the_arrays_say():
    found = effects(linear(), DOMAINS, HERE_K, 2.0)
    shown = found.as_json()
    assert shown["step"] == STEP
    assert set(shown["domains"]) == set(DOMAINS)
    assert shown["domains"]["b"]["y.prob"] == {
        "mean": found.mean_KQ[1, 1], "std": found.std_KQ[1, 1]
    }  # fmt: skip
    assert shown["domains"]["c"]["score"] == {
        "mean": found.score_K[2], "std": found.score_std_K[2]
    }  # fmt: skip
    assert len(shown["trade_offs"]) == len(found.trade_offs)
