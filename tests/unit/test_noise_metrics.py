"""Metrics that cannot be predicted: they stay plausible, and do not decide a recommendation."""

import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.objective import Objective
from climb.predictor.default import DefaultPredictor
from climb.predictor.metrics import WIDENED, fit_metrics
from climb.predictor.pooled import PooledPredictor
from climb.predictor.shrinkage import Shrinkage
from climb.predictor.stack import StackPredictor
from climb.runs.formats import read_olmix
from climb.runs.importer import import_runs
from climb.runs.table import read_runs
from climb.search import Problem, SearchState, Trials, recommend
from climb.search.calibration import cross_validate
from climb.search.recommendation import predict_gain
from climb.testing.world import PlantedWorld

RANDOM = np.random.default_rng(0)
REAL_TQ = RANDOM.normal(size=(40, 3))
NOTHING_TQ = np.zeros_like(REAL_TQ)
UNPREDICTABLE = ("drop:rc::gen2mc", "qasper_yesno:rc::olmes", "sciriff_yesno:rc::olmes")


def slopes(held_out_TQ, values_TQ=REAL_TQ):
    return Shrinkage.fit(held_out_TQ, values_TQ, NOTHING_TQ).slopes_Q


def test_good_predictions_are_hardly_shrunk():
    assert slopes(REAL_TQ).min() == pytest.approx(1.0)
    assert slopes(REAL_TQ + 0.1 * RANDOM.normal(size=(40, 3))).min() > 0.9


def test_predictions_of_noise_are_shrunk_to_the_mean():
    unrelated_TQ = np.random.default_rng(1).normal(size=(40, 300))
    real_TQ = np.random.default_rng(2).normal(size=(40, 300))
    found_Q = Shrinkage.fit(unrelated_TQ, real_TQ, np.zeros_like(real_TQ)).slopes_Q
    assert (found_Q == 0.0).mean() > 0.85
    assert found_Q.max() < 0.6


@pytest.mark.parametrize("held_out_TQ", [-REAL_TQ, np.full_like(REAL_TQ, 2.0)])
def test_predictions_that_fall_with_the_metric_or_do_not_vary_become_the_mean(held_out_TQ):
    np.testing.assert_array_equal(slopes(held_out_TQ), 0.0)


def test_the_unit_of_a_metric_does_not_change_its_shrinkage():
    held_out_TQ = REAL_TQ + RANDOM.normal(size=(40, 3))
    np.testing.assert_allclose(
        slopes(7.0 + 3.0 * held_out_TQ, 7.0 + 3.0 * REAL_TQ), slopes(held_out_TQ)
    )


def test_equal_values_are_predicted_by_their_mean():
    shrinkage = Shrinkage.fit(np.ones((4, 1)), np.ones((4, 1)), np.zeros((4, 1)))
    assert shrinkage.constants.center_Q == pytest.approx(1.0)
    assert np.isfinite(shrinkage.slopes_Q).all()


def search_with_noise(world, predictor, n_trials=48):
    """The state after trials with planted losses and three metrics of ten times larger noise."""
    settings = [f"search.trials_per_round=[{n_trials}, 16]", "search.candidates=1000"]
    cfg, random = load(settings=settings).search, np.random.default_rng([world.seed, n_trials])
    drawn_MK = world.space.sample(random, n_trials, concentration=(0.1, 5.0), temperature=0.5)
    rows = [world.make_row(w_K, 0, "proposal", 0) for w_K in drawn_MK]
    std = 10.0 * np.std([list(row["metrics"].values()) for row in rows], axis=0).mean()
    for row in rows:
        row["metrics"] |= {f"noise{q}": float(1.0 + std * random.normal()) for q in range(3)}
    names = tuple(rows[0]["metrics"])
    trials = Trials.from_rows(rows, world.space.domains, names)
    problem = Problem.from_config(world.space, Objective.parse("mean(*):min", names), cfg)
    return SearchState.from_trials(trials, dataclasses.replace(problem, predictor=predictor))


@pytest.mark.parametrize(
    "predictor", [StackPredictor(), PooledPredictor()], ids=["stack", "pooled"]
)
@pytest.mark.parametrize("seed", [1, 4])
def test_metrics_of_pure_noise_do_not_decide_a_recommendation(predictor, seed):
    world = PlantedWorld.build(8, 3, noise=0.3, seed=seed)
    state = search_with_noise(world, predictor)
    mixture_K = state.problem.searcher.recommend(state)[state.restore_K]
    regret = world.compute_regret(mixture_K)
    assert regret < 0.6 * world.compute_regret(world.space.natural_K)


