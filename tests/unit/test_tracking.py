"""MLflow mirrors the tables: every run is logged once, and a failure never stops a job."""

import importlib.util
import json
import math
import shutil
import socket
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_search import small_search
from tracked_rows import Rows, finished, runs_by_kind, trial

from climb import tables
from climb.config import load
from climb.domains.drift import Drift
from climb.proxy.heartbeat import RunProgress
from climb.search import SearchResult
from climb.search.records import Effect, EffectsRecord, HalvingRecord, PlannedRecord
from climb.spark.training.study import PlannedTrial
from climb.tracking import client as tracking
from climb.tracking.client import mirror
from climb.tracking.drift import log_drift
from climb.tracking.limits import limit_mlflow
from climb.tracking.live import LiveRuns
from climb.tracking.models import mirror_models
from climb.tracking.uri import format_open_command, resolve_tracking_uri
from climb.tracking.values import make_child_runs, make_parent_run, select_trials


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
    """MLflow takes seconds to create its tables, so they are created once and copied."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client(cfg, empty_database, tmp_path):
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return MlflowClient(tracking_uri=resolve_tracking_uri(cfg))


def test_every_trial_is_one_child_run_and_all_have_the_same_keys(store, cfg, client):
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 already logged"
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


def test_scores_of_trials_use_the_metric_weights_of_the_search():
    rows = [trial(i, round=0, metrics={"piqa.bpb": 2.0 + 0.1 * i}) for i in range(3)]
    again = [trial(i + 3, round=0, seed=1, weights=rows[i]["weights"]) for i in range(3)]
    rows += [row | {"metrics": {"piqa.bpb": 2.0 + 0.1 * i + 0.02}} for i, row in enumerate(again)]
    plain, scaled = (
        make_child_runs(
            rows, load(settings=["search.objective=piqa.bpb:min", f"search.scale={s}"]).search
        )
        for s in ("raw", "noise")
    )
    noise = 0.02 / math.sqrt(2.0)
    for one, other in zip(plain, scaled, strict=True):
        assert one.metrics["score"] == pytest.approx(-one.metrics["metric.piqa.bpb"])
        assert other.metrics["score"] == pytest.approx(one.metrics["score"] / noise)


def test_nothing_is_logged_twice_and_only_new_trials_are_logged(store, cfg, client):
    mirror(store, cfg)
    reads = store.reads
    assert mirror(store, cfg) == "MLflow is up to date"
    assert store.reads == reads
    store.put(tables.TRIALS, [*store.tables["trials"], trial(5)])
    assert mirror(store, cfg) == "MLflow: 1 runs logged, 5 already logged"
    (store.locate_file("mlflow.mirrored")).unlink()
    assert mirror(store, cfg) == "MLflow: 0 runs logged, 6 already logged"
    children = runs_by_kind(client, "trial")
    assert len(children) == 6
    history = client.get_metric_history(children[0].info.run_id, "score")
    assert len(history) == 1


def test_a_run_that_a_crash_left_open_is_completed_and_not_duplicated(store, cfg, client):
    mirror(store, cfg)
    experiment = client.get_experiment_by_name("climb").experiment_id
    tags = {"climb.kind": "trial", "climb.search": "default", "climb.trial_id": f"{6:016x}"}
    tags["climb.store"] = store.read_table_id(tables.TRIALS)
    half = client.create_run(experiment, tags=tags)
    store.put(tables.TRIALS, [*store.tables["trials"], trial(6)])
    mirror(store, cfg)
    children = runs_by_kind(client, "trial")
    assert len(children) == 6
    assert children[-1].info.run_id == half.info.run_id
    assert children[-1].info.status == "FINISHED"
    assert children[-1].data.metrics["seconds"] == 1.5


def test_the_parent_has_the_recommendation_the_table_versions_and_the_files(
    store, cfg, client, tmp_path
):
    mirror(store, cfg)
    assert runs_by_kind(client, "search")[0].info.status == "RUNNING"
    store.put(tables.MIXTURES, [finished()])
    (tmp_path / "report.html").write_text("<p>first</p>")
    mirror(store, cfg)
    store.put(tables.MIXTURES, [finished(gain=0.025)])
    (tmp_path / "report.html").write_text("<p>second</p>")
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    assert parent.info.status == "FINISHED"
    recommended = small_search().result.recommended
    assert parent.data.metrics["gain.natural.mean"] == 0.025
    uniform = small_search().result.measured_gains["uniform"]
    assert parent.data.metrics["gain.uniform.low"] == uniform.low
    assert parent.data.metrics["weight.d00"] == recommended.weights["d00"]
    assert parent.data.tags["climb.verdict"] == "gain"
    assert parent.data.tags["climb.version.domains"] == "2"
    assert parent.data.tags["climb.version.mixtures"] == "1"
    history = client.get_metric_history(parent.info.run_id, "gain.natural.mean")
    assert [(m.step, m.value) for m in history] == [(0, 0.02), (1, 0.025)]
    assert len(client.get_metric_history(parent.info.run_id, "gain.natural.low")) == 1
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    assert (folder / "report.html").read_text() == "<p>second</p>"
    written = SearchResult.from_json((folder / "result.json").read_text(), "result.json")
    assert written.recommended == recommended


def test_the_parent_has_prediction_quality_noise_and_the_gain_of_a_further_round(
    store, cfg, client
):
    noise = {"task0.bpb": 0.004, "task1.bpb": None}
    store.put(tables.MIXTURES, [finished(noise=noise, signal_to_noise=noise)])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    logged, result = parent.data.metrics, small_search().result
    for name in ("score", "task0.bpb"):  # of the last round
        assert logged[f"spearman.{name}"] == result.quality[-1].spearman[name]
    assert (logged["noise.task0.bpb"], logged["signal_to_noise.task0.bpb"]) == (0.004, 0.004)
    assert logged["further_round.expected_gain"] == result.further_round.expected_gain
    assert logged["further_round.n_trials"] == 5
    assert math.isnan(logged["noise.task1.bpb"])
    assert math.isnan(logged["signal_to_noise.task1.bpb"])


def test_a_third_baseline_is_one_line_of_the_configuration(store, cfg, client):
    """No code of tracking knows its name: its gain and its trials are logged like the others."""
    first = "climb.search.baselines"
    line = (
        f"search.baselines=[{{use: '{first}:NaturalMixture', name: natural}}, "
        f"{{use: '{first}:UniformMixture', name: uniform}}, "
        f"{{use: '{first}:FixedMixture', name: ours, weights: {{d00: 3.0, d02: 1.0}}}}]"
    )
    search = small_search("default", line)
    gain = search.result.measured_gains["ours"]
    store.put(tables.TRIALS, list(search.rows))
    record = {"method": "recommended", "result": search.result.model_dump_json()}
    store.put(tables.MIXTURES, [{"search": "default"} | record])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    logged = parent.data.metrics
    assert (logged["gain.ours.mean"], logged["gain.ours.low"]) == (gain.mean, gain.low)
    children = runs_by_kind(client, "trial")
    own = [run for run in children if run.data.tags["climb.method"] == "ours"]
    assert [run.data.params["weight.d00"] for run in own] == ["0.750000"] * 3
    assert {run.data.tags["mlflow.parentRunId"] for run in own} == {parent.info.run_id}


def test_the_parent_has_what_halving_saved_and_stopped_trials_are_no_runs():
    halving = HalvingRecord(n_stopped=1, n_tokens=3_000, n_tokens_in_full=4_000)
    parts = {f"{i:016x}": {"round": 0, "method": "proposal", "seed": 0} for i in range(2)}
    plan = {name: PlannedRecord(trial_id=name, **part) for name, part in parts.items()}
    last = f"{1:016x}"
    plan[last] = PlannedRecord(trial_id=last, **parts[last], stopped_at=50)
    result = small_search().result
    parent = make_parent_run(result.model_copy(update={"halving": halving}), {})
    assert parent.metrics["halving.n_stopped"] == 1
    assert parent.metrics["halving.token_share"] == 0.75
    assert "halving.n_stopped" not in make_parent_run(result, {}).metrics
    # Another search trained the second trial in full.
    selected = select_trials([trial(0), trial(1, search="other")], "default", plan)
    assert [row["trial_id"] for row in selected] == [f"{0:016x}"]


def test_with_many_metrics_ten_have_keys_and_a_file_has_all(store, cfg, client):
    names = [f"task{i:03d}.bpb" for i in range(110)]
    means = {name: 0.001 * i for i, name in enumerate(names)}
    effects = EffectsRecord(
        step=0.01,
        domains={"law": {name: Effect(mean=means[name], std=0.1) for name in names}},
        trade_offs=(),
    )
    quality = small_search().result.quality[-1]
    spearman = {"score": 0.9} | {name: 0.001 * i for i, name in enumerate(names)}
    fields = {
        "metric_weights": dict.fromkeys(names, -1 / 110),
        "noise": dict.fromkeys(names, 0.004),
        "signal_to_noise": dict.fromkeys(names, 5.0),
        "quality": (quality.model_copy(update={"spearman": spearman}),),
    }
    store.put(tables.MIXTURES, [finished(effects=effects, **fields)])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    logged = parent.data.metrics
    largest = {f"signal_to_noise.{name}" for name in names[-10:]}
    assert {key for key in logged if key.startswith("signal_to_noise.")} == largest
    assert (logged["n_metrics"], logged["spearman.task109.bpb"]) == (110, 0.109)
    assert logged["n_trials"] == small_search().result.n_trials
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    lines = (folder / "quality.csv").read_text().splitlines()
    assert lines[:2] == ["metric,spearman,noise,signal_to_noise", "score,0.9,,"]
    assert lines[-1] == "task109.bpb,0.109,0.004,5.0"
    assert len(lines) == 112


def test_effects_of_domains_are_a_file_and_not_metrics(store, cfg, client):
    names = ("recipes", "law & order")
    effects = EffectsRecord(
        step=0.01,
        domains={
            name: {"piqa.bpb": Effect(mean=piqa, std=0.1), "score": Effect(mean=score, std=0.2)}
            for name, piqa, score in zip(names, (0.002, 0.0), (0.001, -0.1), strict=True)
        },
        trade_offs=(),
    )
    store.put(tables.MIXTURES, [finished(effects=effects)])
    mirror(store, cfg)
    (parent,) = runs_by_kind(client, "search")
    assert not [key for key in parent.data.metrics if "effect" in key]
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    assert (folder / "effects.csv").read_text().splitlines() == [
        "domain,metric,mean,std",
        "law & order,score,-0.1,0.2",
        "law & order,piqa.bpb,0.0,0.1",
        "recipes,score,0.001,0.2",
        "recipes,piqa.bpb,0.002,0.1",
    ]


def test_every_parent_has_the_same_keys_and_unknown_values_are_logged_once(store, tmp_path, client):
    unknown = {"task0.bpb": None, "task1.bpb": None}
    for name, fields in (("whole", {}), ("unknown", {"signal_to_noise": unknown})):
        cfg = load(settings=[f"storage.root={tmp_path}", f"search.name={name}"])
        store.put(tables.TRIALS, [trial(0, search=name)])
        for gain in (0.02, 0.025):
            store.put(tables.MIXTURES, [finished(search=name, gain=gain, **fields)])
            mirror(store, cfg)
    parents = runs_by_kind(client, "search")
    keys = {tuple(sorted(parent.data.metrics)) for parent in parents}
    assert len(parents) == 2
    assert len(keys) == 1
    for parent in parents:
        run_id = parent.info.run_id
        assert len(client.get_metric_history(run_id, "gain.natural.mean")) == 2
        assert len(client.get_metric_history(run_id, "signal_to_noise.task1.bpb")) == 1


def test_a_trial_of_another_search_is_logged_with_its_part_in_this_one(store, cfg, client):
    plan = (PlannedRecord(trial_id=f"{9:016x}", round=1, method="uniform", seed=2),)
    store.put(tables.TRIALS, [trial(9, search="other", round=0, method="natural")])
    store.put(tables.MIXTURES, [finished(plan=plan)])
    assert mirror(store, cfg) == "MLflow: 1 runs logged, 0 already logged"
    (child,) = runs_by_kind(client, "trial")
    assert child.data.tags["climb.method"] == "uniform"
    assert (child.data.metrics["round"], child.data.metrics["seed"]) == (1, 2)


def test_a_trial_of_another_search_is_logged_once_and_not_under_the_other_search(
    store, cfg, client
):
    plan = (PlannedRecord(trial_id=f"{9:016x}", round=1, method="uniform", seed=2),)
    store.put(tables.TRIALS, [trial(9, search="other", round=0, method="natural")])
    for gain in (0.02, 0.025):
        store.put(tables.MIXTURES, [finished(plan=plan, gain=gain)])
        mirror(store, cfg)
    (child,) = runs_by_kind(client, "trial")
    assert child.data.tags["climb.search"] == cfg.search.name


def test_a_server_that_is_down_causes_one_warning_and_is_updated_later(
    store, cfg, client, tmp_path, capsys
):
    with socket.socket() as unused:  # bound but not listening: connections fail
        unused.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}"
        down = load(settings=[f"storage.root={tmp_path}", f"tracking.uri={uri}"])
        assert mirror(store, down) is None
        assert mirror(store, down) is None
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mlflow   warning: http://127.0.0.1:")
    assert "secret" not in lines[0]
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 already logged"


def test_a_database_that_could_not_be_written_is_updated_at_the_next_start(
    store, tmp_path, empty_database, monkeypatch
):
    folder = tmp_path / "elsewhere"
    folder.write_text("a file where a folder should be")
    uri = f"sqlite:///{folder}/mlflow.db"
    cfg = load(settings=[f"storage.root={tmp_path}", f"tracking.uri={uri}"])
    assert mirror(store, cfg) is None
    folder.unlink()
    folder.mkdir()
    shutil.copy(empty_database, folder)
    assert mirror(store, cfg) is None  # within RETRY_AFTER seconds
    monkeypatch.setattr(tracking, "_failed_at", {})
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 already logged"


def test_without_artifacts_no_file_is_uploaded(store, cfg, client, tmp_path):
    (tmp_path / "report.html").write_text("<p>a quoted document</p>")
    store.put(tables.MIXTURES, [finished()])
    own = cfg.model_copy(update={"tracking": cfg.tracking.model_copy(update={"artifacts": False})})
    assert mirror(store, own) == "MLflow: 5 runs logged, 0 already logged"
    (parent,) = runs_by_kind(client, "search")
    assert parent.info.status == "FINISHED"
    assert client.list_artifacts(parent.info.run_id) == []
    mirror(store, cfg)
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "result.json"} <= names


def test_retries_of_the_databricks_sdk_are_short_too(monkeypatch):
    """MLflow's default of 500 s would hold idle GPUs. A value set by the user stays."""
    from mlflow.environment_variables import MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT

    name = MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT.name
    monkeypatch.delenv(name, raising=False)
    default = MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT.get()
    with limit_mlflow():
        assert MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT.get() <= 10 < default
    assert MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT.get() == default
    monkeypatch.setenv(name, "77")
    with limit_mlflow():
        assert MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT.get() == 77


