"""Local files: resolve model paths, hash their content, and write files atomically."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from climb.errors import PreflightError

MAX_CELL_CHARS = 2**31 - 1
"""Limit of a cell for Python's CSV reader, whose own of 131,072 is less than a long text."""


def is_uri(path: str) -> bool:
    """Whether a path names a file system (s3://, abfss://, dbfs:/) that only Spark can open."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None


def resolve(path: str) -> Path:
    """Find a model file or folder: a path, or `package:NAME/inner/path` in an installed package.

    Raises:
        PreflightError: the package is not installed, or the path does not exist.
    """
    if path.startswith("package:"):
        name, _, inner = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise PreflightError(
                f"model path {path!r}: Python package {name!r} is not installed; run "
                f"`pip install {name}`"
            )
        found = Path(next(iter(spec.submodule_search_locations))) / inner
    else:
        found = Path(path)
    if not found.exists():
        raise PreflightError(f"model path {path!r} does not exist (file {found})")
    return found


def hash_content(path: Path) -> str:
    """Hash a file, or the names and bytes of a folder's files in order of name (SHA-256)."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _hash_files(path, stamp)


@functools.lru_cache(maxsize=64)
def _hash_files(path: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """Hash once per process and state of the files: a model may have gigabytes."""
    total = hashlib.sha256()
    for name, _, _ in stamp:
        file = Path(name)
        total.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Write a temporary file in the same folder, sync it, and rename it to `path`.

    After a crash the file is the old one or the new one, but never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a file unless it has this content already.

    Returns:
        Whether the file was written.
    """
    if path.exists() and path.read_bytes() == content:
        return False
    with write_atomically(path) as stream:
        stream.write(content)
    return True
