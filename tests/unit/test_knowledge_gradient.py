"""The expected gain of a further round, and the stop rule `search.min_expected_gain`."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from linear_model import Plane

from climb.config import load
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Problem, SearchState, Trials
from climb.search.calibration import Calibration, Inflation
from climb.search.knowledge_gradient import (
    estimate_further_round,
    estimate_gain_of_round,
    predict_changes,
)
from climb.search.searchers.published import RandomSearcher
from climb.search.spread import Spread
from climb.spark.training.search import is_worth_training
from climb.testing.predictors import BowlPredictor
from climb.testing.world import PlantedWorld

DOMAINS = ("a", "b", "c")
SPACE = FeasibleSet.from_constraints(
    DOMAINS, np.ones(3), Constraints(target_tokens=1.0, max_epochs=3.0)
)
OBJECTIVE = Objective.parse("x:max", ("x",))
CFG = load(
    settings=["search.trials_per_round=[10, 6, 4]", "search.halving=[]", "search.candidates=400"]
).search
EXACT = Calibration(
    center=0.0, slope=1.0, slope_std=0.0, inflation=Inflation(level=1.0), spearman=1.0
)


def make_trials(values_T, weights_TK, seeds_T):
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": seed,
            "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
            "metrics": {"x": float(value)},
        }
        for value, weights_K, seed in zip(values_T, weights_TK, seeds_T, strict=True)
    ]
    return Trials.from_rows(rows, DOMAINS, ("x",))


TRIALS = make_trials(
    np.linspace(-100.0, 100.0, 10),
    np.random.default_rng(0).dirichlet(np.ones(3), size=10),
    [0] * 10,
)
TWO_METRICS = TRIALS.replace_metrics(("x", "y"), np.zeros((len(TRIALS), 2)))


def build_state(predictor, trials=TRIALS, space=SPACE, cfg=CFG, objective=OBJECTIVE):
    problem = Problem(space, objective, predictor, RandomSearcher(), cfg)
    return SearchState.from_trials(trials, problem)


def estimate_gain(predictor, calibration=EXACT, **settings):
    return estimate_further_round(build_state(predictor, **settings), calibration).expected_gain


def test_predicted_changes_have_the_covariance_that_the_posterior_loses():
    plane = Plane(std=0.7, noise=0.2)
    random = np.random.default_rng(1)
    proposed_NK, candidates_CK = random.dirichlet(np.ones(3), 5), random.dirichlet(np.ones(3), 8)
    surrogate = build_state(plane).penalized.surrogate
    root_CN = predict_changes(surrogate, candidates_CK, proposed_NK, EXACT)
    precision_KK = np.eye(3) / plane.std**2 + proposed_NK.T @ proposed_NK / plane.noise**2
    lost_KK = plane.std**2 * np.eye(3) - np.linalg.inv(precision_KK)
    np.testing.assert_allclose(
        root_CN @ root_CN.T, candidates_CK @ lost_KK @ candidates_CK.T, rtol=1e-6, atol=1e-9
    )


def test_noise_of_replicates_takes_precedence_over_noise_that_the_fit_infers():
    mixtures = [[0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]]
    replicated = make_trials([3.0, -3.0] * 4, np.repeat(mixtures, 2, axis=0), [0, 1] * 4)
    plane = Plane(std=1.0, noise=1e-6)
    proposed_NK = candidates_CK = np.eye(3)
    single, double = (
        build_state(plane, trials=t).penalized.surrogate for t in (TRIALS, replicated)
    )
    measured = float(replicated.group_replicates().noise_Q[0])
    doubled = Spread(level=np.log(2.0), slope_K=np.zeros(3), log_range=(0.0, 1.0))
    for surrogate, level, spread, factor, noise in (
        (single, 1.0, None, 1.0, 0.0),
        (double, 1.0, None, 1.0, measured),
        (double, 3.0, None, 3.0, measured),
        (double, 3.0, doubled, 6.0, 2.0 * measured),
    ):
        calibration = dataclasses.replace(EXACT, inflation=Inflation(level), spread=spread)
        root_CN = predict_changes(surrogate, candidates_CK, proposed_NK, calibration)
        # The predicted variance is inflated. The measured noise only depends on the mixture.
        expected = factor**4 / (factor**2 + noise**2)
        np.testing.assert_allclose(np.square(root_CN).sum(axis=1), expected, rtol=1e-6)


def test_errors_of_metrics_are_taken_as_fully_correlated():
    plane = Plane(std=1.0, noise=0.1)
    roots = []
    for trials, text in (
        (TRIALS, "x:max"),
        (TWO_METRICS, "x:max + y:max"),
        (TWO_METRICS, "x:max + y:min"),
    ):
        objective = Objective.parse(text, trials.metric_names)
        surrogate = build_state(plane, trials=trials, objective=objective).penalized.surrogate
        roots.append(predict_changes(surrogate, np.eye(3), np.eye(3), EXACT))
    np.testing.assert_allclose(roots[1], 2.0 * roots[0])
    np.testing.assert_allclose(np.abs(roots[2]), np.abs(roots[1]))


def test_without_uncertainty_the_expected_gain_is_zero():
    assert estimate_gain(Plane(std=0.0, noise=0.1)) == pytest.approx(0.0, abs=1e-12)
    sloped = Plane(std=0.0, noise=0.1, slopes=(1.0, 0.0, 0.0))
    assert estimate_gain(sloped) == pytest.approx(0.0)


def test_the_expected_gain_is_at_most_that_of_perfect_information():
    gain = estimate_gain(Plane(std=1.0, noise=0.1))
    # The expected maximum of three slopes of standard deviation 1 is 0.846; the standard error of
    # 1024 outcomes is 0.023.
    assert 0.2 < gain < 0.846 + 3 * 0.023


def test_the_expected_gain_rises_with_uncertainty_and_falls_with_noise():
    by_std = [estimate_gain(Plane(std=std, noise=0.1)) for std in (0.1, 0.3, 1.0)]
    assert by_std[0] < by_std[1] < by_std[2]
    by_noise = [estimate_gain(Plane(std=1.0, noise=noise)) for noise in (0.1, 1.0, 10.0, 1e4)]
    assert by_noise[0] > by_noise[1] > by_noise[2] > by_noise[3]
    assert by_noise[3] < 0.01


def test_a_recommendation_that_is_far_ahead_leaves_little_to_gain():
    near = estimate_gain(Plane(std=0.1, noise=0.01, slopes=(0.1, 0.0, 0.0)))
    ahead = estimate_gain(Plane(std=0.1, noise=0.01, slopes=(10.0, 0.0, 0.0)))
    assert ahead < 1e-6 < near


def test_calibration_inflates_standard_deviations_and_shrinks_means():
    plane = Plane(std=0.3, noise=0.01)
    inflated = dataclasses.replace(EXACT, inflation=Inflation(level=3.0))
    assert estimate_gain(plane, inflated) == pytest.approx(3.0 * estimate_gain(plane))
    # With slope 0, predictions have no information, so the best mixture may be anywhere.
    ahead = Plane(std=0.3, noise=0.01, slopes=(0.5, 0.0, 0.0))
    assert estimate_gain(ahead, dataclasses.replace(EXACT, slope=0.0)) > estimate_gain(ahead)


def test_without_covariances_the_expected_gain_is_unknown_and_no_round_is_skipped(capsys):
    assert estimate_gain(BowlPredictor(std=1.0)) is None
    assert is_worth_training(make_study(0.5, BowlPredictor()), 1, [])
    assert (
        "search.min_expected_gain is 0.5, but this predictor cannot estimate the gain of a round: "
        "all rounds are trained" in capsys.readouterr().out
    )


def test_infeasible_candidates_are_left_out_and_the_kl_penalty_counts_in_full():
    steep = Plane(std=0.3, noise=0.01, slopes=(0.05, 0.0, -0.05))
    no_slope = dataclasses.replace(EXACT, slope=0.0)
    max_drop_0 = CFG.model_copy(update={"max_drop": 0.0})
    free = estimate_gain(steep, no_slope)
    constrained = estimate_gain(steep, no_slope, cfg=max_drop_0)
    assert 0.0 < constrained < free
    # Two metrics with equal predictions and opposite directions: every change worsens one.
    opposite = Objective.parse("x:max + 0.5*y:min", ("x", "y"))
    both = estimate_gain(steep, no_slope, trials=TWO_METRICS, cfg=max_drop_0, objective=opposite)
    assert both < 0.01 * free
    penalized = dataclasses.replace(SPACE, kl_penalty=100.0)
    assert estimate_gain(steep, no_slope, space=penalized) < 0.01 * free


def test_a_set_without_other_mixtures_has_an_expected_gain_of_zero():
    fixed = FeasibleSet.from_constraints(
        DOMAINS, np.ones(3), Constraints(target_tokens=3.0, max_epochs=1.0)
    )
    gain = estimate_gain(Plane(std=1.0, noise=0.1), space=fixed)
    assert gain == pytest.approx(0.0, abs=1e-12)


def test_the_further_round_is_as_large_as_the_last_configured_one():
    assert estimate_further_round(build_state(Plane(std=1.0, noise=0.1)), EXACT).n_trials == 4


WORLD = PlantedWorld.build(6, 2, noise=0.1, seed=0)
ROWS = [
    WORLD.make_row(weights_K, 0 if i < 10 else 1, "proposal", 0)
    for i, weights_K in enumerate(
        WORLD.space.sample(np.random.default_rng(0), 60, concentration=(0.3, 5.0), temperature=0.5)
    )
]
PROBLEM = Problem(WORLD.space, WORLD.objective, GPPredictor(), RandomSearcher(), CFG)


@pytest.fixture(scope="module")
def gain_of_round_1():
    return estimate_gain_of_round(WORLD.make_trials(ROWS), 1, PROBLEM)


def test_in_a_planted_world_the_second_round_is_worth_more_than_one_after_sixty_trials(
    gain_of_round_1,
):
    late = estimate_gain_of_round(WORLD.make_trials(ROWS), 2, PROBLEM)
    assert gain_of_round_1 > 0.0
    assert late < gain_of_round_1 / 2


def test_the_expected_gain_depends_on_trials_of_earlier_rounds_alone(gain_of_round_1):
    measured = [*ROWS[:10], WORLD.make_row(WORLD.best_K, 0, "recommended", 0)]
    assert estimate_gain_of_round(WORLD.make_trials(measured), 1, PROBLEM) == gain_of_round_1


def test_the_expected_gain_does_not_depend_on_the_order_of_domains(gain_of_round_1):
    order = [3, 1, 5, 0, 2, 4]
    permuted = dataclasses.replace(PROBLEM, space=WORLD.space.reorder_domains(order))
    trials = Trials.from_rows(ROWS, permuted.space.domains, WORLD.metric_names)
    assert estimate_gain_of_round(trials, 1, permuted) == gain_of_round_1


def make_study(min_expected_gain, predictor):
    """Make what the stop rule reads of a study: its settings, trials and problem."""
    cfg = CFG.model_copy(update={"min_expected_gain": min_expected_gain})
    state = build_state(predictor, cfg=cfg)
    return SimpleNamespace(
        cfg=SimpleNamespace(search=cfg),
        read_recorded=lambda plan: [],
        to_trials=lambda rows: state.trials,
        score_by=lambda trials: state.problem,
    )


def test_a_round_below_min_expected_gain_is_skipped_and_the_reason_is_logged(capsys):
    plane = Plane(std=1.0, noise=0.1)
    gain = estimate_gain_of_round(TRIALS, 1, build_state(plane).problem)
    assert gain > 0.0
    assert is_worth_training(make_study(0.99 * gain, plane), 1, [])
    assert capsys.readouterr().out == ""
    assert not is_worth_training(make_study(1.01 * gain, plane), 1, [])
    assert (
        f"round 2 and later ones are skipped: the expected gain of round 2 is {gain:.2g}, below "
        f"search.min_expected_gain {1.01 * gain:g}" in capsys.readouterr().out
    )


def test_without_min_expected_gain_every_round_is_trained_without_an_estimate():
    study = make_study(None, Plane(std=1.0, noise=0.1))
    study.read_recorded = None  # reading trials would raise
    assert is_worth_training(study, 1, [])