def test_mlflow_skinny_without_its_sqlite_store_is_reported_with_the_extra(
    store, cfg, monkeypatch, capsys
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "sqlalchemy" else find(name)
    )
    assert mirror(store, cfg) is None
    printed = capsys.readouterr()
    assert "pip install 'climb-mixture[local]'" in printed.out + printed.err


def test_more_weights_than_the_limit_of_one_call_are_all_logged(store, cfg, client, monkeypatch):
    """Databricks accepts 1,000 metrics, 100 params and 100 tags in a call, and 6,000 characters."""
    weights = {f"domain {i} {'x' * 300}": 1 / 250 for i in range(250)}
    store.put(tables.TRIALS, [trial(0, weights=weights)])
    calls, log_batch = [], type(client).log_batch

    def record(self, run_id, metrics=(), params=(), tags=(), **options):
        calls.append((metrics, params, tags))
        return log_batch(self, run_id, metrics=metrics, params=params, tags=tags, **options)

    monkeypatch.setattr(type(client), "log_batch", record)
    mirror(store, cfg)
    assert len(calls) > 2
    for metrics, params, tags in calls:
        assert len(metrics) <= 1_000
        assert len(params) <= 100
        assert len(tags) <= 100
        assert all(len(item.key) <= 250 for item in (*metrics, *params, *tags))
        assert all(len(item.value) <= 6_000 for item in (*params, *tags))
    (child,) = runs_by_kind(client, "trial")
    assert sum(key.startswith("weight.") for key in child.data.params) == 250


