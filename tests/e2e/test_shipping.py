"""Runs on clusters of processes: the code is shipped as an archive, and workers come and go."""

import os
import re
import signal
import subprocess
import time

import pytest
import shipping
import world

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store

UNTRACKED = ("--set", "tracking.enabled=false")
PER_RUN = {"seconds", "finished"}
RESULTS = (
    *(tables.DOCUMENTS, tables.TOKENS, tables.EMBEDDINGS, tables.SCORES, tables.ASSIGNMENTS),
    *(tables.DOMAINS, tables.SHARDS, tables.TRIALS, tables.MIXTURES, tables.CORPUS),
    tables.EVALUATIONS,
)
PATHS = {"path"}
"""Columns that contain the folder of the run."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return shipping.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheel):
    return shipping.make_environment(tmp_path_factory.mktemp("shipped") / "env", wheel)


@pytest.fixture(autouse=True)
def end_submitted(monkeypatch):
    """A test that fails or runs into its limit leaves no driver behind."""
    processes, submit = [], shipping.submit

    def record(*args, **options):
        processes.append(submit(*args, **options))
        return processes[-1]

    monkeypatch.setattr(shipping, "submit", record)
    yield
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def finish(process, timeout=900):
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, out


def read_rows(spark, root, table):
    store = Store(spark, load(settings=[f"storage.root={root}"]).storage)
    hidden = PER_RUN | PATHS
    return [{k: v for k, v in row.items() if k not in hidden} for row in store.read_rows(table)]


def count_commits(root, table):
    return len(list((root / "tables" / table.name / "_delta_log").glob("*.json")))


@pytest.mark.slow
def test_an_archive_brings_climb_to_executors(environment, tmp_path):
    conf = world.write_world(tmp_path)
    job = shipping.find_job(environment, "ingest")
    master = "local-cluster[2,1,1024]"
    code, out = finish(shipping.submit(master, environment, job, "--conf", conf, *UNTRACKED))
    assert code == 0, out
    assert f"session on {master}" in out
    assert re.search(r"^ingest .*\b300\b", out, re.MULTILINE), out


def find_error(master, environment, job, conf, options):
    """Return the line of the error with which a submitted job ends."""
    code, out = finish(
        shipping.submit(master, environment, job, "--conf", conf, *UNTRACKED, options=options)
    )
    assert code == 1, out
    [line] = [line for line in out.splitlines() if line.startswith("climb: error")]
    return line.removeprefix("climb: error: ")


@pytest.mark.slow
def test_executors_without_climb_are_named_and_a_wheel_in_py_files_does_not_help(
    environment, wheel, tmp_path
):
    conf = world.write_world(tmp_path)
    python = shipping.make_environment(tmp_path / "bare") / "bin" / "python"
    job, master = shipping.find_job(environment, "ingest"), "local-cluster[2,1,1024]"
    bare = ["--conf", f"spark.pyspark.python={python}"]
    line = find_error(master, environment, job, conf, bare)
    assert line.startswith("executors cannot import climb on "), line
    assert str(python) in line
    assert "--archives env.tar.gz#environment" in line
    line = find_error(master, environment, job, conf, [*bare, "--py-files", wheel])
    assert wheel.name in line, line
    assert "install the wheel instead of naming it in --py-files" in line


@pytest.mark.slow
def test_a_cluster_without_room_for_an_executor_says_so(environment, tmp_path):
    """Spark waits without end; the warning is all that a user sees."""
    conf = world.write_world(tmp_path)
    job = shipping.find_job(environment, "ingest")
    process = shipping.submit(
        "local-cluster[1,1,1024]",
        environment,
        job,
        *("--conf", conf, *UNTRACKED),
        conf={"spark.executor.cores": "2"},
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Initial job has not accepted any resources" in line:
                return
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_a_lost_worker_and_a_new_one_do_not_change_a_row(environment, spark, tmp_path):
    """The undisturbed run is local; the other one loses a worker and gets one during its trials.

    Its items have paths relative to the driver's folder, which is not that of the executors.
    """
    conf = world.write_world(tmp_path)
    relative = conf.with_name("relative.yaml")
    items = os.path.relpath(tmp_path / "targets", environment.parent)
    relative.write_text(conf.read_text().replace(str(tmp_path / "targets"), items))
    root, expected = tmp_path / "cluster", tmp_path / "local"
    local = [environment / "bin" / "climb", "run", "--conf", conf, *UNTRACKED]
    done = subprocess.run(
        [str(word) for word in (*local, "--set", f"storage.root={expected}")],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
        env=shipping.clean_env(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with shipping.Standalone(tmp_path) as cluster:
        first, _ = cluster.add_worker(), cluster.add_worker()
        job = shipping.find_job(environment, "pipeline")
        settings = ["--conf", relative, "--set", f"storage.root={root}", *UNTRACKED]
        process = shipping.submit(cluster.url, environment, job, *settings)
        end = time.monotonic() + 600
        while count_commits(root, tables.TRIALS) < 3:  # one commit makes the table
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        cluster.kill(first)
        store = Store(spark, load(settings=[f"storage.root={root}"]).storage)
        finished = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
        cluster.add_worker()
        code, out = finish(process)
    assert code == 0, out
    assert f"session on {cluster.url}" in out
    for table in RESULTS:
        rows = read_rows(spark, root, table)
        assert rows == read_rows(spark, expected, table), table.name
        assert rows, table.name
    after = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
    assert finished
    for trial_id, row in finished.items():
        assert after[trial_id] == row, "a finished trial was trained again"
