"""Files are written atomically, and models are identified by their content."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from climb.files import (
    exists,
    hash_content,
    list_files,
    read_digest,
    resolve,
    write,
    write_atomically,
    write_complete,
    write_file,
    write_folder,
)


def write_half(path):
    with write_atomically(path) as stream:
        stream.write(b"half")
        raise RuntimeError


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from climb.files import write_atomically\n"
        "with write_atomically(Path(sys.argv[1])) as s:\n"
        "    s.write(b'half'); s.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_a_fifo_is_written_directly_and_stays_a_fifo(tmp_path):
    fifo, received = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
    reader.start()
    write_file(fifo, lambda: [b"a", b"b"])
    assert fifo.is_fifo()
    reader.join(10)
    assert received == [b"ab"]


def test_a_link_stays_and_the_file_that_it_points_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_bytes(b"old")
    for name, target in (("one", "folder/target"), ("two", "one"), ("new", "folder/new")):
        (tmp_path / name).symlink_to(target)
    for name, target in (("two", "target"), ("new", "new")):
        write_file(tmp_path / name, lambda: [b"new"])
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "folder" / target).read_bytes() == b"new"


@pytest.mark.parametrize("can_rename", [True, False])
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, monkeypatch, mode, can_rename):
    known = set() if can_rename else {tmp_path.stat().st_dev}
    monkeypatch.setattr(write, "_without_rename", known)
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_file(path, lambda: [b"new"])
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("content", [[], [b""], [b"", b"a", b""]])
def test_empty_content_makes_a_file(tmp_path, content):
    write_file(tmp_path / "f", lambda: content)
    assert (tmp_path / "f").read_bytes() == b"".join(content)


def test_the_recorded_digest_is_that_of_the_content(tmp_path):
    write_complete(tmp_path / "file", lambda: [b"a" * 10, b"b"])
    with write_folder(tmp_path / "folder") as local:
        (local / "inner").mkdir()
        for name in ("z", "inner/y", "inner.x"):
            (local / name).write_text(name)
    for name in ("file", "folder"):
        assert read_digest(tmp_path / name) == hash_content(tmp_path / name)
    assert (tmp_path / "folder" / "complete.json").exists()


def test_one_changed_byte_or_name_changes_the_digest(tmp_path):
    def folder(name, file, content):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(content)
        return hash_content(tmp_path / name)

    one = folder("a", "w", b"abc")
    assert one == folder("b", "w", b"abc")
    assert one != folder("c", "w", b"abd")
    assert one != folder("d", "v", b"abc")


def test_files_behind_a_link_are_part_of_the_digest_and_a_link_in_a_circle_is_not(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config").write_text("{}")
    (model / "inner").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "up").symlink_to(tmp_path)
    names = [path.relative_to(model).as_posix() for path in list_files(model)]
    assert [name for name in names if "up" not in name] == ["config", "inner/weights"]
    first = hash_content(model)
    (model / "inner").unlink()
    (model / "inner").symlink_to(tmp_path / "two")
    assert hash_content(model) != first


def test_a_path_that_cannot_be_looked_up_does_not_exist(tmp_path):
    assert exists(tmp_path)
    assert not exists(tmp_path / ("a" * 300))


def test_a_package_path_resolves_to_a_file_of_the_installed_package():
    assert resolve("package:climb/py.typed").name == "py.typed"
