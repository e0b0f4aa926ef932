"""Whole runs: kills, partitions, file names and ways to start do not change the rows."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import world
from keys_read import KeysRead, check_keys

from climb import tables
from climb.cli.finished.records import check_job
from climb.cli.start import PIPELINE, import_jobs
from climb.config import load
from climb.spark.delta.store import Store

BIN = Path(sys.executable).parent
UNTRACKED = ["--set", "tracking.enabled=false"]
"""MLflow needs seconds to create its store; the last run of a series logs what is missing."""

PER_RUN = {"seconds", "finished"}
"""Columns with the time and the duration of a row."""


def run(program, *args):
    return subprocess.run(
        [str(BIN / program), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def climb(*args):
    return run("climb", *args)


def read_rows(spark, conf, table, *settings):
    store = Store(spark, load(conf, settings).storage)
    return [{k: v for k, v in row.items() if k not in PER_RUN} for row in store.read_rows(table)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """One whole run without a kill."""
    conf = world.write_world(tmp_path_factory.mktemp("unbroken"))
    done = climb("run", "--conf", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    return conf, done.stdout


def test_a_run_prints_one_line_per_job_and_the_path_of_the_report(unbroken):
    _, out = unbroken
    stages = [line.split()[0] for line in out.splitlines() if line]
    for job in ("ingest", "count", "embed", "score", "cluster", "prune", "pack", "search", "mix"):
        assert job in stages
    assert "report.html" in out


def test_the_base_checkpoints_are_trained_by_jobs_of_their_own(unbroken):
    """On a cluster, they have one node each, and no other node waits for them."""
    _, out = unbroken
    lines = [line for line in out.splitlines() if line]
    starts = [line.split()[0] for line in lines]
    assert any("checkpoint of the proxies trained: " in line for line in lines)
    assert any("checkpoint of the target models trained: " in line for line in lines)
    assert starts.index("base") < starts.index("search")
    assert starts.index("target_base") < starts.index("train")


def test_a_second_run_starts_no_spark_and_prints_the_summary_again(unbroken):
    conf, first = unbroken
    done = climb("run", "--conf", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session on" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[: len(PIPELINE)]] == [*PIPELINE]
    summary = first[first.index("\ndomain ") :]
    assert done.stdout.endswith(summary)
    plan = climb("run", "--conf", conf, "--dry-run")
    assert plan.stdout.splitlines()[-1] == "nothing to do"
    plan = climb("run", "--conf", conf, "--dry-run", "--set", "train.seeds=3")
    assert plan.stdout.splitlines()[-1] == "3 of 13 jobs would run"


def test_a_second_run_writes_no_new_version_of_a_table(unbroken, spark, monkeypatch):
    """In Spark, where `climb run` would not even start it. No job reads an unexpected key."""
    conf, _ = unbroken
    cfg = load(conf)
    store = Store(spark, cfg.storage)
    before = {table.name: store.history.read_version(table) for table in tables.TABLES}
    lines, keys = {}, KeysRead(monkeypatch)
    for name, job in import_jobs(PIPELINE):
        assert check_job(name, cfg).is_done
        keys.read.clear()
        lines[name] = job(store, cfg)
        check_keys(name, cfg, set(keys.read))
    assert lines["base"] == "not needed, the recommendation is up to date"
    assert lines["target_base"] == "not needed, all target models are recorded"
    assert {table.name: store.history.read_version(table) for table in tables.TABLES} == before
    unused = ["exclusions", "contamination", "dropped", "rungs", "doremi"]
    unused += ["comparisons", "ablations"]
    assert [name for name, version in before.items() if version is None] == unused


@pytest.mark.slow
def test_partitions_file_names_and_order_do_not_change_a_row(unbroken, spark, tmp_path):
    """The unbroken run has one shuffle partition, this one seven."""
    conf, _ = unbroken
    other = world.write_world(tmp_path)
    shutil.rmtree(tmp_path / "text")
    world.write_corpus(tmp_path / "text", n_files=5, shuffle=1, prefix="renamed")
    done = climb("run", "--conf", other, "--set", "spark.shuffle_partitions=7", *UNTRACKED)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in (tables.DOCUMENTS, tables.ASSIGNMENTS, tables.DOMAINS, tables.CORPUS):
        assert read_rows(spark, conf, table) == read_rows(spark, other, table), table.name
    mixtures = [read_rows(spark, c, tables.MIXTURES) for c in (conf, other)]
    assert mixtures[0] == mixtures[1]


def _count_commits(root, table):
    return len(list((root / "tables" / table.name / "_delta_log").glob("*.json")))


def _count_rows(root, table):
    """Count the rows that commits have added to a table; a commit may have several trials."""
    rows = 0
    for commit in (root / "tables" / table.name / "_delta_log").glob("*.json"):
        actions = map(json.loads, commit.read_text().splitlines())
        rows += sum(json.loads(a["add"]["stats"])["numRecords"] for a in actions if "add" in a)
    return rows


def _kill_when(command, conf, root, reached, *options, timeout=300):
    """Start a command below `root`; kill it and its processes once `reached(root, start)`."""
    start = time.time()
    settings = ["--set", f"storage.root={root}", *(options or UNTRACKED)]
    process = subprocess.Popen(
        [str(BIN / "climb"), command, "--conf", str(conf), *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < timeout:
        if reached(root, start):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"the condition was never true:\n{process.communicate()[0]}")


def _has_checkpoint(root, start):
    """Whether a trial (not a base checkpoint) has written a checkpoint since then."""
    slots = (root / "models" / "checkpoints").glob("*/slot-*.pt")
    return any(
        slot.stat().st_mtime > start for slot in slots if not slot.parent.name.startswith("base")
    )


def _is_writing_corpus(root, start):
    """Whether files of the corpus exist and their commit does not."""
    folder = root / "tables" / "corpus"
    return (
        folder.is_dir()
        and any(folder.rglob("*.parquet*"))
        and _count_commits(root, tables.CORPUS) == 0
    )


def _embedded_partly(root, start):
    return 1 < _count_commits(root, tables.EMBEDDINGS) < 4


def _has_three_trials(root, start):
    return _count_rows(root, tables.TRIALS) >= 3


def _check_trials_and_results(spark, conf, broken, finished, results):
    """The results are those of an unbroken run, and no finished trial was trained again."""
    for table in (tables.TRIALS, *results):
        expected = read_rows(spark, conf, table)
        assert expected == read_rows(spark, conf, table, f"storage.root={broken}"), table.name
    after = {row["trial_id"]: row for row in _raw_trials(spark, broken)}
    assert finished, "no trial had finished before the kill"
    for trial_id, row in finished.items():
        assert after[trial_id] == row, "a finished trial was trained again"


@pytest.mark.slow
def test_a_killed_search_ends_with_the_rows_of_an_unbroken_run(unbroken, spark, tmp_path):
    """It starts from the tables of the unbroken run as they were before its search.

    The session of the tests resumes it; another test resumes a whole run in a new process.
    """
    conf, _ = unbroken
    root = tmp_path / "out"
    shutil.copytree(Path(load(conf).storage.root), root)
    for table in (tables.TRIALS, tables.MIXTURES, tables.CORPUS, tables.EVALUATIONS):
        shutil.rmtree(root / "tables" / table.name)
    shutil.rmtree(root / "models")
    _kill_when("search", conf, root, _has_three_trials)
    finished = {row["trial_id"]: row for row in _raw_trials(spark, root)}
    cfg = load(conf, [f"storage.root={root}"])
    [(_, search)] = import_jobs(["search"])
    search(Store(spark, cfg.storage), cfg)
    _check_trials_and_results(spark, conf, root, finished, (tables.MIXTURES,))


@pytest.mark.slow
def test_a_run_that_is_killed_four_times_ends_with_the_rows_of_an_unbroken_run(
    unbroken, spark, tmp_path
):
    conf, _ = unbroken
    root, finished = tmp_path / "out", {}
    for moment in (_embedded_partly, _has_three_trials, _has_checkpoint, _is_writing_corpus):
        _kill_when("run", conf, root, moment)
        finished = finished or {row["trial_id"]: row for row in _raw_trials(spark, root)}
    done = climb("run", "--conf", conf, "--set", f"storage.root={root}")
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tables.MIXTURES, tables.CORPUS, tables.EVALUATIONS)
    _check_trials_and_results(spark, conf, root, finished, results)


@pytest.mark.slow
def test_target_models_of_two_processes_survive_a_killed_driver(unbroken, spark, tmp_path):
    conf, _ = unbroken
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = ["--set", "train.processes=2", "--set", "train.seeds=1", *UNTRACKED]
    for root in (whole, broken):
        shutil.copytree(Path(load(conf).storage.root), root)
        for table in (tables.EVALUATIONS, tables.LEARNING_CURVES):
            shutil.rmtree(root / "tables" / table.name)
        shutil.rmtree(root / "models")
    _kill_when("train", conf, broken, _has_checkpoint, *settings)
    assert not (broken / "tables" / "evaluations").exists()
    for root in (whole, broken):
        done = climb("train", "--conf", conf, "--set", f"storage.root={root}", *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 models trained and measured, 0 already recorded" in done.stdout
    for table in (tables.EVALUATIONS, tables.LEARNING_CURVES):
        rows = [read_rows(spark, conf, table, f"storage.root={r}") for r in (whole, broken)]
        assert rows[0] == rows[1], table.name
    models = {
        path.relative_to(whole): path.read_bytes()
        for path in (whole / "models" / "targets").glob("*/model.safetensors")
    }
    assert len(models) == 3
    assert all((broken / name).read_bytes() == content for name, content in models.items())
    # One process trains models of other names, which differ in their last digits.
    alone = {row["model"] for row in read_rows(spark, conf, tables.EVALUATIONS)}
    assert alone.isdisjoint(name.parts[-2] for name in models)


def _raw_trials(spark, root):
    store = Store(spark, load(settings=[f"storage.root={root}"]).storage)
    return store.read_rows(tables.TRIALS) if store.exists(tables.TRIALS) else []


def test_every_target_model_has_a_learning_curve_and_a_folder_with_a_card(unbroken, spark):
    """Eight steps: points at every third and at the last, evaluations after the fourth and last."""
    conf, _ = unbroken
    root = Path(load(conf).storage.root)
    models = {row["model"]: row for row in read_rows(spark, conf, tables.EVALUATIONS)}
    curves = read_rows(spark, conf, tables.LEARNING_CURVES)
    assert {row["model"] for row in curves} == set(models)
    assert len({(row["method"], row["seed"]) for row in curves}) == len(models) == 6
    own = [row for row in curves if row["model"] == min(models)]
    assert [(row["step"], row["n_tokens"]) for row in own] == [
        (3, 768), (4, 1024), (6, 1536), (8, 2048),
    ]  # fmt: skip
    assert all(2.0 < row["loss"] < 7.0 and row["learning_rate"] > 0.0 for row in own)
    assert [sorted(row["metrics"]) != [] for row in own] == [False, True, False, True]
    evaluations = read_rows(spark, conf, tables.EVALUATIONS)
    last = {r["metric"]: r["value"] for r in evaluations if r["model"] == own[0]["model"]}
    assert own[-1]["metrics"].items() <= last.items()
    assert {path.name for path in (root / "models" / "targets").iterdir()} == set(models)
    assert not list((root / "models" / "checkpoints").glob("*.curve"))


def test_the_folder_of_a_target_model_opens_with_transformers_and_names_its_mixture(
    unbroken, spark
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    conf, _ = unbroken
    rows = read_rows(spark, conf, tables.EVALUATIONS)
    row = next(row for row in rows if row["method"] == "recommended")
    folder = Path(load(conf).storage.root) / "models" / "targets" / row["model"]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = tokenizer("the court and the judge", return_tensors="pt").input_ids
    assert model(input_ids=ids).logits.shape == (1, ids.shape[1], model.config.vocab_size)
    assert tokenizer.decode(ids[0]) == "the court and the judge"
    card = (folder / "README.md").read_text()
    for domain, weight in row["weights"].items():
        assert f"| {domain} | {weight:.5f} |" in card
    assert f"`{row['corpus_digest']}`" in card
    assert f"| {row['metric']} | {row['value']:.5f} |" in card
    for text in ("documents 0", "shards 0", "mixtures 0", "2,048", row["recipe"], "base-"):
        assert text in card, text


def test_the_manifest_has_the_counts_of_the_dataset(unbroken, spark):
    conf, _ = unbroken
    root = Path(load(conf).storage.root)
    manifest = json.loads((root / "mixed" / "manifest.json").read_text())
    corpus = read_rows(spark, conf, tables.CORPUS)
    assert manifest["tokens"] == sum(row["n_tokens"] for row in corpus)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--set", "serach.seed=1"], "unknown key serach"),
        (["run", "--conf", "/nowhere.yaml"], "/nowhere.yaml"),
        (["ingest", "--set", "ingest.inputs=[/nowhere]"], "/nowhere"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_1(args, message):
    done = climb(*args)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_spark_submit_runs_a_single_job_and_local_mode_drops_gpu_settings(unbroken):
    """In local mode, a task that requires a GPU would wait forever."""
    conf, _ = unbroken
    gpu = ["--conf", "spark.task.resource.gpu.amount=1"]
    done = run("spark-submit", *gpu, "jobs/prune.py", "--conf", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    message = "local mode does not schedule GPUs; ignored settings: spark.task.resource.gpu.amount"
    assert message in done.stdout
    assert "prune    4 domains up to date" in done.stdout


@pytest.mark.slow
def test_the_master_of_spark_submit_takes_precedence(unbroken):
    """Two executor processes count with another tokenizer, so that the job has work to do."""
    conf, _ = unbroken
    cluster = ["--master", "local-cluster[2,1,1024]"]
    other = ["--set", "count.vocab_size=300"]
    done = run("spark-submit", *cluster, "jobs/count.py", "--conf", conf, *other)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session on local-cluster[2,1,1024]" in done.stdout
    assert "300 documents counted, 0 already counted" in done.stdout
