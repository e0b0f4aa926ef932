"""How job train ends: failed models are counted, and lost ones are an error after the others."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from climb.cli.start import Unfinished
from climb.errors import InfrastructureError, TrialError
from climb.files import write_folder
from climb.spark.training import train
from climb.spark.training.results import PlannedModel
from climb.spark.training.task import Outcome

JOB = Path(__file__).resolve().parents[2] / "jobs" / "train.py"


@pytest.fixture
def train_models(monkeypatch, tmp_path):
    """Train models with given outcomes; returns the counts, and lists what was recorded."""
    recorded, curves = set(), []

    def append(rows, table):
        recorded.update(row["model"] for row in rows)

    monkeypatch.setattr(train, "_read_recorded", lambda store: set(recorded))
    monkeypatch.setattr(train, "commit_curves", lambda store, models: curves.append(set(models)))
    for name in ("plan_process_slots", "ensure_base_checkpoint", "read_data_versions"):
        monkeypatch.setattr(train, name, lambda *_: None)
    monkeypatch.setattr(train, "write_model_card", lambda *_: None)
    setup = SimpleNamespace(
        processes=1, proxy=None, hung_minutes=1.0, recipe="r", corpus_digest="d", n_tokens=100
    )
    store = SimpleNamespace(session=None, create_frame=lambda rows, table: rows, append=append)
    cfg = SimpleNamespace(spark=None, search=SimpleNamespace(name="default"))
    planned = {
        name: PlannedModel("default", name, 0, SimpleNamespace(weights={"a": 1.0}, save=folder))
        for name, folder in {"a": None, "b": f"{tmp_path}/b", "c": f"{tmp_path}/c"}.items()
    }

    def run(**statuses):
        outcomes = [
            Outcome(name, status, 1.0, {"x.bpb": 1.0} if status == "finished" else {}, status)
            for name, status in statuses.items()
        ]
        monkeypatch.setattr(train, "train_runs", lambda *_: iter(outcomes))
        return train.train_planned(store, cfg, setup, planned)

    return run, curves


def test_models_that_failed_are_counted(train_models):
    run, curves = train_models
    assert run(a="finished", b="failed", c="finished") == (2, 1, 0)
    assert curves[-1] == {"a", "c"}


def test_lost_models_end_the_job_after_the_others_are_recorded_and_the_next_start_trains_them(
    train_models,
):
    run, curves = train_models
    with pytest.raises(InfrastructureError, match=r"^2 of 3 target models .*; start the job again"):
        run(a="lost", b="finished", c="lost")
    assert curves[-1] == {"b"}
    assert run(a="finished", c="finished") == (2, 0, 1)


def test_a_recorded_model_is_trained_again_if_its_folder_was_cut_short(train_models, tmp_path):
    run, _ = train_models
    run(a="finished", b="finished", c="finished")
    assert run() == (0, 0, 3)  # no folder of these models exists
    for name in "bc":
        with write_folder(tmp_path / name) as folder:
            (folder / "weights").write_text("1234")
    (tmp_path / "c" / "weights").write_text("12")
    assert run(c="finished") == (1, 0, 2)


@pytest.fixture
def run_job(monkeypatch):
    """Run the job with given numbers of trained, failed and recorded models."""
    spec = importlib.util.spec_from_file_location("train_job", JOB)
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    monkeypatch.setattr(job, "build_target_setup", lambda *_: SimpleNamespace(targets=("quiz",)))
    monkeypatch.setattr(job, "mirror_models", lambda *_: None)

    def run(*counts):
        monkeypatch.setattr(job, "train_mixtures", lambda *_: counts)
        return job.run(None, None)

    return run


def test_a_job_without_any_model_fails_if_all_models_failed(run_job):
    with pytest.raises(TrialError, match=r"^all 9 target models failed .*; correct section train"):
        run_job(0, 9, 0)


@pytest.mark.parametrize("counts", [(1, 8, 0), (0, 8, 1)])
def test_a_job_with_some_models_is_unfinished_if_others_failed(run_job, counts):
    text = run_job(*counts)
    assert isinstance(text, Unfinished)
    assert "8 failed" in text
