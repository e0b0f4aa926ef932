"""Baselines: a list in the configuration, from which all comparisons follow."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from climb.config import load
from climb.errors import ConfigError, MixtureError
from climb.mixture import Constraints, FeasibleSet
from climb.search import Problem, SearchResult, SearchState, Trials, compare, recommend
from climb.search.baselines import (
    DEFAULT_BASELINES,
    DoremiMixture,
    FixedMixture,
    NaturalMixture,
    UniformMixture,
    build_baselines,
    count_replicates,
    needs_doremi,
)
from climb.search.rounds import sample_first_round
from climb.search.searchers.ucb import UCBSearcher
from climb.spark.training.search import plan_baselines
from climb.testing.predictors import BowlPredictor
from climb.testing.world import PlantedWorld

DOMAINS = ("a", "b", "c", "d")
TIGHT = FeasibleSet.from_constraints(
    DOMAINS, [1, 2, 3, 4], Constraints(target_tokens=6.0, max_epochs=1.0)
)
"""Caps are token shares / 0.6: 0.167, 0.333, 0.5 and 0.667."""

NATURAL = {"use": "climb.search.baselines:NaturalMixture", "name": "natural"}
OURS = {
    "use": "climb.search.baselines:FixedMixture",
    "name": "ours",
    "weights": {"d01": 0.2, "d00": 0.3, "d03": 0.5},
}
WORLD = PlantedWorld.build(4, 2, noise=0.1, seed=0)
OURS_K = np.array([0.3, 0.2, 0.0, 0.5])


def load_search(baselines):
    settings = {"trials_per_round": (12, 6), "candidates": 300}
    cfg = load().search.model_copy(update={**settings, "baselines": tuple(baselines)})
    return type(cfg).model_validate(cfg.model_dump())


DEFAULT_SPECS = load().search.baselines


def build_problem(specs, space=WORLD.space):
    problem = Problem.from_config(space, WORLD.objective, load_search(specs))
    return dataclasses.replace(problem, predictor=BowlPredictor(), searcher=UCBSearcher())


ROWS = WORLD.make_baseline_rows(3) + [
    WORLD.make_row(w_K, 0, "proposal", 0)
    for w_K in sample_first_round(12, build_problem(DEFAULT_SPECS))
]


@pytest.fixture(scope="module")
def recommendations():
    """One search with the default baselines, and the same search with a third one."""
    return [
        recommend(SearchState.from_trials(WORLD.make_trials(ROWS), build_problem(specs)))
        for specs in (DEFAULT_SPECS, (*DEFAULT_SPECS, OURS))
    ]


def test_the_default_configuration_lists_natural_and_uniform():
    assert build_baselines(DEFAULT_SPECS) == DEFAULT_BASELINES
    assert [baseline.name for baseline in DEFAULT_BASELINES] == ["natural", "uniform"]


def test_mixtures_of_baselines_are_the_nearest_feasible_ones():
    wide = FeasibleSet.from_constraints(
        DOMAINS, [1, 2, 3, 4], Constraints(target_tokens=1.0, max_epochs=100.0)
    )
    natural, uniform = NaturalMixture(name="natural"), UniformMixture(name="uniform")
    fixed = FixedMixture(name="ours", weights={"d": 3.0, "a": 1.0})
    np.testing.assert_allclose(natural.make_mixture(wide), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(uniform.make_mixture(wide), [0.25] * 4)
    np.testing.assert_allclose(fixed.make_mixture(wide), [0.25, 0.0, 0.0, 0.75])
    for baseline in (natural, uniform, fixed):
        assert TIGHT.contains(baseline.make_mixture(TIGHT))
    np.testing.assert_allclose(uniform.make_mixture(TIGHT), [1 / 6, *[5 / 18] * 3])
    # Both weights are cut to their caps; the rest goes to b and c by token share.
    np.testing.assert_allclose(fixed.make_mixture(TIGHT), [1 / 6, 1 / 15, 1 / 10, 2 / 3])


def test_every_baseline_is_planned_with_seeds_from_zero():
    cfg = load_search(
        [NATURAL, OURS | {"replicates": 4}, {**NATURAL, "name": "again", "replicates": None}]
    )
    problem = Problem.from_config(WORLD.space, None, cfg.model_copy(update={"replicates": 2}))
    study = SimpleNamespace(
        problem=problem,
        cfg=SimpleNamespace(search=problem.cfg),
        plan_trial=lambda round_, method, weights_K, seed: (round_, method, weights_K, seed),
    )
    plan = plan_baselines(study)
    assert [(round_, method, seed) for round_, method, _, seed in plan] == [
        (0, "natural", 0),
        (0, "natural", 1),
        (0, "ours", 0),
        (0, "ours", 1),
        (0, "ours", 2),
        (0, "ours", 3),
        (0, "again", 0),
        (0, "again", 1),
    ]
    mixtures_MK = np.stack([weights_K for _, _, weights_K, _ in plan])
    assert WORLD.space.contains(mixtures_MK).all()
    np.testing.assert_array_equal(mixtures_MK[2], WORLD.space.project(OURS_K))
    assert [count_replicates(baseline, 2) for baseline in problem.baselines] == [2, 4, 2]


def test_a_third_baseline_is_compared_with_and_changes_nothing_else(recommendations):
    default, third = recommendations
    assert [b.name for b in default.baselines] == ["natural", "uniform"]
    assert [b.name for b in third.baselines] == ["natural", "uniform", "ours"]
    ours = third.baselines[2]
    np.testing.assert_array_equal(ours.weights_K, WORLD.space.project(OURS_K))
    assert ours.gain.low < ours.gain.mean < ours.gain.high
    assert ours.gain.mean == pytest.approx(third.score_mean - ours.score_mean)
    np.testing.assert_array_equal(third.weights_K, default.weights_K)
    assert third.gain == default.gain
    for one, other in zip(third.baselines, default.baselines, strict=False):
        np.testing.assert_array_equal(one.weights_K, other.weights_K)
        assert one.gain == other.gain
        assert (one.score_mean, one.score_std) == pytest.approx(
            (other.score_mean, other.score_std), rel=1e-9
        )


def test_a_third_baseline_is_in_the_search_result(recommendations):
    results = []
    for specs, recommendation in zip(
        (DEFAULT_SPECS, (*DEFAULT_SPECS, OURS)), recommendations, strict=True
    ):
        state = SearchState.from_trials(WORLD.make_trials(ROWS), build_problem(specs))
        results.append(SearchResult.build(state, recommendation))
    default, third = results
    assert third.baselines == ("natural", "uniform", "ours")
    assert [m.name for m in third.mixtures] == ["recommended", "natural", "uniform", "ours"]
    expected_K = WORLD.space.project(OURS_K).tolist()
    assert third.mixtures[3].weights == dict(zip(WORLD.space.domains, expected_K, strict=True))
    assert third.predicted_gains["ours"] == recommendations[1].baselines[2].gain
    assert list(third.gains) == ["natural", "uniform", "ours"]
    changed = {"mixtures", "predicted_gains", "effects"}
    assert third.model_dump(exclude=changed) == default.model_dump(exclude=changed)
    for one, other in zip(third.mixtures, default.mixtures, strict=False):
        assert (one.weights, one.epochs) == (other.weights, other.epochs)
    # Predictions of batches of different sizes differ by rounding.
    effects = [recommendation.effects for recommendation in recommendations]
    np.testing.assert_allclose(effects[1].std_KQ, effects[0].std_KQ, rtol=1e-9)
    np.testing.assert_array_equal(effects[1].mean_KQ, effects[0].mean_KQ)


def test_a_third_baseline_is_measured_by_its_name():
    space, rows = WORLD.space, []
    for method, weights_K in (("recommended", WORLD.best_K), ("ours", space.project(OURS_K))):
        rows += [WORLD.make_row(weights_K, 0, method, seed) for seed in range(3)]
    gain = compare(WORLD.make_trials(rows), WORLD.objective, "recommended", "ours")
    assert gain.n_pairs == 3
    assert gain.mean > 0.0


def test_the_first_baseline_is_the_reference_of_the_verdict():
    problem = build_problem((OURS, NATURAL))
    state = SearchState.from_trials(WORLD.make_trials(ROWS), problem)
    recommendation = recommend(state)
    result = SearchResult.build(state, recommendation)
    assert result.baselines == ("ours", "natural")
    assert recommendation.gain == recommendation.baselines[0].gain == result.gains["ours"]
    assert recommendation.gain != recommendation.baselines[1].gain
    assert recommendation.verdict == result.verdict == result.gains["ours"].verdict


def test_baselines_do_not_depend_on_the_order_of_domains(recommendations):
    order = [2, 0, 3, 1]
    problem = build_problem((*DEFAULT_SPECS, OURS), WORLD.space.reorder_domains(order))
    np.testing.assert_array_equal(problem.make_baselines()[2], WORLD.space.project(OURS_K)[order])
    trials = Trials.from_rows(ROWS, problem.space.domains, WORLD.metric_names)
    permuted = recommend(SearchState.from_trials(trials, problem))
    for one, other in zip(permuted.baselines, recommendations[1].baselines, strict=True):
        np.testing.assert_array_equal(one.weights_K, other.weights_K[order])
        assert (one.name, one.gain) == (other.name, other.gain)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([NATURAL, OURS | {"name": "natural"}], "the name 'natural' is used twice; choose another"),
        ([NATURAL | {"name": "recommended"}], "the name 'recommended' is reserved; choose another"),
        ([NATURAL | {"name": "proposal"}], "the name 'proposal' is reserved; choose another"),
        ([NATURAL | {"name": "reused"}], "the name 'reused' is reserved; choose another"),
        (
            [NATURAL, OURS | {"replicates": 1}],
            "search.baselines 'ours': replicates is 1; an interval needs at least 2",
        ),
        ([NATURAL | {"replicates": 0}], "'natural': replicates is 0; an interval needs at least 2"),
        ([NATURAL | {"weights": {"d00": 1.0}}], "NaturalMixture' has no field 'weights'"),
        (
            [NATURAL | {"name": "tokens"}],
            "'tokens': the name 'natural' is for a NaturalMixture",
        ),
        (
            [{"use": "climb.search.baselines:UniformMixture", "name": "natural"}],
            "'natural': the name 'natural' is for a NaturalMixture",
        ),
        ([{"use": NATURAL["use"]}], "NaturalMixture': name: "),
        (
            [{"use": "climb.predictor.ridge:RidgePredictor"}],
            "RidgePredictor' has no make_mixture, name, replicates, which a Baseline must have",
        ),
    ],
)
def test_an_invalid_list_of_baselines_is_refused_with_the_reason(specs, message):
    with pytest.raises(ConfigError) as caught:
        Problem.from_config(WORLD.space, None, load_search(specs))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_without_baselines_is_refused():
    with pytest.raises(ValueError, match="baselines"):
        load_search([])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"web": 0.5, "a": 0.5},
            r"unknown domains \['web'\]; the domains are \['a', 'b', 'c', 'd'\]",
        ),
        ({"a": -0.5, "b": 1.5}, "negative"),
        ({"a": 0.0}, "all zeros"),
        ({}, "all zeros"),
    ],
    ids=["unknown domain", "negative", "zero", "empty"],
)
def test_invalid_weights_of_a_fixed_mixture_are_refused_with_its_name(weights, message):
    with pytest.raises(MixtureError, match=f"search.baselines 'ours': .*{message}"):
        FixedMixture(name="ours", weights=weights).make_mixture(TIGHT)


DOREMI = {"use": "climb.search.baselines:DoremiMixture", "name": "doremi", "replicates": 4}


def test_doremi_becomes_a_fixed_mixture_once_its_models_are_trained():
    [_, doremi] = build_baselines([NATURAL, DOREMI])
    fixed = doremi.fix({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4})
    assert (fixed.name, fixed.replicates) == ("doremi", 4)
    np.testing.assert_allclose(fixed.make_mixture(TIGHT), [0.1, 0.2, 0.3, 0.4], rtol=1e-9)


def test_without_trained_models_doremi_has_no_mixture_and_says_what_to_do():
    with pytest.raises(MixtureError, match=r"'doremi': .* only `climb search` .* FixedMixture"):
        DoremiMixture(name="doremi").make_mixture(TIGHT)


def test_only_a_list_with_doremi_needs_its_models():
    assert needs_doremi([NATURAL, DOREMI])
    assert not needs_doremi(DEFAULT_SPECS)
