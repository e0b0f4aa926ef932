"""DoReMi over tables: two tasks, one commit, and a baseline of the search."""

import json

import numpy as np
import pytest
from climb.jobs import doremi
from killed import Killed, kill_after
from planted_search import NATURAL, settings

from climb import tables
from climb.errors import TrialError
from climb.files import is_complete
from climb.spark.delta.store import Store
from climb.spark.training import trials as module
from climb.spark.training.doremi import add_doremi, train_doremi
from climb.spark.training.methods import DoremiMethod
from climb.spark.training.search import describe_search, plan_baselines
from climb.spark.training.setup import build_trial_setup
from climb.spark.training.study import open_study
from climb.spark.training.trials import Outcome
from climb.testing.search_inputs import make_search_inputs

TRIAL_TOKENS = 512
MODEL = {
    "use": "climb.proxy.llama:LlamaProxy",
    **{"hidden": 16, "layers": 1, "heads": 2, "sequence": 16, "batch": 8, "learning_rate": 1e-2},
}
BASELINES = (
    {"use": "climb.search.baselines:NaturalMixture", "name": "natural"},
    {"use": "climb.search.baselines:DoremiMixture", "name": "doremi"},
)


def configure(root):
    cfg = settings(root)
    for part in ("search", "report"):
        item = {"context": part, "choices": [" yes", " no"], "label": 0}
        (root / f"{part}.jsonl").write_text(json.dumps(item) + "\n")
    sizes = {"base_tokens": TRIAL_TOKENS, "trial_tokens": TRIAL_TOKENS, "model": MODEL}
    return cfg.model_copy(
        update={
            "proxy": cfg.proxy.model_copy(update=sizes),
            "doremi": cfg.doremi.model_copy(update={"trials": 4}),
        }
    )


def open_store(spark, root, cfg):
    """A store whose shards have files."""
    store, random = Store(spark, cfg.storage), np.random.default_rng(0)
    inputs = make_search_inputs(NATURAL)
    for row in inputs[tables.SHARDS]:
        row["path"] = str(root / row["path"])
        np.save(row["path"], random.integers(200, size=1_000).astype(np.uint16))
    for table, rows in inputs.items():
        store.append(store.create_frame(rows, table), table)
    return store


