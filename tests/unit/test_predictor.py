"""Predictors: what they promise, and what they find in small, noisy, real tables."""

import csv
import re
import textwrap
from dataclasses import dataclass, replace

import numpy as np
import pytest
import yaml
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from climb.config import build
from climb.errors import ComponentError
from climb.predictor import JointPredict, Predictor, in_canonical_order
from climb.predictor import process as gaussian
from climb.predictor.botorch import BoTorchPredictor
from climb.predictor.gp import GPPredictor
from climb.predictor.lightgbm import LightGBMPredictor
from climb.predictor.loglinear import LogLinearPredictor, log_linear_law
from climb.predictor.powerlaw import PowerLawPredictor, power_law
from climb.predictor.ridge import RidgePredictor
from climb.predictor.sample import Scaling
from climb.predictor.stack import StackPredictor
from climb.predictor.xgb import XGBoostPredictor
from climb.search import calibration
from climb.testing.contracts import check_predictor

QUICK_TREES = XGBoostPredictor(trees=200, rate=0.09, members=3)
QUICK_LEAVES = LightGBMPredictor(trees=300, rate=0.05, members=2)
JOINT = [
    GPPredictor(),
    PowerLawPredictor(),
    LogLinearPredictor(),
    StackPredictor(),
    RidgePredictor(),
    BoTorchPredictor(),
]
EVERY = [*JOINT, QUICK_TREES, QUICK_LEAVES]
# What a law or a line cannot bend to counts as noise there: their docstrings say so.
FREE = [GPPredictor(), StackPredictor(), BoTorchPredictor()]


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


# The data mixing law is left out: it has no room for a metric that falls steeply near weight 0.
@pytest.mark.parametrize("predictor", [p for p in EVERY if p != LogLinearPredictor()], ids=name_of)
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


@pytest.mark.parametrize("predictor", FREE, ids=name_of)
def test_ninety_percent_intervals_hold_for_the_truth(predictor):
    held = []
    for seed in range(6):
        predict = predictor.fit(*trials(40, noise=0.1, seed=seed))
        unseen_MK = np.random.default_rng(seed + 50).dirichlet(np.full(4, 0.5), size=100)
        mean_M, std_M = predict(unseen_MK)
        held.append(np.abs(3.0 + loss(unseen_MK) - mean_M) < 1.645 * std_M)
    assert 0.75 < np.mean(held) <= 1.0


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_four_trials_and_repeats_that_disagree_are_enough_for_an_answer(predictor):
    weights_TK, values_T, _ = trials(4)
    four = (weights_TK, values_T, np.zeros(4))
    twice = (np.tile(weights_TK, (5, 1)), np.linspace(1.0, 2.0, 20), np.zeros(20))
    exact = (*twice[:2], np.full(20, 1e-6))
    for some in (four, twice, exact):
        mean_M, std_M = predictor.fit(*some)(np.eye(4))
        assert np.isfinite(mean_M).all()
        assert np.isfinite(std_M).all()


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


@pytest.mark.parametrize(
    "predictor", [GPPredictor(), PowerLawPredictor(), LogLinearPredictor()], ids=name_of
)
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
    errors = (rng.normal(size=12), rng.random(12), rng.random(12), 0.1 * rng.random(12))
    off = check_grad(
        lambda p: calibration._cost(p, *errors)[0],
        lambda p: calibration._cost(p, *errors)[1],
        np.array([0.3, 0.2]),
    )
    assert off < 1e-5
    weights_MK = rng.dirichlet(np.ones(3), size=2)
    for law, n_parameters in ((power_law, 8), (log_linear_law, 5)):
        at_P = rng.normal(size=n_parameters) * 0.3
        for m in range(2):
            off = check_grad(
                lambda p, m=m, law=law: law(p, weights_MK)[0][m],
                lambda p, m=m, law=law: law(p, weights_MK)[1][m],
                at_P,
            )
            assert off < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_a_law_survives_trials_that_are_better_than_they_claim(seed):
    """Runs carried from other domains claim a doubt; the sure ones alone show the noise."""
    rng = np.random.default_rng(seed)
    weights_TK = rng.dirichlet(np.ones(6), size=80)
    truth_T = np.log(weights_TK + 0.05) @ rng.normal(size=6)
    truth_T /= truth_T.std()
    claimed_T = np.where(np.arange(80) < 40, 0.0, 1.0)
    values_T = truth_T + np.where(claimed_T > 0.0, 0.6, 0.3) * rng.normal(size=80)
    predict = PowerLawPredictor().fit(weights_TK, values_T, claimed_T)
    assert 0.1 < predict.noise < 0.6
    unseen_MK = rng.dirichlet(np.ones(6), size=200)
    assert predict(unseen_MK)[1].mean() > 0.05


