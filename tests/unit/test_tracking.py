"""MLflow mirrors the tables: everything once, nothing on the critical path."""

import json
import math
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from climb import tables, tracking
from climb.config import load
from climb.tracked import runs_of
from climb.tracking import how_to_open, mirror, tracking_uri


class Rows:
    """The tables as lists; what `mirror` asks of a store, without Spark."""

    def __init__(self, folder):
        self.folder, self.tables, self.versions, self.reads = folder, {}, {}, 0

    def put(self, table, rows):
        self.tables[table.name] = rows
        self.versions[table.name] = self.versions.get(table.name, -1) + 1

    def exists(self, table):
        return table.name in self.tables

    def version(self, table):
        return self.versions.get(table.name)

    def rows(self, table, **equals):
        self.reads += 1
        rows = self.tables[table.name]
        return [row for row in rows if all(row[k] == v for k, v in equals.items())]

    def made_from(self, table, scope=None):
        return {"read": {"domains": 2, "shards": 0}}

    def files(self, name):
        return self.folder / name


def trial(i, **changes):
    row = {
        "trial_id": f"{i:016x}",
        "search": "default",
        "round": i // 3,
        "method": "proposal",
        "seed": 0,
        "proxy": "LlamaProxy-1",
        "data": "d1",
        "weights": {"recipes": 0.1 * i, "law & order": 1 - 0.1 * i},
        "metrics": {"piqa.bpb": 2.0 + 0.01 * i, "piqa.accuracy": 0.5},
        "status": "finished",
        "error": None,
        "n_tokens": 1000,
        "seconds": 1.5,
        "finished": datetime(2025, 1, 2, 3, 4, i, tzinfo=UTC),
    }
    return row | changes


def found(**changes):
    row = {
        "search": "default",
        "method": "found",
        "weights": {"recipes": 0.4, "law & order": 0.6},
        "epochs": {"recipes": 2.0, "law & order": 0.5},
        "score": -1.99,
        "score_std": 0.01,
        "gain_mean": 0.02,
        "gain_low": 0.01,
        "gain_high": 0.03,
        "p_better": 0.99,
        "verdict": "gain",
        "evidence": None,
    }
    return row | changes


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_failed_at", {})
    rows = Rows(tmp_path)
    failed = trial(4, metrics={}, status="failed", error="loss became NaN", weights={"recipes": 1})
    rows.put(tables.TRIALS, [*(trial(i) for i in range(4)), failed])
    return rows


