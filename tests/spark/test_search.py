"""The search over tables: what is trained, what is recorded, and what a failure costs."""

import dataclasses
import json

import numpy as np
import pytest
from climb.jobs import search, train

from climb import tables
from climb.config import load
from climb.errors import ComponentError, ConfigError, SearchError, TableError
from climb.spark.failures import last_line
from climb.spark.store import Store
from climb.spark.trials import train_all
from climb.testing.contracts import tiny_run
from climb.testing.proxies import PlantedProxy
from climb.tokenizer import train_json

NATURAL = {"code": 0.5, "law": 0.3, "news": 0.15, "recipes": 0.05}
BEST = {"code": 0.1, "law": 0.2, "news": 0.4, "recipes": 0.3}
FINISHED = 2 * 2 + 6 + 4 + 2
"""Trials of the search below: anchors, two rounds, the answer."""


def settings(root, **proxy):
    """Two rounds of planted proxies; `proxy` are fields of the planted one."""
    target = {"name": "quiz", "kind": "choices", "limit": None}
    target |= {part: f"{root}/{part}.jsonl" for part in ("search", "report")}
    model = {"use": "climb.testing.proxies:PlantedProxy", "best": BEST, "noise": 0.002, **proxy}
    return load(
        settings=[
            f"storage.root={root}/out",
            "tracking.enabled=false",
            "count.vocab_size=300",
            f"proxy.model={json.dumps(model)}",
            f"train.model={json.dumps(model)}",
            f"proxy.targets={json.dumps([target])}",
            "search.trials_per_round=[6, 4]",
            "search.anchor_seeds=2",
            "search.candidates=300",
            "search.target_tokens=1_000_000",
            "search.max_epochs=8",
            "search.max_share_ratio=null",
            "train.seeds=2",
        ]
    )


def open_store(spark, root, cfg):
    """A store that holds what the jobs before the search leave behind."""
    for part in ("search", "report"):
        item = {"context": part, "choices": [" yes", " no"], "label": 0}
        (root / f"{part}.jsonl").write_text(json.dumps(item) + "\n")
    store = Store(spark, cfg.storage)
    domains = [
        {"domain": name, "n_tokens": int(1e6 * share), "token_share": share}
        | {"clusters": [i], "n_documents": 10, "terms": [], "examples": []}
        for i, (name, share) in enumerate(NATURAL.items())
    ]
    shards = [
        {"kind": kind, "domain": name, "path": f"{kind}-{name}.npy", "n_documents": 1}
        | {"n_tokens": 1, "sha256": f"{kind} {name}"}
        for kind in ("base", "trial", "target-base", "target")
        for name in NATURAL
    ]
    tokenizer = {"recipe": "bpe-300-5000", "tokenizer": train_json(["a few words"] * 9, 300)}
    for table, rows in (
        (tables.DOMAINS, domains),
        (tables.SHARDS, shards),
        (tables.TOKENIZERS, [tokenizer]),
    ):
        store.append(store.frame(rows, table), table)
    return store


def answer(store):
    return {row["method"]: row for row in store.rows(tables.MIXTURES)}


@pytest.fixture(scope="module")
def searched(spark, tmp_path_factory):
    """A search that nothing disturbed: store, configuration, and what the job said."""
    root = tmp_path_factory.mktemp("searched")
    cfg = settings(root)
    store = open_store(spark, root, cfg)
    return store, cfg, search.run(store, cfg)


def test_the_answer_is_near_the_planted_mixture_and_its_gain_is_measured(searched):
    store, _, said = searched
    rows = answer(store)
    assert set(rows) == {"found", "natural", "uniform"}
    proxy = PlantedProxy(best=BEST)
    left, lost = (proxy.expected(rows[m]["weights"]) - 1.0 for m in ("found", "natural"))
    assert left < lost / 5
    assert rows["found"]["verdict"] == "gain"
    assert rows["found"]["gain_low"] > 0.0
    # The interval holds the true gain; the noise of two seeds is 0.002.
    assert rows["found"]["gain_mean"] == pytest.approx(lost - left, abs=0.01)
    assert said.startswith(f"{FINISHED} trials trained, 0 known; gain: ")
    assert sum(rows["found"]["weights"].values()) == pytest.approx(1.0)
    assert max(rows["found"]["epochs"].values()) <= 8.0 + 1e-9


def test_every_trial_is_a_row_and_continues_the_one_base(searched):
    store, _, _ = searched
    rows = store.rows(tables.TRIALS)
    assert [row["status"] for row in rows] == ["finished"] * FINISHED
    methods = [row["method"] for row in rows]
    assert {m: methods.count(m) for m in methods} == {
        "natural": 2, "uniform": 2, "proposal": 10, "found": 2,
    }  # fmt: skip
    assert len(list(store.files("models").glob("proxies/base-*"))) == 1


def test_a_search_whose_answer_was_lost_trains_nothing_again(searched):
    store, cfg, _ = searched
    before, trials = answer(store), store.version(tables.TRIALS)
    assert search.run(store, cfg) == "the answer is up to date"
    rows = store.frame([], tables.MIXTURES)
    store.replace(rows, tables.MIXTURES, {}, "search = 'default'")
    said = search.run(store, cfg)
    assert said.startswith(f"0 trials trained, {FINISHED} known")
    assert answer(store) == before
    assert store.version(tables.TRIALS) == trials


