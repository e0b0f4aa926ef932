"""The search result: what it records, and that its JSON is read back in full or not at all."""

import dataclasses
import json

import numpy as np
import pytest

from climb.config import load
from climb.errors import TableError
from climb.predictor import Predict
from climb.search import Gain, Problem, SearchResult, SearchState, propose, recommend
from climb.search.records import PlannedRecord
from climb.search.result import VERSION, measure_quality_by_round
from climb.search.reuse import ReuseSummary
from climb.search.rounds import sample_first_round
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.predictors import BowlPredictor
from climb.testing.world import PlantedWorld

WORLD = PlantedWorld.build(4, 2, noise=0.1, seed=0)
METRICS = WORLD.metric_names
CFG = load(
    settings=["search.trials_per_round=[12,8,6]", "search.candidates=300", "search.seed=1"]
).search


def build_problem(predictor=None):
    searcher = UCBSearcher(shortlist=60)
    return Problem(WORLD.space, WORLD.objective, predictor or BowlPredictor(), searcher, CFG)


def build_state(rows, problem=None):
    return SearchState.from_trials(WORLD.make_trials(rows), problem or build_problem())


def build_result(rows):
    state = build_state(rows)
    return SearchResult.build(state, recommend(state))


@pytest.fixture(scope="module")
def state():
    """The state after a whole search of three rounds."""
    rows = WORLD.make_baseline_rows(3)
    for round_ in range(3):
        proposed_MK = propose(WORLD.make_trials(rows), round_, build_problem())
        rows += [WORLD.make_row(w, round_, "proposal", 0) for w in proposed_MK]
    return build_state(rows)


@pytest.fixture(scope="module")
def recommendation(state):
    return recommend(state)


@pytest.fixture(scope="module")
def result(state, recommendation):
    return SearchResult.build(
        state,
        recommendation,
        search="default",
        measured_gains={"natural": Gain(0.2, 0.1, 0.3, 0.99, n_pairs=3)},
        n_failed=1,
        plan=(PlannedRecord(trial_id="0a", round=0, method="natural", seed=2),),
        reuse=ReuseSummary(2, 1, kept_mean=0.9, kept_min=0.8, tv_distance_mean=0.2),
        read_versions={"domains": 3, "shards": None},
    )


@pytest.fixture(scope="module")
def first_round():
    """Rows of one round, without replicates."""
    return [WORLD.make_row(w, 0, "proposal", 0) for w in sample_first_round(12, build_problem())]


def test_it_records_every_mixture_with_weights_epochs_and_score(result, recommendation):
    assert [mixture.name for mixture in result.mixtures] == ["recommended", "natural", "uniform"]
    assert result.baselines == ("natural", "uniform")
    assert result.domains == recommendation.domains == WORLD.space.domains
    for mixture, own in zip(
        result.mixtures, (recommendation, *recommendation.baselines), strict=True
    ):
        np.testing.assert_array_equal(list(mixture.weights.values()), own.weights_K)
        epochs_K = own.weights_K * CFG.target_tokens / WORLD.space.tokens_K
        assert list(mixture.weights) == list(mixture.epochs) == list(WORLD.space.domains)
        np.testing.assert_allclose(list(mixture.epochs.values()), epochs_K)
        assert (mixture.score, mixture.score_std) == (own.score_mean, own.score_std)
    assert result.recommended is result.mixtures[0]


