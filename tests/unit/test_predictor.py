"""Predictors: their contract, and their accuracy on small, noisy and published tables of runs."""

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
from climb.predictor import JointPredict, Predictor, gaussian_process, sort_fit_inputs
from climb.predictor.botorch import BoTorchPredictor
from climb.predictor.gp import GPPredictor
from climb.predictor.lightgbm import LightGBMPredictor
from climb.predictor.loglinear import LogLinearPredictor, log_linear_law
from climb.predictor.powerlaw import PowerLawPredictor, power_law
from climb.predictor.ridge import RidgePredictor
from climb.predictor.sample import Scaling
from climb.predictor.stack import StackPredictor
from climb.predictor.xgboost import XGBoostPredictor
from climb.search import calibration
from climb.testing.contracts_predictor import check_predictor

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
ALL = [*JOINT, QUICK_TREES, QUICK_LEAVES]
# The std of laws and of ridge excludes their misfit, as their docstrings state.
NONPARAMETRIC = [GPPredictor(), StackPredictor(), BoTorchPredictor()]


def get_name(predictor):
    return type(predictor).__name__


def make_trials(n, noise=0.0, seed=0):
    """A loss that decays with two domains and does not depend on the other two."""
    rng = np.random.default_rng(seed)
    weights_TK = rng.dirichlet(np.full(4, 0.5), size=n)
    values_T = 3.0 + compute_loss(weights_TK) + noise * rng.normal(size=n)
    return weights_TK, values_T, np.full(n, noise)


def compute_loss(weights_MK):
    return (weights_MK[:, 0] + 0.02) ** -0.3 + 0.5 * (weights_MK[:, 1] + 0.02) ** -0.3


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_every_predictor_keeps_the_contract(predictor):
    check_predictor(predictor)


# Without the data mixing law, which cannot fit a metric that is steep near weight 0.
@pytest.mark.parametrize("predictor", [p for p in ALL if p != LogLinearPredictor()], ids=get_name)
def test_unseen_mixtures_are_ranked_well_after_48_noisy_trials(predictor):
    predict = predictor.fit(*make_trials(48, noise=0.05))
    unseen_MK = np.random.default_rng(1).dirichlet(np.full(4, 0.5), size=200)
    mean_M, _ = predict(unseen_MK)
    assert spearmanr(mean_M, compute_loss(unseen_MK)).statistic > 0.93


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_increasing_metrics_are_fitted_as_well_as_decreasing_ones(predictor):
    weights_TK, values_T, noise_T = make_trials(48, noise=0.05)
    decreasing, _ = predictor.fit(weights_TK, values_T, noise_T)(weights_TK)
    increasing, _ = predictor.fit(weights_TK, -values_T, noise_T)(weights_TK)
    assert spearmanr(-increasing, decreasing).statistic > 0.97


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_a_constant_metric_is_predicted_exactly(predictor):
    weights_TK, _, _ = make_trials(12)
    mean_M, std_M = predictor.fit(weights_TK, np.full(12, 2.5), np.zeros(12))(weights_TK)
    np.testing.assert_allclose(mean_M, 2.5, atol=0.02)
    assert np.isfinite(std_M).all()


@pytest.mark.parametrize("predictor", NONPARAMETRIC, ids=get_name)
def test_ninety_percent_intervals_cover_the_truth(predictor):
    covered = []
    for seed in range(6):
        predict = predictor.fit(*make_trials(40, noise=0.1, seed=seed))
        unseen_MK = np.random.default_rng(seed + 50).dirichlet(np.full(4, 0.5), size=100)
        mean_M, std_M = predict(unseen_MK)
        covered.append(np.abs(3.0 + compute_loss(unseen_MK) - mean_M) < 1.645 * std_M)
    assert 0.75 < np.mean(covered) <= 1.0


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_four_trials_and_differing_replicates_are_enough_for_a_finite_prediction(predictor):
    weights_TK, values_T, _ = make_trials(4)
    four = (weights_TK, values_T, np.zeros(4))
    replicates = (np.tile(weights_TK, (5, 1)), np.linspace(1.0, 2.0, 20), np.zeros(20))
    exact = (*replicates[:2], np.full(20, 1e-6))
    for inputs in (four, replicates, exact):
        mean_M, std_M = predictor.fit(*inputs)(np.eye(4))
        assert np.isfinite(mean_M).all()
        assert np.isfinite(std_M).all()


