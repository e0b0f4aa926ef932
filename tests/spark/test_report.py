"""The report reads the result of a search and the tables, and writes each file once."""

import importlib.util
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_search import small_search

from climb import tables
from climb.config import load
from climb.dataset.card import DomainCounts
from climb.errors import TableError
from climb.spark.delta.store import Store
from climb.spark.results import report
from climb.spark.results.report import read_report
from climb.spark.training.search import make_mixture_rows
from climb.tracking.uri import resolve_tracking_uri

JOB = Path(__file__).resolve().parents[2] / "jobs" / "report.py"
RESULT = small_search().result


@pytest.fixture
def job():
    spec = importlib.util.spec_from_file_location("report_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_result(store, result):
    store.append(store.create_frame(make_mixture_rows(result), tables.MIXTURES), tables.MIXTURES)


def test_tables_become_the_data_of_the_report(small_run):
    store, cfg = small_run
    data = read_report(store, cfg)
    assert data.result == RESULT
    assert data.n_documents == 8
    reasons = [(row.reason, row.n_rows) for row in data.rejections]
    assert reasons == [("duplicate", 6), ("too short", 2)]
    two_copies_of_one_document = DomainCounts(rows=2, documents=1, tokens=200)
    assert data.corpus == dict.fromkeys(RESULT.domains, two_copies_of_one_document)
    assert len(data.trials) == len(RESULT.plan) == 24
    assert [trial.error for trial in data.trials if trial.status != "finished"] == [
        "loss became NaN at step 7"
    ]
    assert len(data.evaluations) == 3 * 3 * 2
    assert data.versions["documents"] == 0
    assert "search:" in data.configuration


def test_the_dataset_of_another_search_is_not_shown(small_run, job, monkeypatch, tmp_path):
    store, _ = small_run
    settings = [f"storage.root={store.cfg.root}", f"report.path={tmp_path}/r.html"]
    cfg = load(settings=[*settings, f"storage.files={tmp_path}", "tracking.enabled=false"])
    monkeypatch.setattr(report, "find_other_origin", lambda *_: "the search 'b'")
    assert read_report(store, cfg).corpus == {}
    printed = job.run(Store(store.session, cfg.storage), cfg)
    assert re.search(r"dataset +run `climb mix`: .* was made from the search 'b'", printed)
    assert "it was made from the search &#39;b&#39;. Run" in (tmp_path / "r.html").read_text()


def test_trials_outside_the_plan_are_left_out(small_run, spark, tmp_path):
    source, _ = small_run
    cfg = load(settings=[f"storage.root={tmp_path}/out", "search.name=second"])
    store = Store(spark, cfg.storage)
    store.append(source.read(tables.TRIALS), tables.TRIALS)
    part = RESULT.plan[4].model_copy(update={"round": 1, "method": "proposal", "seed": 5})
    write_result(store, RESULT.model_copy(update={"search": "second", "plan": (part,)}))
    (trial,) = read_report(store, cfg).trials
    assert (trial.trial_id, trial.round_, trial.seed) == (part.trial_id, 1, 5)


def test_models_of_other_mixtures_and_of_earlier_settings_are_left_out(small_run, spark, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}/out"])
    store = Store(spark, cfg.storage)
    write_result(store, RESULT)
    row = small_run[0].read_rows(tables.EVALUATIONS, method="natural")[0]
    earlier, later = row["finished"] - timedelta(days=1), row["finished"]
    other_mixture = dict.fromkeys(RESULT.domains, 1 / len(RESULT.domains) + 1e-6)
    rows = [
        row | {"model": "shown", "value": 0.25, "finished": later},
        row | {"model": "earlier target model", "recipe": "target-0", "finished": earlier},
        row | {"model": "earlier shards", "corpus_digest": "corpus-0", "finished": earlier},
        row | {"model": "earlier recommendation", "weights": other_mixture},
    ]
    store.append(store.create_frame(rows, tables.EVALUATIONS), tables.EVALUATIONS)
    (evaluation,) = read_report(store, cfg).evaluations
    assert (evaluation.method, evaluation.value) == (row["method"], 0.25)


def test_a_search_without_a_result_names_the_job_that_makes_one(small_run):
    store, cfg = small_run
    other = cfg.model_copy(update={"search": cfg.search.model_copy(update={"name": "other"})})
    with pytest.raises(TableError, match=r"'other'; run `climb search` first"):
        read_report(store, other)


def test_a_result_of_another_version_is_refused_with_the_field(spark, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}/out"])
    store = Store(spark, cfg.storage)
    rows = make_mixture_rows(RESULT)
    record = json.loads(rows[0]["result"])
    record["worth"] = record.pop("further_round")
    rows[0]["result"] = json.dumps(record)
    store.append(store.create_frame(rows, tables.MIXTURES), tables.MIXTURES)
    with pytest.raises(TableError, match=r"search 'default'.*further_round.*run `climb search`"):
        read_report(store, cfg)


SECRET = "wJalrXUtnFEMI-planted"


def find_secret(folder):
    return [path for path in folder.rglob("*") if path.is_file() and SECRET in read_text(path)]


def read_text(path):
    return path.read_bytes().decode("utf-8", errors="replace")


def test_the_log_of_delta_mlflow_and_the_report_have_no_secret_of_the_run(
    spark, tmp_path, job, monkeypatch
):
    """Of the environment, of Spark's settings and of the MLflow server's address."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    settings.set("fs.s3a.secret.key", SECRET)
    spark.conf.set("fs.s3a.secret.key", SECRET)
    try:
        uri = f"http://climb:{SECRET}@127.0.0.1:9"
        for tracking in ([], [f"tracking.uri={uri}"]):
            cfg = load(settings=[f"storage.root={tmp_path}/out", *tracking])
            store = Store(spark, cfg.storage)
            if not tracking:
                store.append(store.create_frame(small_search().rows, tables.TRIALS), tables.TRIALS)
                write_result(store, RESULT)
            job.run(store, cfg)
            assert (tmp_path / "out" / "report.html").exists()
            assert find_secret(tmp_path) == []
    finally:
        settings.unset("fs.s3a.secret.key")
        spark.conf.unset("fs.s3a.secret.key")
    assert len(list(tmp_path.rglob("_delta_log/*.json"))) >= 2
    assert (tmp_path / "out" / "mlflow.db").exists()
    (tmp_path / "planted").write_text(SECRET)
    assert find_secret(tmp_path) == [tmp_path / "planted"]


def test_the_job_writes_once_and_mirrors_once(small_run, job):
    store, cfg = small_run
    path = store.locate_file("report.html")
    first, _, summary = job.run(store, cfg).partition("\n")
    assert first.startswith(f"{path} written")
    assert first.endswith("MLflow: 24 runs logged, 0 already logged")
    assert "The recommended mixture beats natural and uniform." in summary
    assert f"report   {path}" in summary
    assert all(name in summary for name in RESULT.domains)
    written, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert b"The recommended mixture beats natural and uniform" in written
    again, _, same = job.run(store, cfg).partition("\n")
    assert again == f"{path} is up to date; MLflow is up to date"
    assert same == summary
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (written, changed)
    client = MlflowClient(tracking_uri=resolve_tracking_uri(cfg))
    experiment = client.get_experiment_by_name("climb").experiment_id
    (parent,) = client.search_runs([experiment], "tags.\"climb.kind\" = 'search'")
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    files = {"report.html", "result.json", "quality.csv", "effects.csv"}
    assert names == files | {"figures"}
    drawn = {item.path for item in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/mixture.svg", "figures/rounds.svg", "figures/gains.svg"} <= drawn
    assert parent.data.tags["climb.version.domains"] == "0"


def test_a_report_of_the_result_alone_needs_no_other_table(spark, tmp_path, job):
    cfg = load(settings=[f"storage.root={tmp_path}/out", f"report.path={tmp_path}/r.html"])
    store = Store(spark, cfg.storage)
    write_result(store, RESULT)
    assert job.run(store, cfg).startswith(f"{tmp_path}/r.html written")
    assert b"climb train" in (tmp_path / "r.html").read_bytes()
