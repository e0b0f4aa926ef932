"""Effects of one percent more of a domain, and trade-offs between metrics."""

import dataclasses

import numpy as np
import pytest

from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Surrogate, Trials
from climb.search.effects import STEP, Effects, estimate_effects
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c")
SLOPES_QK = np.array([[0.3, -0.2, 0.0], [0.1, 0.5, -0.4]])
HERE_K = np.array([0.5, 0.3, 0.2])
NAMES = ("x.bpb", "y.prob")
OBJECTIVE = Objective.parse("2*x.bpb:min + 0.5*y.prob:max", NAMES)
DRAWN_MK = np.random.default_rng(0).dirichlet(np.ones(3), size=20)


def make_trials(metrics_MQ, names=NAMES):
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


def fit_linear(std=0.01):
    trials = make_trials(1.0 + DRAWN_MK @ SLOPES_QK.T)
    return Surrogate.fit(trials, OBJECTIVE, BowlPredictor(std=std))


def estimate_exactly(surfaces, objective):
    """Effects at HERE_K of surfaces that the predictor fits exactly."""
    names = objective.metric_names
    metrics_MQ = np.stack([surface(DRAWN_MK) for surface in surfaces], axis=1)
    surrogate = Surrogate.fit(make_trials(metrics_MQ, names), objective, BowlPredictor(std=1e-4))
    return estimate_effects(surrogate, DOMAINS, HERE_K, 1.0)