@pytest.fixture(scope="module")
def trained(spark, tmp_path_factory):
    """A store with a result, of a job that was killed before its commit and started again.

    Returns:
        The store, its configuration, and the text of the job.
    """
    root = tmp_path_factory.mktemp("doremi")
    cfg = configure(root)
    store = open_store(spark, root, cfg)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, "append", tables.DOREMI, 0)
        with pytest.raises(Killed):
            doremi.run(store, cfg)
    assert not store.exists(tables.DOREMI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train_runs", None)  # nothing is trained again
        text = doremi.run(store, cfg)
    return store, cfg, text


def test_the_curve_is_recorded_with_everything_that_it_was_made_from(trained):
    store, cfg, _ = trained
    rows = store.read_rows(tables.DOREMI)
    assert [row["step"] for row in rows] == list(range(1, 9))  # 2 x 512 tokens in steps of 128
    setup = build_trial_setup(store, cfg)
    for row in rows:
        for column in ("weights", "averaged"):
            assert sum(row[column].values()) == pytest.approx(1.0)
            assert set(row[column]) == set(NATURAL)
        assert row["corpus_digest"] == setup.corpus_digest
        assert (row["step_size"], row["smoothing"], row["seed"]) == (1.0, 1e-3, 0)
    means = {domain: np.mean([row["weights"][domain] for row in rows]) for domain in NATURAL}
    assert rows[-1]["averaged"] == pytest.approx(means, rel=1e-9)


def test_the_tokens_of_both_models_are_counted_as_trials(trained):
    store, _, text = trained
    row = store.read_rows(tables.DOREMI)[-1]
    assert row["reference_tokens"] + row["proxy_tokens"] == 4 * TRIAL_TOKENS
    assert row["n_trials"] == 4.0
    assert "2,048 tokens, as many as 4 trials" in text
    assert f"{'code':<32} {0.5:8.4f} {row['averaged']['code']:8.4f}" in text.splitlines()


def test_a_second_start_finds_the_result(trained, monkeypatch):
    store, cfg, _ = trained
    version = store.history.read_version(tables.DOREMI)
    monkeypatch.setattr(module, "train_runs", None)
    again = train_doremi(store, cfg, build_trial_setup(store, cfg))
    assert not again.was_trained
    assert again.weights == store.read_rows(tables.DOREMI)[-1]["averaged"]
    assert (again.n_tokens, again.n_trials) == (4 * TRIAL_TOKENS, 4.0)
    assert store.history.read_version(tables.DOREMI) == version
    assert doremi.run(store, cfg).startswith("reference and proxy already recorded")


def test_a_proxy_that_fails_stops_the_job_and_keeps_the_reference_model(trained, monkeypatch):
    store, cfg, _ = trained
    other = cfg.model_copy(update={"doremi": cfg.doremi.model_copy(update={"step_size": 9.0})})
    started = []

    def fail(session, proxy, runs, slots, watch):
        started.append(runs[0][0])
        yield Outcome(runs[0][0], "failed", 1.0, error="the loss is nan", kind="deterministic")

    monkeypatch.setattr(module, "train_runs", fail)
    setup = build_trial_setup(store, cfg)
    with pytest.raises(TrialError, match=r"the proxy of DoReMi was not trained \(failed\): the"):
        train_doremi(store, other, setup)
    assert started == ["proxy"]  # the reference model of the first result is used again
    [reference] = store.locate_file("models").glob("doremi/reference-*")
    assert is_complete(reference)


def test_the_search_has_the_trained_mixture_as_a_baseline(trained, monkeypatch):
    store, cfg, _ = trained
    monkeypatch.setattr(module, "train_runs", None)
    search = cfg.search.model_copy(update={"baselines": BASELINES})
    cfg = cfg.model_copy(update={"search": search})
    study = add_doremi(open_study(store, cfg))
    planned = {trial.method: trial.weights for trial in plan_baselines(study)}
    averaged = store.read_rows(tables.DOREMI)[-1]["averaged"]
    assert planned["doremi"] == pytest.approx(averaged)  # no constraint is active here
    assert planned["natural"] == pytest.approx(NATURAL)


def test_a_comparison_pays_for_both_models_of_each_seed(trained, monkeypatch):
    store, cfg, _ = trained
    compare = cfg.compare.model_copy(update={"budget": 4})
    cfg, method = cfg.model_copy(update={"compare": compare}), DoremiMethod()
    assert method.count_trials(cfg) == 4.0
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_runs", None)  # the seed of the recorded result
        found = method.find_mixture(store, cfg)
    assert (found.n_trials, found.n_tokens) == (4.0, 4 * TRIAL_TOKENS)
    assert found.weights == pytest.approx(store.read_rows(tables.DOREMI)[-1]["averaged"])
    other = cfg.model_copy(update={"search": cfg.search.model_copy(update={"seed": 1})})
    planned = []

    def stop(session, proxy, runs, slots, watch):
        planned.extend(run.seed for _, run in runs)
        raise Killed

    monkeypatch.setattr(module, "train_runs", stop)
    with pytest.raises(Killed):
        method.find_mixture(store, other)
    assert planned == [1]


def test_the_settings_of_doremi_are_inputs_of_a_search_that_has_it_as_a_baseline(trained):
    store, cfg, _ = trained
    setup = build_trial_setup(store, cfg)
    inputs, _ = describe_search(store, cfg, setup)
    assert "doremi" not in inputs["settings"]
    search = cfg.search.model_copy(update={"baselines": BASELINES})
    inputs, _ = describe_search(store, cfg.model_copy(update={"search": search}), setup)
    assert inputs["settings"]["doremi"]["trials"] == 4
