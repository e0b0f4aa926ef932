"""Find input files: paths, folders, globs and URIs become a sorted list of files.

Names that start with a dot, and the files with which Spark and Delta mark their folders, are
passed over. Everything else either has an ending that is known here or is a problem with a name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from climb.errors import InputError, one_line
from climb.ingest import InputFile, Problem

KINDS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".txt": "text",
    ".md": "text",
}
"""Ending of a name, in lower case -> how the file is read."""

MARKERS = re.compile(
    r"\..*|_SUCCESS|_delta_log|_temporary|_metadata|_common_metadata|_(?:started|committed)_.*"
)
"""Names that are no data: hidden files, and what Spark, Delta and Parquet writers leave behind."""

WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """What the inputs lead to, sorted by name."""

    files: tuple[InputFile, ...]
    problems: tuple[Problem, ...]

    def digest(self) -> str:
        """SHA-256 over name, size and date of every file: equal means nothing was touched."""
        lines = [f"{f.name}\0{f.size}\0{f.mtime_ns}" for f in self.files]
        lines += [f"{p.name}\0{p.reason}\0{p.detail}" for p in self.problems]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find_files(inputs: Sequence[str]) -> Found:
    """List the files behind paths, folders (with all below), globs (`**` too) and URIs.

    Raises:
        InputError: there are no inputs, one of them leads nowhere, or a folder cannot be listed.
    """
    if not inputs:
        raise InputError(
            "no documents: ingest.inputs is empty; set it to files, folders or globs of "
            f"{', '.join(KINDS)}"
        )
    files: dict[str, InputFile] = {}
    problems: dict[str, Problem] = {}
    lost = []
    for text in inputs:
        root, infos = _matches(text)
        for info in infos:
            found = _judge(root, info)
            if isinstance(found, InputFile):
                files[found.name] = found
            elif found is not None:
                problems[found.name] = found
        if not infos:
            lost.append(text)
    if lost:
        raise InputError(f"ingest.inputs: nothing is at {', '.join(map(repr, lost))}")
    if not files and not problems:
        raise InputError(f"no documents: there are no files in {', '.join(map(repr, inputs))}")
    return Found(
        tuple(files[name] for name in sorted(files)),
        tuple(problems[name] for name in sorted(problems)),
    )


def open_filesystem(root: str) -> Any:
    """The pyarrow file system of a URI; of this machine where the URI is empty."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(root)[0] if root else fs.LocalFileSystem()


def _matches(text: str) -> tuple[str, list[Any]]:
    """Root of the file system and pyarrow's FileInfo of everything that one input leads to."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        root, path = _split(text)
        system = open_filesystem(root)
        info = system.get_file_info(path)
        if info.type == fs.FileType.Directory:
            return root, [info, *_below(system, path)]
        if info.type != fs.FileType.NotFound:
            return root, [info]
        if not WILDCARD.search(path):
            return root, []
        parts = PurePosixPath(path).parts
        wild = next(i for i, part in enumerate(parts) if WILDCARD.search(part))
        pattern = glob_regex(path)
        below = _below(system, str(PurePosixPath(*parts[:wild])))
        return root, [found for found in below if pattern.fullmatch(found.path)]
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise InputError(f"ingest.inputs: {text!r} cannot be listed: {reason}") from error


def _split(text: str) -> tuple[str, str]:
    """Root and path: `s3://bucket/a` keeps its URI as root, a local path is made absolute."""
    from pyarrow import fs

    text = re.sub(r"^s3[an]://", "s3://", text)  # Hadoop's names for what Arrow calls s3
    if "://" not in text:
        return "", str(Path(text).expanduser().absolute())
    if text.startswith("file://"):
        return "", str(fs.FileSystem.from_uri(text)[1])
    base, mark, query = text.partition("?")  # in a URI the question mark starts its options
    wild = WILDCARD.search(base)
    fixed = base[: base.rindex("/", 0, wild.start()) + 1] if wild else base
    path = str(fs.FileSystem.from_uri(fixed + mark + query)[1])
    return fixed + mark + query, f"{path.rstrip('/')}/{base[len(fixed) :]}" if wild else path


def _below(system: Any, folder: str) -> list[Any]:
    """Everything below a folder but hidden names; an empty list where there is no such folder."""
    from pyarrow import fs

    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    depth = len(PurePosixPath(folder).parts)
    return [
        info
        for info in system.get_file_info(selector)
        if not any(MARKERS.fullmatch(part) for part in PurePosixPath(info.path).parts[depth:])
    ]


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: `*` stays in one folder, `**` does not.

    A folder that matches brings all that is below it.
    """
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    regex = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern):
        if part.startswith("[") and part.endswith("]"):
            regex += "[^" + part[2:] if part.startswith("[!") else part
        else:
            regex += tokens.get(part, re.escape(part))
    return re.compile(regex + r"(?:/.*)?", re.DOTALL)


def kind_of(path: str) -> str | None:
    """How a file of this name is read, or None where its ending is unknown."""
    name = PurePosixPath(path).name.lower()
    endings = [ending for ending in KINDS if name.endswith(ending) and name != ending]
    return KINDS[endings[0]] if endings else None


def _judge(root: str, info: Any) -> InputFile | Problem | None:
    """What to do with one entry of a listing; None for a folder that is just a folder."""
    from pyarrow import fs

    scheme = root.partition("://")[0]
    name = f"{scheme}://{info.path}" if root else info.path
    kind = kind_of(info.path)
    if info.type == fs.FileType.Directory:
        # Spark writes folders named x.parquet, so one with files in it is fine.
        if kind is None or _has_files(root, info.path):
            return None
        return Problem(name, "foreign_file", "a folder with nothing in it")
    if info.type != fs.FileType.File:
        return Problem(name, "unreadable_file", "not a regular file")
    if kind is None:
        ending = PurePosixPath(info.path).suffix or "no ending"
        return Problem(name, "foreign_file", f"{ending} is not one of {', '.join(KINDS)}")
    if info.size == 0 and kind != "text":  # an empty text is a document that has no text
        return Problem(name, "truncated_file", "zero bytes")
    return InputFile(root, info.path, name, kind, info.size, info.mtime_ns or 0)


def _has_files(root: str, folder: str) -> bool:
    return any(info.is_file for info in _below(open_filesystem(root), folder))