def test_the_stack_leans_on_the_member_that_held_out_trials_believe():
    values_T = np.arange(40.0)
    shake_T = np.where(np.arange(40) % 2, 1.0, -1.0)
    stack = StackPredictor()
    near, far = values_T + 0.1 * shake_T, values_T + 10.0 * shake_T
    np.testing.assert_allclose(
        stack._shares(np.stack([near, far], axis=1), values_T), [1, 0], atol=0.02
    )
    np.testing.assert_allclose(
        stack._shares(np.stack([far, near], axis=1), values_T), [0, 1], atol=0.02
    )


def test_the_stack_leans_on_the_law_where_held_out_trials_cannot_tell():
    noise_T = np.random.default_rng(0).normal(size=40)
    alike = np.stack([np.full(40, 0.01), np.full(40, -0.01)], axis=1)
    process, law = StackPredictor()._shares(alike, noise_T)
    assert process < 0.05
    assert law > 0.95


def test_the_less_trials_can_tell_the_more_the_stack_leans_on_the_law():
    rng = np.random.default_rng(1)
    truth_T, apart_T = rng.normal(size=40), 0.1 * rng.normal(size=40)
    held_TP = np.stack([truth_T + apart_T, truth_T], axis=1)
    shares = []
    for noise in (0.01, 0.3, 3.0):  # the process is right, and less and less can be seen of it
        values_T = truth_T + apart_T + noise * rng.permutation(np.tile([1.0, -1.0], 20))
        shares.append(StackPredictor()._shares(held_TP, values_T)[0])
    assert shares[0] > 0.9
    assert max(shares[1:]) < 0.3


def test_many_trials_are_held_out_without_fitting_them_again():
    rng = np.random.default_rng(0)
    weights_TK = rng.dirichlet(np.ones(3), size=40)
    values_T = weights_TK[:, 0] ** 0.5 + 0.05 * rng.normal(size=40)
    given = (weights_TK, values_T, np.zeros(40))
    refitted = StackPredictor().fit(*given)
    closed = StackPredictor(refit_below=0).fit(*given)
    assert refitted.shares_P.sum() == pytest.approx(1.0)
    assert closed.shares_P.sum() == pytest.approx(1.0)
    assert not np.array_equal(refitted.shares_P, closed.shares_P)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_log_linear_law_is_found_again(sign):
    def planted(weights_MK):
        return sign * (2.0 + 1.5 * np.exp(weights_MK @ [-3.0, -1.0, 0.5, 1.0]))

    rng = np.random.default_rng(0)
    weights_TK, unseen_MK = rng.dirichlet(np.full(4, 0.5), size=(2, 60))
    values_T = planted(weights_TK) + 0.02 * rng.normal(size=60)
    predict = LogLinearPredictor().fit(weights_TK, values_T, np.zeros(60))
    mean_M, std_M = predict(unseen_MK)
    np.testing.assert_allclose(mean_M, planted(unseen_MK), atol=0.06)
    off_M = np.abs(mean_M - planted(unseen_MK))
    assert np.mean(off_M < 1.645 * std_M) > 0.75
    assert 0.01 < predict.noise < 0.04


