"""Local files: where a model path leads, what it contains, and writes that a crash cannot halve."""

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


def is_uri(path: str) -> bool:
    """Whether a path names a file system (s3://, abfss://, dbfs:/), so that only Spark opens it."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None


def resolve(path: str) -> Path:
    """Find a model file or folder: a path, or `package:NAME/inner/path` in an installed package.

    Raises:
        PreflightError: nothing is there.
    """
    if path.startswith("package:"):
        name, _, inner = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise PreflightError(
                f"{path}: Python package {name!r} is not installed: pip install it"
            )
        found = Path(next(iter(spec.submodule_search_locations))) / inner
    else:
        found = Path(path)
    if not found.exists():
        raise PreflightError(f"model path {path!r} does not exist (looked at {found})")
    return found


def content_digest(path: Path) -> str:
    """SHA-256 over the names and bytes of a file, or of all files of a folder in order of name."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _digest(path, stamp)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """Hash once per process and state of the files: a model may hold gigabytes."""
    total = hashlib.sha256()
    for name, _, _ in stamp:
        file = Path(name)
        total.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place, sync it, and rename it there: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{secrets.token_hex(6)}"
    try:
        with beside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_if_other(path: Path, content: bytes) -> bool:
    """Write a file unless it holds just that; whether it was written."""
    if path.exists() and path.read_bytes() == content:
        return False
    with replacing(path) as stream:
        stream.write(content)
    return True
