"""Predictors: what they promise, and what they find in small, noisy, real tables."""

import csv

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from climb.predictor import JointPredict, in_canonical_order
from climb.predictor import process as gaussian
from climb.predictor.gp import GPPredictor
from climb.predictor.powerlaw import PowerLawPredictor, power_law
from climb.predictor.stack import StackPredictor
from climb.predictor.xgb import XGBoostPredictor
from climb.testing.contracts import check_predictor

QUICK_TREES = XGBoostPredictor(trees=200, rate=0.09, members=3)
EVERY = [GPPredictor(), PowerLawPredictor(), StackPredictor(), QUICK_TREES]
JOINT = [GPPredictor(), PowerLawPredictor(), StackPredictor()]


def name_of(predictor):
    return type(predictor).__name__


def trials(n, noise=0.0, seed=0):
    """A loss that falls with two domains and does not care for the third and fourth."""
    rng = np.random.default_rng(seed)
    weights_TK = rng.dirichlet(np.full(4, 0.5), size=n)
    values_T = 3.0 + loss(weights_TK) + noise * rng.normal(size=n)
    return weights_TK, values_T, np.full(n, noise)


def loss(weights_MK):
    return (weights_MK[:, 0] + 0.02) ** -0.3 + 0.5 * (weights_MK[:, 1] + 0.02) ** -0.3


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_every_predictor_keeps_the_contract(predictor):
    check_predictor(predictor)


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_unseen_mixtures_are_ranked_well_from_48_noisy_trials(predictor):
    predict = predictor.fit(*trials(48, noise=0.05))
    unseen_MK = np.random.default_rng(1).dirichlet(np.full(4, 0.5), size=200)
    mean_M, _ = predict(unseen_MK)
    assert spearmanr(mean_M, loss(unseen_MK)).statistic > 0.93


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_something_that_rises_is_learned_as_well_as_something_that_falls(predictor):
    weights_TK, values_T, noise_T = trials(48, noise=0.05)
    down, _ = predictor.fit(weights_TK, values_T, noise_T)(weights_TK)
    up, _ = predictor.fit(weights_TK, -values_T, noise_T)(weights_TK)
    assert spearmanr(-up, down).statistic > 0.97


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_a_metric_that_never_changes_is_predicted_as_it_is(predictor):
    weights_TK, _, _ = trials(12)
    mean_M, std_M = predictor.fit(weights_TK, np.full(12, 2.5), np.zeros(12))(weights_TK)
    np.testing.assert_allclose(mean_M, 2.5, atol=0.02)
    assert np.isfinite(std_M).all()


# The law alone is left out: its spread knows nothing of its own misfit, as its docstring says.
@pytest.mark.parametrize("predictor", [GPPredictor(), StackPredictor()], ids=name_of)
def test_ninety_percent_intervals_hold_for_the_truth(predictor):
    held = []
    for seed in range(6):
        predict = predictor.fit(*trials(40, noise=0.1, seed=seed))
        unseen_MK = np.random.default_rng(seed + 50).dirichlet(np.full(4, 0.5), size=100)
        mean_M, std_M = predict(unseen_MK)
        held.append(np.abs(3.0 + loss(unseen_MK) - mean_M) < 1.645 * std_M)
    assert 0.75 < np.mean(held) <= 1.0


@pytest.mark.parametrize("predictor", JOINT, ids=name_of)
def test_the_joint_spread_agrees_with_the_single_ones(predictor):
    predict = predictor.fit(*trials(30, noise=0.1))
    assert isinstance(predict, JointPredict)
    at_MK = np.random.default_rng(2).dirichlet(np.ones(4), size=7)
    mean_M, std_M = predict(at_MK)
    joint_M, covariance_MM = predict.joint(at_MK)
    np.testing.assert_allclose(joint_M, mean_M, atol=1e-9)
    np.testing.assert_allclose(predict.mean(at_MK), mean_M, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance_MM)), std_M, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(covariance_MM, covariance_MM.T, atol=1e-9)
    assert np.linalg.eigvalsh(covariance_MM).min() > -1e-8


@pytest.mark.parametrize("predictor", JOINT, ids=name_of)
def test_the_inferred_noise_is_of_the_size_of_the_real_one(predictor):
    weights_TK, values_T, _ = trials(80, noise=0.15)
    predict = predictor.fit(weights_TK, values_T, np.zeros(80))
    assert 0.07 < predict.noise < 0.3