def test_the_spread_of_ridge_covers_what_is_linear_in_its_columns():
    held = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        weights_TK, unseen_MK = rng.dirichlet(np.full(5, 0.5), size=(2, 40))
        slopes_K = rng.normal(size=5)
        level_T, level_M = (np.log(w + 1e-3) @ slopes_K for w in (weights_TK, unseen_MK))
        values_T = level_T + 0.5 * rng.normal(size=40)
        mean_M, std_M = RidgePredictor().fit(weights_TK, values_T, np.zeros(40))(unseen_MK)
        held.append(np.abs(mean_M - level_M) < 1.645 * std_M)
        assert std_M.mean() < 0.5 * level_M.std()
    assert 0.75 < np.mean(held) < 0.99


def test_ridge_trusts_noisy_trials_less():
    weights_TK, values_T, noise_T = trials(40)
    values_T[:10] += 2.0
    noise_T[:10] = 10.0
    mean_T, _ = RidgePredictor().fit(weights_TK, values_T, noise_T)(weights_TK)
    believed_T, _ = RidgePredictor().fit(weights_TK, values_T, np.zeros(40))(weights_TK)
    truth_T = 3.0 + loss(weights_TK)
    assert np.abs(mean_T - truth_T).mean() < np.abs(believed_T - truth_T).mean() / 2


def test_known_noise_is_taken_as_given_by_botorch_and_torch_is_left_as_it_was():
    import torch

    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict = BoTorchPredictor().fit(*trials(30, noise=0.2))
        predict(np.eye(4))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert predict.noise == pytest.approx(0.2)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_many_mixtures_at_once_are_predicted_as_one_by_one():
    predict = BoTorchPredictor().fit(*trials(20, noise=0.1))
    many_MK = np.random.default_rng(0).dirichlet(np.ones(4), size=1_500)
    mean_M, std_M = predict(many_MK)
    last_1, last_std_1 = predict(many_MK[-1:])
    np.testing.assert_allclose(mean_M[-1:], last_1)
    np.testing.assert_allclose(std_M[-1:], last_std_1)
    np.testing.assert_allclose(predict.mean(many_MK), mean_M)


def test_a_process_that_botorch_cannot_fit_is_said_with_a_way_out(monkeypatch):
    from botorch.exceptions import ModelFittingError

    def failing(*_, **__):
        raise ModelFittingError("all attempts failed")

    monkeypatch.setattr("botorch.fit.fit_gpytorch_mll", failing)
    with pytest.raises(ComponentError, match=r"no parameters for 12 trials .*GPPredictor"):
        BoTorchPredictor().fit(*trials(12))


def test_a_fit_stops_when_trials_that_are_held_out_say_that_it_learns_noise():
    rng = np.random.default_rng(0)
    weights_TK, noise_T = rng.dirichlet(np.ones(6), size=80), rng.normal(size=80)
    swing = {}
    for patience in (20, 2_000):
        predictor = LightGBMPredictor(patience=patience, patience_within_held=False, members=2)
        swing[patience] = predictor.fit(weights_TK, noise_T, np.zeros(80))(weights_TK)[0].std()
    assert swing[20] < swing[2_000] / 2


def test_the_recipe_s_patience_is_that_of_the_trials_that_are_held_out():
    given = trials(40, noise=0.3)
    within, beyond, four = (
        LightGBMPredictor(members=2, **fields).fit(*given)(given[0])[0]
        for fields in ({}, {"patience_within_held": False}, {"patience": 4})
    )
    np.testing.assert_array_equal(within, four)  # a tenth of 40 is held out
    assert not np.array_equal(within, beyond)


def test_the_settings_in_lightgbm_s_docstring_are_those_of_paper_and_regmix():
    text = textwrap.dedent(LightGBMPredictor.__doc__.split("\n", 1)[1])
    snippets = re.findall(r"^    search:\n(?:    .*\n)+", text, flags=re.MULTILINE)
    sections = [yaml.safe_load(textwrap.dedent(snippet))["search"] for snippet in snippets]
    paper, regmix = (build(section["predictor"], Predictor) for section in sections)
    assert paper == replace(LightGBMPredictor(), patience_within_held=False)
    assert (regmix.trees, regmix.rate, regmix.patience, regmix.depth) == (1000, 0.01, 3, -1)
    assert (regmix.l1, regmix.l2, regmix.leaf_rows) == (0.0, 0.0, 20)  # LightGBM's own defaults


