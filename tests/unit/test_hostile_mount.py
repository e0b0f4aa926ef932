"""Every kind of file of a run survives a mount that refuses what mounts of object stores refuse."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hostile import scenario
from hostile.mount import HostileMount

from climb.files import (
    hash_content,
    is_complete,
    read_digest,
    write,
    write_complete,
    write_folder,
)
from climb.testing.contracts import build_tiny_run

CALLS = ("fsync", "rename", "truncate", "append", "seek", "chmod")
ERRNOS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP)
HERE = Path(scenario.__file__).parent


@pytest.fixture(autouse=True)
def _forget_devices(monkeypatch):
    """The folders of this file are on one device, and some of them refuse renames."""
    monkeypatch.setattr(write, "_without_rename", set())


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return build_tiny_run(tmp_path_factory.mktemp("data") / "data", scenario.N_TOKENS)


@pytest.fixture(scope="module")
def expected(template, tmp_path_factory):
    """What a run writes on a local disk."""
    return scenario.write_all(tmp_path_factory.mktemp("local"), template)


@pytest.mark.parametrize("call", [*CALLS, "all"])
def test_shards_checkpoints_models_and_reports_survive_each_refused_call(
    call, template, expected, tmp_path, monkeypatch
):
    from transformers import PreTrainedModel

    folder, save = tmp_path / "mount", PreTrainedModel.save_pretrained
    folder.mkdir()
    number = ERRNOS[CALLS.index(call) % 3] if call in CALLS else errno.EPERM
    mount = HostileMount(monkeypatch, folder, call, number)

    def save_locally(model, path, *args, **kwargs):  # native code, which `mount` does not see
        assert folder not in Path(path).parents
        return save(model, path, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_locally)
    assert scenario.write_all(folder, template) == expected
    assert mount.bypassed == []
    assert mount.refused == 0 if call not in {"fsync", "rename", "all"} else mount.refused > 0


CASES = [f"{call}:{ERRNOS[i % 3]}" for i, call in enumerate([*CALLS, "all"])]
ALL_CASES = [f"{call}:{number}" for call in [*CALLS, "all"] for number in ERRNOS]


@pytest.mark.parametrize(
    "cases", [CASES, pytest.param(ALL_CASES, marks=pytest.mark.slow)], ids=["one error", "all"]
)
def test_native_code_survives_each_refused_call(expected, tmp_path, cases):
    """safetensors is Rust: a library that is loaded before libc refuses its calls too."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (gcc or cc) for tests/hostile/mount.c")
    library = tmp_path / "mount.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "mount.c"), "-ldl"],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, str(HERE / "scenario.py"), *cases],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == cases
    for name, result in results.items():
        refused = result.pop("refused")
        assert result == json.loads(json.dumps(expected)), name
        is_tried = name.partition(":")[0] in {"fsync", "rename", "all"}
        assert refused > 0 if is_tried else refused == 0, name


def run_killed_at(step, folder, number, body):
    """Run `body` in a process that is killed before its operation `step` on the mount."""
    child = os.fork()
    if child == 0:
        monkeypatch = pytest.MonkeyPatch()
        mount = HostileMount(monkeypatch, folder, "rename" if number else "none", number)

        def count():
            mount.steps += 1
            if mount.steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

        mount.on_step = count
        body()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def write_model(folder, byte=b"a"):
    with write_folder(folder) as local:
        (local / "inner").mkdir()
        (local / "inner" / "a.bin").write_bytes(byte * 5000)
        (local / "b.bin").write_bytes(byte * 70)


def write_target(folder, kind, byte=b"a"):
    if kind == "folder":
        write_model(folder / "target", byte)
    else:
        write_complete(folder / "target", lambda: [byte * 3000, byte])


def read_all(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("kind", "older", "number"),
    [
        *[("file", False, errno.EPERM), ("file", True, 0), ("file", True, errno.EPERM)],
        *[("folder", False, errno.EPERM), ("folder", True, 0)],
    ],
)
def test_a_target_whose_writer_was_killed_is_never_complete_and_is_written_again_with_equal_bytes(
    tmp_path, kind, older, number, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a killed writer leaves its scratch
    write_target(tmp_path / "whole", kind)
    whole = read_all(tmp_path / "whole")
    finished, step = False, 0
    while not finished:
        step += 1
        folder = tmp_path / f"mount-{step}"
        folder.mkdir()
        target = folder / "target"
        if older:
            write_target(folder, kind, b"o")
        finished = run_killed_at(step, folder, number, lambda: write_target(folder, kind))  # noqa: B023
        if is_complete(target):
            assert read_digest(target) == hash_content(target)  # all of the old one or of the new
        else:
            assert not finished
        write_target(folder, kind)
        found = read_all(folder)
        # A killed writer may leave a temporary file; its name starts with a dot.
        assert {name: data for name, data in found.items() if name[0] != "."} == whole
        assert is_complete(target)
    assert step > 8


def test_a_file_of_another_size_or_without_its_completion_file_is_not_complete(tmp_path):
    write_complete(tmp_path / "a.npy", lambda: [b"12", b"3"])
    assert is_complete(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"12")
    assert not is_complete(tmp_path / "a.npy")
    write_complete(tmp_path / "a.npy", lambda: [b"123"])
    mark = tmp_path / "a.npy.complete.json"
    mark.write_bytes(mark.read_bytes()[:-3])
    assert not is_complete(tmp_path / "a.npy")
    (tmp_path / "folder").mkdir()
    assert not is_complete(tmp_path / "folder")
    assert not is_complete(tmp_path / "nowhere")


def test_a_folder_is_replaced_without_its_old_files_and_with_those_of_others(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "notes.txt").write_text("written by a user")
    write_model(folder)
    with write_folder(folder) as local:
        (local / "b.bin").write_bytes(b"new")
    names = {"b.bin": b"new", "notes.txt": b"written by a user"}
    assert {k: v for k, v in read_all(folder).items() if k != "complete.json"} == names
    assert is_complete(folder)


def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_bytes(b"old")

    def fail(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write.write_file(path, lambda: [b"new"])
    assert read_all(tmp_path) == {"report.html": b"old"}


def test_a_rename_that_was_refused_once_is_not_tried_again(tmp_path, monkeypatch):
    folder = tmp_path / "mount"
    folder.mkdir()
    mount = HostileMount(monkeypatch, folder, "rename", errno.ENOSYS)
    for i in range(3):
        write.write_file(folder / "slot", lambda i=i: [b"%d" % i])
    assert mount.refused == 1
    assert read_all(folder) == {"slot": b"2"}


def test_a_mount_that_neither_renames_nor_deletes_is_written_over(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    for content in (b"a long first version", b"second"):
        write.write_file(tmp_path / "report.html", lambda content=content: [content])
    assert (tmp_path / "report.html").read_bytes() == b"second"
