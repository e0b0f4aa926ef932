"""Test in a folder, one by one, the file operations that mounts of object stores may refuse.

Every function of `FILE_PROBES` does one operation in a folder, and returns what it found.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from climb.spark.probe.rows import Row, ask

TEXT = b"0123456789" * 1000


def write_and_read(folder: Path) -> str:
    """Write a new file, and read it back."""
    path = _write(folder, "written")
    assert path.read_bytes() == TEXT, "other bytes than written"
    return f"{len(TEXT):,} bytes"


def rename_file(folder: Path) -> str:
    """Rename a file to a new name."""
    path = _write(folder, "renamed.tmp")
    path.rename(folder / "renamed")
    assert (folder / "renamed").read_bytes() == TEXT, "other bytes under the new name"
    return "file"


def replace_file(folder: Path) -> str:
    """Rename a file onto an existing one."""
    _write(folder, "replaced", b"old")
    _write(folder, "replaced.tmp").replace(folder / "replaced")
    assert (folder / "replaced").read_bytes() == TEXT, "the old bytes are still there"
    return "new content"


def rename_folder(folder: Path) -> str:
    """Rename a folder that has a file."""
    (folder / "folder.tmp").mkdir()
    _write(folder / "folder.tmp", "file")
    (folder / "folder.tmp").rename(folder / "folder")
    assert (folder / "folder" / "file").read_bytes() == TEXT, "the file did not move"
    return "folder with a file"


def sync_file(folder: Path) -> str:
    """Write a file to the disk with fsync."""
    with (folder / "synced").open("wb") as stream:
        stream.write(TEXT)
        stream.flush()
        os.fsync(stream.fileno())
    return "file"


def sync_folder(folder: Path) -> str:
    """Write the entries of a folder to the disk with fsync."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
    return "folder"


def append_to_file(folder: Path) -> str:
    """Append to an existing file."""
    path = _write(folder, "appended")
    with path.open("ab") as stream:
        stream.write(b"x")
    assert path.read_bytes() == TEXT + b"x", "the appended byte is missing"
    return "1 byte"


def write_in_the_middle(folder: Path) -> str:
    """Overwrite a byte in the middle of a file."""
    path = _write(folder, "seeked")
    with path.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"x")
    assert path.read_bytes()[5000:5001] == b"x", "the byte did not change"
    return "1 byte"


def truncate_file(folder: Path) -> str:
    """Shorten a file."""
    path = _write(folder, "truncated")
    os.truncate(path, 10)
    assert path.stat().st_size == 10, f"it has {path.stat().st_size} bytes"
    return "10 bytes left"


def map_file(folder: Path) -> str:
    """Map a file into memory, and read from it."""
    path = _write(folder, "mapped")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[5000:5010] == TEXT[5000:5010], "other bytes than written"
    return "read-only"


def change_mode(folder: Path) -> str:
    """Change the permissions of a file."""
    path = _write(folder, "mode")
    path.chmod(0o600)
    return oct(path.stat().st_mode & 0o777)


def lock_file(folder: Path) -> str:
    """Lock a file; a driver holds such a lock to exclude a second driver."""
    with (folder / "locked").open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "exclusive"


def measure_space(folder: Path) -> str:
    """Read the size of the file system with statvfs."""
    found = os.statvfs(folder)
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free"


def _write(folder: Path, name: str, content: bytes = TEXT) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


FILE_PROBES: dict[str, Callable[[Path], str]] = {
    "write and read": write_and_read,
    "rename a file": rename_file,
    "rename onto a file": replace_file,
    "rename a folder": rename_folder,
    "fsync a file": sync_file,
    "fsync a folder": sync_folder,
    "append": append_to_file,
    "write in the middle": write_in_the_middle,
    "truncate": truncate_file,
    "mmap": map_file,
    "chmod": change_mode,
    "flock": lock_file,
    "statvfs": measure_space,
}


def probe_folder(area: str, folder: Path) -> list[Row]:
    """Make a folder, do every operation in it, and remove the folder."""
    made = ask(area, "make a folder", partial(_make, folder))
    rows = [ask(area, name, partial(probe, folder)) for name, probe in FILE_PROBES.items()]
    return [made, *rows, ask(area, "remove a folder", partial(_remove, folder))]


def _make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _remove(folder: Path) -> str:
    shutil.rmtree(folder)
    return "with its files"
