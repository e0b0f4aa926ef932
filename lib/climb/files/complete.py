"""Write files and folders so that incomplete ones count as missing, also where rename is refused.

A completion file with the SHA-256 and the size of every file is written last: `complete.json` in a
folder, `NAME.complete.json` beside a file. Only a target whose completion file can be read, and
whose files have these sizes, is complete. A process that is killed while it writes leaves a
target that is not complete. The next run writes this target again from its start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from climb.files.paths import COMPLETE, combine_digests, hash_content, list_files
from climb.files.write import Chunk, Content, read_chunks, write_file, write_over


@dataclass(frozen=True)
class FileDigest:
    """What the completion file records of one file."""

    sha256: str
    bytes: int


def write_complete(path: Path, content: Content) -> None:
    """Write one file, and then its completion file.

    Args:
        path: the file; its folder is created.
        content: function that returns the content of the file. It is called again if a rename is
            refused.
    """
    locate_mark(path).unlink(missing_ok=True)
    _write_mark(locate_mark(path), {path.name: write_recorded(path, content)})


def write_recorded(path: Path, content: Content) -> FileDigest:
    """Write one file of a folder, without a completion file, and return the file's digest."""
    recorded: list[FileDigest] = []
    write_file(path, lambda: _record(content(), recorded))
    return recorded[-1]


@contextlib.contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder on the local disk, and copy its files to `folder` at the end.

    Files that an older completion file records are replaced or deleted. Other files stay, since
    they may be the user's. If the block raises, `folder` is not changed. The completion file is
    written last.
    """
    with tempfile.TemporaryDirectory(prefix="climb-") as scratch:
        local = Path(scratch) / folder.name
        local.mkdir()
        yield local
        older = read_mark(folder) or {}
        locate_mark(folder, is_folder=True).unlink(missing_ok=True)
        recorded: dict[str, FileDigest] = {}
        for name, file in _list_files(local):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            digests: list[FileDigest] = []
            write_over(target, _record(read_chunks(file), digests))
            recorded[name] = digests[-1]
        for name in older.keys() - recorded.keys():
            (folder / name).unlink(missing_ok=True)
        mark_complete(folder, recorded)


def mark_complete(folder: Path, recorded: Mapping[str, FileDigest] | None = None) -> None:
    """Write the completion file of a folder.

    Args:
        folder: a folder whose files are complete.
        recorded: path inside the folder -> digest; None reads all files.
    """
    if recorded is None:
        recorded = {name: digest_file(file) for name, file in _list_files(folder)}
    _write_mark(locate_mark(folder, is_folder=True), recorded)


def join_complete(folder: Path, names: Sequence[str]) -> None:
    """Write the completion file of a folder whose files were written by `write_complete`.

    Args:
        folder: the folder.
        names: names of the folder's files; all are complete.
    """
    marks = {name: read_mark(folder / name) or {} for name in names}
    mark_complete(folder, {name: mark[name] for name, mark in marks.items()})


def list_complete_files(folder: Path) -> list[Path]:
    """List the files that the completion file of a folder records, in order of name."""
    return [folder / name for name in sorted(read_mark(folder) or {})]


def is_complete(path: Path) -> bool:
    """Whether a file or folder exists with everything that its completion file records."""
    recorded = read_mark(path)
    if recorded is None:
        return False
    folder = path if path.is_dir() else path.parent
    return all(_has_size(folder / name, digest.bytes) for name, digest in recorded.items())


def read_digest(path: Path) -> str:
    """Return the digest that `hash_content` computes for a file or folder.

    If the target is complete, the digest comes from its completion file, so that no large file is
    read again.
    """
    recorded = read_mark(path)
    if recorded is None or not is_complete(path):
        return hash_content(path)
    if not path.is_dir():
        return combine_digests({"": recorded[path.name].sha256})
    return combine_digests({name: digest.sha256 for name, digest in recorded.items()})


def read_mark(path: Path) -> dict[str, FileDigest] | None:
    """Read the completion file of a file or folder; None if it is missing or invalid."""
    try:
        values = json.loads(locate_mark(path, path.is_dir()).read_bytes())
        recorded = {name: FileDigest(**digest) for name, digest in values["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return recorded if path.is_dir() or path.name in recorded else None


def digest_file(path: Path) -> FileDigest:
    """Read a file and return its digest."""
    digests: list[FileDigest] = []
    for _ in _record(read_chunks(path), digests):
        pass
    return digests[-1]


def _record(chunks: Iterable[Chunk], digests: list[FileDigest]) -> Iterator[Chunk]:
    """Yield the chunks unchanged. After the last one, append their joint digest to `digests`."""
    total, size = hashlib.sha256(), 0
    for chunk in chunks:
        total.update(chunk)
        size += memoryview(chunk).nbytes
        yield chunk
    digests.append(FileDigest(total.hexdigest(), size))


def _write_mark(path: Path, recorded: Mapping[str, FileDigest]) -> None:
    values = {name: asdict(digest) for name, digest in sorted(recorded.items())}
    # Not written to a temporary file first, because a killed process would leave that file behind.
    # A truncated completion file is not valid JSON, so it counts as missing.
    write_over(path, [json.dumps({"files": values}, indent=1).encode() + b"\n"])


def locate_mark(path: Path, is_folder: bool = False) -> Path:
    """Return the path of the completion file of a file or folder."""
    return path / COMPLETE if is_folder else path.with_name(f"{path.name}.{COMPLETE}")


def _list_files(folder: Path) -> list[tuple[str, Path]]:
    """List the files below a folder with their relative paths, except the completion file."""
    named = [(file.relative_to(folder).as_posix(), file) for file in list_files(folder)]
    return [(name, file) for name, file in named if name != COMPLETE]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False
