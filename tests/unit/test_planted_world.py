"""A synthetic world with a known best mixture: a search gets close to it with few trials."""

import numpy as np
import pytest

from climb.config import load
from climb.search import Problem, SearchState, propose, recommend
from climb.testing.world import PlantedWorld

NOISE = 0.1
"""Noise of one run, as a share of the score's standard deviation over mixtures."""


@pytest.fixture(scope="module")
def world():
    return PlantedWorld.build(12, 2, NOISE, 0)


def load_settings(per_round, seed):
    return load(
        settings=[
            f"search.trials_per_round={list(per_round)}",
            f"search.seed={seed}",
            "search.candidates=500",
        ]
    ).search


def run_search(world, per_round, replicates, seed):
    """Run every round of a search in the world; return the trials and the recommendation."""
    cfg = load_settings(per_round, seed)
    problem = Problem.from_config(world.space, world.objective, cfg)
    rows = world.make_baseline_rows(replicates)
    for round_ in range(len(per_round)):
        proposed_MK = propose(world.make_trials(rows), round_, problem)
        rows += [world.make_row(w_K, round_, "proposal", 0) for w_K in proposed_MK]
    trials = world.make_trials(rows)
    return trials, recommend(SearchState.from_trials(trials, problem))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_round", "replicates", "n_trials", "share"),
    [((32, 16, 12), 2, 64, 1 / 5), ((14, 6, 6), 1, 28, 1 / 3)],
    ids=["64 trials", "28 trials"],
)
def test_the_regret_of_the_recommendation_is_a_small_part_of_that_of_uniform(
    per_round, replicates, n_trials, share
):
    recommended, uniform = [], []
    for seed in range(10):
        world = PlantedWorld.build(12, 2, NOISE, seed)
        trials, recommendation = run_search(world, per_round, replicates, seed)
        assert len(trials) == n_trials  # including the replicates of natural and uniform
        assert world.space.contains(recommendation.weights_K)
        recommended.append(world.compute_regret(recommendation.weights_K))
        uniform.append(world.compute_regret(world.space.uniform_K))
    assert np.mean(recommended) <= share * np.mean(uniform)


def test_no_feasible_mixture_is_better_than_the_planted_one(world):
    rng = np.random.default_rng(1)
    far_MK = world.space.sample(rng, 3_000, concentration=(0.1, 5.0), temperature=0.5)
    near_MK = world.space.project(world.best_K * np.exp(0.05 * rng.normal(size=(3_000, 12))))
    scores_M = world.compute_scores(np.vstack([far_MK, near_MK]))
    assert world.space.contains(world.best_K)
    assert (scores_M < world.compute_scores(world.best_K[None])).all()
    assert world.compute_regret(world.best_K) == 0.0
    assert world.compute_regret(world.space.uniform_K) > 0.0


def test_no_feasible_mixture_is_better_than_the_planted_one_in_ten_worlds():
    for seed in range(10):
        world = PlantedWorld.build(12, 2, NOISE, seed)
        assert world.space.contains(world.best_K)
        drawn_MK = world.space.sample(
            np.random.default_rng(seed), 500, concentration=(0.1, 5.0), temperature=0.5
        )
        assert min(map(world.compute_regret, drawn_MK)) > 0.0


def test_worlds_of_different_seeds_have_different_best_mixtures(world):
    other = PlantedWorld.build(12, 2, NOISE, 1)
    assert np.abs(world.best_K - other.best_K).sum() > 0.1
    np.testing.assert_array_equal(PlantedWorld.build(12, 2, NOISE, 0).best_K, world.best_K)


def test_a_row_is_a_function_of_mixture_and_seed(world):
    w_K = world.space.uniform_K
    first, again, other = (world.make_row(w_K, 0, "uniform", seed) for seed in (0, 0, 1))
    assert first == again
    assert first["metrics"] != other["metrics"]


def test_the_noise_of_rows_is_that_of_the_world(world):
    w_K = world.space.uniform_K
    measured_SQ = np.array(
        [list(world.make_row(w_K, 0, "uniform", seed)["metrics"].values()) for seed in range(400)]
    )
    # Standard errors of 400 draws: 5 % of the noise for the mean, 4 % for the noise; three of each.
    np.testing.assert_allclose(measured_SQ.std(axis=0, ddof=1), world.noise_Q, rtol=0.12)
    error_Q = (measured_SQ.mean(axis=0) - world.compute_losses(w_K[None])[0]) / world.noise_Q
    assert np.abs(error_Q).max() < 0.15
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 2_000, concentration=(0.1, 5.0), temperature=0.5
    )
    ratio = world.objective.score(measured_SQ).std() / world.compute_scores(mixtures_MK).std()
    assert ratio == pytest.approx(NOISE, rel=0.2)
