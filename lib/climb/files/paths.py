"""Paths: URIs and local paths, model paths, and the digest of a file or folder."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from climb.errors import PreflightError

COMPLETE = "complete.json"
"""Name of the file with the digests of a folder's other files; see `climb.files.complete`."""

MAX_CELL_CHARS = 2**31 - 1
"""Maximum characters of a cell for Python's CSV reader; its default of 131,072 is too small."""


def is_uri(path: str) -> bool:
    """Whether a path is a URI (s3://, abfss://, dbfs:/), which `pathlib` and `open` cannot read."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None


def exists(path: Path) -> bool:
    """Whether a path exists; False if a folder above it cannot be read."""
    try:
        return path.exists()
    except OSError:
        return False


def list_files(folder: Path) -> list[Path]:
    """List the files below a folder, sorted.

    Links are followed, but a link to a folder above the link is not.
    """
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        folders[:] = [n for n in folders if not real.is_relative_to(Path(parent, n).resolve())]
        found += [Path(parent, name) for name in names]
    return sorted(path for path in found if path.is_file())


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
    if not exists(found):
        raise PreflightError(
            f"model path {path!r} does not exist (looked at {found.absolute()} on "
            f"{socket.gethostname()}); use a path that every machine has"
        )
    return found


def hash_content(path: Path) -> str:
    """Hash a file, or the names and bytes of a folder's files in order of name (SHA-256).

    The completion file of a folder (its name is the constant COMPLETE) is not hashed, because its
    content is determined by the other files.
    """
    files = [path]
    if path.is_dir():
        mark = path / COMPLETE
        files = [file for file in list_files(path) if file != mark]
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _hash_files(path, stamp)


@functools.lru_cache(maxsize=64)
def _hash_files(path: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """Hash the files of `stamp`.

    A model may have gigabytes, which take long to hash. So the result is cached in this process. It
    is used again if a later call has the same path and, in `stamp`, the same names, sizes and
    times.
    """
    digests = {}
    for name, _, _ in stamp:
        file = Path(name)
        inner = str(file.relative_to(path)) if path.is_dir() else ""
        with file.open("rb") as stream:
            digests[inner] = hashlib.file_digest(stream, "sha256").hexdigest()
    return combine_digests(digests)


def combine_digests(digests: Mapping[str, str]) -> str:
    """Combine the SHA-256 of files into one digest: that of a folder, or of a single file.

    Args:
        digests: path inside the folder -> hexadecimal SHA-256. For a single file that is not part
            of a folder, the path is empty.
    """
    total = hashlib.sha256()
    for name, digest in sorted(digests.items(), key=lambda item: Path(item[0])):
        total.update(name.encode() + bytes.fromhex(digest))
    return total.hexdigest()
