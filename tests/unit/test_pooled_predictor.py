"""Predictors that share parameters over metrics: exact gradients, and what sharing gains."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from climb.predictor import JointPredict, shared_lengths
from climb.predictor.default import DefaultPredictor
from climb.predictor.gaussian_process import GaussianProcess
from climb.predictor.gp import GPPredictor
from climb.predictor.law_steps import evaluate, make_prior
from climb.predictor.metrics import SeparatePredicts
from climb.predictor.pooled import PooledPredictor, PooledPredicts
from climb.predictor.shared_lengths import fit_parameters, group_metrics
from climb.testing.contracts_predictor import check_predictor

RANDOM = np.random.default_rng(0)
WEIGHTS_TK = RANDOM.dirichlet(np.full(8, 0.5), size=60)
UNSEEN_MK = RANDOM.dirichlet(np.full(8, 0.5), size=200)


def planted_metrics(weights_MK, n_metrics, seed=1):
    """Metrics of the same three domains: power laws, every other one rising."""
    random = np.random.default_rng(seed)
    columns = []
    for q in range(n_metrics):
        coefficients_3 = random.uniform(0.5, 2.0, size=3)
        data_M = (coefficients_3 * np.sqrt(weights_MK[:, :3])).sum(axis=1) + 0.1
        columns.append((2.0 + data_M**-0.4) if q % 2 else (3.0 - data_M**-0.4))
    return np.stack(columns, axis=1)


def correlate(predicted_MQ, true_MQ):
    return np.array(
        [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted_MQ.T, true_MQ.T, strict=True)]
    )


def test_the_pooled_predictor_keeps_the_contract():
    check_predictor(PooledPredictor())


@pytest.mark.parametrize("is_log_normal", [True, False])
def test_the_gradient_of_the_shared_length_scales_is_that_of_finite_differences(is_log_normal):
    features_TF = RANDOM.uniform(size=(15, 4))
    values_TQ = RANDOM.normal(size=(15, 3))
    prior = shared_lengths._Prior(np.linspace(-0.5, 0.5, 4), 0.7, is_log_normal)
    packed_P = RANDOM.normal(size=4 + 3 * 3) * 0.3

    def cost(at_P):
        return shared_lengths._negative_log_posterior(at_P, features_TF, values_TQ, prior)[0]

    gradient_P = shared_lengths._negative_log_posterior(packed_P, features_TF, values_TQ, prior)[1]
    np.testing.assert_allclose(
        gradient_P, approx_fprime(packed_P, cost, 1e-6), rtol=1e-3, atol=1e-3
    )


def test_the_parameters_of_a_single_metric_are_those_of_its_own_process():
    features_TF = WEIGHTS_TK**0.4
    values_TQ = planted_metrics(WEIGHTS_TK, 1)
    values_TQ = (values_TQ - values_TQ.mean()) / values_TQ.std()
    shared_P = fit_parameters(features_TF, values_TQ, np.array([1]))[0]
    own = GaussianProcess.fit(features_TF, values_TQ[:, 0], np.zeros(60), 200)
    shared = GaussianProcess.condition(shared_P, features_TF, values_TQ[:, 0], np.zeros(60))
    at_MF = UNSEEN_MK**0.4
    np.testing.assert_allclose(shared.predict_mean(at_MF), own.predict_mean(at_MF), atol=0.02)


def test_correlated_metrics_are_in_one_group():
    base_TC = RANDOM.normal(size=(50, 3))
    values_TQ = np.repeat(base_TC, 4, axis=1) + 0.1 * RANDOM.normal(size=(50, 12))
    groups_Q = group_metrics(values_TQ, 3)
    assert len(set(groups_Q.tolist())) == 3
    for c in range(3):
        assert len(set(groups_Q[4 * c : 4 * c + 4].tolist())) == 1
    assert group_metrics(values_TQ[:, :5], 8).tolist() == [1, 2, 3, 4, 5]


def test_the_derivatives_of_the_law_are_those_of_finite_differences():
    prior_P, _ = make_prior(8)
    parameters_P = prior_P + 0.2 * RANDOM.normal(size=len(prior_P))
    powers_TV = WEIGHTS_TK[:5] ** 0.6
    derivatives_TP = evaluate(parameters_P[None], [powers_TV])[1][0]
    for t in range(5):
        numeric_P = approx_fprime(
            parameters_P, lambda at_P, t=t: evaluate(at_P[None], [powers_TV])[0][0, t], 1e-7
        )
        np.testing.assert_allclose(derivatives_TP[t], numeric_P, rtol=1e-4, atol=1e-6)


def test_metrics_that_rise_and_metrics_that_fall_are_predicted():
    noisy_TQ = planted_metrics(WEIGHTS_TK, 6) + 0.005 * RANDOM.normal(size=(60, 6))
    predicts = PooledPredictor().fit_metrics(WEIGHTS_TK, noisy_TQ, np.zeros_like(noisy_TQ))
    true_MQ = planted_metrics(UNSEEN_MK, 6)
    assert correlate(predicts.predict_means(UNSEEN_MK), true_MQ).min() > 0.98
    assert set(predicts.laws.law.signs_Q.tolist()) == {1.0, -1.0}


def test_the_means_of_all_metrics_are_those_of_each_metric():
    values_TQ = planted_metrics(WEIGHTS_TK, 5)
    predicts = PooledPredictor().fit_metrics(WEIGHTS_TK, values_TQ, np.zeros_like(values_TQ))
    means_MQ = predicts.predict_means(UNSEEN_MK)
    all_means_MQ, all_stds_MQ = predicts.predict(UNSEEN_MK)
    np.testing.assert_allclose(all_means_MQ, means_MQ, rtol=1e-9)
    for q, predict in enumerate(predicts.predicts_Q):
        assert isinstance(predict, JointPredict)
        mean_M, std_M = predict(UNSEEN_MK)
        np.testing.assert_allclose(all_stds_MQ[:, q], std_M, rtol=1e-6)
        joint_M, covariance_MM = predict.joint(UNSEEN_MK)
        np.testing.assert_allclose(means_MQ[:, q], mean_M, rtol=1e-9)
        np.testing.assert_allclose(joint_M, mean_M, rtol=1e-9)
        np.testing.assert_allclose(predict.mean(UNSEEN_MK), mean_M, rtol=1e-9)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance_MM)), std_M, rtol=1e-6)
        assert predict.noise > 0.0


def test_noisy_metrics_learn_from_metrics_of_the_same_domains():
    """Twelve metrics of the same three domains, each with noise as large as its signal."""
    random = np.random.default_rng(5)
    true_TQ, true_MQ = planted_metrics(WEIGHTS_TK, 12), planted_metrics(UNSEEN_MK, 12)
    noisy_TQ = true_TQ + true_TQ.std(axis=0) * random.normal(size=true_TQ.shape)
    nothing_TQ = np.zeros_like(noisy_TQ)
    pooled = PooledPredictor().fit_metrics(WEIGHTS_TK, noisy_TQ, nothing_TQ)
    alone = [GPPredictor().fit(WEIGHTS_TK, noisy_TQ[:, q], nothing_TQ[:, q]) for q in range(12)]
    alone_MQ = np.stack([predict(UNSEEN_MK)[0] for predict in alone], axis=1)
    gain_Q = correlate(pooled.predict_means(UNSEEN_MK), true_MQ) - correlate(alone_MQ, true_MQ)
    assert gain_Q.mean() > 0.02


def test_the_total_weight_of_a_group_of_domains_is_a_feature():
    """The metric depends on the sum of five of eight domains alone."""
    group = (3, 4, 5, 6, 7)

    def metric(weights_MK):
        return (1.0 + (weights_MK[:, list(group)].sum(axis=1) + 0.05) ** -0.5)[:, None]

    few_TK = WEIGHTS_TK[:24]
    inputs = (few_TK, metric(few_TK), np.zeros((24, 1)))
    error = {
        groups: np.abs(
            PooledPredictor().fit_metrics(*inputs, groups).predict_means(UNSEEN_MK)
            - metric(UNSEEN_MK)
        ).mean()
        for groups in ((), (group,))
    }
    assert error[(group,)] < 0.8 * error[()]


def test_deviations_of_all_metrics_are_those_of_each_metric_if_trials_differ_in_noise():
    values_TQ = planted_metrics(WEIGHTS_TK, 5)
    noise_TQ = values_TQ.std() * RANDOM.uniform(0.01, 0.5, size=values_TQ.shape)
    predicts = PooledPredictor().fit_metrics(WEIGHTS_TK, values_TQ, noise_TQ)
    _, stds_MQ = predicts.predict(UNSEEN_MK)
    for q, predict in enumerate(predicts.predicts_Q):
        np.testing.assert_allclose(stds_MQ[:, q], predict(UNSEEN_MK)[1], rtol=1e-6)


def test_a_metric_that_is_noise_gets_its_mean_and_a_wide_deviation():
    random = np.random.default_rng(2)
    values_TQ = planted_metrics(WEIGHTS_TK, 4)
    noise_T = values_TQ[:, 0].std() * random.standard_t(2, size=60)
    values_TQ = np.column_stack([values_TQ, noise_T])
    predicts = PooledPredictor().fit_metrics(WEIGHTS_TK, values_TQ, np.zeros_like(values_TQ))
    means_MQ, stds_MQ = predicts.predict(UNSEEN_MK)
    relative_Q = means_MQ.std(axis=0) / values_TQ.std(axis=0)
    assert relative_Q[4] < 0.1
    assert relative_Q[:4].min() > 0.5
    assert np.hypot(stds_MQ[:, 4], predicts.predicts_Q[4].noise).min() > 0.5 * noise_T.std()


@pytest.mark.parametrize(("n_metrics", "kind"), [(23, SeparatePredicts), (24, PooledPredicts)])
def test_the_default_pools_many_metrics(n_metrics, kind):
    few_TK = WEIGHTS_TK[:8]
    values_TQ = planted_metrics(few_TK, n_metrics)
    predicts = DefaultPredictor().fit_metrics(few_TK, values_TQ, np.zeros_like(values_TQ))
    assert isinstance(predicts, kind)
    assert predicts.predict_means(UNSEEN_MK).shape == (200, n_metrics)


def test_the_default_predictor_keeps_the_contract():
    check_predictor(DefaultPredictor())


def test_trials_of_known_noise_count_less():
    """Half of the trials are wrong by far more than the metric varies, and say so."""
    values_TQ = planted_metrics(WEIGHTS_TK, 3)
    std = float(values_TQ.std())
    is_noisy_T = np.arange(60) % 2 == 1
    wrong_TQ = values_TQ.copy()
    wrong_TQ[is_noisy_T] += 3.0 * std * np.random.default_rng(2).normal(size=(30, 3))
    noise_TQ = np.where(is_noisy_T[:, None], 3.0 * std, 0.0) * np.ones((1, 3))
    told = PooledPredictor().fit_metrics(WEIGHTS_TK, wrong_TQ, noise_TQ)
    not_told = PooledPredictor().fit_metrics(WEIGHTS_TK, wrong_TQ, np.zeros_like(noise_TQ))
    true_MQ = planted_metrics(UNSEEN_MK, 3)
    errors = [np.abs(p.predict_means(UNSEEN_MK) - true_MQ).mean() for p in (told, not_told)]
    assert errors[0] < 0.6 * errors[1]


def test_neither_the_order_of_trials_nor_last_bits_change_the_predictions():
    values_TQ = planted_metrics(WEIGHTS_TK, 4) + 0.01 * np.random.default_rng(4).normal(
        size=(60, 4)
    )
    nothing_TQ = np.zeros_like(values_TQ)
    means_MQ = (
        PooledPredictor().fit_metrics(WEIGHTS_TK, values_TQ, nothing_TQ).predict_means(UNSEEN_MK)
    )
    order_T = np.random.default_rng(3).permutation(60)
    again = PooledPredictor().fit_metrics(WEIGHTS_TK[order_T], values_TQ[order_T], nothing_TQ)
    np.testing.assert_array_equal(again.predict_means(UNSEEN_MK), means_MQ)
    for seed in range(5):
        random = np.random.default_rng(seed)
        changed = [a * (1.0 + 1e-14 * random.normal(size=a.shape)) for a in (WEIGHTS_TK, values_TQ)]
        other = PooledPredictor().fit_metrics(*changed, nothing_TQ).predict_means(UNSEEN_MK)
        assert (np.abs(other - means_MQ) / values_TQ.std(axis=0)).max() < 1e-4


def test_the_unit_of_a_metric_does_not_matter():
    """Small differences of large values: the logarithm varies by a ten-thousandth."""
    values_TQ = 1.0 + 1e-4 * planted_metrics(WEIGHTS_TK, 2)
    nothing_TQ = np.zeros_like(values_TQ)
    small, large = (
        PooledPredictor()
        .fit_metrics(WEIGHTS_TK, factor * values_TQ, nothing_TQ)
        .predict_means(UNSEEN_MK)
        for factor in (1.0, 1e6)
    )
    np.testing.assert_allclose(large / 1e6, small, rtol=1e-7)
    true_MQ = 1.0 + 1e-4 * planted_metrics(UNSEEN_MK, 2)
    assert correlate(large, true_MQ).min() > 0.98


def test_equal_values_and_one_trial_more_than_none_are_fitted():
    constant = PooledPredictor().fit_metrics(WEIGHTS_TK[:5], np.ones((5, 2)), np.zeros((5, 2)))
    np.testing.assert_allclose(constant.predict_means(UNSEEN_MK[:3]), 1.0, atol=1e-6)
    single = PooledPredictor().fit_metrics(WEIGHTS_TK[:1], np.full((1, 2), 2.0), np.zeros((1, 2)))
    np.testing.assert_allclose(single.predict_means(UNSEEN_MK[:3]), 2.0, atol=1e-6)
