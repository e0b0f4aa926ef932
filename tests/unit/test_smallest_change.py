"""The smallest change of the natural mixture that improves one metric by a given amount."""

import json

import numpy as np
import pytest

from climb.cli.commands import _parse_improvement
from climb.config import load
from climb.errors import ConfigError, SearchError
from climb.predictor.gp import GPPredictor
from climb.runs.commands import Extras, recommend
from climb.runs.sets import RunFiles
from climb.search import Problem, SearchState
from climb.search.searchers.ucb import UCBSearcher
from climb.search.smallest_change import _describe_best, find_smallest_change
from climb.testing.world import PlantedWorld

WORLD = PlantedWorld.build(3, 2, 0.05, 2)
CFG = load(settings=["search.trials_per_round=[10, 6]", "search.candidates=400"]).search
MIXTURES_MK = WORLD.space.sample(
    np.random.default_rng(1), 24, concentration=(0.3, 5.0), temperature=0.5
)
TRIALS = WORLD.make_trials([WORLD.make_row(w_K, 0, "proposal", 0) for w_K in MIXTURES_MK])
NATURAL_K = WORLD.space.project(WORLD.space.natural_K)


def make_state(**settings):
    cfg = CFG.model_copy(update=settings)
    problem = Problem(WORLD.space, WORLD.objective, GPPredictor(), UCBSearcher(), cfg)
    return SearchState.from_trials(TRIALS, problem)


STATE = make_state()
METRIC = WORLD.metric_names[1]


def improve(weights_MK):
    """Predicted improvement of the metric over the natural mixture; it is minimized."""
    means_MQ = STATE.penalized.surrogate.predict_means(np.vstack([NATURAL_K, weights_MK]))
    return means_MQ[0, 1] - means_MQ[1:, 1]


def diverge(weights_MK):
    ratio_MK = np.maximum(weights_MK, 1e-300) / NATURAL_K
    return (weights_MK * np.log(ratio_MK)).sum(axis=1)


EVERY_MK = WORLD.space.project(np.random.default_rng(2).dirichlet(np.ones(3), size=60_000))
LARGEST = float(improve(EVERY_MK).max())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_it_is_feasible_and_no_nearer_mixture_improves_the_metric_as_much(share):
    amount = share * LARGEST
    change = find_smallest_change(STATE, METRIC, amount)
    assert WORLD.space.contains(change.weights_K)
    assert change.improvement >= amount * (1.0 - 1e-6)
    enough_MK = EVERY_MK[improve(EVERY_MK) >= amount]
    nearest = float(diverge(enough_MK).min())
    assert float(diverge(change.weights_K[None])[0]) <= 1.02 * nearest + 1e-5
    assert change.moved == pytest.approx(0.5 * np.abs(change.weights_K - NATURAL_K).sum())
    assert sum(by for _, by in change.list_moves(3)) == pytest.approx(0.0, abs=1e-9)


def test_an_outcome_constraint_of_the_search_still_holds():
    state = make_state(max_drop=0.0)
    change = find_smallest_change(state, METRIC, 0.3 * LARGEST)
    pair_2Q = state.penalized.surrogate.predict_means(np.stack([NATURAL_K, change.weights_K]))
    assert pair_2Q[1, 0] <= pair_2Q[0, 0] + 1e-6


def test_more_than_is_possible_is_refused_with_what_was_found():
    with pytest.raises(SearchError, match="the best mixture found improves it by") as error:
        find_smallest_change(STATE, METRIC, 2.0 + LARGEST)
    found = float(str(error.value).split("improves it by ")[1].split(";")[0])
    assert found == pytest.approx(LARGEST, rel=0.05)


@pytest.mark.parametrize("improvement", [-1e-17, -0.0, 1e-9])
def test_rounding_is_no_improvement(improvement):
    assert _describe_best(improvement, 0.01).startswith("no mixture found improves it")
    assert _describe_best(0.004, 0.01).startswith("the best mixture found improves it by 0.004")


def test_a_metric_outside_the_objective_is_refused():
    with pytest.raises(SearchError, match=r"'piqa' is not part of the objective; choose .* task0"):
        find_smallest_change(STATE, "piqa", 0.1)


@pytest.mark.parametrize("text", ["arc", "arc=", "=0.1", "arc=-1", "arc=0", "arc=inf", "arc=nan"])
def test_a_wrong_option_is_one_clear_line(text):
    with pytest.raises(ConfigError, match="write a metric and an amount above 0"):
        _parse_improvement(text)


def test_the_option_takes_names_with_an_equals_sign():
    assert _parse_improvement("a=b=0.5") == ("a=b", 0.5)


def test_recommend_describes_it_and_writes_it(tmp_path):
    header = [f"weight.{d}" for d in WORLD.space.domains]
    header += [f"metric.{m}" for m in WORLD.metric_names]
    rows = np.hstack([TRIALS.weights_TK, TRIALS.metrics_TQ])
    lines = [",".join(header), *(",".join(map(repr, row)) for row in rows.tolist())]
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    tokens = zip(WORLD.space.domains, WORLD.space.tokens_K.tolist(), strict=True)
    prior = "\n".join(["domain,tokens", *(f"{name},{n}" for name, n in tokens)])
    (tmp_path / "prior.csv").write_text(prior + "\n")
    cfg = CFG.model_copy(update={"target_tokens": 200_000_000})
    text = recommend(
        RunFiles([tmp_path / "runs.csv"]),
        tmp_path / "prior.csv",
        tmp_path / "best.csv",
        cfg,
        "mean(*):min",
        Extras(improve=(METRIC, 0.2 * LARGEST)),
    )
    assert f"Smallest change of the natural mixture that improves {METRIC} by" in text
    change = json.loads((tmp_path / "best.json").read_text())["smallest_change"]
    assert change["improvement"] >= 0.2 * LARGEST * 0.999
    assert sum(change["weights"].values()) == pytest.approx(1.0)