@dataclass(frozen=True)
class Plain:
    """A predictor of somebody who knows nothing of extra features."""

    def fit(self, weights_TK, values_T, noise_T):
        fit = GPPredictor().fit(weights_TK, values_T, noise_T)
        return lambda weights_MK: fit(weights_MK)


@dataclass(frozen=True)
class Deaf(Plain):
    """One that takes extra features and does nothing with them."""

    def fit(self, weights_TK, values_T, noise_T, extra=None):
        return super().fit(weights_TK, values_T, noise_T)


def test_a_predictor_without_extra_features_keeps_the_contract():
    check_predictor(Plain())


def test_a_predictor_that_ignores_extra_features_breaks_the_contract():
    with pytest.raises(AssertionError, match="a feature that tells the metric helps"):
        check_predictor(Deaf())


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_a_cheap_guess_of_the_metric_makes_sixteen_trials_go_further(predictor):
    gains_K = np.linspace(0.0, 1.0, 12)

    def truth(weights_MK):
        return (weights_MK + 0.02) ** -0.3 @ gains_K

    def guess(weights_MK):
        wrong_M = 0.3 * np.sin(20.0 * weights_MK[:, 2])
        return np.stack([100.0 * (truth(weights_MK) + wrong_M), np.ones(len(weights_MK))], axis=1)

    off = {False: [], True: []}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        weights_TK, unseen_MK = (rng.dirichlet(np.full(12, 0.5), size=n) for n in (16, 200))
        values_T = truth(weights_TK) + 0.1 * rng.normal(size=16)
        for told in off:
            given = (weights_TK, values_T, np.full(16, 0.1), guess if told else None)
            mean_M, _ = predictor.fit(*given)(unseen_MK)
            off[told].append(1.0 - spearmanr(mean_M, truth(unseen_MK)).statistic)
    assert np.mean(off[True]) < np.mean(off[False]) - 0.05


@pytest.mark.parametrize("predictor", EVERY, ids=name_of)
def test_the_unit_of_an_extra_feature_does_not_matter(predictor):
    given = trials(24, noise=0.05)
    at_MK = np.random.default_rng(1).dirichlet(np.ones(4), size=20)
    small, large = (
        predictor.fit(*given, extra=lambda w, unit=unit: unit * loss(w)[:, None])(at_MK)[0]
        for unit in (2.0**-20, 2.0**20)
    )
    np.testing.assert_allclose(small, large, atol=0.02)


@pytest.mark.parametrize(
    "predictor", [GPPredictor(), PowerLawPredictor(), QUICK_TREES], ids=name_of
)
def test_extra_features_that_cannot_be_used_are_named(predictor):
    given = trials(12)
    with pytest.raises(ComponentError, match=r"shape \(12,\) for 12 mixtures; it must be \(12, "):
        predictor.fit(*given, extra=lambda w: w[:, 0])
    with pytest.raises(ComponentError, match=r"of mixture 0 are \[nan\]; they must be finite"):
        predictor.fit(*given, extra=lambda w: np.full((len(w), 1), np.nan))


def test_as_many_extra_features_are_needed_later_as_at_the_fit():
    with pytest.raises(ComponentError, match="1 features of a mixture after a fit on 2"):
        Scaling.to_unit(np.eye(2))(np.ones((3, 1)))


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
    [
        (StackPredictor(), 0.975),
        (GPPredictor(), 0.97),
        (XGBoostPredictor(members=2), 0.94),
        (LightGBMPredictor(members=2), 0.94),
        (RidgePredictor(), 0.88),
    ],
    ids=["stack", "process", "trees", "recipe", "ridge"],
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
