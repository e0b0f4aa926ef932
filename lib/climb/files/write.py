"""Write files on local disks and on mounts that refuse part of what a local disk can do.

Mounts of object stores (FUSE, volumes of Databricks) refuse some of: fsync, rename, append, writes
that are not at the end, truncation, chmod. So a target is opened as a new file, written once from
its start to its end, and closed. Where rename works, the new file has a temporary name until it
is closed, and a reader sees the old file or the new one. Where rename is refused, a reader may see
a part of the file: use `climb.files.complete` for a file whose existence means that it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

Chunk = bytes | memoryview
Content = Callable[[], Iterable[Chunk]]
"""Function that returns the content of a file in parts. `write_file` calls it again if a rename is
refused."""

CHUNK_BYTES = 1 << 23

REFUSED = frozenset(
    {
        *(errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP),
        *(errno.EINVAL, errno.EXDEV, errno.ENOLCK),
    }
)
"""Errors of a file system that does not implement an operation. A full or failing disk and missing
permissions (EACCES) are not among them."""

_without_rename: set[int] = set()
"""Devices that refused a rename in this process. Later files on them are written directly
under their final names."""


def write_file(path: Path, content: Content) -> None:
    """Write a file from its start to its end, and sync it if the file system supports this.

    A link stays, and the file that it points to is replaced. The permissions of an older file
    stay. A device or a FIFO is written directly.

    Args:
        path: the file; its folder is created.
        content: function that returns the content of the file. It is called again if a rename is
            refused.

    Raises:
        OSError: the file cannot be written. If the file system supports renames, the
            older file is unchanged.
    """
    mode = _find_mode(path)
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        write_new(path, content(), 0)
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    device = path.parent.stat().st_dev
    if device not in _without_rename:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}"
        try:
            write_new(temporary, content(), mode=mode)
            if _rename(temporary, path):
                return
        except BaseException:
            _unlink(temporary)
            raise
        _unlink(temporary)
    write_over(path, content(), mode)
    _without_rename.add(device)


def write_over(path: Path, chunks: Iterable[Chunk], mode: int | None = None) -> None:
    """Write a file under its final name, without a temporary file.

    An older file is deleted first, or truncated if it cannot be deleted.
    """
    _unlink(path)
    write_new(path, chunks, os.O_TRUNC if path.exists() else os.O_EXCL, mode)


def write_new(
    path: Path, chunks: Iterable[Chunk], flags: int = os.O_EXCL, mode: int | None = None
) -> None:
    """Create a file and write it in one pass; `mode` has its permissions (None: the usual ones)."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    try:
        if mode is not None:
            _set_permissions(handle, mode)
        for chunk in chunks:
            rest = memoryview(chunk)
            rest = rest.cast("B") if rest.nbytes else rest  # an empty view cannot be cast
            while len(rest):
                rest = rest[os.write(handle, rest[:CHUNK_BYTES]) :]
        sync(handle)
    finally:
        os.close(handle)


def sync(handle: int) -> None:
    """Sync an open file if its mount supports this; other mounts store a file when it is closed."""
    try:
        os.fsync(handle)
    except OSError as error:
        if not is_refused(error):
            raise


def is_refused(error: OSError) -> bool:
    """Whether an error means that the file system does not implement the failed operation."""
    return error.errno in REFUSED


def read_chunks(path: Path) -> Iterator[bytes]:
    """Read a file in parts of CHUNK_BYTES."""
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a file on the local disk, where every operation works, and copy it to `path`.

    Where renames work, a crash leaves the old file or the new one, but never a part.
    """
    with tempfile.NamedTemporaryFile(prefix="climb-") as stream:
        yield stream  # type: ignore[misc]  # the wrapper has the methods of the file
        stream.flush()
        write_file(path, lambda: read_chunks(Path(stream.name)))


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a file unless it has this content already.

    Returns:
        Whether the file was written.
    """
    if path.is_file() and path.read_bytes() == content:
        return False
    write_file(path, lambda: [content])
    return True


def probe_folder(folder: Path) -> None:
    """Write, read and delete a small file.

    Raises:
        OSError: the folder cannot be written, or returns other bytes than were written.
    """
    path = folder / f".climb-{secrets.token_hex(6)}"
    content = path.name.encode()
    try:
        write_new(path, [content])
        if path.read_bytes() != content:
            raise OSError(errno.EIO, "a file has other bytes than were written")
    finally:
        _unlink(path)


def can_rename(folder: Path) -> bool:
    """Whether the file system of a folder renames folders; found by renaming an empty folder."""
    names = [folder / f".climb-{secrets.token_hex(6)}" for _ in range(2)]
    names[0].mkdir()
    is_renamed = _rename(names[0], names[1])
    names[is_renamed].rmdir()
    return is_renamed


def _find_mode(path: Path) -> int | None:
    """Return the type and the permissions of a file, links followed; None if it is missing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _set_permissions(handle: int, mode: int) -> None:
    """Set the permissions of an open file, unless it has them or its mount does not keep any."""
    permissions = stat.S_IMODE(mode)
    if stat.S_IMODE(os.fstat(handle).st_mode) == permissions:
        return
    try:
        os.fchmod(handle, permissions)
    except OSError as error:
        if not is_refused(error):
            raise


def _rename(source: Path, target: Path) -> bool:
    """Rename a file or folder; return False if the file system refuses renames."""
    try:
        source.replace(target)
    except OSError as error:
        if not is_refused(error):
            raise
        return False
    return True


def _unlink(path: Path) -> None:
    """Delete a file if it exists; errors are ignored."""
    with contextlib.suppress(OSError):
        path.unlink()