def test_effects_on_a_linear_surface_are_its_slopes_and_improvements_are_positive():
    effects = estimate_effects(fit_linear(), DOMAINS, HERE_K, 1.0)
    # From w to w + STEP (e_k - w), a plane rises by STEP * (its slope in k - its value at w).
    rise_KQ = STEP * (SLOPES_QK.T - SLOPES_QK @ HERE_K)
    np.testing.assert_allclose(effects.mean_KQ, rise_KQ * [-1.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(effects.score_K, rise_KQ @ [-2.0, 0.5], atol=1e-12)
    assert effects.metric_names == NAMES


def test_the_std_of_an_effect_is_the_inflated_std_of_a_difference():
    effects = estimate_effects(fit_linear(std=0.01), DOMAINS, HERE_K, 3.0)
    # Two independent predictions, each with a std of 0.01.
    np.testing.assert_allclose(effects.std_KQ, 3.0 * 0.01 * np.sqrt(2.0))
    np.testing.assert_allclose(effects.score_std_K, effects.std_KQ @ [2.0, 0.5])


def test_correlated_errors_make_the_std_of_a_small_step_smaller_than_that_of_a_prediction():
    noise_MQ = 0.05 * np.random.default_rng(1).normal(size=(20, 2))
    trials = make_trials(1.0 + DRAWN_MK @ SLOPES_QK.T + noise_MQ)
    surrogate = Surrogate.fit(trials, OBJECTIVE, GPPredictor())
    effects = estimate_effects(surrogate, DOMAINS, HERE_K, 1.0)
    _, std_1Q = surrogate.predict_metrics(HERE_K[None])
    assert (effects.std_KQ < 0.3 * std_1Q).all()
    assert (effects.std_KQ > 0.0).all()


def test_more_of_a_domain_improves_a_metric_below_its_best_weight_and_worsens_it_above():
    best_K = np.array([0.2, 0.3, 0.5])  # HERE_K has too much of a and too little of c
    bowl = Objective.parse("x:min", ("x",))
    effects = estimate_exactly([lambda w: np.square(w - best_K).sum(axis=1)], bowl)
    assert effects.score_K[2] > 0.0 > effects.score_K[0]
    assert abs(effects.score_K[1]) < min(effects.score_K[2], -effects.score_K[0])


def make_bowl(best_K):
    return lambda w: np.square(w - np.array(best_K)).sum(axis=1)


def test_opposite_bowls_trade_off_and_the_domain_of_the_clearest_difference_is_named():
    pair = Objective.parse("x:min + y:min", ("x", "y"))
    effects = estimate_exactly([make_bowl([0.9, 0.05, 0.05]), make_bowl([0.05, 0.05, 0.9])], pair)
    (trade,) = effects.trade_offs
    assert trade.correlation < -0.4
    assert trade.domain in {"a", "c"}
    assert trade.metrics == (("x", "y") if trade.domain == "a" else ("y", "x"))
    improved, worsened = trade.effects
    assert improved > 0.0 > worsened
    k = DOMAINS.index(trade.domain)
    columns = [effects.metric_names.index(name) for name in trade.metrics]
    np.testing.assert_array_equal(trade.effects, effects.mean_KQ[k, columns])


def test_neither_equal_bowls_nor_a_constant_metric_trade_off():
    pair = Objective.parse("x:min + y:min", ("x", "y"))
    assert estimate_exactly([make_bowl([0.9, 0.05, 0.05])] * 2, pair).trade_offs == ()
    flat = [make_bowl([0.9, 0.05, 0.05]), lambda w: np.ones(len(w))]
    assert estimate_exactly(flat, pair).trade_offs == ()


def test_trade_offs_compare_improvements_whether_a_metric_is_maximized_or_minimized():
    rising = [lambda w: w[:, 0], lambda w: w[:, 0]]
    agree = Objective.parse("x:max + y:max", ("x", "y"))
    against = Objective.parse("x:max + y:min", ("x", "y"))
    assert estimate_exactly(rising, agree).trade_offs == ()
    (trade,) = estimate_exactly(rising, against).trade_offs
    assert trade.correlation == pytest.approx(-1.0)
    assert trade.effects[0] == pytest.approx(-trade.effects[1])


def make_effects(mean_KQ):
    names = tuple(f"m{q}" for q in range(mean_KQ.shape[1]))
    domains = tuple(f"d{k}" for k in range(len(mean_KQ)))
    zeros_K = np.zeros(len(mean_KQ))
    return Effects(domains, names, mean_KQ, np.zeros_like(mean_KQ), zeros_K, zeros_K)


def test_effects_below_their_std_make_no_trade_off():
    mean_KQ = np.array([[0.2, -0.2], [-0.1, 0.1], [-0.1, 0.1]])
    for std, pairs in ((0.19, 1), (0.21, 0)):
        effects = dataclasses.replace(make_effects(mean_KQ), std_KQ=np.full((3, 2), std))
        assert len(effects.trade_offs) == pairs


def test_the_five_most_negative_correlations_are_reported_in_order():
    effects = make_effects(np.random.default_rng(3).normal(size=(5, 8)))
    pairs = np.corrcoef(effects.mean_KQ.T)[np.triu_indices(8, 1)]
    assert (pairs <= -0.3).sum() > 5
    reported = [trade.correlation for trade in effects.trade_offs]
    np.testing.assert_allclose(reported, np.sort(pairs)[:5])


def test_a_weak_negative_correlation_is_not_a_trade_off():
    x_K = np.array([1.0, -1.0, 1.0, -1.0])
    across_K = np.array([1.0, 1.0, -1.0, -1.0])
    mild = np.stack([x_K, -0.29 * x_K + np.sqrt(1 - 0.29**2) * across_K], axis=1)
    clear = np.stack([x_K, -0.31 * x_K + np.sqrt(1 - 0.31**2) * across_K], axis=1)
    assert make_effects(mild).trade_offs == ()
    assert make_effects(clear).trade_offs[0].correlation == pytest.approx(-0.31)


def test_reordering_domains_reorders_rows_and_keeps_trade_offs():
    effects = estimate_effects(fit_linear(), DOMAINS, HERE_K, 1.0)
    reordered = effects.reorder_domains(np.array([2, 0, 1]))
    assert reordered.domains == ("c", "a", "b")
    np.testing.assert_array_equal(reordered.mean_KQ, effects.mean_KQ[[2, 0, 1]])
    np.testing.assert_array_equal(reordered.score_K, effects.score_K[[2, 0, 1]])
    assert reordered.trade_offs == effects.trade_offs