@pytest.mark.parametrize("predictor", JOINT, ids=get_name)
def test_the_joint_covariance_agrees_with_single_standard_deviations(predictor):
    predict = predictor.fit(*make_trials(30, noise=0.1))
    assert isinstance(predict, JointPredict)
    mixtures_MK = np.random.default_rng(2).dirichlet(np.ones(4), size=7)
    mean_M, std_M = predict(mixtures_MK)
    joint_M, covariance_MM = predict.joint(mixtures_MK)
    np.testing.assert_allclose(joint_M, mean_M, atol=1e-9)
    np.testing.assert_allclose(predict.mean(mixtures_MK), mean_M, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance_MM)), std_M, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(covariance_MM, covariance_MM.T, atol=1e-9)
    assert np.linalg.eigvalsh(covariance_MM).min() > -1e-8


@pytest.mark.parametrize("predictor", JOINT, ids=get_name)
def test_the_inferred_noise_is_close_to_the_real_noise(predictor):
    weights_TK, values_T, _ = make_trials(80, noise=0.15)
    predict = predictor.fit(weights_TK, values_T, np.zeros(80))
    assert 0.07 < predict.noise < 0.3


def test_the_std_of_the_process_is_smaller_near_trials():
    weights_TK, values_T, noise_T = make_trials(30)
    near = weights_TK[:, 0] < 0.5
    predict = GPPredictor().fit(weights_TK[near], values_T[near], noise_T[near])
    _, std_2 = predict(np.array([[0.2, 0.3, 0.3, 0.2], [1.0, 0.0, 0.0, 0.0]]))
    assert std_2[1] > 2.0 * std_2[0]


@pytest.mark.parametrize(
    "predictor", [GPPredictor(), PowerLawPredictor(), LogLinearPredictor()], ids=get_name
)
def test_leave_one_out_predictions_are_close_to_those_of_refits(predictor):
    weights_TK, values_T, noise_T = make_trials(24, noise=0.1)
    _, left_out_T = predictor.fit_with_leave_one_out(weights_TK, values_T, noise_T)
    refitted_T = [
        predictor.fit(*(np.delete(a, t, axis=0) for a in (weights_TK, values_T, noise_T)))(
            weights_TK[t : t + 1]
        )[0][0]
        for t in range(24)
    ]
    assert np.corrcoef(left_out_T, refitted_T)[0, 1] > 0.95


def test_analytic_gradients_match_finite_differences():
    rng = np.random.default_rng(0)
    points_TK, values_T = rng.random((12, 3)), rng.normal(size=12)
    inputs = (points_TK, values_T, np.full(12, 0.01))
    at_P = np.array([0.1, -0.3, 0.5, -3.0, 0.2, 0.3])
    evaluate = gaussian_process._negative_log_posterior
    error = check_grad(lambda p: evaluate(p, *inputs)[0], lambda p: evaluate(p, *inputs)[1], at_P)
    assert error < 1e-4 * np.linalg.norm(evaluate(at_P, *inputs)[1])
    inputs = (rng.normal(size=12), rng.random(12), rng.random(12), 0.1 * rng.random(12))
    evaluate = calibration._negative_log_posterior
    at_P = np.array([0.3, 0.2])
    error = check_grad(lambda p: evaluate(p, *inputs)[0], lambda p: evaluate(p, *inputs)[1], at_P)
    assert error < 1e-5
    weights_MK = rng.dirichlet(np.ones(3), size=2)
    for law, n_parameters in ((power_law, 8), (log_linear_law, 5)):
        at_P = rng.normal(size=n_parameters) * 0.3
        for m in range(2):
            error = check_grad(
                lambda p, m=m, law=law: law(p, weights_MK)[0][m],
                lambda p, m=m, law=law: law(p, weights_MK)[1][m],
                at_P,
            )
            assert error < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_a_law_infers_the_noise_when_the_noise_of_some_trials_is_overstated(seed):
    """As with reused runs: only the trials of least noise show the observation noise."""
    rng = np.random.default_rng(seed)
    weights_TK = rng.dirichlet(np.ones(6), size=80)
    truth_T = np.log(weights_TK + 0.05) @ rng.normal(size=6)
    truth_T /= truth_T.std()
    stated_T = np.where(np.arange(80) < 40, 0.0, 1.0)
    values_T = truth_T + np.where(stated_T > 0.0, 0.6, 0.3) * rng.normal(size=80)
    predict = PowerLawPredictor().fit(weights_TK, values_T, stated_T)
    assert 0.1 < predict.noise < 0.6
    unseen_MK = rng.dirichlet(np.ones(6), size=200)
    assert predict(unseen_MK)[1].mean() > 0.05