def test_the_larger_model_is_trained_once_per_mixture_and_seed(searched):
    store, cfg, _ = searched
    assert train.run(store, cfg) == "6 models trained and measured, 0 known"
    rows = store.rows(tables.EVALUATIONS)
    assert {(row["method"], row["seed"]) for row in rows} == {
        (method, seed) for method in ("found", "natural", "uniform") for seed in (0, 1)
    }
    version = store.version(tables.EVALUATIONS)
    assert train.run(store, cfg) == "0 models trained and measured, 6 known"
    assert store.version(tables.EVALUATIONS) == version


def test_a_search_that_stops_early_with_scaled_metrics_stays_as_it_is_when_run_again(
    spark, tmp_path
):
    cfg = settings(tmp_path)
    scaled = {"scale": "noise", "stop_below": 1e9}
    cfg = cfg.model_copy(update={"search": cfg.search.model_copy(update=scaled)})
    store = open_store(spark, tmp_path, cfg)
    assert search.run(store, cfg).startswith("12 trials trained, 0 known")  # the second round not
    rows, before = store.rows(tables.TRIALS), answer(store)
    assert {row["round"] for row in rows if row["method"] == "found"} == {1}
    evidence = json.loads(before["found"]["evidence"])
    repeats = {"natural": [], "uniform": []}
    for row in rows:
        if row["method"] in repeats:
            repeats[row["method"]].append(row["metrics"]["quiz.bpb"])
    noise = np.sqrt(np.mean([np.var(values, ddof=1) for values in repeats.values()]))
    assert evidence["weighed"]["quiz.bpb"] == pytest.approx(-1.0 / noise)
    store.replace(store.frame([], tables.MIXTURES), tables.MIXTURES, {}, "search = 'default'")
    assert search.run(store, cfg).startswith("0 trials trained, 12 known")
    assert answer(store) == before


def test_a_proxy_that_diverges_is_a_failed_trial_and_the_search_goes_on(spark, tmp_path):
    cfg = settings(tmp_path, nan_when_above={"code": 0.6})
    store = open_store(spark, tmp_path, cfg)
    said = search.run(store, cfg)
    rows = store.rows(tables.TRIALS)
    failed = [row for row in rows if row["status"] == "failed"]
    assert 0 < len(failed) < len(rows)
    for row in failed:
        assert row["weights"]["code"] > 0.6
        assert row["error"].startswith("the loss is nan at step 1 of 1: code has weight")
        assert row["metrics"] == {}
    evidence = json.loads(answer(store)["found"]["evidence"])
    assert evidence["n_failed"] == len(failed)
    assert "gain" in said


def test_when_every_proxy_fails_the_error_tells_the_first_reason(spark, tmp_path):
    cfg = settings(tmp_path, fault="nan")
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(SearchError, match=r"all 10 trials failed; the first: the loss is nan"):
        search.run(store, cfg)
    assert {row["status"] for row in store.rows(tables.TRIALS)} == {"failed"}
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


def test_a_worker_that_dies_is_lost_not_failed_and_nothing_is_recorded(spark, tmp_path):
    run = dataclasses.replace(tiny_run(tmp_path, 64), start=str(tmp_path))
    outcomes = list(train_all(spark, PlantedProxy(fault="exit"), [("a", run)], 1))
    assert [(o.name, o.status) for o in outcomes] == [("a", "lost")]
    assert "exit" in outcomes[0].error  # Spark: Python worker exited unexpectedly (crashed)
    cfg = settings(tmp_path, fault="exit")
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(SearchError, match="10 of 10 trials were lost with their workers"):
        search.run(store, cfg)
    assert not store.exists(tables.TRIALS)


def test_what_a_person_can_mend_stops_the_search_with_its_own_line(spark, tmp_path):
    run = dataclasses.replace(tiny_run(tmp_path, 64), start="/nowhere")
    with pytest.raises(ComponentError, match=r"^the run continues /nowhere, which is no folder$"):
        list(train_all(spark, PlantedProxy(), [("a", run), ("b", run)], 2))


def test_trials_run_as_many_at_a_time_as_there_are_slots(spark, tmp_path):
    run = tiny_run(tmp_path, 64)
    proxy = PlantedProxy(sleep_seconds=0.2)
    names = [f"t{i}" for i in range(5)]
    run = dataclasses.replace(run, save=None)
    outcomes = list(train_all(spark, proxy, [(name, run) for name in names], 2))
    assert sorted(o.name for o in outcomes) == names
    assert all(o.status == "finished" for o in outcomes)
    assert len({o.metrics["letters.bpb"] for o in outcomes}) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "An error occurred.\n: org.apache.spark.SparkException: Job aborted\n"
            "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error\n\n"
            "\tat org.apache.spark.Task.run",
            "RuntimeError: CUDA error",
        ),
        (
            "An error occurred.\n: Job aborted due to stage failure: x\n\tat a.b",
            "Job aborted due to",
        ),
        ("no traceback here\nat all", "no traceback here"),
        ("", "no reason given"),
    ],
)
def test_of_a_lost_task_the_one_line_that_says_why_is_kept(text, line):
    assert last_line(text).startswith(line)