def test_the_process_is_surer_near_trials_than_far_from_them():
    weights_TK, values_T, noise_T = trials(30)
    near = weights_TK[:, 0] < 0.5
    predict = GPPredictor().fit(weights_TK[near], values_T[near], noise_T[near])
    _, std_2 = predict(np.array([[0.2, 0.3, 0.3, 0.2], [1.0, 0.0, 0.0, 0.0]]))
    assert std_2[1] > 2.0 * std_2[0]


@pytest.mark.parametrize("predictor", [GPPredictor(), PowerLawPredictor()], ids=name_of)
def test_what_is_held_out_at_once_is_near_what_a_fit_without_it_says(predictor):
    weights_TK, values_T, noise_T = trials(24, noise=0.1)
    _, held_T = predictor.fit_held_out(weights_TK, values_T, noise_T)
    without_T = [
        predictor.fit(*(np.delete(a, t, axis=0) for a in (weights_TK, values_T, noise_T)))(
            weights_TK[t : t + 1]
        )[0][0]
        for t in range(24)
    ]
    assert np.corrcoef(held_T, without_T)[0, 1] > 0.95


def test_the_gradients_are_those_of_the_functions():
    rng = np.random.default_rng(0)
    points_TK, values_T = rng.random((12, 3)), rng.normal(size=12)
    given = (points_TK, values_T, np.full(12, 0.01))
    at_P = np.array([0.1, -0.3, 0.5, -3.0, 0.2, 0.3])
    off = check_grad(
        lambda p: gaussian._cost(p, *given)[0], lambda p: gaussian._cost(p, *given)[1], at_P
    )
    assert off < 1e-4 * np.linalg.norm(gaussian._cost(at_P, *given)[1])
    weights_MK, at_P = rng.dirichlet(np.ones(3), size=2), rng.normal(size=8) * 0.3
    for m in range(2):
        off = check_grad(
            lambda p, m=m: power_law(p, weights_MK)[0][m],
            lambda p, m=m: power_law(p, weights_MK)[1][m],
            at_P,
        )
        assert off < 1e-5


def test_the_stack_leans_on_the_member_that_held_out_trials_believe():
    values_T = np.arange(10.0)
    held_TP = np.stack([values_T + 0.1, values_T + 1.0], axis=1)
    from climb.predictor.stack import _shares

    shares_P = _shares(held_TP, values_T, 1.0)
    np.testing.assert_allclose(shares_P, [100 / 101, 1 / 101], rtol=1e-6)
    np.testing.assert_allclose(_shares(held_TP, values_T, 0.0), [0.5, 0.5])


def test_canonical_order_puts_any_arrival_into_one():
    weights_TK, values_T, noise_T = trials(9)
    values_T[3:] = 1.0
    shuffled = np.random.default_rng(0).permutation(9)
    _, first = in_canonical_order(weights_TK, values_T, noise_T)
    _, second = in_canonical_order(weights_TK[shuffled], values_T[shuffled], noise_T[shuffled])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def read(folder, part, kind):
    with (folder / "regmix" / f"{part}_{kind}_1m.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array(rows, dtype=np.float64)[:, 1:]


@pytest.mark.parametrize(
    ("predictor", "least"),
    [(StackPredictor(), 0.975), (GPPredictor(), 0.97), (XGBoostPredictor(members=2), 0.94)],
    ids=["stack", "process", "trees"],
)
def test_published_runs_are_ranked_as_well_as_decisions_say(shared_data, predictor, least):
    weights_TK = read(shared_data, "train", "mixture")
    weights_TK /= weights_TK.sum(axis=1, keepdims=True)
    losses_TQ = read(shared_data, "train", "pile_loss")
    order = np.random.default_rng(3).permutation(len(weights_TK))
    fitted, unseen = order[:64], order[256:]
    predicted = [
        predictor.fit(weights_TK[fitted], losses_TQ[fitted, q], np.zeros(64))(weights_TK[unseen])[0]
        for q in range(losses_TQ.shape[1])
    ]
    score = np.mean(predicted, axis=0)
    assert spearmanr(score, losses_TQ[unseen].mean(axis=1)).statistic > least
