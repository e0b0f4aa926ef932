"""Fidelities in a search: they help where they agree with the trials, and do little harm."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.stats import spearmanr

from climb.config import load
from climb.predictor.default import DefaultPredictor
from climb.predictor.informative import select_informative
from climb.predictor.metrics import fit_metrics, takes_extra
from climb.search import Problem, Surrogate, Trials, propose
from climb.search.fidelities import Fidelities, MeasuredFidelity
from climb.testing.predictors import BowlPredictor
from climb.testing.world import PlantedWorld

K, TRIALS, MEASURED = 8, 8, 60
CFG = load(settings=["search.trials_per_round=[12, 4]", "search.candidates=300"]).search


def draw(world, n, seed):
    random = np.random.default_rng([seed, n])
    return world.space.sample(random, n, concentration=(0.1, 5.0), temperature=0.5)


def measure_well(world, weights_MK):
    """Losses with an error of their own: ranks agree, values do not."""
    losses_MQ = world.compute_losses(weights_MK)
    other = PlantedWorld.build(K, 2, noise=0.0, seed=world.seed + 100)
    errors_MQ = other.compute_losses(weights_MK)
    return 3.0 + 0.5 * losses_MQ + 0.15 * errors_MQ * losses_MQ.std() / errors_MQ.std()


def measure_noise(world, weights_MK):
    """Values without any relation to the losses, smooth in the weights."""
    directions_KQ = np.random.default_rng(world.seed).normal(size=(K, 2))
    return np.sin(4.0 * np.sqrt(weights_MK) @ directions_KQ)


@functools.cache
def fit_fidelities(world, *functions):
    weights_DK = draw(world, MEASURED, 1)
    objective = dict.fromkeys(world.metric_names, -0.5)
    measured = [
        MeasuredFidelity(world.metric_names, weights_DK, function(world, weights_DK))
        for function in functions
    ]
    return Fidelities.fit(world.space.domains, objective, measured)


def fit_surrogate(world, fidelities, n=TRIALS):
    rows = [world.make_row(w_K, 0, "proposal", 0) for w_K in draw(world, n, 2)]
    trials = world.make_trials(rows)
    return Surrogate.fit(trials, world.objective, DefaultPredictor(), None, fidelities)


def compute_error(world, surrogate):
    """Root mean square error of the score, in standard deviations over unseen mixtures."""
    unseen_MK = draw(world, 300, 3)
    score_M = world.compute_scores(unseen_MK)
    errors_M = surrogate.predict_mean(unseen_MK) - score_M
    return float(np.sqrt(np.square(errors_M).mean()) / score_M.std())


def compare_errors(worlds, function):
    """Mean errors of fits without the fidelity and with it."""
    return np.mean(
        [
            [compute_error(w, fit_surrogate(w, f)) for f in (None, fit_fidelities(w, function))]
            for w in worlds
        ],
        axis=0,
    )


@pytest.fixture(scope="module")
def worlds():
    return [PlantedWorld.build(K, 2, noise=0.1, seed=seed) for seed in range(6)]


def test_a_fidelity_that_agrees_with_the_trials_improves_the_predictions(worlds):
    without, with_fidelity = compare_errors(worlds, measure_well)
    assert with_fidelity < 0.8 * without


def test_a_fidelity_of_noise_raises_the_error_by_a_tenth_at_most(worlds):
    without, with_noise = compare_errors(worlds, measure_noise)
    assert with_noise < 1.1 * without


def test_a_fidelity_that_falls_where_the_metric_rises_is_not_used(worlds):
    world = worlds[0]
    opposite = fit_fidelities(world, lambda w, weights_MK: -w.compute_losses(weights_MK))
    unseen_MK = draw(world, 50, 3)
    one, other = (fit_surrogate(world, f).predict_mean(unseen_MK) for f in (None, opposite))
    np.testing.assert_array_equal(one, other)


def test_only_informative_features_are_selected_in_their_order():
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.ones(3), size=20)
    values_T = weights_TK[:, 0] + 0.01 * random.normal(size=20)

    def extra(weights_MK):
        return np.stack([weights_MK[:, 0], -weights_MK[:, 0], np.ones(len(weights_MK))], axis=1)

    selected = select_informative(extra, (weights_TK, values_T, np.zeros(20)))
    np.testing.assert_array_equal(selected(weights_TK), extra(weights_TK)[:, :1])
    assert (
        select_informative(lambda w: -extra(w)[:, :1], (weights_TK, values_T, 0 * values_T)) is None
    )
    constant_T = np.full(20, 2.0)
    assert select_informative(extra, (weights_TK, constant_T, 0 * values_T)) is None


def test_chance_selects_one_unrelated_feature_in_27():
    random = np.random.default_rng(0)
    weights_TK, values_T = random.dirichlet(np.ones(3), size=12), random.normal(size=12)
    features_TF = random.normal(size=(12, 4_000))
    selected = select_informative(lambda w: features_TF, (weights_TK, values_T, np.zeros(12)))
    assert selected(weights_TK).shape[1] / 4_000 == pytest.approx(1 / 27, abs=0.01)


def test_noisy_trials_count_less_when_features_are_selected():
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.ones(3), size=16)
    values_T = weights_TK[:, 0] - weights_TK[:, 0].mean()
    values_T[8:] *= -3.0

    def extra(weights_MK):
        return weights_MK[:, :1]

    noise_T = np.where(np.arange(16) < 8, 0.0, 100.0)
    assert select_informative(extra, (weights_TK, values_T, 0 * noise_T)) is None
    assert select_informative(extra, (weights_TK, values_T, noise_T)) is not None


def test_estimates_interpolate_the_measured_mixtures_in_any_order_of_domains(worlds):
    world = worlds[0]
    fidelities = fit_fidelities(world, measure_well)
    weights_DK = draw(world, MEASURED, 1)
    names, order_K = world.metric_names, np.arange(K)[::-1]
    one, other = (
        fidelities.list_features(names, [world.space.domains[k] for k in order])[1](
            weights_DK[:, order]
        )
        for order in (np.arange(K), order_K)
    )
    measured_D = measure_well(world, weights_DK)[:, 1]
    np.testing.assert_allclose(one[:, 0], measured_D, rtol=0.0, atol=0.1 * measured_D.std())
    np.testing.assert_array_equal(one, other)


def test_metrics_without_an_estimate_have_no_features(worlds):
    fidelities = fit_fidelities(worlds[0], measure_well, measure_noise)
    features = fidelities.list_features(("other", "task0.bpb"), worlds[0].space.domains)
    assert features[0] is None
    assert features[1](draw(worlds[0], 5, 3)).shape == (5, 2)


def test_the_first_round_keeps_the_half_that_fidelities_rank_highest(worlds):
    scores = []
    for world in worlds:
        problem = Problem.from_config(world.space, None, CFG)
        helped = dataclasses.replace(problem, fidelities=fit_fidelities(world, measure_well))
        nothing = Trials.from_rows([], world.space.domains, ())
        both = [propose(nothing, 0, one) for one in (problem, helped)]
        scores.append([world.compute_scores(mixtures_MK).mean() for mixtures_MK in both])
    plain, with_fidelity = np.mean(scores, axis=0)
    assert with_fidelity > plain


def test_the_best_prediction_of_half_the_trials_with_a_fidelity_is_as_good(worlds):
    regrets = []
    for world in worlds:
        unseen_MK = draw(world, 500, 3)
        score_M = world.compute_scores(unseen_MK)
        fits = (fit_surrogate(world, None, 16),
                fit_surrogate(world, fit_fidelities(world, measure_well), 8))  # fmt: skip
        best = [int(fit.predict_mean(unseen_MK).argmax()) for fit in fits]
        regrets.append(score_M.max() - score_M[best])
    all_trials, half_with_fidelity = np.mean(regrets, axis=0)
    assert half_with_fidelity <= all_trials


def test_held_out_predictions_use_the_fidelity_of_the_other_folds_alone(worlds):
    world = worlds[0]
    surrogate = fit_surrogate(world, fit_fidelities(world, measure_well), n=24)
    plain = fit_surrogate(world, None, n=24)
    measured_D = surrogate.replicates.means_DQ.mean(axis=1)
    ranks = [
        spearmanr(s.predict_held_out(DefaultPredictor(), 0)[0].mean(axis=1), measured_D).statistic
        for s in (surrogate, plain)
    ]
    assert ranks[0] > ranks[1]


def test_a_predictor_without_extra_features_ignores_fidelities(worlds):
    world = worlds[0]
    rows = [world.make_row(w_K, 0, "proposal", 0) for w_K in draw(world, 30, 2)]
    trials, unseen_MK = world.make_trials(rows), draw(world, 5, 3)
    assert takes_extra(DefaultPredictor())
    assert not takes_extra(BowlPredictor())
    one, other = (
        Surrogate.fit(trials, world.objective, BowlPredictor(), None, f).predict_mean(unseen_MK)
        for f in (None, fit_fidelities(world, measure_well))
    )
    np.testing.assert_array_equal(one, other)


def test_many_metrics_with_estimates_are_fitted_one_by_one():
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.ones(3), size=12)
    values_TQ = np.tile(weights_TK[:, :1], 24) + 0.01 * random.normal(size=(12, 24))

    def estimate(weights_MK):
        return weights_MK[:, :1]

    inputs = (DefaultPredictor(), weights_TK, values_TQ, np.zeros_like(values_TQ))
    separate = fit_metrics(*inputs, extras_Q=(estimate,) * 24)
    assert len(separate.fitted.predicts_Q) == 24
    assert type(separate.fitted) is not type(fit_metrics(*inputs).fitted)
