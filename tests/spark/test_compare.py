"""Comparisons over tables: equal budgets, shared trials and models, resume, and what is written."""

import csv
import io
from functools import partial

import pytest
from climb.jobs import ablate, compare, train
from killed import Killed, drop_times, kill_after
from planted_search import BEST, open_store, settings

from climb import tables
from climb.config import change
from climb.search.comparison import plan_ablation, plan_comparison
from climb.spark.training.compare import OWN_JOBS, Trainer
from climb.testing.proxies import PlantedProxy

BUDGET = 14
SECTION = {
    "name": "small",
    "budget": BUDGET,
    "seeds": 2,
    "methods": dict.fromkeys(("best-of-random", "nvidia", "climb-published", "doremi")),
}
"""Without DoReMi, which cannot train planted proxies."""


def configure(root):
    """Four methods: two fixed mixtures, RegMix and the default, with two seeds."""
    regmix = {"predictor": {"use": "climb.predictor.ridge:RidgePredictor"}}
    section = SECTION | {"methods": SECTION["methods"] | {"regmix": {"search": regmix}}}
    return change(settings(root, noise=0.01), {"compare": section}, "the test")


def test_mixtures_without_a_search_are_compared_on_target_models_alone(spark, tmp_path):
    cfg = settings(tmp_path, noise=0.01)
    methods = dict.fromkeys(cfg.compare.methods.keys() - {"uniform"})
    fixed = {"use": "climb.search.baselines:FixedMixture", "weights": BEST}
    methods["best"] = {"mixture": fixed}
    changed = {"compare": {"name": "fixed", "seeds": 2, "methods": methods}}
    cfg = change(cfg, changed, "the test")
    store = open_store(spark, tmp_path, cfg)
    text = compare.run(store, cfg)
    assert text.startswith("fixed: 0 trials paid for, 0 of them shared")
    cells = read_cells(store)
    assert (cells["best"]["place"], cells["best"]["n_trials"]) == (1, 0)
    uniform = PlantedProxy(best=BEST).predict_bpb(dict.fromkeys(BEST, 0.25))
    assert cells["uniform"]["mean"] == pytest.approx(-uniform, abs=0.02)
    assert cells["best"]["gains"]["uniform"]["n_pairs"] == 2
    assert not store.exists(tables.TRIALS)
    assert compare.run(store, cfg).startswith("fixed is up to date: ")
    other = change(cfg, {"doremi": {"step_size": 0.5}}, "the test")  # plug-ins may read it
    assert compare.run(store, other).startswith("fixed: ")


@pytest.fixture(scope="module")
def compared(spark, tmp_path_factory):
    """A comparison that nothing disturbed: store, configuration, and what the job returned."""
    root = tmp_path_factory.mktemp("compared")
    cfg = configure(root)
    store = open_store(spark, root, cfg)
    return store, cfg, compare.run(store, cfg)


def read_cells(store, metric="score"):
    rows = store.read_rows(tables.COMPARISONS)
    return {row["method"]: row for row in rows if row["metric"] == metric}


@pytest.mark.slow
def test_a_searched_method_finds_the_planted_mixture_and_its_gain_is_clear(compared):
    store, _, _ = compared
    cells = read_cells(store)
    assert list(cells) == sorted(["natural", "uniform", "regmix", "climb"])
    proxy = PlantedProxy(best=BEST)
    uniform = proxy.predict_bpb(dict.fromkeys(BEST, 0.25))
    assert cells["uniform"]["mean"] == pytest.approx(-uniform, abs=0.02)
    gain = cells["climb"]["gains"]["natural"]
    assert gain["n_pairs"] == 2
    assert gain["mean"] > 0.1
    assert cells["climb"]["by_seed"].keys() == {0, 1}
    assert cells["natural"]["gains"]["climb"]["mean"] == pytest.approx(-gain["mean"])


@pytest.mark.slow
def test_every_searched_method_pays_for_the_budget_and_fixed_mixtures_for_nothing(compared):
    store, cfg, _ = compared
    cells = read_cells(store)
    assert {name: cell["n_trials"] for name, cell in cells.items()} == {
        "natural": 0, "uniform": 0, "regmix": BUDGET, "climb": BUDGET,
    }  # fmt: skip
    assert cells["climb"]["n_tokens"] == BUDGET * cfg.proxy.trial_tokens


