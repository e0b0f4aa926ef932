"""Files are written atomically, and models are identified by their content."""

import signal
import subprocess
import sys

import pytest

from climb.files import (
    exists,
    hash_content,
    list_files,
    read_digest,
    resolve,
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
