"""A fake proxy with noise and a known best mixture: the search finds it, with few trials."""

import numpy as np
import pytest

from climb.config import load
from climb.search import Problem, anchors, propose, recommend
from climb.testing.world import PlantedWorld

NOISE = 0.1
"""One run's noise, as a share of the score's standard deviation over mixtures."""


@pytest.fixture(scope="module")
def world():
    return PlantedWorld.of(12, 2, NOISE, 0)


def settings(per_round, seed):
    return load(
        settings=[
            f"search.trials_per_round={list(per_round)}",
            f"search.seed={seed}",
            "search.candidates=500",
        ]
    ).search


def search(world, per_round, anchor_seeds, seed):
    """Every round of a search, each trained by the fake proxy: the trials and the answer."""
    problem = Problem.of(world.space, world.objective, settings(per_round, seed))
    rows = [world.trial(w_K, 0, m, s) for m, w_K, s in anchors(world.space, anchor_seeds)]
    for round_ in range(len(per_round)):
        known = world.trials(rows)
        asked_MK = propose(known, round_, problem)
        rows += [world.trial(w_K, round_, "proposal", 0) for w_K in asked_MK]
    trials = world.trials(rows)
    return trials, recommend(trials, problem)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_round", "anchor_seeds", "n_trials", "share"),
    [((32, 16, 12), 2, 64, 1 / 5), ((14, 6, 6), 1, 28, 1 / 3)],
    ids=["64 trials", "28 trials"],
)
def test_the_answers_regret_is_a_small_part_of_uniforms(per_round, anchor_seeds, n_trials, share):
    answered, uniform = [], []
    for seed in range(10):
        world = PlantedWorld.of(12, 2, NOISE, seed)
        trials, answer = search(world, per_round, anchor_seeds, seed)
        assert len(trials) == n_trials  # natural and uniform count too
        assert world.space.contains(answer.weights_K)
        answered.append(world.regret(answer.weights_K))
        uniform.append(world.regret(world.space.uniform_K))
    assert np.mean(answered) <= share * np.mean(uniform)


def test_no_feasible_mixture_beats_the_planted_one(world):
    rng = np.random.default_rng(1)
    far_MK = world.space.sample(rng, 3_000, concentration=(0.1, 5.0), temperature=0.5)
    near_MK = world.space.project(world.best_K * np.exp(0.05 * rng.normal(size=(3_000, 12))))
    scores_M = world.scores(np.vstack([far_MK, near_MK]))
    assert world.space.contains(world.best_K)
    assert (scores_M < world.scores(world.best_K[None])).all()
    assert world.regret(world.best_K) == 0.0
    assert world.regret(world.space.uniform_K) > 0.0


def test_no_feasible_mixture_beats_the_planted_one_in_any_of_ten_worlds():
    for seed in range(10):
        world = PlantedWorld.of(12, 2, NOISE, seed)
        assert world.space.contains(world.best_K)
        drawn_MK = world.space.sample(
            np.random.default_rng(seed), 500, concentration=(0.1, 5.0), temperature=0.5
        )
        assert min(map(world.regret, drawn_MK)) > 0.0


def test_worlds_of_different_seeds_have_different_best_mixtures(world):
    other = PlantedWorld.of(12, 2, NOISE, 1)
    assert np.abs(world.best_K - other.best_K).sum() > 0.1
    np.testing.assert_array_equal(PlantedWorld.of(12, 2, NOISE, 0).best_K, world.best_K)


def test_a_mixture_and_a_seed_give_the_same_row_whenever_they_are_trained(world):
    w_K = world.space.uniform_K
    first, again, other = (world.trial(w_K, 0, "uniform", seed) for seed in (0, 0, 1))
    assert first == again
    assert first["metrics"] != other["metrics"]


def test_the_noise_of_a_row_is_as_large_as_the_world_says(world):
    w_K = world.space.uniform_K
    measured_SQ = np.array(
        [list(world.trial(w_K, 0, "uniform", seed)["metrics"].values()) for seed in range(400)]
    )
    # 400 draws know a mean to 5 % of the noise and the noise itself to 4 %: three times that.
    np.testing.assert_allclose(measured_SQ.std(axis=0, ddof=1), world.noise_Q, rtol=0.12)
    off_Q = (measured_SQ.mean(axis=0) - world.losses(w_K[None])[0]) / world.noise_Q
    assert np.abs(off_Q).max() < 0.15
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 2_000, concentration=(0.1, 5.0), temperature=0.5
    )
    ratio = world.objective.score(measured_SQ).std() / world.scores(mixtures_MK).std()
    assert ratio == pytest.approx(NOISE, rel=0.2)
