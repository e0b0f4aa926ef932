"""Trials of a node share one verified copy of each shard on the local disk."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hostile.mount import HostileMount

from climb.config import load
from climb.errors import ComponentError
from climb.files import (
    LocalCopies,
    is_complete,
    local,
    paths,
    read_digest,
    write_complete,
)
from climb.proxy.checkpoint import compute_run_digest
from climb.proxy.data import hold_local_shards
from climb.proxy.llama import LlamaProxy
from climb.spark.training.task import train_one
from climb.testing.contracts import build_tiny_run

KB = 1e-6  # in GB


@pytest.fixture(autouse=True)
def _remote(tmp_path, monkeypatch):
    """The folder `mount` counts as a mount, and warnings are printed in every test."""
    monkeypatch.setattr(local, "is_on_local_disk", lambda path: "mount" not in path.parts)
    monkeypatch.setattr(local, "_reported", set())


def make_shard(folder, name, n=1000):
    path = folder / "mount" / f"{name}.npy"
    write_complete(path, lambda: [name.encode() * n])
    return path


def list_copies(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


def locate_copies(disk):
    return disk / f"climb-local-{os.getuid()}"


def name_copy(path):
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()}.npy"


def test_a_shard_is_copied_once_and_named_by_its_digest(tmp_path, monkeypatch):
    paths = [make_shard(tmp_path, name) for name in "ab"]
    copies = LocalCopies(str(tmp_path / "disk"), 1.0)
    with copies.hold(paths) as found:
        assert [found[p].read_bytes() for p in paths] == [p.read_bytes() for p in paths]
        assert [found[p].name for p in paths] == [name_copy(p) for p in paths]
        assert [read_digest(found[p]) for p in paths] == [read_digest(p) for p in paths]
    monkeypatch.setattr(local, "_copy", lambda *_: pytest.fail("it was copied again"))
    with copies.hold(paths) as found:
        assert found[paths[0]].parent == locate_copies(tmp_path / "disk")


def test_a_folder_with_other_files_keeps_them(tmp_path):
    disk, paths = tmp_path / "disk", [make_shard(tmp_path, name) for name in "ab"]
    (disk / ".ssh").mkdir(parents=True)
    others = [disk / ".netrc", disk / f"{'a' * 64}.bin", disk / ".ssh" / "key"]
    for other in others:
        other.write_text("of the user")
    for path in paths:
        with LocalCopies(str(disk), 1.5 * KB).hold([path]) as found:
            assert found[path] != path
    assert all(other.exists() for other in others)
    assert len(list_copies(locate_copies(disk))) == 1


def test_a_trial_neither_reads_the_mount_nor_hashes_a_shard_again(tmp_path, monkeypatch):
    folder = tmp_path / "mount"
    run = build_tiny_run(tmp_path / "data", 256)
    shards = {domain: folder / f"{domain}.npy" for domain in run.shards}
    for domain, path in shards.items():
        write_complete(path, lambda d=domain: [Path(run.shards[d]).read_bytes()])
    remote = replace(
        run,
        shards={domain: str(path) for domain, path in shards.items()},
        local_copies=LocalCopies(str(tmp_path / "disk"), 1.0),
    )
    proxy = LlamaProxy(hidden=8, layers=1, heads=1, sequence=16, batch=4, learning_rate=1e-2)
    digest = compute_run_digest(proxy, remote, "cpu")
    assert digest == compute_run_digest(proxy, run, "cpu")
    with hold_local_shards(remote):
        pass
    hashed, hash_files = [], paths._hash_files
    monkeypatch.setattr(
        paths, "_hash_files", lambda path, stamp: hashed.append(path) or hash_files(path, stamp)
    )
    with hold_local_shards(remote) as held:
        for path in shards.values():
            path.write_bytes(b"the mount is not read")
        assert compute_run_digest(proxy, held, "cpu") == digest
        for domain, path in held.shards.items():
            np.testing.assert_array_equal(np.load(path), np.load(run.shards[domain]))
    assert hashed == [Path(run.tokenizer.path)]


def test_shards_on_a_local_disk_or_without_a_completion_file_are_read_where_they_are(tmp_path):
    near = tmp_path / "disk" / "a.npy"
    write_complete(near, lambda: [b"a"])
    unmarked = tmp_path / "mount" / "b.npy"
    unmarked.parent.mkdir()
    unmarked.write_bytes(b"b")
    far = make_shard(tmp_path, "c")
    with LocalCopies(str(tmp_path / "copies"), 1.0).hold([near, unmarked]) as found:
        assert found == {near: near, unmarked: unmarked}
    with LocalCopies(str(tmp_path / "copies"), 0.0).hold([far]) as found:
        assert found == {far: far}
    assert not (tmp_path / "copies").exists()


def test_the_copy_that_was_not_used_longest_makes_room_but_never_one_that_is_read(tmp_path, capsys):
    paths = [make_shard(tmp_path, name) for name in "bac"]
    disk = tmp_path / "disk"
    copies = LocalCopies(str(disk), 2.5 * KB)
    for time, path in enumerate(paths[:2]):
        with copies.hold([path]) as found:
            pass
        os.utime(found[path], (time, time))
    paths[:2] = paths[1::-1]
    with copies.hold([paths[1]]):  # the older one is used again
        pass
    disk = locate_copies(disk)
    (disk / ".killed.npy.123").write_bytes(b"part")
    with copies.hold([paths[2]]):
        assert list_copies(disk) == sorted(name_copy(p) for p in paths[1:])
        assert len(list(disk.glob("*.complete.json"))) == 2
        assert not list(disk.glob(".killed*"))
        with copies.hold([paths[1]]), copies.hold([paths[0]]) as found:
            assert found == {paths[0]: paths[0]}
        assert list_copies(disk) == sorted(name_copy(p) for p in paths[1:])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "has no room for 0.00 GB; free disk space or raise storage.local_gb (2.5e-06)" in out
    assert "; trials read" in out


def test_a_full_local_disk_falls_back_to_the_mount_with_one_line(tmp_path, monkeypatch, capsys):
    paths = [make_shard(tmp_path, name) for name in "ab"]
    usage = type("Usage", (), {"free": local.SPARE_BYTES + 999, "total": 10**12})
    monkeypatch.setattr(local.shutil, "disk_usage", lambda _: usage)
    copies = LocalCopies(str(tmp_path / "disk"), 1.0)
    for _ in range(2):
        with copies.hold(paths) as found:
            assert found == {path: path for path in paths}
    assert capsys.readouterr().out.count("\n") == 1
    usage.total = 0  # unknown
    with copies.hold(paths) as found:
        assert all(found[path] != path for path in paths)


def test_a_local_folder_that_cannot_be_written_falls_back_to_the_mount(tmp_path, capsys):
    path = make_shard(tmp_path, "a")
    (tmp_path / "file").write_text("in the way")
    with LocalCopies(str(tmp_path / "file" / "disk"), 1.0).hold([path]) as found:
        assert found == {path: path}
    assert "trials read" in capsys.readouterr().out


def test_a_shard_with_other_bytes_than_were_written_is_an_error(tmp_path):
    path = make_shard(tmp_path, "a")
    path.write_bytes(b"b" * 1000)
    copies = LocalCopies(str(tmp_path / "disk"), 1.0)
    with pytest.raises(ComponentError, match=r"a\.npy has SHA-256 .* run `climb pack` again"):
        copies.hold([path]).__enter__()
    assert list_copies(locate_copies(tmp_path / "disk")) == []


def test_a_mount_that_returns_old_bytes_once_is_read_again(tmp_path, monkeypatch):
    path = make_shard(tmp_path, "a")
    read, calls = local.read_chunks, []

    def read_old(source):
        calls.append(source)
        return [b"old"] if len(calls) == 1 else read(source)

    monkeypatch.setattr(local, "read_chunks", read_old)
    with LocalCopies(str(tmp_path / "disk"), 1.0).hold([path]) as found:
        assert found[path].read_bytes() == path.read_bytes()


def test_tasks_that_start_together_copy_a_shard_once(tmp_path, monkeypatch):
    path, disk = make_shard(tmp_path, "a", 5_000_000), tmp_path / "disk"
    copy, log = local._copy, tmp_path / "log"

    def count(*args):
        with log.open("a") as stream:
            stream.write("x")
        copy(*args)

    monkeypatch.setattr(local, "_copy", count)
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            with LocalCopies(str(disk), 1.0).hold([path]) as found:
                os._exit(0 if found[path].stat().st_size == 5_000_000 else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert log.read_text() == "x"


def test_copying_needs_nothing_of_the_mount_but_reading(tmp_path, monkeypatch):
    path = make_shard(tmp_path, "a")
    mount = HostileMount(monkeypatch, tmp_path / "mount", "all", 1)
    with LocalCopies(str(tmp_path / "disk"), 1.0).hold([path]) as found:
        assert found[path] != path
    assert (mount.refused, mount.bypassed) == (0, [])


def test_a_file_system_is_local_by_its_type(tmp_path, monkeypatch):
    monkeypatch.undo()
    table = (
        "22 1 259:1 / / rw shared:1 - ext4 /dev/root rw\n"
        "30 22 0:5 / /Volumes rw - fuse.goofys x rw\n31 22 0:6 / /mnt/my\\040nfs rw - nfs4 x rw\n"
        "32 30 0:7 / /Volumes/fast rw - xfs x rw\n"
    )
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda p, **k: table if str(p) == "/proc/self/mountinfo" else read(p)
    )
    kinds = {
        "/Volumes/c/s/v": False, "/Volumes": False, "/Volumesque": True, "/mnt/my nfs/x": False,
        "/Volumes/fast/x": True, "/tmp/x": True,
    }  # fmt: skip
    assert {name: local.is_on_local_disk(Path(name)) for name in kinds} == kinds


@dataclass(frozen=True)
class RecordingProxy:
    """Saves where it read its shards, without a completion file, as a plug-in may."""

    def train(self, run, device):
        Path(run.save).mkdir(parents=True)
        (Path(run.save) / "shards.json").write_text(json.dumps(dict(run.shards)))
        return {}


def test_a_task_trains_on_copies_and_completes_the_model_of_a_plug_in(tmp_path):
    paths = {name: make_shard(tmp_path, name) for name in "ab"}
    run = replace(
        build_tiny_run(tmp_path / "data", 256),
        weights={"a": 1.0, "b": 0.0},
        shards={name: str(path) for name, path in paths.items()},
        save=str(tmp_path / "model"),
        local_copies=LocalCopies(str(tmp_path / "disk"), 1.0),
    )
    outcome = train_one(RecordingProxy(), "run", run)
    assert outcome.status == "finished"
    shards = json.loads((tmp_path / "model" / "shards.json").read_text())
    assert Path(shards["a"]).parent == locate_copies(tmp_path / "disk")
    assert shards["b"] == str(paths["b"])  # a domain of weight 0 is not read
    assert is_complete(tmp_path / "model")


def test_the_configuration_bounds_the_copies():
    copies = load(settings=["storage.local_folder=/disk", "storage.local_gb=3"]).storage
    assert copies.local_copies == LocalCopies("/disk", 3.0)
    assert load().storage.local_copies.folder is None
