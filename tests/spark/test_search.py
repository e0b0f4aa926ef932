"""The search over tables: what is trained, what is recorded, and what a failure costs."""

import json

import numpy as np
import pytest
from climb.jobs import search, train
from planted_search import BEST, NATURAL, open_store, read_mixtures, settings

from climb import tables
from climb.config.sections import TargetTask
from climb.errors import ClimbError, ConfigError, InfrastructureError, SearchError, TableError
from climb.files import is_complete
from climb.spark.results.report import read_result
from climb.spark.training.search import refuse_other_settings
from climb.spark.training.setup import build_trial_setup
from climb.testing.proxies import PlantedProxy

FINISHED = 2 * 2 + 6 + 4 + 2
"""Trials of the search below: baselines, two rounds, replicates of the recommendation."""


@pytest.fixture(scope="module")
def searched(spark, tmp_path_factory):
    """A search that nothing disturbed: store, configuration, and what the job said."""
    root = tmp_path_factory.mktemp("searched")
    cfg = settings(root)
    store = open_store(spark, root, cfg)
    return store, cfg, search.run(store, cfg)


def test_the_recommendation_is_near_the_planted_mixture_and_its_gain_is_measured(searched):
    store, _, said = searched
    rows = read_mixtures(store)
    assert set(rows) == {"recommended", "natural", "uniform"}
    proxy = PlantedProxy(best=BEST)
    left, lost = (proxy.predict_bpb(rows[m]["weights"]) - 1.0 for m in ("recommended", "natural"))
    assert left < lost / 5
    assert rows["recommended"]["verdict"] == "gain"
    gain = rows["recommended"]["gains"]["natural"]
    assert gain["low"] > 0.0
    assert gain["n_pairs"] == 2
    # The interval contains the true gain; the noise of two seeds is 0.002.
    assert gain["mean"] == pytest.approx(lost - left, abs=0.01)
    assert said.startswith(f"{FINISHED} trials trained, 0 already recorded; gain: ")
    assert sum(rows["recommended"]["weights"].values()) == pytest.approx(1.0)
    assert max(rows["recommended"]["epochs"].values()) <= 8.0 + 1e-9


def test_every_trial_is_a_row_and_continues_the_one_base(searched):
    store, cfg, _ = searched
    rows = store.read_rows(tables.TRIALS)
    assert [row["status"] for row in rows] == ["finished"] * FINISHED
    methods = [row["method"] for row in rows]
    assert {m: methods.count(m) for m in methods} == {
        "natural": 2, "uniform": 2, "proposal": 10, "recommended": 2,
    }  # fmt: skip
    [base] = store.locate_file("models").glob("proxies/base-*")
    assert is_complete(base)
    setup = build_trial_setup(store, cfg)
    for run in (setup.build_base_run(), setup.build_run(NATURAL, 0)):
        assert run.local_copies == cfg.storage.local_copies


def test_paths_of_items_become_absolute_since_executors_have_other_folders(
    searched, tmp_path, monkeypatch
):
    store, cfg, _ = searched
    item = {"context": "a", "choices": [" yes", " no"], "label": 0}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    monkeypatch.chdir(tmp_path)
    fields = {"name": "quiz", "kind": "choices", "search": "items.jsonl"}
    target = TargetTask(**fields, report=None, limit=None)
    proxy = cfg.proxy.model_copy(update={"targets": (target,)})
    setup = build_trial_setup(store, cfg.model_copy(update={"proxy": proxy}))
    assert [target.path for target in setup.targets] == [str(tmp_path / "items.jsonl")]


def test_a_search_whose_result_was_lost_trains_nothing_again(searched):
    store, cfg, _ = searched
    before, trials = read_mixtures(store), store.history.read_version(tables.TRIALS)
    assert search.run(store, cfg) == "the recommendation is up to date"
    rows = store.create_frame([], tables.MIXTURES)
    store.replace(rows, tables.MIXTURES, {}, "search = 'default'")
    said = search.run(store, cfg)
    assert said.startswith(f"0 trials trained, {FINISHED} already recorded")
    assert read_mixtures(store) == before
    assert store.history.read_version(tables.TRIALS) == trials


def test_another_search_of_the_same_name_is_refused_with_both_settings(searched):
    store, cfg, _ = searched
    before = store.history.read_version(tables.MIXTURES)
    other = cfg.model_copy(update={"search": cfg.search.model_copy(update={"max_epochs": 2.0})})
    line = (
        r"^search\.name: table mixtures has the result of search 'default' with "
        r"search\.max_epochs 8\.0, and the configuration says 2\.0; give this search another "
    )
    with pytest.raises(ConfigError, match=line):
        search.run(store, other)
    assert store.history.read_version(tables.MIXTURES) == before


def test_a_search_of_the_same_name_may_be_extended():
    earlier = {"name": "default", "trials_per_round": [6], "replicates": 2, "candidates": 300}
    longer = earlier | {"trials_per_round": [6, 4], "replicates": 5}
    now = {"read": {}, "settings": {"search": longer}}
    refuse_other_settings({"read": {}, "settings": {"search": earlier}}, now)
    refuse_other_settings({"read": {}, "settings": {}}, now)
    refuse_other_settings(None, now)


