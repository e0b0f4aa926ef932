"""List what is below a folder, local or remote, and find tables that have a log.

In local folders, links are followed. A link that leads nowhere, or to a folder above it, is a
problem, unless the link or a folder above it has an ignored name. Everything below a folder has an
entry, except the content of ignored folders that cannot be read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from climb.errors import InputError
from climb.ingest.formats import IGNORED_NAMES

TABLE_MARKS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
"""Folder inside a table's folder -> kind of table."""


@dataclass(frozen=True)
class Entry:
    """A file or folder."""

    path: str
    kind: Literal["file", "folder", "ignored", "problem"]
    size: int = 0
    mtime_ns: int = 0
    detail: str = ""
    """What is wrong, for an entry that is a problem."""

    table: str = ""
    """Folder of the table that the entry belongs to; empty if it belongs to none."""

    table_kind: str = ""
    """Delta, Iceberg or Hudi."""


def open_filesystem(root: str) -> Any:
    """Open the pyarrow file system of a URI; an empty URI means the local file system."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(root)[0] if root else fs.LocalFileSystem()


def open_input_file(root: str, path: str) -> Any:
    """Open a file for reading, as a pyarrow file with random access."""
    import pyarrow as pa

    if not root and not _is_utf8(path):  # pyarrow's paths are UTF-8
        return pa.PythonFile(Path(path).open("rb"), mode="r")
    return open_filesystem(root).open_input_file(path)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_path(root: str, path: str) -> Entry | None:
    """Return the entry of one path; None if it does not exist."""
    if not root:
        exists = Path(path).is_symlink() or Path(path).exists()
        return _describe_local(Path(path)) if exists else None
    return _convert_info(open_filesystem(root).get_file_info(path))


def list_below(root: str, folder: str) -> list[Entry]:
    """List everything below a folder, sorted by path; empty if the folder does not exist.

    The folder itself is the first entry. If one of the listed folders is a table, its entry and all
    entries below it have the path of the table's folder as `table`.
    """
    if root:
        entries = list(_list_remote(root, folder))
    else:
        local = Path(folder)
        entries = list(_list_local(local, (), ignored=False)) if local.is_dir() else []
    if tables := _find_tables(entries):
        entries = [_mark_table(entry, tables) for entry in entries]
    return sorted(entries, key=lambda entry: entry.path)


def find_table_above(root: str, path: str) -> tuple[str, str] | None:
    """Find the table that contains a path: (its folder, its kind); None if there is none.

    The path may also be the table's own folder, except if the table is an Iceberg table.
    """
    parents = [parent for parent in map(str, PurePosixPath(path).parents) if parent != "."]
    for folder in [path, *parents]:
        for mark, kind in TABLE_MARKS.items():
            found = describe_path(root, f"{folder.rstrip('/')}/{mark}")
            if found is not None and found.kind == "folder":
                return folder, kind
        if folder != path and _has_iceberg_metadata(root, folder):
            return folder, "Iceberg"
    return None


def _has_iceberg_metadata(root: str, folder: str) -> bool:
    """Whether a folder is an Iceberg table: it has data/ beside metadata/*.metadata.json."""
    inner = f"{folder.rstrip('/')}/metadata"
    data = describe_path(root, f"{folder.rstrip('/')}/data")
    if data is None or data.kind != "folder":
        return False
    entries = list_below(root, inner) if describe_path(root, inner) is not None else []
    return any(entry.path.endswith(".metadata.json") for entry in entries)


def _list_remote(root: str, folder: str) -> Iterator[Entry]:
    from pyarrow import fs

    system = open_filesystem(root)
    depth = len(PurePosixPath(folder).parts)
    below = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    for info in [system.get_file_info(folder), *system.get_file_info(below)]:
        entry = _convert_info(info)
        if entry is not None:
            inner = PurePosixPath(entry.path).parts[depth:]
            ignored = any(IGNORED_NAMES.fullmatch(part) for part in inner)
            yield replace(entry, kind="ignored") if ignored else entry


def _convert_info(info: Any) -> Entry | None:
    """Convert pyarrow's description of a path; None if it does not exist."""
    from pyarrow import fs

    if info.type == fs.FileType.NotFound:
        return None
    if info.type == fs.FileType.Directory:
        return Entry(info.path, "folder")
    if info.type != fs.FileType.File:
        return Entry(info.path, "problem", detail="not a regular file")
    return Entry(info.path, "file", info.size or 0, info.mtime_ns or 0)


def _list_local(folder: Path, above: tuple[tuple[int, int], ...], ignored: bool) -> Iterator[Entry]:
    """List a local folder and everything below it.

    Args:
        folder: the folder.
        above: device and inode of the folders above it, to find loops of links.
        ignored: whether the folder, or one above it, has an ignored name.
    """
    yield Entry(str(folder), "ignored" if ignored else "folder")
    if ignored and not os.access(folder, os.R_OK | os.X_OK):
        return
    above = (*above, _identify(folder))
    paths = sorted(folder.iterdir())
    is_hub = {"blobs", "snapshots"} <= {path.name for path in paths}
    if is_hub and not ignored:
        _check_snapshots(folder)
    for path in paths:
        # In a cache of the Hugging Face hub, folder blobs/ has the content of all files, and
        # folder snapshots/ has the same files under readable names. So blobs/ is ignored. Folder
        # refs/ is ignored too, because it has no documents.
        hidden = ignored or bool(IGNORED_NAMES.fullmatch(path.name))
        hidden = hidden or (is_hub and path.name in {"blobs", "refs"})
        entry = _describe_local(path)
        if entry.kind != "folder":
            yield replace(entry, kind="ignored") if hidden else entry
        elif _identify(path) in above:
            kind: Literal["ignored", "problem"] = "ignored" if hidden else "problem"
            yield Entry(str(path), kind, detail="a link to a folder above it")
        else:
            yield from _list_local(path, above, hidden)


def _identify(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _check_snapshots(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "snapshots").iterdir())
    if len(names) > 1:
        raise InputError(
            f"ingest.inputs: {folder} is a cache of the Hugging Face hub with the snapshots "
            f"{', '.join(names)}; name one of them, for example {folder / 'snapshots' / names[-1]}"
        )


def _describe_local(path: Path) -> Entry:
    try:
        status = path.stat()
    except OSError as error:
        detail = str(error.strerror)
        if path.is_symlink():
            detail = f"a link to {str(path.readlink())!r}: {detail}"
        return Entry(str(path), "problem", detail=detail)
    if stat.S_ISDIR(status.st_mode):
        return Entry(str(path), "folder")
    if not stat.S_ISREG(status.st_mode):
        return Entry(str(path), "problem", detail="not a regular file")
    return Entry(str(path), "file", status.st_size, status.st_mtime_ns)


def _find_tables(entries: list[Entry]) -> dict[str, str]:
    """Find the tables among these entries; return folder of a table -> its kind.

    A table's folder contains a name of TABLE_MARKS or, for an Iceberg table, data/ and
    metadata/*.metadata.json.
    """
    tables = {}
    folders = {entry.path for entry in entries if entry.kind == "folder"}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if path.name in TABLE_MARKS:
            tables[str(path.parent)] = TABLE_MARKS[path.name]
        is_metadata = path.parent.name == "metadata" and path.name.endswith(".metadata.json")
        if is_metadata and str(path.parent.parent / "data") in folders:
            tables[str(path.parent.parent)] = "Iceberg"
    ignored = {entry.path for entry in entries if entry.kind == "ignored"}
    return {folder: kind for folder, kind in tables.items() if folder not in ignored}


def _mark_table(entry: Entry, tables: dict[str, str]) -> Entry:
    path = PurePosixPath(entry.path)
    for folder in map(str, [path, *path.parents]):
        if folder in tables:
            return replace(entry, table=folder, table_kind=tables[folder])
    return entry