def test_the_stack_prefers_the_member_with_smaller_held_out_errors():
    values_T = np.arange(40.0)
    error_T = np.where(np.arange(40) % 2, 1.0, -1.0)
    stack = StackPredictor()
    near, far = values_T + 0.1 * error_T, values_T + 10.0 * error_T
    np.testing.assert_allclose(
        stack._fit_shares(np.stack([near, far], axis=1), values_T), [1, 0], atol=0.02
    )
    np.testing.assert_allclose(
        stack._fit_shares(np.stack([far, near], axis=1), values_T), [0, 1], atol=0.02
    )


def test_the_stack_prefers_the_law_when_held_out_errors_are_equal():
    noise_T = np.random.default_rng(0).normal(size=40)
    held_out_TP = np.stack([np.full(40, 0.01), np.full(40, -0.01)], axis=1)
    process, law = StackPredictor()._fit_shares(held_out_TP, noise_T)
    assert process < 0.05
    assert law > 0.95


def test_the_share_of_the_law_rises_with_the_noise():
    rng = np.random.default_rng(1)
    truth_T, difference_T = rng.normal(size=40), 0.1 * rng.normal(size=40)
    held_out_TP = np.stack([truth_T + difference_T, truth_T], axis=1)
    shares = []
    for noise in (0.01, 0.3, 3.0):  # the process is right, but noise hides this more and more
        values_T = truth_T + difference_T + noise * rng.permutation(np.tile([1.0, -1.0], 20))
        shares.append(StackPredictor()._fit_shares(held_out_TP, values_T)[0])
    assert shares[0] > 0.9
    assert max(shares[1:]) < 0.3


def test_with_many_trials_the_stack_uses_leave_one_out_instead_of_refits():
    rng = np.random.default_rng(0)
    weights_TK = rng.dirichlet(np.ones(3), size=40)
    values_T = weights_TK[:, 0] ** 0.5 + 0.05 * rng.normal(size=40)
    inputs = (weights_TK, values_T, np.zeros(40))
    refitted = StackPredictor().fit(*inputs)
    leave_one_out = StackPredictor(refit_below=0).fit(*inputs)
    assert refitted.shares_P.sum() == pytest.approx(1.0)
    assert leave_one_out.shares_P.sum() == pytest.approx(1.0)
    assert not np.array_equal(refitted.shares_P, leave_one_out.shares_P)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_log_linear_law_is_recovered(sign):
    def evaluate(weights_MK):
        return sign * (2.0 + 1.5 * np.exp(weights_MK @ [-3.0, -1.0, 0.5, 1.0]))

    rng = np.random.default_rng(0)
    weights_TK, unseen_MK = rng.dirichlet(np.full(4, 0.5), size=(2, 60))
    values_T = evaluate(weights_TK) + 0.02 * rng.normal(size=60)
    predict = LogLinearPredictor().fit(weights_TK, values_T, np.zeros(60))
    mean_M, std_M = predict(unseen_MK)
    np.testing.assert_allclose(mean_M, evaluate(unseen_MK), atol=0.06)
    error_M = np.abs(mean_M - evaluate(unseen_MK))
    assert np.mean(error_M < 1.645 * std_M) > 0.75
    assert 0.01 < predict.noise < 0.04


def test_intervals_of_ridge_cover_a_metric_that_is_linear_in_its_features():
    covered = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        weights_TK, unseen_MK = rng.dirichlet(np.full(5, 0.5), size=(2, 40))
        slopes_K = rng.normal(size=5)
        level_T, level_M = (np.log(w + 1e-3) @ slopes_K for w in (weights_TK, unseen_MK))
        values_T = level_T + 0.5 * rng.normal(size=40)
        mean_M, std_M = RidgePredictor().fit(weights_TK, values_T, np.zeros(40))(unseen_MK)
        covered.append(np.abs(mean_M - level_M) < 1.645 * std_M)
        assert std_M.mean() < 0.5 * level_M.std()
    assert 0.75 < np.mean(covered) < 0.99


def test_ridge_gives_noisy_trials_less_weight():
    weights_TK, values_T, noise_T = make_trials(40)
    values_T[:10] += 2.0
    noise_T[:10] = 10.0
    mean_T, _ = RidgePredictor().fit(weights_TK, values_T, noise_T)(weights_TK)
    unweighted_T, _ = RidgePredictor().fit(weights_TK, values_T, np.zeros(40))(weights_TK)
    truth_T = 3.0 + compute_loss(weights_TK)
    assert np.abs(mean_T - truth_T).mean() < np.abs(unweighted_T - truth_T).mean() / 2