def test_more_trials_are_expected_to_gain_no_more_than_is_left():
    world = PlantedWorld.build(8, 3, noise=0.3, seed=1)
    found = recommend(search_with_noise(world, StackPredictor()))
    assert found.verdict == "no gain found"
    assert found.further_round.expected_gain < world.compute_regret(world.space.natural_K)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_interval_of_a_gain_has_the_noise_of_metrics_that_became_their_mean(seed):
    """The mixtures are near each other, so that errors of predictions cancel and noise is left."""
    world = PlantedWorld.build(8, 3, noise=0.3, seed=seed)
    state = search_with_noise(world, StackPredictor())
    surrogate, trials = state.penalized.surrogate, state.trials
    natural_K = state.problem.space.project(state.problem.space.natural_K)
    pair_2K = np.stack([natural_K, state.problem.space.project(0.9 * natural_K + 0.1 / 8)])
    validation = cross_validate(surrogate, trials, state.problem.predictor, 0)
    gain = predict_gain(surrogate, validation.score.calibration, trials, pair_2K)
    noise_Q = trials.metrics_TQ[:, [name.startswith("noise") for name in trials.metric_names]]
    std_of_score = np.sqrt(np.square(noise_Q.std(axis=0) / 6.0).sum())
    assert (gain.high - gain.low) / (2.0 * 1.65) > 0.8 * np.sqrt(2.0) * std_of_score


@pytest.mark.parametrize(
    "predictor", [StackPredictor(), PooledPredictor()], ids=["stack", "pooled"]
)
def test_predictions_for_domains_that_no_run_has_are_plausible_and_uncertain(predictor):
    random = np.random.default_rng(3)
    seen_TK = np.hstack([random.dirichlet(np.ones(4), size=40), np.zeros((40, 2))])
    values_TQ = (seen_TK[:, :2] + 0.02) ** -0.3 + 0.01 * random.normal(size=(40, 2))
    predicts = fit_metrics(predictor, seen_TK, values_TQ, np.zeros_like(values_TQ))
    unseen_MK = np.array([[0.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.1, 0.0, 0.0, 0.0, 0.0, 0.9]])
    means_MQ, stds_MQ = predicts.predict(unseen_MK)
    widened_Q = WIDENED * np.ptp(values_TQ, axis=0)
    assert (means_MQ >= values_TQ.min(axis=0) - widened_Q).all()
    assert (means_MQ <= values_TQ.max(axis=0) + widened_Q).all()
    _, seen_stds_TQ = predicts.predict(seen_TK)
    assert (stds_MQ > 2.0 * np.median(seen_stds_TQ, axis=0)).all()


def test_olmix_metrics_that_no_predictor_ranks_get_plausible_values(shared_data, tmp_path):
    """Without bounds and shrinkage, errors were up to 51,000 standard deviations."""
    files = (shared_data / "olmix" / f"full_recomputation_{x}.csv" for x in ("ratios", "metrics"))
    import_runs(read_olmix(*files), tmp_path / "runs.csv")
    runs, _ = read_runs(tmp_path / "runs.csv")
    others = [name for name in runs.metric_names if name not in UNPREDICTABLE][:21]
    columns = [runs.metric_names.index(name) for name in (*UNPREDICTABLE, *others)]
    is_fitted_T = np.arange(len(runs)) % 4 == 0
    values_TQ = runs.metrics_TQ[is_fitted_T][:, columns]
    unseen_TQ = runs.metrics_TQ[~is_fitted_T][:, columns]
    fit = (runs.weights_TK[is_fitted_T], values_TQ, np.zeros_like(values_TQ))
    predicts = fit_metrics(DefaultPredictor(), *fit)
    means_MQ, stds_MQ = predicts.predict(runs.weights_TK[~is_fitted_T])
    std_Q = unseen_TQ.std(axis=0)
    run_stds_MQ = np.hypot(stds_MQ, predicts.noise_Q)
    relative_Q = np.sqrt(np.square(means_MQ - unseen_TQ).mean(axis=0)) / std_Q
    assert relative_Q[:3].max() < 1.1
    assert np.median(relative_Q[3:]) < 0.6
    assert (np.median(run_stds_MQ, axis=0)[:3] > 0.7 * std_Q[:3]).all()
