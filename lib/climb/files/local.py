"""Copies of shards on the local disk of a node: on a mount, every random read is a remote read.

    with LocalCopies(None, 100.0).hold([Path("/Volumes/c/s/v/shards/ab/trial-law.npy")]) as local:
        np.load(local[path], mmap_mode="r")

A shard is a file or a folder of files. The copy of a folder is a folder too. A copy is named by the
SHA-256 of its content, and verified once, when it is written. All tasks of a node share each copy:
one task writes the copy while the other tasks wait. Each task holds a shared lock on the copies
that it reads. A copy without a lock is deleted, least recently used first, when another copy needs
the space.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from climb.errors import ComponentError
from climb.files.complete import (
    FileDigest,
    digest_file,
    is_complete,
    join_complete,
    locate_mark,
    read_mark,
    write_complete,
)
from climb.files.paths import combine_digests
from climb.files.write import read_chunks
from climb.progress import log

LOCAL_TYPES = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"),
        *("overlay", "tmpfs", "ramfs", "fuseblk", "ntfs3", "vfat", "exfat", "apfs", "hfs"),
    }
)
"""Types of file systems on a disk of the machine; every other type counts as a mount."""

SPARE_BYTES = 1 << 30
"""Free space that copies leave on the local disk."""

_reported: set[str] = set()


@dataclass(frozen=True)
class LocalCopies:
    """Folder and maximum size of a node's copies: `storage.local_folder`, `storage.local_gb`."""

    folder: str | None
    """Folder on the local disk; None: the system's temporary folder. The copies are in its
    subfolder `climb-local-UID`: other files are left alone."""

    max_gb: float
    """Maximum size of all copies together; 0: nothing is copied."""

    @contextlib.contextmanager
    def hold(self, paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
        """Yield where to read each file or folder: a local copy, or the original.

        The original is read if it is on a local disk, has no completion file, or cannot be copied,
        for example for lack of space. A failed copy is logged once.

        Raises:
            ComponentError: a file does not have the SHA-256 that its completion file records.
        """
        found = {path: path for path in paths}
        with contextlib.ExitStack() as stack:
            for path in found if self.max_gb > 0 else ():
                recorded = None if is_on_local_disk(path) else read_mark(path)
                if recorded is not None:
                    found[path] = self._hold_copy(stack, path, recorded)
            yield found

    def _hold_copy(
        self, stack: contextlib.ExitStack, path: Path, recorded: Mapping[str, FileDigest]
    ) -> Path:
        try:
            folder = self._create_folder()
            copy = folder / _name_copy(path, recorded)
            if not _hold(stack, copy):
                with _lock(folder / "lock"):  # one copy at a time, and no deletion meanwhile
                    if not is_complete(copy):
                        self._make_room(folder, sum(digest.bytes for digest in recorded.values()))
                        _copy(path, copy, recorded)
                    held = _hold(stack, copy)
                    assert held, "no process deletes a copy while this one has the lock"
        except OSError as error:
            _log_once(f"{error.strerror or error}; trials read {path.parent} without a local copy")
            return path
        return copy

    def _create_folder(self) -> Path:
        folder = Path(self.folder or tempfile.gettempdir()) / f"climb-local-{os.getuid()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise OSError(
                errno.EPERM, f"{folder} belongs to another user; set storage.local_folder"
            )
        return folder

    def _make_room(self, folder: Path, n_bytes: int) -> None:
        """Delete copies that are not locked, until a new copy of `n_bytes` fits.

        Raises:
            OSError: the new copy does not fit.
        """
        copies = [path for path in folder.iterdir() if path.name[0] == "." or _is_copy(path)]
        for part in (path for path in copies if path.name[0] == "."):  # left by a killed process
            part.unlink()
        kept = sorted((p for p in copies if _is_copy(p)), key=lambda p: p.stat().st_mtime_ns)
        size = sum(_measure(path) for path in kept)
        for path in kept:
            if self._fits(folder, size + n_bytes, n_bytes):
                return
            n = _measure(path)
            if _delete_unheld(path):
                size -= n
        if not self._fits(folder, size + n_bytes, n_bytes):
            needed = (
                f"{n_bytes / 1e9:.2f} GB; free disk space or raise storage.local_gb "
                f"({self.max_gb:g})"
            )
            raise OSError(errno.ENOSPC, f"{folder} has no room for {needed}")

    def _fits(self, folder: Path, size: int, n_bytes: int) -> bool:
        usage = shutil.disk_usage(folder)
        has_disk = usage.total == 0 or usage.free >= n_bytes + SPARE_BYTES
        return has_disk and size <= self.max_gb * 1e9


def is_on_local_disk(path: Path) -> bool:
    """Whether a path is on a disk of this machine, by the type of its file system.

    True where the system has no /proc/self/mountinfo.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    real, best, kind = str(path.resolve()), "", "ext4"
    for line in lines:
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), left.split()[4])
        inside = real == point or real.startswith(f"{point.rstrip('/')}/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind in LOCAL_TYPES


def _name_copy(path: Path, recorded: Mapping[str, FileDigest]) -> str:
    """Return the name of a copy: the digest of the file or folder, and the suffix of a file."""
    if path.is_dir():
        return combine_digests({name: digest.sha256 for name, digest in recorded.items()})
    return f"{recorded[path.name].sha256}{path.suffix}"


def _copy(path: Path, copy: Path, recorded: Mapping[str, FileDigest]) -> None:
    """Copy a file, or all files of a folder."""
    if not path.is_dir():
        _copy_file(path, copy, recorded[path.name])
        return
    copy.mkdir(exist_ok=True)
    for name, digest in recorded.items():
        _copy_file(path / name, copy / name, digest)
    join_complete(copy, list(recorded))


def _copy_file(path: Path, copy: Path, digest: FileDigest) -> None:
    """Copy a file and check its digest; try again once, because a mount may return old bytes."""
    for _ in range(2):
        write_complete(copy, lambda: read_chunks(path))
        recorded = read_mark(copy)
        if recorded is not None and recorded[copy.name] == digest:
            return
        copy.unlink(missing_ok=True)
    raise ComponentError(
        f"shard {path} has SHA-256 {digest_file(path).sha256}, but its completion file records "
        f"{digest.sha256}; delete this shard and run `climb pack` again"
    )


def _hold(stack: contextlib.ExitStack, copy: Path) -> bool:
    """Lock a copy until the stack is closed; return False if there is no complete copy."""
    try:
        handle = os.open(copy, os.O_RDONLY)
    except FileNotFoundError:
        return False
    stack.callback(os.close, handle)
    fcntl.flock(handle, fcntl.LOCK_SH)
    if not (is_complete(copy) and _is_open(handle, copy)):  # deleted before it was locked
        return False
    os.utime(copy)
    return True


def _is_open(handle: int, copy: Path) -> bool:
    """Whether the opened file or folder is still the one at the path of the copy."""
    try:
        return os.path.samestat(os.fstat(handle), copy.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_copy(path: Path) -> bool:
    return len(path.stem) == 64  # a SHA-256; completion files have a longer stem


def _measure(copy: Path) -> int:
    """Return the size of a copy in bytes."""
    files = copy.iterdir() if copy.is_dir() else [copy]
    return sum(file.stat().st_size for file in files)


def _delete_unheld(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locate_mark(path, path.is_dir()).unlink(missing_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _log_once(text: str) -> None:
    if text not in _reported:
        _reported.add(text)
        log("shards", f"warning: {text}")