def test_botorch_fixes_known_noise_and_restores_the_state_of_torch():
    import torch

    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict = BoTorchPredictor().fit(*make_trials(30, noise=0.2))
        predict(np.eye(4))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert predict.noise == pytest.approx(0.2)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_botorch_reports_the_noise_of_the_least_noisy_trials():
    weights_TK, values_T, noise_T = make_trials(20, noise=0.1)
    noise_T[::2] = 0.5
    predict = BoTorchPredictor().fit(weights_TK, values_T, noise_T)
    assert predict.noise == pytest.approx(0.1)


def test_botorch_predicts_a_large_batch_as_single_mixtures():
    predict = BoTorchPredictor().fit(*make_trials(20, noise=0.1))
    many_MK = np.random.default_rng(0).dirichlet(np.ones(4), size=1_500)
    mean_M, std_M = predict(many_MK)
    last_1, last_std_1 = predict(many_MK[-1:])
    np.testing.assert_allclose(mean_M[-1:], last_1)
    np.testing.assert_allclose(std_M[-1:], last_std_1)
    np.testing.assert_allclose(predict.mean(many_MK), mean_M)


def test_a_failed_botorch_fit_is_reported_with_an_alternative(monkeypatch):
    from botorch.exceptions import ModelFittingError

    def fail(*_, **__):
        raise ModelFittingError("all attempts failed")

    monkeypatch.setattr("botorch.fit.fit_gpytorch_mll", fail)
    with pytest.raises(ComponentError, match=r"could not fit .* to 12 trials .*GPPredictor"):
        BoTorchPredictor().fit(*make_trials(12))


def test_early_stopping_prevents_fits_to_pure_noise():
    rng = np.random.default_rng(0)
    weights_TK, noise_T = rng.dirichlet(np.ones(6), size=80), rng.normal(size=80)
    stds = {}
    for patience in (20, 2_000):
        predictor = LightGBMPredictor(patience=patience, patience_within_held=False, members=2)
        stds[patience] = predictor.fit(weights_TK, noise_T, np.zeros(80))(weights_TK)[0].std()
    assert stds[20] < stds[2_000] / 2


def test_the_default_patience_is_at_most_the_number_of_held_out_trials():
    inputs = make_trials(40, noise=0.3)
    within, beyond, four = (
        LightGBMPredictor(members=2, **fields).fit(*inputs)(inputs[0])[0]
        for fields in ({}, {"patience_within_held": False}, {"patience": 4})
    )
    np.testing.assert_array_equal(within, four)  # a tenth of 40 is held out
    assert not np.array_equal(within, beyond)


def test_the_settings_in_the_docstring_of_lightgbm_are_those_of_paper_and_regmix():
    text = textwrap.dedent(LightGBMPredictor.__doc__.split("\n", 1)[1])
    snippets = re.findall(r"^    search:\n(?:    .*\n)+", text, flags=re.MULTILINE)
    sections = [yaml.safe_load(textwrap.dedent(snippet))["search"] for snippet in snippets]
    paper, regmix = (build(section["predictor"], Predictor) for section in sections)
    assert paper == replace(LightGBMPredictor(), patience_within_held=False)
    assert (regmix.trees, regmix.rate, regmix.patience, regmix.depth) == (1000, 0.01, 3, -1)
    assert (regmix.l1, regmix.l2, regmix.leaf_rows) == (0.0, 0.0, 20)  # LightGBM's own defaults


@dataclass(frozen=True)
class Plain:
    """A predictor without the parameter `extra`."""

    def fit(self, weights_TK, values_T, noise_T):
        fit = GPPredictor().fit(weights_TK, values_T, noise_T)
        return lambda weights_MK: fit(weights_MK)


@dataclass(frozen=True)
class Ignoring(Plain):
    """A predictor that ignores `extra`."""

    def fit(self, weights_TK, values_T, noise_T, extra=None):
        return super().fit(weights_TK, values_T, noise_T)


def test_a_predictor_without_extra_features_keeps_the_contract():
    check_predictor(Plain())