def test_it_records_calibration_effects_noise_and_the_further_round(result, recommendation):
    score, calibration = (
        recommendation.validation.score,
        recommendation.validation.score.calibration,
    )
    assert [pair.predicted for pair in result.calibration.scores] == score.predicted_D.tolist()
    assert [pair.measured for pair in result.calibration.scores] == score.measured_D.tolist()
    assert len(result.calibration.scores) == recommendation.n_mixtures == result.n_mixtures
    assert (result.calibration.center, result.calibration.slope) == (
        calibration.center,
        calibration.slope,
    )
    assert result.calibration.slope_std == calibration.slope_std
    assert result.calibration.inflation == calibration.inflation.level
    assert result.calibration.inflation_trend == calibration.inflation.trend
    effects = recommendation.effects
    assert result.effects.step == 0.01
    assert tuple(result.effects.domains) == effects.domains
    for k, by_metric in enumerate(result.effects.domains.values()):
        assert tuple(by_metric) == ("score", *effects.metric_names)
        assert by_metric["score"].mean == effects.score_K[k]
        assert by_metric["score"].std == effects.score_std_K[k]
        for q, name in enumerate(effects.metric_names):
            assert by_metric[name].mean == effects.mean_KQ[k, q]
            assert by_metric[name].std == effects.std_KQ[k, q]
    assert result.effects.trade_offs == effects.trade_offs
    assert result.further_round == recommendation.further_round
    assert result.further_round.n_trials == 6
    ratios = recommendation.signal_to_noise
    expected = dict(zip(ratios.metric_names, ratios.ratio_Q.tolist(), strict=True))
    assert dict(result.signal_to_noise) == expected
    assert result.low_signal_metrics == ()
    assert dict(result.noise) == dict(zip(METRICS, recommendation.noise_Q.tolist(), strict=True))
    assert result.metric_weights == {"task0.bpb": -0.5, "task1.bpb": -0.5}
    assert result.objective == "mean(*.bpb):min"
    assert result.n_trials == recommendation.n_trials == 32


def test_a_measured_gain_replaces_the_predicted_one(result, recommendation):
    predicted = {baseline.name: baseline.gain for baseline in recommendation.baselines}
    assert result.predicted_gains == predicted
    assert result.gains == {
        "natural": Gain(0.2, 0.1, 0.3, 0.99, n_pairs=3),
        "uniform": predicted["uniform"],
    }
    assert result.verdict == "gain"
    alone = result.model_copy(update={"measured_gains": {}})
    assert alone.gains == predicted
    assert alone.verdict == recommendation.verdict == "no gain found"


def test_it_shows_the_quality_of_the_predictor_after_each_round(state, recommendation, result):
    assert result.quality == measure_quality_by_round(state, recommendation)
    assert [one.round for one in result.quality] == [0, 1, 2]
    assert [one.n_trials for one in result.quality] == [18, 26, 32]
    assert result.quality[2].spearman == pytest.approx(recommendation.quality)
    before = SearchState.from_trials(state.trials.select_before(2), build_problem())
    assert result.quality[1].spearman == pytest.approx(recommend(before).quality)
    assert result.last_spearman == recommendation.quality["score"]


def test_rounds_with_too_few_mixtures_have_no_quality(first_round):
    rows = [WORLD.make_row(w, 0, "proposal", 0) for w in np.eye(4)[:2]]
    rows += [row | {"round": 1} for row in first_round]
    state = build_state(rows)
    quality = measure_quality_by_round(state, recommend(state))
    assert [one.round for one in quality] == [1]
    assert quality[0].n_trials == 14


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingPredictor(BowlPredictor):
    """Records the number of mixtures of every fit."""

    fits: list[int] = dataclasses.field(default_factory=list)

    def fit(self, weights_TK, values_T, noise_T) -> Predict:
        self.fits.append(len(weights_TK))
        return super().fit(weights_TK, values_T, noise_T)


def test_only_earlier_rounds_are_fitted_for_the_quality(first_round):
    predictor = CountingPredictor()
    second = [
        WORLD.make_row(w, 1, "proposal", 0)
        for w in WORLD.space.project(np.random.default_rng(0).dirichlet(np.ones(4), size=5))
    ]
    state = build_state(first_round + second, build_problem(predictor))
    recommendation = recommend(state)
    n_before = len(predictor.fits)
    measure_quality_by_round(state, recommendation)
    n_metrics, n_folds = 2, 5
    assert len(predictor.fits) - n_before == n_metrics * (1 + n_folds)
    assert max(predictor.fits[n_before:]) == 12


def test_noisy_metrics_are_named_and_unknown_values_are_null(first_round):
    single = build_result(first_round)
    unknown = dict.fromkeys(METRICS)
    assert single.signal_to_noise == single.noise == unknown
    assert single.low_signal_metrics == ()
    random = np.random.default_rng(0)
    noisy = [row | {"seed": 1} for row in first_round]
    for i, row in enumerate(noisy):
        metrics = {name: value + 3.0 * random.normal() for name, value in row["metrics"].items()}
        noisy[i] = row | {"metrics": metrics}
    replicated = build_result(first_round + noisy)
    assert set(replicated.low_signal_metrics) == set(METRICS)
    assert all(0.0 <= x < CFG.min_signal_to_noise for x in replicated.signal_to_noise.values())
    exact = build_result([*first_round, *(row | {"seed": 1} for row in first_round)])
    assert exact.signal_to_noise == unknown  # without differences between seeds it is infinite
    assert exact.noise == dict.fromkeys(METRICS, 0.0)
    assert '"noise":{"task0.bpb":null,"task1.bpb":null}' in single.model_dump_json()


