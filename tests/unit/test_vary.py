"""Predictors side by side: the same trials, held-out errors, and their recommendations."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from small_search import small_search

from climb import tables
from climb.cli.compare import compare
from climb.config import load
from climb.config.sections import SearchConfig
from climb.errors import ConfigError
from climb.search import Problem
from climb.search.reuse import ReusableRuns
from climb.search.trials import RECOMMENDED
from climb.search.vary import KEYS, format_fits, format_fits_csv, vary_fits
from climb.spark.results import vary
from climb.spark.training.study import Study

KEY = "search.predictor"
SETTINGS = (
    "search.candidates=200",
    "search.target_tokens=200_000_000",
    "search.trials_per_round=[10, 5]",
    'compare.values={search.predictor: {law: {use: "climb.predictor.powerlaw:PowerLawPredictor"}, '
    'ridge: {use: "climb.predictor.ridge:RidgePredictor"}}}',
)


@pytest.fixture(scope="module")
def fits():
    search, cfg = small_search(), load(settings=SETTINGS)
    trials = search.world.make_trials([r for r in search.rows if r["status"] == "finished"])
    problem = Problem.from_config(search.world.space, search.world.objective, cfg.search)
    return vary_fits(trials, problem, cfg, KEY), search


def test_every_value_is_fitted_to_the_same_trials_and_recommends_a_mixture(fits):
    found, search = fits
    assert [fit.name for fit in found] == ["law", "ridge"]
    for fit in found:
        assert set(fit.weights) == set(search.world.space.domains)
        assert sum(fit.weights.values()) == pytest.approx(1.0)
        assert -1.0 <= fit.spearman["score"] <= 1.0
    assert found[0].weights != found[1].weights


def test_held_out_errors_are_a_share_of_the_standard_deviation_of_the_scores(fits):
    """A fit that knows nothing has 1; both know the planted losses, but not exactly."""
    for fit in fits[0]:
        assert 0.05 < fit.error < 0.5
        assert fit.spearman["score"] > 0.9


def test_a_recommendation_is_judged_by_the_other_values(fits):
    """In the planted world, the law's own mixture is better than natural for the line too."""
    law, ridge = fits[0]
    assert np.isfinite([law.judged, ridge.judged]).all()
    assert law.judged > 0.0


def test_a_value_predicts_for_others_as_it_does_for_itself(fits):
    """Two names of one value recommend the same, so each gain is judged by its own fit."""
    _, search = fits
    law = '{use: "climb.predictor.powerlaw:PowerLawPredictor"}'
    values = f"compare.values={{search.predictor: {{a: {law}, b: {law}}}}}"
    cfg = load(settings=(*SETTINGS[:-1], values))
    trials = search.world.make_trials([r for r in search.rows if r["status"] == "finished"])
    problem = Problem.from_config(search.world.space, search.world.objective, cfg.search)
    for fit in vary_fits(trials, problem, cfg, KEY):
        assert fit.judged == pytest.approx(fit.gain.mean, rel=1e-12)


def test_the_table_and_the_csv_file_have_a_row_per_value(fits):
    found, search = fits
    assert len(format_fits(found).splitlines()) == 2 + 2
    rows = list(csv.DictReader(io.StringIO(format_fits_csv(found))))
    assert [row["fit"] for row in rows] == ["law", "ridge"]
    domain = search.world.space.domains[0]
    assert float(rows[0][f"weight.{domain}"]) == pytest.approx(found[0].weights[domain])


def test_the_default_lists_the_family_of_the_paper_beside_the_others():
    values = load().compare.values[KEY]
    assert list(values)[:4] == ["default", "stack", "xgboost", "lightgbm"]


@pytest.mark.parametrize(
    "key", ["proxy.model", "search.max_epochs", "search.scale", "search.objective", "search"]
)
def test_a_key_that_changes_no_fit_of_recorded_trials_is_refused(key):
    with pytest.raises(ConfigError, match=f"vary is '{key}', but only the keys predictor, search"):
        vary_fits(None, None, load(), key)


def test_every_key_that_can_be_varied_is_a_key_of_section_search():
    assert set(KEYS) < SearchConfig.model_fields.keys()


def test_a_dry_run_with_vary_is_refused_because_nothing_would_be_trained():
    done = CliRunner().invoke(compare, ["--vary", KEY, "--dry-run"])
    assert done.exit_code == 2
    assert "--vary trains nothing: leave out --dry-run" in done.output


RUNG = 50_000
RIDGE = 'compare.values={search.predictor: {ridge: {use: "climb.predictor.ridge:RidgePredictor"}}}'
DOREMI = {"use": "climb.search.baselines:DoremiMixture", "name": "doremi"}
NATURAL = {"use": "climb.search.baselines:NaturalMixture", "name": "natural"}


@pytest.fixture
def run_vary(monkeypatch, tmp_path):
    """Fit the trials of the small search over tables; all but the failed one reached a rung."""
    search = small_search()

    def run(result, *settings):
        def read_rows(table, **_):
            if table == tables.TRIALS:
                stopped = {p.trial_id for p in result.plan if p.stopped_at is not None}
                return [row for row in search.rows if row["trial_id"] not in stopped]
            return [
                row
                | {"n_tokens": RUNG}
                | {"metrics": {name: v + i % 3 / 50 for name, v in row["metrics"].items()}}
                for i, row in enumerate(search.rows)
                if row["status"] == "finished"
            ]

        store = SimpleNamespace(
            exists=lambda _: True, read_rows=read_rows, locate_file=lambda _: tmp_path
        )
        cfg = load(settings=[*SETTINGS[:-1], RIDGE, *settings])
        problem = Problem.from_config(search.world.space, None, cfg.search)
        setup = SimpleNamespace(n_tokens=4 * RUNG)
        study = Study(store, cfg, setup, problem, ReusableRuns(), {})
        monkeypatch.setattr(vary, "open_study", lambda *_: study)
        monkeypatch.setattr(vary, "read_result", lambda *_: result)
        return vary.run_vary(store, cfg, KEY)

    return run


@pytest.mark.parametrize("are_stopped", [False, True])
def test_the_fits_have_the_trials_of_the_search_stopped_ones_included(run_vary, are_stopped):
    """The replicates of the recommendation are not among them. Other settings change nothing."""
    result = small_search().result
    assert sum(part.method == RECOMMENDED for part in result.plan) == 3
    if are_stopped:
        plan = [
            p.model_copy(update={"stopped_at": RUNG if p.method == "proposal" else None})
            for p in result.plan
        ]
        result = result.model_copy(update={"plan": tuple(plan)})
    text = run_vary(result, "search.halving=[]")
    assert f"fitted to {result.n_trials} trials of search 'default'" in text
    assert run_vary(result, "search.halving=[{share: 0.25, keep: 0.4}]") == text


def test_the_mixture_of_doremi_comes_from_the_result_and_nothing_is_trained(run_vary):
    result = small_search().result
    doremi = result.mixtures[2].model_copy(update={"name": "doremi"})
    result = result.model_copy(update={"mixtures": (*result.mixtures, doremi)})
    baselines = f"search.baselines={json.dumps([NATURAL, DOREMI])}"
    assert "1 values of search.predictor fitted" in run_vary(result, baselines)
