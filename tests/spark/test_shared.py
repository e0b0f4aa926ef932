"""A folder that an executor does not share with the driver is named with the executor's host."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from climb.spark.shared import check_shared, describe_unshared, read_token
from climb.spark.training import pack, setup


def test_a_local_session_has_nothing_to_check(spark, tmp_path):
    check_shared(spark, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_a_task_sees_only_the_file_that_the_driver_wrote(tmp_path):
    path = tmp_path / "token"
    assert list(read_token(str(path), "a", 0.0)) == [(socket.gethostname(), False)]
    path.write_text("b")
    assert list(read_token(str(path), "a", 0.0)) == [(socket.gethostname(), False)]
    path.write_text("a")
    assert list(read_token(str(path), "a", 0.0)) == [(socket.gethostname(), True)]


def test_the_error_names_the_hosts_and_the_setting():
    message = describe_unshared(Path("/mnt/climb"), ["node-1", "node-2"], "mix.export")
    assert message.startswith("mix.export is not shared: node-1, node-2 cannot see")
    assert "/mnt/climb" in message
    assert message.endswith("and set mix.export to it")


def test_packing_and_training_check_the_folder_before_anything_else(tmp_path, monkeypatch):
    class CheckedError(Exception):
        pass

    def check(session, folder):
        assert (session, folder) == ("session", tmp_path)
        raise CheckedError

    store = SimpleNamespace(session="session", cfg=SimpleNamespace(files_folder=tmp_path))
    for module in (pack, setup):
        monkeypatch.setattr(module, "check_shared", check)
    with pytest.raises(CheckedError):
        pack.pack_shards(store, None, None)
    with pytest.raises(CheckedError):
        setup.ensure_base_checkpoint(store, None, None)


def start_cluster(folder, java_home):
    script = Path(__file__).with_name("unshared.py")
    return subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "JAVA_HOME": str(java_home), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def java():
    found = shutil.which("java") if "JAVA_HOME" not in os.environ else None
    return Path(found).resolve() if found else Path(os.environ["JAVA_HOME"]) / "bin" / "java"


def make_java_home(folder, java, before):
    """A JAVA_HOME that runs shell commands before the java of executor 1."""
    program = folder / "jdk" / "bin" / "java"
    program.parent.mkdir(parents=True)
    run = f'exec {java} "$@"'
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"--executor-id 1 "*) {before} ;; esac\n{run}\n',
    )
    program.chmod(0o755)
    return folder / "jdk"


@pytest.mark.slow
def test_an_executor_with_its_own_mount_is_named_and_a_shared_folder_passes(tmp_path, java):
    can_unshare = (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False
        ).returncode
    )
    if not can_unshare:
        pytest.skip("needs `unshare -m`, which needs root or CAP_SYS_ADMIN")
    folder = tmp_path / "files"
    folder.mkdir()
    inner = f'mount -t tmpfs none {folder} && exec {java} "$@"'
    alone = make_java_home(tmp_path / "alone", java, f"exec unshare -m sh -c '{inner}' java \"$@\"")
    done = start_cluster(folder, alone)
    host = socket.gethostname()
    assert f"error storage.files is not shared: {host} cannot see a file" in done.stdout, done
    assert list(folder.iterdir()) == []

    done = start_cluster(folder, make_java_home(tmp_path / "shared", java, ":"))
    word, _, n_files = done.stdout.split()
    assert (word, n_files) == ("shared", "0"), done
