"""What another Spark, Python or user on the machine would break is one line, not a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from climb.cli import environment
from climb.cli.doctor import check_machine
from climb.cli.lock import hold_locks
from climb.config import load
from climb.errors import PreflightError
from climb.spark import machine


def test_a_plain_environment_has_no_problem(monkeypatch):
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS", "HADOOP_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert [check for check in environment.check_environment() if not check.ok] == []


def test_a_user_id_without_a_name_is_named_with_the_remedy(monkeypatch):
    def raise_error(uid):
        raise KeyError(uid)

    monkeypatch.setattr(environment.pwd, "getpwuid", raise_error)
    check = environment.check_user()
    assert (check.ok, check.found) == (
        False,
        f"user id {os.getuid()} has no name, which Spark needs",
    )
    assert "/etc/passwd" in check.fix


def test_a_spark_home_of_another_version_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert "no Spark 4" in environment.check_spark_home().found
    (tmp_path / "jars").mkdir()
    jar = tmp_path / "jars" / "spark-core_2.13-4.1.0.jar"
    jar.touch()
    check = environment.check_spark_home()
    assert (check.ok, check.fix) == (False, "unset SPARK_HOME")
    assert "has 4.1.0; PySpark is 4.0" in check.found
    jar.rename(tmp_path / "jars" / "spark-core_2.13-4.0.0-amzn-0.jar")
    assert environment.check_spark_home().ok


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 3.8", "is not Python 3.11 with climb (3.8)"),
        ("echo \"No module named 'climb'\" >&2; exit 1", "No module named 'climb'"),
    ],
)
def test_a_worker_python_of_another_version_is_named(monkeypatch, tmp_path, script, found):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PYSPARK_PYTHON", str(program))
    monkeypatch.setattr(environment.sys, "version_info", (3, 11, 0))
    check = environment.check_worker_python()
    assert not check.ok
    assert found in check.found
    assert "unset PYSPARK_PYTHON" in check.fix
    monkeypatch.setenv("PYSPARK_PYTHON", str(tmp_path / "absent"))
    assert "does not run" in environment.check_worker_python().found
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    assert environment.check_worker_python().ok


def test_submit_arguments_that_pyspark_does_not_accept_are_named(monkeypatch):
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master yarn")
    assert "does not end with pyspark-shell" in environment.check_submit_args().found
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master yarn pyspark-shell")
    assert environment.check_submit_args().ok


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "de_DE.utf8"}, True),
        ({}, False),
        ({"LC_ALL": "", "LANG": "C.UTF-8"}, True),
    ],
)
def test_the_character_set_is_that_of_the_strongest_variable(monkeypatch, variables, expected):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machine.is_utf8_locale() is expected
    assert environment.check_charset().ok


def test_without_a_home_jars_are_downloaded_to_a_temporary_folder(monkeypatch, tmp_path):
    def raise_error():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(machine.Path, "home", raise_error)
    assert machine.find_delta_jars() == []
    assert f"climb-ivy-{os.getuid()}" in str(machine.find_ivy_folder())
    assert any(check.name == "spark packages" for check in check_machine())


def test_jars_of_the_installed_version_are_found_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.Path, "home", lambda: tmp_path)
    monkeypatch.setattr(machine, "version", lambda _: "4.0.9")
    cache = tmp_path / ".ivy2.5.2" / "jars"
    cache.mkdir(parents=True)
    (cache / "io.delta_delta-spark_2.13-4.0.9.jar").touch()
    assert machine.find_delta_jars() == []
    (cache / "io.delta_delta-storage-4.0.9.jar").touch()
    assert len(machine.find_delta_jars()) == 2
    assert machine.find_ivy_folder() is None


def test_a_second_driver_of_a_job_is_told_who_runs_it_since_when(tmp_path):
    folder = tmp_path / "out" / "locks"
    code = (
        "import sys; from pathlib import Path; from climb.cli.lock import hold_locks\n"
        f"with hold_locks(Path({str(folder)!r}), ['ingest', 'count'], 'remove'):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "locked\n"
        with (
            pytest.raises(PreflightError, match=r"^job count cannot run on ") as error,
            hold_locks(folder, ["count"], "count"),
        ):
            pass
        assert f"{tmp_path}/out beside remove, process {owner.pid} on " in str(error.value)
        assert " UTC; wait until that process ends, or use another storage.root" in str(error.value)
        with hold_locks(folder, ["embed"], "embed"):
            pass
        owner.kill()
    with hold_locks(folder, ["ingest", "count"], "ingest to count"):
        assert f"process {os.getpid()}" in (folder / "count.owner").read_text()


@pytest.mark.parametrize(
    ("setting", "section", "key", "value"),
    [
        ("storage.root=/data/run #1", "storage", "root", "/data/run #1"),
        ("storage.root={a: 1}", "storage", "root", "{a: 1}"),
        ("search.name=2024-01-01", "search", "name", "2024-01-01"),
        ("ingest.text_column=null", "ingest", "text_column", "null"),
        ("ingest.source_column=null", "ingest", "source_column", None),
        ("search.objective='mean(*):min'", "search", "objective", "mean(*):min"),
        ("ingest.inputs=/data/a #1", "ingest", "inputs", ("/data/a #1",)),
        ("ingest.inputs=[/a, /b]", "ingest", "inputs", ("/a", "/b")),
        ("ingest.min_chars=5", "ingest", "min_chars", 5),
    ],
)
def test_a_text_of_set_is_taken_as_it_is(setting, section, key, value):
    assert getattr(getattr(load(settings=[setting]), section), key) == value


def test_locks_need_no_support_of_the_file_system(monkeypatch, tmp_path, capsys):
    def refuse(stream, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("climb.cli.lock.fcntl.flock", refuse)
    with hold_locks(Path(tmp_path) / "locks", ["mix"], "mix"):
        assert "has no file locks (Operation not supported)" in capsys.readouterr().out