@pytest.fixture
def cfg(tmp_path):
    return load(settings=[f"storage.root={tmp_path}"])


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """MLflow takes seconds to make its tables, so they are made once and copied."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client(cfg, empty_database, tmp_path):
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return MlflowClient(tracking_uri=tracking_uri(cfg))


def runs_by_kind(client, kind):
    experiment = client.get_experiment_by_name("climb")
    runs = client.search_runs([experiment.experiment_id], f"tags.\"climb.kind\" = '{kind}'")
    return sorted(runs, key=lambda run: run.data.tags.get("climb.trial_id", ""))


def test_every_trial_becomes_one_child_with_the_same_keys(store, cfg, client):
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 known"
    (parent,), children = runs_by_kind(client, "search"), runs_by_kind(client, "trial")
    assert [run.data.tags["climb.trial_id"] for run in children] == [f"{i:016x}" for i in range(5)]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    keys = {(tuple(sorted(r.data.params)), tuple(sorted(r.data.metrics))) for r in children}
    assert len(keys) == 1
    ((params, metrics),) = keys
    assert {"tokens", "weight.recipes"} < set(params)
    measured = {"score", "metric.piqa.bpb", "metric.piqa.accuracy"}
    assert set(metrics) == measured | {"round", "seed", "seconds"}
    assert all(float(value) >= 0 for run in children for value in run.data.params.values())
    assert children[3].data.metrics["score"] == pytest.approx(-2.03)
    assert children[3].data.metrics["round"] == 1
    assert [run.info.status for run in children] == ["FINISHED"] * 4 + ["FAILED"]
    assert math.isnan(children[4].data.metrics["score"])
    assert children[4].data.tags["climb.error"] == "loss became NaN"


def test_scores_of_trials_weigh_metrics_as_the_search_does():
    rows = [trial(i, round=0, metrics={"piqa.bpb": 2.0 + 0.1 * i}) for i in range(3)]
    again = [trial(i + 3, round=0, seed=1, weights=rows[i]["weights"]) for i in range(3)]
    rows += [row | {"metrics": {"piqa.bpb": 2.0 + 0.1 * i + 0.02}} for i, row in enumerate(again)]
    plain, scaled = (
        runs_of(rows, load(settings=["search.objective=piqa.bpb:min", f"search.scale={s}"]).search)
        for s in ("raw", "noise")
    )
    noise = 0.02 / math.sqrt(2.0)
    for one, other in zip(plain, scaled, strict=True):
        assert one.metrics["score"] == pytest.approx(-one.metrics["metric.piqa.bpb"])
        assert other.metrics["score"] == pytest.approx(one.metrics["score"] / noise)


def test_nothing_is_logged_twice_and_only_new_trials_are_logged(store, cfg, client):
    mirror(store, cfg)
    reads = store.reads
    assert mirror(store, cfg) == "MLflow up to date"
    assert store.reads == reads
    store.put(tables.TRIALS, [*store.tables["trials"], trial(5)])
    assert mirror(store, cfg) == "MLflow: 1 runs logged, 5 known"
    (store.files("mlflow.mirrored")).unlink()
    assert mirror(store, cfg) == "MLflow: 0 runs logged, 6 known"
    children = runs_by_kind(client, "trial")
    assert len(children) == 6
    history = client.get_metric_history(children[0].info.run_id, "score")
    assert len(history) == 1


def test_a_run_that_a_crash_left_open_is_completed_not_doubled(store, cfg, client):
    mirror(store, cfg)
    experiment = client.get_experiment_by_name("climb").experiment_id
    tags = {"climb.kind": "trial", "climb.search": "default", "climb.trial_id": f"{6:016x}"}
    half = client.create_run(experiment, tags=tags)
    store.put(tables.TRIALS, [*store.tables["trials"], trial(6)])
    mirror(store, cfg)
    children = runs_by_kind(client, "trial")
    assert len(children) == 6
    assert children[-1].info.run_id == half.info.run_id
    assert children[-1].info.status == "FINISHED"
    assert children[-1].data.metrics["seconds"] == 1.5


def test_the_parent_carries_the_answer_its_versions_and_files(store, cfg, client, tmp_path):
    mirror(store, cfg)
    assert runs_by_kind(client, "search")[0].info.status == "RUNNING"
    store.put(tables.MIXTURES, [found()])
    (tmp_path / "report.html").write_text("<p>first</p>")
    mirror(store, cfg)
    store.put(tables.MIXTURES, [found(gain_mean=0.025)])
    (tmp_path / "report.html").write_text("<p>second</p>")
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["gain.mean"] == 0.025
    assert parent.data.metrics["weight.recipes"] == 0.4
    assert parent.data.tags["climb.verdict"] == "gain"
    assert parent.data.tags["climb.version.domains"] == "2"
    assert parent.data.tags["climb.version.mixtures"] == "1"
    history = client.get_metric_history(parent.info.run_id, "gain.mean")
    assert [(m.step, m.value) for m in history] == [(0, 0.02), (1, 0.025)]
    assert len(client.get_metric_history(parent.info.run_id, "gain.low")) == 1
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    assert (folder / "report.html").read_text() == "<p>second</p>"
    assert json.loads((folder / "mixture.json").read_text())["weights"]["recipes"] == 0.4


def explained():
    """Evidence as a search leaves it; what could not be known is null."""
    spread = {"std": 0.0005}
    return {
        "quality": {
            "rounds": [
                {"round": 0, "spearman": {"score": 0.5, "piqa.bpb": 0.4, "siqa.bpb": None}},
                {"round": 1, "spearman": {"score": 0.9, "piqa.bpb": 0.8, "siqa.bpb": None}},
            ]
        },
        "noise": {"piqa.bpb": 0.004, "siqa.bpb": 0.02},
        "signal": {"piqa.bpb": 37.5, "siqa.bpb": None},
        "further": {"n_trials": 16, "worth": 0.0024},
        "effects": {
            "step": 0.01,
            "domains": {
                name: {"piqa.bpb": spread | {"mean": piqa}, "score": spread | {"mean": score}}
                for name, piqa, score in (("recipes", 0.002, 0.001), ("law & order", 0.0, -0.1))
            },
            "trade_offs": [],
        },
    }


def test_the_parent_says_how_far_to_trust_the_answer_and_what_a_further_round_is_worth(
    store, cfg, client
):
    store.put(tables.MIXTURES, [found(evidence=json.dumps(explained()))])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    told = parent.data.metrics
    assert (told["quality.score"], told["quality.piqa.bpb"]) == (0.9, 0.8)  # of the last round
    assert (told["noise.siqa.bpb"], told["signal.piqa.bpb"]) == (0.02, 37.5)
    assert (told["further.worth"], told["further.n_trials"]) == (0.0024, 16)
    assert math.isnan(told["quality.siqa.bpb"])
    assert math.isnan(told["signal.siqa.bpb"])


def test_effects_of_domains_are_a_file_and_no_metrics(store, cfg, client):
    store.put(tables.MIXTURES, [found(evidence=json.dumps(explained()))])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    assert not [key for key in parent.data.metrics if "effect" in key]
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    assert (folder / "effects.csv").read_text().splitlines() == [
        "domain,metric,mean,std",
        "law & order,score,-0.1,0.0005",
        "law & order,piqa.bpb,0.0,0.0005",
        "recipes,score,0.001,0.0005",
        "recipes,piqa.bpb,0.002,0.0005",
    ]


def test_every_parent_has_the_same_keys_and_what_is_unknown_is_told_once(store, tmp_path, client):
    unknown = {"noise": {"piqa.bpb": None, "siqa.bpb": None}}
    for name, evidence in (("whole", explained()), ("unknown", unknown)):
        cfg = load(settings=[f"storage.root={tmp_path}", f"search.name={name}"])
        store.put(tables.TRIALS, [trial(0, search=name)])
        for gain in (0.02, 0.025):
            row = found(search=name, evidence=json.dumps(evidence), gain_mean=gain)
            store.put(tables.MIXTURES, [row])
            mirror(store, cfg)
    parents = runs_by_kind(client, "search")
    keys = {tuple(sorted(parent.data.metrics)) for parent in parents}
    assert len(parents) == 2
    assert len(keys) == 1
    for parent in parents:
        run_id = parent.info.run_id
        assert len(client.get_metric_history(run_id, "gain.mean")) == 2
        assert len(client.get_metric_history(run_id, "signal.siqa.bpb")) == 1


def test_a_server_that_is_down_costs_one_warning_and_is_caught_up_later(
    store, cfg, client, tmp_path, capsys
):
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        down = load(settings=[f"storage.root={tmp_path}", f"tracking.uri={uri}"])
        assert mirror(store, down) is None
        assert mirror(store, down) is None
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mlflow   warning: http://127.0.0.1:")
    assert "secret" not in lines[0]
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 known"


def test_a_store_that_could_not_be_written_is_caught_up_at_the_next_start(
    store, tmp_path, empty_database, monkeypatch
):
    place = tmp_path / "elsewhere"
    place.write_text("a file where a folder should be")
    uri = f"sqlite:///{place}/mlflow.db"
    cfg = load(settings=[f"storage.root={tmp_path}", f"tracking.uri={uri}"])
    assert mirror(store, cfg) is None
    place.unlink()
    place.mkdir()
    shutil.copy(empty_database, place)
    assert mirror(store, cfg) is None  # this process waits before it tries again
    monkeypatch.setattr(tracking, "_failed_at", {})
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 known"


def test_more_weights_than_one_call_takes_are_all_logged(store, cfg, client):
    weights = {f"domain {i}": 1 / 250 for i in range(250)}
    store.put(tables.TRIALS, [trial(0, weights=weights)])
    mirror(store, cfg)
    (child,) = runs_by_kind(client, "trial")
    assert sum(key.startswith("weight.") for key in child.data.params) == 250


def test_names_that_mlflow_refuses_stay_apart(store, cfg, client):
    weights = {"a&b": 0.2, "a%b": 0.3, "it's": 0.5}
    store.put(tables.TRIALS, [trial(0, weights=weights)])
    mirror(store, cfg)
    (child,) = runs_by_kind(client, "trial")
    kept = [float(v) for k, v in child.data.params.items() if k.startswith("weight.")]
    assert sorted(kept) == [0.2, 0.3, 0.5]


def test_searches_are_told_apart_by_their_names(store, tmp_path, client):
    for name in ("law", "law.2"):
        store.put(tables.TRIALS, [trial(0, search=name)])
        settings = [f"storage.root={tmp_path}", f"search.name={json.dumps(name)}"]
        assert mirror(store, load(settings=settings)) == "MLflow: 1 runs logged, 0 known"
    assert len(runs_by_kind(client, "search")) == 2


def test_without_a_local_root_tracking_is_off_and_says_so_once(store, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "_said", set())
    cfg = load(settings=["storage.root=s3://bucket/run", "storage.files=/mnt/run"])
    assert mirror(store, cfg) is None
    assert mirror(store, cfg) is None
    assert capsys.readouterr().out.count("set tracking.uri") == 1
    assert how_to_open(cfg).startswith("off")


def test_tracking_can_be_switched_off(store, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}", "tracking.enabled=false"])
    assert mirror(store, cfg) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_nothing_to_mirror_makes_no_store(tmp_path, cfg):
    assert mirror(Rows(tmp_path), cfg) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_the_command_opens_the_store_that_was_written(cfg, tmp_path):
    assert how_to_open(cfg).endswith(
        f"server --workers 1 --backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    )
