"""Find input files: expand paths, folders, globs and URIs to a sorted list of files.

Names that start with a dot, and the marker files of Spark and Delta, are ignored. Every other file
must have a supported extension; otherwise it is reported as a problem.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from climb.errors import InputError, one_line
from climb.ingest import FileProblem, InputFile

KINDS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".txt": "text",
    ".md": "text",
}
"""Extension in lower case -> file kind."""

IGNORED_NAMES = re.compile(
    r"\..*|_SUCCESS|_delta_log|_temporary|_metadata|_common_metadata|_(?:started|committed)_.*"
)
"""Ignored names: hidden files, and marker files of Spark, Delta and Parquet writers."""

WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FileListing:
    """Files and problems behind the inputs, each sorted by name."""

    files: tuple[InputFile, ...]
    problems: tuple[FileProblem, ...]

    def digest(self) -> str:
        """Hash name, size and modification time of every file; equal digests mean no change."""
        lines = [f"{f.name}\0{f.size}\0{f.mtime_ns}" for f in self.files]
        lines += [f"{p.name}\0{p.reason}\0{p.detail}" for p in self.problems]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find_files(inputs: Sequence[str]) -> FileListing:
    """List the files behind paths, folders (recursively), globs (also `**`) and URIs.

    Raises:
        InputError: there are no inputs, an input matches nothing, or a folder cannot be listed.
    """
    if not inputs:
        raise InputError(
            "no documents: ingest.inputs is empty; set it to files, folders or globs; supported "
            f"extensions: {', '.join(KINDS)}"
        )
    files: dict[str, InputFile] = {}
    problems: dict[str, FileProblem] = {}
    unmatched = []
    for text in inputs:
        root, infos = _expand_input(text)
        for info in infos:
            entry = _classify_entry(root, info)
            if isinstance(entry, InputFile):
                files[entry.name] = entry
            elif entry is not None:
                problems[entry.name] = entry
        if not infos:
            unmatched.append(text)
    if unmatched:
        raise InputError(
            f"ingest.inputs: no such file or folder: {', '.join(map(repr, unmatched))}"
        )
    if not files and not problems:
        raise InputError(f"no documents: there are no files in {', '.join(map(repr, inputs))}")
    return FileListing(
        tuple(files[name] for name in sorted(files)),
        tuple(problems[name] for name in sorted(problems)),
    )


def open_filesystem(root: str) -> Any:
    """Open the pyarrow file system of a URI; an empty URI means the local file system."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(root)[0] if root else fs.LocalFileSystem()


def _expand_input(text: str) -> tuple[str, list[Any]]:
    """Return the file system root and a pyarrow FileInfo for every match of one input."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        root, path = _split_root(text)
        system = open_filesystem(root)
        info = system.get_file_info(path)
        if info.type == fs.FileType.Directory:
            return root, [info, *_list_below(system, path)]
        if info.type != fs.FileType.NotFound:
            return root, [info]
        if not WILDCARD.search(path):
            return root, []
        parts = PurePosixPath(path).parts
        wild = next(i for i, part in enumerate(parts) if WILDCARD.search(part))
        pattern = compile_glob(path)
        below = _list_below(system, str(PurePosixPath(*parts[:wild])))
        return root, [entry for entry in below if pattern.fullmatch(entry.path)]
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise InputError(f"ingest.inputs: {text!r} cannot be listed: {reason}") from error


def _split_root(text: str) -> tuple[str, str]:
    """Split an input into root and path: a URI is its own root, a local path becomes absolute."""
    from pyarrow import fs

    text = re.sub(r"^s3[an]://", "s3://", text)  # Hadoop's scheme names for Arrow's s3
    if "://" not in text:
        return "", str(Path(text).expanduser().absolute())
    if text.startswith("file://"):
        return "", str(fs.FileSystem.from_uri(text)[1])
    base, mark, query = text.partition("?")  # in a URI, the options follow the question mark
    wild = WILDCARD.search(base)
    fixed = base[: base.rindex("/", 0, wild.start()) + 1] if wild else base
    path = str(fs.FileSystem.from_uri(fixed + mark + query)[1])
    return fixed + mark + query, f"{path.rstrip('/')}/{base[len(fixed) :]}" if wild else path


def _list_below(system: Any, folder: str) -> list[Any]:
    """List everything below a folder except ignored names; empty if the folder does not exist."""
    from pyarrow import fs

    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    depth = len(PurePosixPath(folder).parts)
    return [
        info
        for info in system.get_file_info(selector)
        if not any(IGNORED_NAMES.fullmatch(part) for part in PurePosixPath(info.path).parts[depth:])
    ]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Convert a glob to a regular expression: `*` matches in one folder, `**` across folders.

    The expression also matches everything below a matching folder.
    """
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    regex = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern):
        if part.startswith("[") and part.endswith("]"):
            regex += "[^" + part[2:] if part.startswith("[!") else part
        else:
            regex += tokens.get(part, re.escape(part))
    return re.compile(regex + r"(?:/.*)?", re.DOTALL)


def detect_kind(path: str) -> str | None:
    """Return the file kind for a file name, or None if its extension is not supported."""
    name = PurePosixPath(path).name.lower()
    extensions = [suffix for suffix in KINDS if name.endswith(suffix) and name != suffix]
    return KINDS[extensions[0]] if extensions else None


def _classify_entry(root: str, info: Any) -> InputFile | FileProblem | None:
    """Return the file or problem of one directory entry; None for an ordinary folder."""
    from pyarrow import fs

    scheme = root.partition("://")[0]
    name = f"{scheme}://{info.path}" if root else info.path
    kind = detect_kind(info.path)
    if info.type == fs.FileType.Directory:
        # Spark writes folders named x.parquet, so such a folder is valid if it contains files.
        if kind is None or _contains_files(root, info.path):
            return None
        return FileProblem(name, "unsupported_format", "a folder with nothing in it")
    if info.type != fs.FileType.File:
        return FileProblem(name, "unreadable_file", "not a regular file")
    if kind is None:
        suffix = PurePosixPath(info.path).suffix or "no ending"
        return FileProblem(name, "unsupported_format", f"{suffix} is not one of {', '.join(KINDS)}")
    if info.size == 0 and kind != "text":  # an empty text file is one row with an empty text
        return FileProblem(name, "truncated_file", "zero bytes")
    return InputFile(root, info.path, name, kind, info.size, info.mtime_ns or 0)


def _contains_files(root: str, folder: str) -> bool:
    return any(info.is_file for info in _list_below(open_filesystem(root), folder))
