"""A job is skipped only if nothing that it reads or writes has changed; no JVM is needed."""

import json
import os
from types import SimpleNamespace

import pytest

from climb import tables
from climb.cli.finished import records
from climb.cli.finished.delta_log import read_last_change, read_last_commit
from climb.cli.finished.plan import describe_plan
from climb.cli.finished.records import check_job, record_job
from climb.cli.finished.state import SETTINGS, Used
from climb.cli.start import PIPELINE, Unfinished, _run_all
from climb.config import load
from climb.errors import TableError

EVERY = tuple(table.name for table in tables.TABLES)


def commit(table, version, operation="WRITE", **info):
    """Write a commit file as Spark does: `commitInfo` first."""
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    action = {"commitInfo": {"operation": operation, "txnId": f"{version}", **info}}
    lines = [json.dumps(action), json.dumps({"add": {"path": "a", "dataChange": True}})]
    (log / f"{version:020}.json").write_text("\n".join(lines) + "\n")


@pytest.fixture
def world(tmp_path):
    """Settings of a run whose files and tables exist."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "items.jsonl").write_text("{}\n")
    root = tmp_path / "out"
    for name in EVERY:
        commit(root / "tables" / name, 0, "CREATE TABLE")
        commit(root / "tables" / name, 1)
    (root / "mixed").mkdir()
    (root / "mixed" / "part").write_text("rows")
    (root / "models" / "proxies" / "base-1").mkdir(parents=True)
    (root / "models" / "proxies" / "base-1" / "weights").write_text("1")
    (root / "models" / "targets" / "ab").mkdir(parents=True)
    (root / "models" / "targets" / "ab" / "weights").write_text("1")
    (root / "shards" / "ab").mkdir(parents=True)
    (root / "shards" / "ab" / "trial-law.npy").write_text("tokens")
    (root / "report.html").write_text("page")
    target = f"{{name: t, kind: text, search: {tmp_path}/items.jsonl, report: null, limit: null}}"
    return tmp_path, (
        f"storage.root={root}",
        f"ingest.inputs=[{tmp_path}/text]",
        f"proxy.targets=[{target}]",
        "tracking.enabled=false",
    )


def finish(settings, names=PIPELINE, used=EVERY, **fields):
    """Record the end of jobs, as after a run of them."""
    cfg = load(settings=settings)
    for name in names:
        with record_job(name, cfg) as job:
            job.text = f"{name} wrote rows\nsummary of {name}"
            job.used = Used(used, [f"{cfg.storage.root}/shards/ab"] if name == "pack" else ())
            for field, value in fields.items():
                setattr(job, field, value)


def find_done(settings):
    cfg = load(settings=settings)
    return {name for name in PIPELINE if check_job(name, cfg).is_done}


def test_every_job_of_the_pipeline_and_both_comparisons_have_a_state():
    assert SETTINGS.keys() == {*PIPELINE, "compare", "ablate"}


def test_tables_that_a_comparison_writes_with_other_jobs_do_not_make_it_run_again(world):
    """It trains trials and target models itself, after its record has begun."""
    folder, settings = world
    cfg = load(settings=settings)
    with record_job("compare", cfg) as job:
        commit(folder / "out" / "tables" / "trials", 7)
        job.text, job.used = "compared", Used(["trials", "domains"])
    assert check_job("compare", cfg).is_done
    commit(folder / "out" / "tables" / "trials", 8)
    assert "table trials has changed" in check_job("compare", cfg).reason


def test_after_a_whole_run_every_job_is_done_and_keeps_its_summary(world):
    _, settings = world
    finish(settings)
    assert find_done(settings) == set(PIPELINE)
    verdict = check_job("pack", load(settings=settings))
    assert verdict.reason.endswith(": pack wrote rows")
    assert verdict.summary == "summary of pack"


def test_a_search_that_has_written_the_mixture_of_doremi_is_done(world):
    path, settings = world
    cfg = load(settings=settings)
    with record_job("search", cfg) as job:
        job.used = Used(("doremi", "trials"))
        commit(path / "out" / "tables" / "doremi", 2)
    assert check_job("search", cfg).is_done
    commit(path / "out" / "tables" / "doremi", 3)
    assert "table doremi has changed" in check_job("search", cfg).reason


def test_without_a_record_no_job_is_done(world):
    _, settings = world
    assert find_done(settings) == set()


@pytest.mark.parametrize(
    ("change", "jobs", "reason"),
    [
        ("prune.terms=9", {"prune", "report"}, "prune.terms is 9, was 8"),
        (
            "count.vocab_size=300",
            set(PIPELINE) - {"ingest", "embed", "score", "cluster"},
            "count.vocab_size is 300, was 2048",
        ),
        ("train.seeds=4", {"target_base", "train", "report"}, "train.seeds is 4, was 3"),
        ("train.tokens=5", {"pack", "target_base", "train", "report"}, "train.tokens is 5"),
        ("spark.shuffle_partitions=3", {"report"}, "spark.shuffle_partitions is 3, was 8"),
    ],
)
def test_a_changed_key_concerns_the_jobs_that_read_it(world, change, jobs, reason):
    _, settings = world
    finish(settings)
    changed = (*settings, change)
    assert set(PIPELINE) - find_done(changed) == jobs
    for name in jobs:
        assert reason in check_job(name, load(settings=changed)).reason


def _add_file(folder):
    (folder / "text" / "b.jsonl").write_text('{"text": "two"}\n')


def _touch_file(folder):
    os.utime(folder / "text" / "a.jsonl", ns=(1, 1))


def _remove_shard(folder):
    (folder / "out" / "shards" / "ab" / "trial-law.npy").unlink()


def _truncate_part(folder):
    (folder / "out" / "mixed" / "part").write_text("row")


def _leave_unfinished_export(folder):
    (folder / "out" / "mixed.climb-writing").mkdir()
    (folder / "out" / "mixed.climb-writing" / "part").write_text("row")


def _delete_report(folder):
    (folder / "out" / "report.html").unlink()


def _cut_model_short(folder):
    (folder / "out" / "models" / "targets" / "ab" / "weights").write_text("")


def _change_items(folder):
    (folder / "items.jsonl").write_text("{...}\n")


def _write_scores(folder):
    commit(folder / "out" / "tables" / "scores", 2, "MERGE")


def _recreate_scores(folder):
    commit(folder / "out" / "tables" / "scores", 1, txnId="another table of this name")


@pytest.mark.parametrize(
    ("change", "jobs", "reason"),
    [
        (_add_file, {"ingest"}, "the input files have changed"),
        (_touch_file, {"ingest"}, "the input files have changed"),
        (_remove_shard, {"pack"}, "out/shards/ab have changed"),
        (_truncate_part, {"mix"}, "mix.export have changed"),
        (_leave_unfinished_export, {"mix"}, "mix.export have changed"),
        (_delete_report, {"report"}, "report.html have changed"),
        (_cut_model_short, {"train"}, "models/targets/**/* have changed"),
        (_change_items, {"base", "search", "target_base", "train", "report"}, "proxy.targets t"),
        (_write_scores, set(PIPELINE), "table scores has changed (version 2, was version 1)"),
        (_recreate_scores, set(PIPELINE), "table scores has changed (version 1, was version 1)"),
    ],
)
def test_a_change_of_files_or_tables_concerns_the_jobs_that_use_them(world, change, jobs, reason):
    folder, settings = world
    finish(settings)
    change(folder)
    assert set(PIPELINE) - find_done(settings) == jobs
    for name in jobs:
        assert reason in check_job(name, load(settings=settings)).reason


def test_a_table_that_a_job_does_not_use_does_not_concern_it(world):
    folder, settings = world
    finish(settings, ["count"], used=("documents", "tokens"))
    _write_scores(folder)
    assert find_done(settings) == {"count"}


@pytest.mark.parametrize("operation", ["OPTIMIZE", "VACUUM START", "SET TBLPROPERTIES"])
def test_upkeep_of_a_table_is_no_change(world, operation):
    folder, settings = world
    finish(settings)
    commit(folder / "out" / "tables" / "scores", 2, operation)
    assert find_done(settings) == set(PIPELINE)


def test_another_model_file_concerns_the_jobs_that_load_or_identify_it(world):
    folder, settings = world
    table = folder / "table.safetensors"
    table.write_bytes(b"1")
    settings = (*settings, f"embed.embedder.table={table}")
    finish(settings)
    assert find_done(settings) == set(PIPELINE)
    table.write_bytes(b"12")
    assert set(PIPELINE) - find_done(settings) == {"embed", "cluster"}
    reason = check_job("embed", load(settings=settings)).reason
    assert reason == "the files of embed.embedder.table have changed"


def test_other_code_concerns_every_job(world, monkeypatch):
    _, settings = world
    finish(settings)
    monkeypatch.setattr("climb.cli.finished.state._digest_code", lambda: "other")
    assert find_done(settings) == set()


def test_another_model_in_the_same_folder_concerns_the_jobs_that_start_its_training(world):
    folder, settings = world
    model = folder / "model"
    (folder / "weights").mkdir()
    (folder / "weights" / "w").write_text("1")
    model.mkdir()
    (model / "inner").symlink_to(folder / "weights")
    shape = "sequence: 8, batch: 2, learning_rate: 0.1"
    spec = f"{{use: 'climb.proxy.llama:HuggingFaceProxy', model: {model}, {shape}}}"
    settings = (*settings, f"proxy.model={spec}", "compare.seeds=2")
    names = ["search", "compare"]
    finish(settings, names)
    cfg = load(settings=settings)
    assert all(check_job(name, cfg).is_done for name in names)
    (folder / "weights" / "w").write_text("other")
    assert not any(check_job(name, cfg).is_done for name in names)


def test_a_record_has_no_password(world):
    """The address of an MLflow server may have one. A new password is no reason to run a job."""
    folder, settings = world
    uri = "tracking.uri=postgresql://climb:{}@host/mlflow"
    finish((*settings, uri.format("wJalr/XUtn")))
    record = (folder / "out" / "finished" / "report.json").read_text()
    assert "postgresql://host/mlflow" in record
    assert "XUtn" not in record
    assert "report" in find_done((*settings, uri.format("other")))
    assert "report" not in find_done((*settings, "tracking.uri=postgresql://other/mlflow"))


def test_a_copy_of_the_folder_is_not_done(world):
    """Its rows name files of the original."""
    folder, settings = world
    finish(settings)
    (folder / "out").rename(folder / "copy")
    assert find_done((*settings, f"storage.root={folder}/copy")) == set()


def test_a_base_checkpoint_is_not_needed_once_the_search_is_done(world):
    folder, settings = world
    finish(settings)
    (folder / "out" / "models" / "proxies" / "base-1" / "weights").unlink()
    assert check_job("base", load(settings=settings)).reason == "not needed, `search` is up to date"
    (folder / "out" / "finished" / "search.json").unlink()
    assert not check_job("base", load(settings=settings)).is_done


def test_a_job_that_failed_or_left_work_has_no_record(world):
    _, settings = world
    finish(settings)
    with pytest.raises(RuntimeError), record_job("embed", load(settings=settings)):
        raise RuntimeError("killed")
    finish(settings, ["train"], is_complete=False)
    assert set(PIPELINE) - find_done(settings) == {"embed", "train"}


def test_a_run_records_jobs_skips_finished_ones_and_repeats_unfinished_ones(
    world, monkeypatch, capsys
):
    _, settings = world
    store = SimpleNamespace(used=set(), used_folders=set())
    opened, ran = [], []
    monkeypatch.setattr("climb.cli.start._open_store", lambda *_: opened.append(1) or store)

    def make_job(name, text):
        def job(store, cfg):
            ran.append(name)
            store.used.add("documents")
            return text

        return name, job

    texts = {"count": "counted\nmore", "train": Unfinished("1 failed"), "report": "written"}
    jobs = [make_job(name, text) for name, text in texts.items()]
    _run_all(jobs, load(settings=settings), skip=True)
    assert (ran, opened) == (["count", "train", "report"], [1])
    _run_all(jobs, load(settings=settings), skip=True)
    assert (ran[3:], opened) == (["train"], [1, 1])
    _run_all([jobs[0], jobs[2]], load(settings=settings), skip=True)
    assert (len(ran), opened) == (4, [1, 1])  # nothing to do: Spark is not started
    assert "more" in capsys.readouterr().out.split("report")[-2]
    _run_all(jobs, load(settings=settings), skip=False)
    assert len(ran) == 7


def test_what_others_write_while_a_job_runs_is_a_change(world):
    folder, settings = world
    with record_job("score", load(settings=settings)) as job:
        job.used = Used(("documents", "scores"))
        commit(folder / "out" / "tables" / "scores", 2)  # by the job itself
    assert find_done(settings) == {"score"}
    with record_job("score", load(settings=settings)) as job:
        job.used = Used(("documents", "scores"))
        commit(folder / "out" / "tables" / "documents", 2)  # by an ingest
    assert find_done(settings) == set()


def test_inputs_that_change_while_ingest_runs_are_a_change(world):
    folder, settings = world
    with record_job("ingest", load(settings=settings)):
        _add_file(folder)
    assert find_done(settings) == set()


def test_runs_that_mlflow_lacks_concern_the_report(world):
    folder, settings = world
    tracked = (*settings, "tracking.enabled=true")
    finish(tracked)
    assert set(PIPELINE) - find_done(tracked) == {"report"}
    reason = check_job("report", load(settings=tracked)).reason
    assert reason == "MLflow does not have all runs"
    from climb.tracking import mirrored

    cfg = load(settings=tracked)
    uri = f"sqlite:///{folder}/out/mlflow.db"
    (folder / "out" / "mlflow.db").write_text("")
    state = mirrored.digest_state(cfg, uri, {"trials": 1, "mixtures": 1})
    (folder / "out" / "mlflow.mirrored").write_text(state)
    finish(tracked, ["report"])
    assert set(PIPELINE) - find_done(tracked) == {"report"}  # the target models are missing
    models = dict.fromkeys(("mixtures", "evaluations", "learning_curves"), 1)
    state = mirrored.digest_models(cfg, uri, models)
    (folder / "out" / "mlflow.models").write_text(state)
    finish(tracked, ["report"])
    assert find_done(tracked) == set(PIPELINE)


@pytest.mark.parametrize(
    "setting", ["storage.catalog=main.climb", "storage.root=s3://bucket/climb"]
)
def test_tables_that_only_spark_can_read_are_never_done(world, setting, tmp_path):
    _, settings = world
    changed = (*settings, f"storage.files={tmp_path}", setting)
    finish(changed)
    assert find_done(changed) == set()
    assert "only Spark can check this job" in check_job("pack", load(settings=changed)).reason


def test_an_input_that_only_spark_can_read_leaves_ingest_to_spark(world):
    folder, settings = world
    catalog = (*settings, "ingest.inputs=['delta:main.raw.pages']")
    finish(catalog)
    assert set(PIPELINE) - find_done(catalog) == {"ingest"}
    reason = check_job("ingest", load(settings=catalog)).reason
    assert reason == "only Spark can read the input delta:main.raw.pages"
    commit(folder / "raw", 0)
    local = (*settings, f"ingest.inputs=['delta:{folder}/raw']")
    finish(local, ["ingest"])
    assert check_job("ingest", load(settings=local)).is_done
    commit(folder / "raw", 1, "OPTIMIZE")  # ingest reads every new version
    assert not check_job("ingest", load(settings=local)).is_done


def test_a_damaged_record_is_none(world):
    folder, settings = world
    finish(settings)
    for name, text in (("count", "{"), ("embed", "[]"), ("score", '{"format": 1}')):
        (folder / "out" / "finished" / f"{name}.json").write_text(text)
    older = folder / "out" / "finished" / "prune.json"
    older.write_text(json.dumps(json.loads(older.read_text()) | {"format": records.FORMAT + 1}))
    assert set(PIPELINE) - find_done(settings) == {"count", "embed", "score", "prune"}


def test_a_log_that_is_not_understood_is_never_unchanged(tmp_path):
    table = tmp_path / "t"
    assert read_last_change(table) is None
    commit(table, 3, "OPTIMIZE")  # the log of version 2 is missing
    with pytest.raises(TableError, match="does not show the newest change"):
        read_last_change(table)
    commit(table, 1, "WRITE")
    with pytest.raises(TableError, match="does not show the newest change"):
        read_last_change(table)
    commit(table, 2, "DELETE")
    assert read_last_change(table).version == 2
    assert read_last_commit(table).version == 3
    (table / "_delta_log" / "_staged_commits").mkdir()
    assert read_last_change(table).version == 2
    (table / "_delta_log" / "_staged_commits" / "4.json").write_text("{}")
    with pytest.raises(TableError, match="_staged_commits"):
        read_last_change(table)


@pytest.mark.parametrize("text", ["", "{", '{"add": {}}\n', "[]\n"])
def test_a_damaged_commit_is_an_error(tmp_path, text):
    commit(tmp_path, 0)
    (tmp_path / "_delta_log" / f"{1:020}.json").write_text(text)
    with pytest.raises(TableError, match="commit"):
        read_last_change(tmp_path)


def test_a_plan_names_what_would_run_and_what_may_follow(world):
    folder, settings = world
    finish(settings)
    cfg = load(settings=settings)
    assert describe_plan(PIPELINE, cfg).splitlines()[-1] == "nothing to do"
    _add_file(folder)
    finish(settings, ["report"], used=())
    lines = describe_plan(PIPELINE, cfg).splitlines()
    assert lines[0] == "ingest       would run  the input files have changed"
    assert lines[1] == "count        would run  if `ingest` changes table documents"
    assert lines[-2].startswith("report       done       up to date since ")
    assert lines[-1] == "1 of 13 jobs would run, and 11 more if a table changes"