def test_the_larger_model_is_trained_once_per_mixture_and_seed(searched):
    store, cfg, _ = searched
    assert train.run(store, cfg) == "6 models trained and measured, 0 already recorded"
    rows = store.read_rows(tables.EVALUATIONS)
    assert {(row["method"], row["seed"]) for row in rows} == {
        (method, seed) for method in ("recommended", "natural", "uniform") for seed in (0, 1)
    }
    version = store.history.read_version(tables.EVALUATIONS)
    assert train.run(store, cfg) == "0 models trained and measured, 6 already recorded"
    assert store.history.read_version(tables.EVALUATIONS) == version


@pytest.mark.slow
def test_a_search_that_stops_early_with_scaled_metrics_stays_as_it_is_when_run_again(
    spark, tmp_path
):
    cfg = settings(tmp_path)
    scaled = {"scale": "noise", "min_expected_gain": 1e9}
    cfg = cfg.model_copy(update={"search": cfg.search.model_copy(update=scaled)})
    store = open_store(spark, tmp_path, cfg)
    assert search.run(store, cfg).startswith(
        "12 trials trained, 0 already recorded"
    )  # the second round not
    rows, before = store.read_rows(tables.TRIALS), read_mixtures(store)
    assert {row["round"] for row in rows if row["method"] == "recommended"} == {1}
    result = read_result(store, "default")
    repeats = {"natural": [], "uniform": []}
    for row in rows:
        if row["method"] in repeats:
            repeats[row["method"]].append(row["metrics"]["quiz.bpb"])
    noise = np.sqrt(np.mean([np.var(values, ddof=1) for values in repeats.values()]))
    assert result.metric_weights["quiz.bpb"] == pytest.approx(-1.0 / noise)
    store.replace(
        store.create_frame([], tables.MIXTURES), tables.MIXTURES, {}, "search = 'default'"
    )
    assert search.run(store, cfg).startswith("0 trials trained, 12 already recorded")
    assert read_mixtures(store) == before


def test_a_proxy_that_diverges_is_a_failed_trial_and_the_search_goes_on(spark, tmp_path):
    cfg = settings(tmp_path, nan_when_above={"code": 0.6})
    store = open_store(spark, tmp_path, cfg)
    said = search.run(store, cfg)
    rows = store.read_rows(tables.TRIALS)
    failed = [row for row in rows if row["status"] == "failed"]
    assert 0 < len(failed) < len(rows)
    for row in failed:
        assert row["weights"]["code"] > 0.6
        assert row["error"].startswith("the loss is nan at step 1 of 1: code has weight")
        assert row["metrics"] == {}
    assert read_result(store, "default").n_failed == len(failed)
    assert "gain" in said


def test_when_every_proxy_fails_the_error_tells_the_first_reason(spark, tmp_path):
    cfg = settings(tmp_path, fault="nan")
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(SearchError, match=r"all 10 trials failed; the first: the loss is nan"):
        search.run(store, cfg)
    assert {row["status"] for row in store.read_rows(tables.TRIALS)} == {"failed"}
    assert not store.exists(tables.MIXTURES)


def test_a_search_without_targets_or_with_other_domains_says_what_to_do(spark, tmp_path):
    cfg = settings(tmp_path)
    store = open_store(spark, tmp_path, cfg)
    none = cfg.model_copy(update={"proxy": cfg.proxy.model_copy(update={"targets": ()})})
    with pytest.raises(ConfigError, match=r"proxy\.targets is empty"):
        search.run(store, none)
    store.replace(store.read(tables.SHARDS).where("domain != 'law'"), tables.SHARDS, {})
    with pytest.raises(TableError, match=r"but the domains are .*'law'.*run `climb pack` first"):
        search.run(store, cfg)


def test_running_out_of_memory_is_recorded_after_a_second_try_alone(spark, tmp_path, capsys):
    cfg = settings(tmp_path, fault="memory")
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(SearchError, match=r"all 10 trials failed; the first: .*out of memory"):
        search.run(store, cfg)
    rows = store.read_rows(tables.TRIALS)
    assert {row["status"] for row in rows} == {"failed"}
    assert all("out of memory (no other run was active)" in row["error"] for row in rows)
    assert "10 runs ran out of memory; repeating them one at a time" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["exit", "mount"])
def test_lost_workers_and_mounts_are_not_recorded(spark, tmp_path, fault):
    cfg = settings(tmp_path, fault=fault)
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(
        InfrastructureError,
        match="10 of 10 trials are not recorded, because their workers were lost",
    ):
        search.run(store, cfg)
    assert not store.exists(tables.TRIALS)


def test_a_programming_error_stops_the_search_with_the_traceback_of_the_worker(spark, tmp_path):
    cfg = settings(tmp_path, fault="bug")
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(RuntimeError, match="a programming error in the proxy") as error:
        search.run(store, cfg)
    assert not isinstance(error.value, ClimbError)
    assert "in _raise_fault" in str(error.value)
    assert not store.exists(tables.TRIALS)