@pytest.mark.slow
def test_trials_that_two_searches_ask_for_are_trained_once(compared):
    """The replicates of natural and uniform are the same with every seed; so are some draws."""
    store, cfg, text = compared
    searched = [m for m in plan_comparison(cfg) if m.mixture is None]
    paid = sum(m.n_trials for m in searched) * cfg.compare.seeds
    shared = paid - len(store.read_rows(tables.TRIALS))
    assert shared >= 2 * 2
    assert f"{paid} trials paid for, {shared} of them shared" in text


@pytest.mark.slow
def test_the_files_have_a_row_per_method_and_a_second_start_writes_nothing(compared):
    store, cfg, text = compared
    page, table = (store.locate_file("comparisons") / f"compare-small.{e}" for e in ("html", "csv"))
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["label"] for row in rows] == ["natural", "uniform", "RegMix", "climb (default)"]
    assert float(rows[3]["gain.natural"]) > 0.1
    assert rows[3]["gain.climb"] == ""
    assert "climb (default) has the highest " in page.read_text()
    assert "| climb (default) | 14 | 2 |" in text
    before = {t.name: store.history.read_version(t) for t in tables.TABLES}
    assert compare.run(store, cfg).startswith("small is up to date: ")
    assert {t.name: store.history.read_version(t) for t in tables.TABLES} == before


@pytest.mark.slow
def test_methods_with_equal_mixtures_share_models_with_job_train(compared):
    store, cfg, _ = compared
    models = {row["model"] for row in store.read_rows(tables.EVALUATIONS)}
    assert len(models) == 4 * 2
    own = change(cfg, {"search": {"name": "small.climb.0"}}, "the test")
    assert train.run(store, own).startswith("1 models trained and measured, 5 already recorded")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "writes"), [(tables.TRIALS, 20), (tables.MIXTURES, 2), (tables.EVALUATIONS, 5)]
)
def test_a_killed_comparison_goes_on_where_it_ended(
    compared, spark, tmp_path, monkeypatch, table, writes
):
    """In the second search, between two searches, and in the models of the second seed."""
    cfg = configure(tmp_path)
    store = open_store(spark, tmp_path, cfg)
    method = "replace" if table is tables.MIXTURES else "append"
    kill_after(monkeypatch, method, table, writes)
    with pytest.raises(Killed):
        compare.run(store, cfg)
    monkeypatch.undo()
    kept = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
    assert kept
    compare.run(store, cfg)
    trials = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
    assert {name: trials[name] for name in kept} == kept, "a finished trial was trained again"
    whole = compared[0]
    for written in (tables.TRIALS, tables.COMPARISONS):
        assert drop_times(store.read_rows(written)) == drop_times(whole.read_rows(written))


@pytest.mark.parametrize(
    ("keep", "expected"), [("all", ["cluster", "prune"]), ("sample", ["embed", "cluster", "prune"])]
)
def test_an_ablation_of_clusters_embeds_the_sample_of_its_own_fit(spark, tmp_path, keep, expected):
    ablation = {"name": "k", "keys": ["cluster.k"], "values": {"more": [9]}, "seeds": 1}
    changed = {"cluster": {"embeddings": keep}, "ablate": ablation}
    cfg = change(settings(tmp_path), changed, "the test")
    done = []

    def record(name, _, cfg):
        assert cfg.cluster.k == 9
        done.append(name)
        if name == "prune":
            raise Killed
        return name

    jobs = {name: partial(record, name) for name in ("embed", *OWN_JOBS)}
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(Killed):
        list(Trainer("ablate", store, cfg, plan_ablation(cfg), 1, jobs).train())
    assert done == expected


@pytest.mark.slow
def test_an_ablation_has_a_row_per_value_and_no_new_trial_for_a_value_that_was_trained(
    spark, tmp_path
):
    cfg = change(
        settings(tmp_path),
        {
            "search": {"replicates": 0},
            "ablate": {
                "name": "schedule",
                "keys": ["search.trials_per_round"],
                "values": {"one": [[1]], "two": [[3, 1]], "again": [[6, 2]]},
                "budget": 8,
                "seeds": 1,
            },
        },
        "the test",
    )
    store = open_store(spark, tmp_path, cfg)
    text = ablate.run(store, cfg)
    shared = 24 - len(store.read_rows(tables.TRIALS))
    assert shared >= 8
    assert f"24 trials paid for, {shared} of them shared" in text
    rows = {r["method"]: r for r in store.read_rows(tables.ABLATIONS) if r["metric"] == "score"}
    assert sorted(rows, key=lambda name: rows[name]["place"]) == ["one", "two", "again"]
    assert rows["two"]["mean"] == rows["again"]["mean"]
    assert rows["one"]["low"] is None  # one seed shows no interval
    assert not store.exists(tables.COMPARISONS)