@dataclasses.dataclass(frozen=True)
class ExportableBowl:
    """A fitted bowl that exports one parameter."""

    predict: Predict

    def __call__(self, weights_MK):
        return self.predict(weights_MK)

    def export(self):
        return {"kind": "bowl", "values": [1.0, 0.1]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportablePredictor(BowlPredictor):
    """Fits bowls that can be exported."""

    def fit(self, weights_TK, values_T, noise_T) -> Predict:
        return ExportableBowl(super().fit(weights_TK, values_T, noise_T))


def test_the_parameters_of_predictors_that_export_them_are_recorded(result, first_round):
    assert result.parameters == {name: {} for name in METRICS}
    state = build_state(first_round, build_problem(ExportablePredictor()))
    exported = SearchResult.build(state, recommend(state))
    parameters = {"kind": "bowl", "values": [1.0, 0.1]}
    assert exported.parameters == {name: parameters for name in METRICS}
    assert SearchResult.from_json(exported.model_dump_json(), "file x") == exported


def test_its_json_is_strict_and_reads_back_as_an_equal_result(result, first_round):
    for own in (result, build_result(first_round)):
        text = own.model_dump_json()
        assert json.loads(json.dumps(json.loads(text), allow_nan=False)) == json.loads(text)
        again = SearchResult.from_json(text, "table mixtures, search 'default'")
        assert again == own
        assert again.model_dump_json() == text


FIELDS = (
    *((name,) for name in SearchResult.model_fields),
    ("mixtures", 0, "name"),
    ("mixtures", 0, "score_std"),
    ("predicted_gains", "uniform", "low"),
    ("measured_gains", "natural", "n_pairs"),
    ("calibration", "slope_std"),
    ("calibration", "scores", 0, "measured"),
    ("quality", 0, "spearman"),
    ("effects", "trade_offs"),
    ("effects", "domains", "d00", "score", "std"),
    ("further_round", "expected_gain"),
    ("plan", 0, "seed"),
    ("reuse", "kept_min"),
)
"""Paths of all fields of a result, and of one field of every part."""


def change(result, path, edit):
    """Return the JSON of a result with the record at `path[:-1]` edited."""
    values = json.loads(result.model_dump_json())
    record = values
    for key in path[:-1]:
        record = record[key]
    edit(record, path[-1])
    return json.dumps(values)


def remove(record, name):
    del record[name]


def rename(record, name):
    record[f"{name}_renamed"] = record.pop(name)


def add(record, name):
    record[f"{name}_extra"] = 1


def assert_refused(text, field):
    with pytest.raises(TableError) as caught:
        SearchResult.from_json(text, "table mixtures, search 'default'")
    message = str(caught.value)
    assert message.startswith("table mixtures, search 'default': the search result cannot be read")
    assert f"({field}: " in message
    assert "run `climb search` again" in message


def test_every_missing_renamed_or_extra_field_is_refused_by_name(result):
    for path in FIELDS:
        field = ".".join(map(str, path))
        assert_refused(change(result, path, remove), field)
        with pytest.raises(TableError, match=rf"\({field}(_renamed)?: "):
            SearchResult.from_json(change(result, path, rename), "file x")
        assert_refused(change(result, path, add), f"{field}_extra")


def test_a_record_of_another_version_and_a_text_that_is_no_record_are_refused(result):
    def replace(record, name):
        record[name] = VERSION + 1

    assert_refused(change(result, ("version",), replace), "version")
    assert_refused("", "the whole record")
    assert_refused("[]", "the whole record")


def test_records_are_frozen(result):
    with pytest.raises(ValueError, match="frozen"):
        result.n_trials = 1
    with pytest.raises(ValueError, match="frozen"):
        result.recommended.score = 1.0
