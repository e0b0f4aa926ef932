"""The report is read from the tables, written once, and leaves out what is no longer the answer."""

import importlib.util
from pathlib import Path

import pytest
from mlflow import MlflowClient

from climb import tables
from climb.config import load
from climb.errors import TableError
from climb.spark.report import read_report
from climb.spark.store import Store
from climb.tracking import tracking_uri

JOB = Path(__file__).resolve().parents[2] / "jobs" / "report.py"


@pytest.fixture
def job():
    spec = importlib.util.spec_from_file_location("report_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_become_the_report_s_data(small_run):
    store, cfg = small_run
    data = read_report(store, cfg)
    assert data.n_documents == 8
    reasons = [(row.reason, row.n_rows) for row in data.rejections]
    assert reasons == [("duplicate", 6), ("too short", 2)]
    assert {(row.domain, row.n_documents, row.n_tokens) for row in data.corpus} == {
        (name, 2, 200) for name in ("chat", "law", "recipes", "space")
    }
    assert data.direct["natural"].low == 0.05
    assert len(data.trials) == 14
    assert [trial.error for trial in data.trials if not trial.finished] == [
        "loss became NaN at step 7"
    ]
    assert len(data.evaluations) == 3 * 3 * 4
    assert data.versions["documents"] == 0
    assert "search:" in data.configuration


def test_trials_of_earlier_data_and_earlier_answers_are_left_out(small_run, spark, tmp_path):
    source, _ = small_run
    cfg = load(settings=[f"storage.root={tmp_path}/out"])
    store = Store(spark, cfg.storage)
    rows = source.rows(tables.TRIALS)
    earlier = [row | {"trial_id": f"old-{row['trial_id']}", "data": "d0"} for row in rows]
    for row in earlier:
        row["finished"] = row["finished"].replace(year=2024)
    stale = rows[-1] | {"trial_id": "stale", "weights": {"law": 1.0}}
    store.append(store.frame([*rows, *earlier, stale], tables.TRIALS), tables.TRIALS)
    mixtures = source.rows(tables.MIXTURES)
    store.append(store.frame(mixtures, tables.MIXTURES), tables.MIXTURES)
    assert {t.trial_id for t in read_report(store, cfg).trials} == {r["trial_id"] for r in rows}


def test_a_plan_in_the_evidence_decides_which_trials_count(small_run, spark, tmp_path):
    source, _ = small_run
    cfg = load(settings=[f"storage.root={tmp_path}/out", "search.name=second"])
    store = Store(spark, cfg.storage)
    store.append(store.frame(source.rows(tables.TRIALS), tables.TRIALS), tables.TRIALS)
    row = source.rows(tables.MIXTURES)[0] | {
        "search": "second",
        "evidence": '{"plan": [["0000000000000004", 1, "proposal", 5]]}',
    }
    store.append(store.frame([row], tables.MIXTURES), tables.MIXTURES)
    (trial,) = read_report(store, cfg).trials
    assert (trial.trial_id, trial.round_, trial.seed) == ("0000000000000004", 1, 5)


def test_a_search_without_an_answer_names_the_job_that_makes_one(small_run):
    store, cfg = small_run
    other = cfg.model_copy(update={"search": cfg.search.model_copy(update={"name": "other"})})
    with pytest.raises(TableError, match=r"'other'; run `climb search` first"):
        read_report(store, other)


def test_the_job_writes_once_and_mirrors_once(small_run, job):
    store, cfg = small_run
    path = store.files("report.html")
    first = job.run(store, cfg)
    assert first.startswith(f"{path} written")
    assert first.endswith("MLflow: 14 runs logged, 0 known")
    written, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert b"The found mixture beats natural and uniform proportions" in written
    assert job.run(store, cfg) == f"{path} is up to date; MLflow up to date"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (written, changed)
    client = MlflowClient(tracking_uri=tracking_uri(cfg))
    experiment = client.get_experiment_by_name("climb").experiment_id
    (parent,) = client.search_runs([experiment], "tags.\"climb.kind\" = 'search'")
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert names == {"report.html", "mixture.json", "figures"}
    drawn = {item.path for item in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/mixture.svg", "figures/rounds.svg", "figures/gains.svg"} <= drawn
    assert parent.data.tags["climb.version.domains"] == "0"


def test_a_report_of_the_answer_alone_needs_no_other_table(small_run, spark, tmp_path, job):
    source, _ = small_run
    cfg = load(settings=[f"storage.root={tmp_path}/out", f"report.path={tmp_path}/r.html"])
    store = Store(spark, cfg.storage)
    rows = source.rows(tables.MIXTURES)
    store.append(store.frame(rows, tables.MIXTURES), tables.MIXTURES)
    assert job.run(store, cfg).startswith(f"{tmp_path}/r.html written")
    assert b"climb train" in (tmp_path / "r.html").read_bytes()
