"""What MLflow gets later: runs that have ended, and results that change."""

import math

import pytest
from small_search import small_search
from tracked_rows import Rows, finished, runs_by_kind, trial

from climb import tables
from climb.config import load
from climb.tracking.client import mirror
from climb.tracking.uri import resolve_tracking_uri


@pytest.fixture
def store(tmp_path):
    return Rows(tmp_path)


@pytest.fixture
def cfg(tmp_path):
    return load(settings=[f"storage.root={tmp_path}"])


@pytest.fixture
def client(cfg):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=resolve_tracking_uri(cfg))


def test_a_run_that_ended_before_its_score_was_known_gets_it_once(store, tmp_path, client):
    """Scores in units of noise need replicates; here, another search has trained them."""
    made = small_search("b")
    cfg = load(settings=[f"storage.root={tmp_path}", "search.name=b", "search.scale=noise"])
    owner = {"search": "a"}
    rows = [r | (owner if r["method"] in made.result.baselines else {}) for r in made.rows]
    store.put(tables.TRIALS, [row for row in rows if row["round"] == 0])
    mirror(store, cfg)
    early = runs_by_kind(client, "trial")
    assert early
    assert all(math.isnan(run.data.metrics["score"]) for run in early)

    store.put(tables.TRIALS, rows)
    for gain in (0.02, 0.025):
        store.put(tables.MIXTURES, [finished("b", gain, plan=made.result.plan)])
        mirror(store, cfg)
    runs = {run.info.run_id: run for run in runs_by_kind(client, "trial")}
    assert len(runs) == len(rows)
    assert all(
        math.isnan(run.data.metrics["score"]) == (run.info.status == "FAILED")
        for run in runs.values()
    )
    done = [run for run in early if run.info.status == "FINISHED"]
    assert {len(client.get_metric_history(run.info.run_id, "score")) for run in done} == {2}
    assert all(runs[run.info.run_id].info.end_time == run.info.end_time for run in early)


def test_the_scores_of_all_runs_are_those_of_the_present_objective(store, tmp_path, client):
    """The first objective ends an interrupted search, and the second one continues it."""
    store.put(tables.TRIALS, [trial(i) for i in range(3)])
    mirror(store, load(settings=[f"storage.root={tmp_path}"]))
    store.put(tables.TRIALS, [trial(i) for i in range(4)])
    objectives = ("piqa.accuracy:max", "piqa.bpb:min", "piqa.accuracy:max")
    for objective in objectives:  # the last one has a score that was logged before
        settings = [f"storage.root={tmp_path}", f"search.objective={objective}"]
        mirror(store, load(settings=settings))
        name, _, goal = objective.partition(":")
        for run in runs_by_kind(client, "trial"):
            value = run.data.metrics[f"metric.{name}"]
            assert run.data.metrics["score"] == pytest.approx(value if goal == "max" else -value)


def test_the_weights_of_domains_that_vanished_are_unknown_and_the_others_sum_to_one(
    store, cfg, client
):
    def name_domains(names):
        result = small_search().result
        new = dict(zip(result.domains, names, strict=True))
        mixtures = tuple(
            mixture.model_copy(
                update={
                    "weights": {new[k]: v for k, v in mixture.weights.items()},
                    "epochs": {new[k]: v for k, v in mixture.epochs.items()},
                }
            )
            for mixture in result.mixtures
        )
        return {"domains": tuple(names), "mixtures": mixtures}

    store.put(tables.TRIALS, [])
    for gain, names in ((0.02, "abcd"), (0.025, "wxyd"), (0.03, "wxyd")):
        store.put(tables.MIXTURES, [finished(gain=gain, **name_domains(names))])
        mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    weights = {
        key.removeprefix("weight."): value
        for key, value in parent.data.metrics.items()
        if key.startswith("weight.")
    }
    assert {name for name, weight in weights.items() if math.isnan(weight)} == set("abc")
    assert sum(weights[name] for name in "wxyd") == pytest.approx(1.0)
    assert len(client.get_metric_history(parent.info.run_id, "weight.a")) == 2
    assert not math.isnan(parent.data.metrics["gain.natural.mean"])