def test_names_that_mlflow_rejects_get_distinct_keys(store, cfg, client):
    weights = {"a&b": 0.2, "a%b": 0.3, "it's": 0.5}
    store.put(tables.TRIALS, [trial(0, weights=weights)])
    mirror(store, cfg)
    (child,) = runs_by_kind(client, "trial")
    kept = [float(v) for k, v in child.data.params.items() if k.startswith("weight.")]
    assert sorted(kept) == [0.2, 0.3, 0.5]


def test_stores_that_share_a_server_do_not_share_runs(store, cfg, client, tmp_path):
    mirror(store, cfg)
    other = Rows(tmp_path / "other")
    other.folder.mkdir()
    other.put(tables.TRIALS, [trial(0), trial(7)])
    shared = load(
        settings=[
            f"storage.root={tmp_path}/other",
            f"tracking.uri={resolve_tracking_uri(cfg)}",
        ]
    )
    assert mirror(other, shared) == "MLflow: 2 runs logged, 0 already logged"
    assert len(runs_by_kind(client, "search")) == 2
    assert len(runs_by_kind(client, "trial")) == 7


def test_a_deleted_experiment_is_restored_and_used(store, cfg, client, capsys):
    mirror(store, cfg)
    client.delete_experiment(client.get_experiment_by_name("climb").experiment_id)
    store.put(tables.TRIALS, [*store.tables["trials"], trial(6)])
    assert mirror(store, cfg) == "MLflow: 1 runs logged, 5 already logged"
    assert "experiment 'climb' was deleted; it is restored" in capsys.readouterr().out
    assert len(runs_by_kind(client, "trial")) == 6