def test_a_predictor_that_ignores_extra_features_violates_the_contract():
    with pytest.raises(
        AssertionError, match="an informative extra feature must improve the predictions"
    ):
        check_predictor(Ignoring())


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_a_cheap_estimate_of_the_metric_improves_a_fit_to_sixteen_trials(predictor):
    gains_K = np.linspace(0.0, 1.0, 12)

    def evaluate(weights_MK):
        return (weights_MK + 0.02) ** -0.3 @ gains_K

    def estimate(weights_MK):
        error_M = 0.3 * np.sin(20.0 * weights_MK[:, 2])
        return np.stack(
            [100.0 * (evaluate(weights_MK) + error_M), np.ones(len(weights_MK))], axis=1
        )

    errors = {False: [], True: []}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        weights_TK, unseen_MK = (rng.dirichlet(np.full(12, 0.5), size=n) for n in (16, 200))
        values_T = evaluate(weights_TK) + 0.1 * rng.normal(size=16)
        for with_extra in errors:
            extra = estimate if with_extra else None
            predict = predictor.fit(weights_TK, values_T, np.full(16, 0.1), extra)
            mean_M, _ = predict(unseen_MK)
            errors[with_extra].append(1.0 - spearmanr(mean_M, evaluate(unseen_MK)).statistic)
    assert np.mean(errors[True]) < np.mean(errors[False]) - 0.05


@pytest.mark.parametrize("predictor", ALL, ids=get_name)
def test_the_unit_of_an_extra_feature_has_no_effect(predictor):
    inputs = make_trials(24, noise=0.05)
    mixtures_MK = np.random.default_rng(1).dirichlet(np.ones(4), size=20)
    small, large = (
        predictor.fit(*inputs, extra=lambda w, unit=unit: unit * compute_loss(w)[:, None])(
            mixtures_MK
        )[0]
        for unit in (2.0**-20, 2.0**20)
    )
    np.testing.assert_allclose(small, large, atol=0.02)


@pytest.mark.parametrize(
    "predictor", [GPPredictor(), PowerLawPredictor(), QUICK_TREES], ids=get_name
)
def test_invalid_extra_features_are_reported(predictor):
    inputs = make_trials(12)
    with pytest.raises(
        ComponentError, match=r"shape \(12,\) for 12 mixtures; it must return \(12, "
    ):
        predictor.fit(*inputs, extra=lambda w: w[:, 0])
    with pytest.raises(
        ComponentError, match=r"returned \[nan\] for mixture 0; extra features must be finite"
    ):
        predictor.fit(*inputs, extra=lambda w: np.full((len(w), 1), np.nan))


def test_a_prediction_must_have_as_many_features_as_the_fit():
    with pytest.raises(ComponentError, match="a prediction has 1 features, but the fit had 2"):
        Scaling.fit_min_max(np.eye(2))(np.ones((3, 1)))


def test_sorted_fit_inputs_do_not_depend_on_their_order():
    weights_TK, values_T, noise_T = make_trials(9)
    values_T[3:] = 1.0
    shuffled = np.random.default_rng(0).permutation(9)
    _, first = sort_fit_inputs(weights_TK, values_T, noise_T)
    _, second = sort_fit_inputs(weights_TK[shuffled], values_T[shuffled], noise_T[shuffled])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def read_published(folder, part, kind):
    with (folder / "regmix" / f"{part}_{kind}_1m.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array(rows, dtype=np.float64)[:, 1:]


@pytest.mark.parametrize(
    ("predictor", "min_spearman"),
    [
        (StackPredictor(), 0.975),
        (GPPredictor(), 0.97),
        (XGBoostPredictor(members=2), 0.94),
        (LightGBMPredictor(members=2), 0.94),
        (RidgePredictor(), 0.88),
    ],
    ids=["stack", "process", "trees", "recipe", "ridge"],
)
def test_published_runs_are_ranked_as_well_as_documented(shared_data, predictor, min_spearman):
    weights_TK = read_published(shared_data, "train", "mixture")
    weights_TK /= weights_TK.sum(axis=1, keepdims=True)
    losses_TQ = read_published(shared_data, "train", "pile_loss")
    order = np.random.default_rng(3).permutation(len(weights_TK))
    training, unseen = order[:64], order[256:]
    predicted = [
        predictor.fit(weights_TK[training], losses_TQ[training, q], np.zeros(64))(
            weights_TK[unseen]
        )[0]
        for q in range(losses_TQ.shape[1])
    ]
    score = np.mean(predicted, axis=0)
    assert spearmanr(score, losses_TQ[unseen].mean(axis=1)).statistic > min_spearman