def test_a_file_that_is_no_database_is_named_at_once(store, cfg, tmp_path, capsys):
    (tmp_path / "mlflow.db").write_text("no database, but words in a file of this name " * 30)
    assert mirror(store, cfg) is None
    line = capsys.readouterr().out
    assert "mlflow.db: file is not a database; move the file away" in line
    assert "tries again" not in line


def test_a_database_that_another_process_writes_to_is_tried_again(
    store, cfg, client, tmp_path, capsys, monkeypatch
):
    with sqlite3.connect(tmp_path / "mlflow.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert mirror(store, cfg) is None
        other.rollback()
    line = capsys.readouterr().out
    assert "the next try is after 10 minutes, or at the next start: " in line
    assert "mlflow.db: another process writes to it" in line
    monkeypatch.setattr(tracking, "_failed_at", {})
    assert mirror(store, cfg) == "MLflow: 5 runs logged, 0 already logged"


def test_searches_are_distinguished_by_their_names(store, tmp_path, client):
    for name in ("law", "law.2"):
        store.put(tables.TRIALS, [trial(0, search=name)])
        settings = [f"storage.root={tmp_path}", f"search.name={json.dumps(name)}"]
        assert mirror(store, load(settings=settings)) == "MLflow: 1 runs logged, 0 already logged"
    assert len(runs_by_kind(client, "search")) == 2


def test_without_a_local_root_tracking_is_off_and_logs_this_once(store, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "_logged", set())
    cfg = load(settings=["storage.root=s3://bucket/run", "storage.files=/mnt/run"])
    assert mirror(store, cfg) is None
    assert mirror(store, cfg) is None
    assert capsys.readouterr().out.count("set tracking.uri") == 1
    assert format_open_command(cfg).startswith("off")


def test_tracking_can_be_switched_off(store, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}", "tracking.enabled=false"])
    assert mirror(store, cfg) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_without_trials_no_database_is_created(tmp_path, cfg):
    assert mirror(Rows(tmp_path), cfg) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_the_open_command_names_the_database_that_was_written(cfg, tmp_path):
    assert format_open_command(cfg).endswith(
        f"server --workers 1 --backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    )


def make_drift(**changes):
    values = {"n_fit": 100, "n_now": 110, "far_share_fit": 0.01, "far_share": 0.03}
    values |= {"far_share_new": 0.2, "domain_shift": 0.05, "distance_growth": 0.03}
    return Drift(**values | changes)


def test_the_drift_of_a_clustering_is_one_run_with_a_step_per_growth(store, cfg, client):
    for drift in (make_drift(), make_drift(), make_drift(n_now=150, distance_growth=0.01)):
        log_drift(store, cfg, "first", drift)
    log_drift(store, cfg, "second", make_drift())
    first, second = sorted(
        runs_by_kind(client, "clustering"), key=lambda run: run.data.tags["climb.clustering"]
    )
    assert first.data.tags["climb.store"] == store.read_table_id(tables.ASSIGNMENTS)
    assert (first.info.status, first.info.run_name) == ("FINISHED", "clusters first")
    assert first.data.metrics == make_drift(n_now=150, distance_growth=0.01).figures()
    history = client.get_metric_history(first.info.run_id, "clustering_again_pays")
    assert [(m.step, m.value) for m in history] == [(110, 1.0), (150, 0.0)]
    assert second.data.metrics["far_share_new"] == 0.2


def test_a_server_that_is_down_does_not_stop_the_clustering(store, cfg, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "_failed_at", {})
    settings = [f"storage.root={store.folder}", "tracking.uri=http://127.0.0.1:9"]
    log_drift(store, load(settings=settings), "first", make_drift())
    assert "warning: http://127.0.0.1:9 was not updated" in capsys.readouterr().out


def make_progress(tokens, seconds_left=None):
    return RunProgress(str(tokens), tokens, 1000, 5.0 - tokens / 1000, seconds_left)


def plan_trial(i):
    row = trial(i)
    return PlannedTrial(row["trial_id"], row["round"], row["method"], row["weights"], row["seed"])


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("climb.tracking.live.time.monotonic", lambda: clock.now)
    return clock


SETUP = SimpleNamespace(recipe="LlamaProxy-1", corpus_digest="d1")


def test_a_long_trial_has_a_run_while_it_is_trained_and_the_mirror_completes_it(
    store, cfg, client, clock
):
    store.put(tables.TRIALS, [])
    long, short = plan_trial(0), plan_trial(1)
    with LiveRuns(store, cfg, SETUP) as live:
        for i, tokens in enumerate((0, 200, 400, 600)):
            clock.now = 20.0 * i
            running = [(long, make_progress(tokens, 60.0 - clock.now if i else None))]
            live.update([*running, (short, make_progress(i))] if i < 2 else running)
            live.finish()
        (run,) = runs_by_kind(client, "trial")
        assert run.info.status == "RUNNING"
        assert run.data.tags["climb.trial_id"] == long.trial_id
        assert run.data.tags["mlflow.runName"] == f"round 1 {long.trial_id[-6:]}"
        assert run.data.metrics == {
            "progress.tokens": 400.0, "progress.loss": 4.6, "progress.seconds_left": 20.0,
        }  # fmt: skip
        (logged,) = client.get_metric_history(run.info.run_id, "progress.loss")
        assert logged.step == 400
        store.put(tables.TRIALS, [trial(0), trial(1)])
        mirror(store, cfg)
    children = runs_by_kind(client, "trial")
    assert [child.info.status for child in children] == ["FINISHED", "FINISHED"]
    assert children[0].info.run_id == run.info.run_id
    (parent,) = runs_by_kind(client, "search")
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {**children[1].data.tags, **children[0].data.tags}.keys() == children[1].data.tags.keys()


def test_the_run_of_a_trial_that_was_stopped_early_ends_with_the_search(store, cfg, client, clock):
    with LiveRuns(store, cfg, SETUP) as live:
        for clock.now in (0.0, 31.0):
            live.update([(plan_trial(i), make_progress(100)) for i in (0, 9)])
            live.finish()
        mirror(store, cfg)
        assert {run.info.status for run in runs_by_kind(client, "trial")} == {
            "FINISHED",
            "RUNNING",
            "FAILED",
        }
    stopped = PlannedRecord(
        trial_id=trial(9)["trial_id"], round=3, method="proposal", seed=0, stopped_at=50
    )
    store.put(tables.MIXTURES, [finished(plan=(stopped,))])
    mirror(store, cfg)
    runs = {
        run.data.tags["climb.trial_id"]: run.info.status for run in runs_by_kind(client, "trial")
    }
    assert runs[stopped.trial_id] == "KILLED"
    assert runs[trial(0)["trial_id"]] == "FINISHED"


def test_a_search_that_starts_again_continues_the_runs_that_were_left_open(
    store, cfg, client, clock
):
    for start in range(2):
        with LiveRuns(store, cfg, SETUP) as live:
            for seconds in (0.0, 31.0):
                clock.now = 1000.0 * start + seconds
                live.update([(plan_trial(7), make_progress(100 + start))])
    (run,) = runs_by_kind(client, "trial")
    assert run.data.metrics["progress.tokens"] == 101.0


def test_a_server_that_is_down_delays_no_trial_and_ends_no_search(store, cfg, clock, monkeypatch):
    slow = threading.Event()

    def open_slowly(*_):
        slow.wait()
        raise OSError("connection refused")

    monkeypatch.setattr("climb.tracking.live.open_mirrored", open_slowly)
    with LiveRuns(store, cfg, SETUP) as live:
        for seconds in (0.0, 31.0, 62.0, 93.0):  # returns at once while the thread waits
            clock.now = seconds
            live.update([(plan_trial(7), make_progress(100))])
        assert not live._pending.done()
        slow.set()


def test_target_models_are_logged_once_and_a_new_one_is_added(store, cfg, client):
    mixture = {"recipes": 0.25, "law & order": 0.75}
    row = {"method": "natural", "seed": 0, "recipe": "r", "corpus_digest": "d", "weights": mixture}
    row |= {"metric": "piqa.bpb", "value": 1.5, "n_tokens": 1_000, "seconds": 2.0}
    row |= {"finished": datetime(2026, 1, 2, tzinfo=UTC)}
    rows = [row | {"model": "m1"}, row | {"model": "m1", "metric": "arc.bpb"}]
    store.put(tables.EVALUATIONS, rows)
    curve = {"model": "m1", "step": 10, "loss": 4.0, "learning_rate": 0.1, "metrics": {}}
    store.put(tables.LEARNING_CURVES, [curve, curve | {"step": 20, "loss": 3.0}])
    assert mirror_models(store, cfg) is None  # the search has no mixtures yet
    mixtures = [{"search": "default", "method": "recommended", "weights": mixture}]
    store.put(tables.MIXTURES, mixtures)
    assert mirror_models(store, cfg) == "MLflow: 1 target models logged, 0 already logged"
    reads = store.reads
    assert mirror_models(store, cfg) == "MLflow has all target models"
    assert store.reads == reads
    store.put(tables.EVALUATIONS, [*rows, row | {"model": "m2", "seed": 1}])
    assert mirror_models(store, cfg) == "MLflow: 1 target models logged, 1 already logged"
    runs = {run.data.tags["climb.model"]: run for run in runs_by_kind(client, "model")}
    assert set(runs) == {"m1", "m2"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    history = client.get_metric_history(runs["m1"].info.run_id, "curve.loss")
    assert [(m.step, m.value) for m in history] == [(10, 4.0), (20, 3.0)]
    (parent,) = runs_by_kind(client, "search")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
