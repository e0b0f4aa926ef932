"""Find input files: expand paths, folders, globs and URIs to a sorted list of files and tables."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from climb.config.uris import AZURE
from climb.errors import InputError, one_line
from climb.files import is_uri
from climb.ingest import FileProblem, InputFile
from climb.ingest.formats import DESCRIPTION, detect_kind, find_ending, parse_partitions
from climb.ingest.walk import Entry, describe_path, find_table_above, list_below

WILDCARD = re.compile(r"[*?\[]")

TABLE_PREFIX = "delta:"
"""An input `delta:/path`, `delta:s3://...` or `delta:catalog.schema.table` names a Delta table."""


@dataclass(frozen=True)
class FileListing:
    """Files, tables and problems behind the inputs, each sorted by name."""

    files: tuple[InputFile, ...]
    problems: tuple[FileProblem, ...]
    tables: tuple[str, ...] = ()
    """Delta tables: a path, a URI, or a name in a catalog."""

    ignored: tuple[str, ...] = ()
    """Names of files and folders that are not read as documents, such as README.md and .git/."""

    def digest(self) -> str:
        """Hash the files' names, sizes and times, the problems, and the number of ignored names.

        Equal digests mean that no file has changed.
        """
        lines = [f"{f.name}\0{f.size}\0{f.mtime_ns}" for f in self.files]
        lines += [f"{p.name}\0{p.reason}\0{p.detail}" for p in self.problems]
        lines += [f"{len(self.ignored)} ignored"]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass
class _Found:
    """What has been found in the inputs so far, by name."""

    files: dict[str, InputFile] = field(default_factory=dict)
    problems: dict[str, FileProblem] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


def find_files(inputs: Sequence[str], format_: str | None = None) -> FileListing:
    """List the files and tables behind paths, folders (recursively), globs (also `**`) and URIs.

    Args:
        inputs: `ingest.inputs`.
        format_: format of all files, whatever their names are; None: the name decides.

    Raises:
        InputError: there are no files or tables, an input matches nothing, an input is only a part
            of a table, a table is not a Delta table, or a folder cannot be listed.
    """
    if not inputs:
        raise InputError(
            "no documents: ingest.inputs is empty; set it to files, folders, globs or Delta "
            f"tables (delta:...); supported file names: {DESCRIPTION}"
        )
    found = _Found()
    unmatched = [text for text in inputs if not _add_input(text, format_, found)]
    if unmatched:
        raise InputError(
            f"ingest.inputs: no such file or folder: {', '.join(map(repr, unmatched))}"
        )
    if not found.files and not found.problems and not found.tables:
        left_out = f" ({len(found.ignored)} ignored)" if found.ignored else ""
        names = ", ".join(map(repr, inputs))
        raise InputError(f"no documents: there are no files{left_out} in {names}")
    return FileListing(
        tuple(found.files[name] for name in sorted(found.files)),
        tuple(found.problems[name] for name in sorted(found.problems)),
        tuple(sorted(found.tables)),
        tuple(sorted(found.ignored - found.files.keys())),
    )


def _add_input(text: str, format_: str | None, found: _Found) -> bool:
    """Add what one input matches; return whether it matches anything."""
    if text.startswith(TABLE_PREFIX):
        found.tables.add(_name_table(text.removeprefix(TABLE_PREFIX)))
        return True
    root, entries = _expand_input(text)
    files = [entry.path for entry in entries if entry.kind == "file"]
    for entry in entries:
        name = _name_entry(root, entry.path)
        if entry.table_kind == "Delta":
            found.tables.add(_name_table_folder(text, root, entry.table))
        elif entry.table_kind:
            raise InputError(_refuse_table(_name_entry(root, entry.table), entry.table_kind))
        elif entry.kind == "ignored":
            found.ignored.add(name)
        else:
            result = _classify_entry(root, entry, format_, files)
            if isinstance(result, InputFile):
                found.files[name] = result
            elif result is not None:
                found.problems[name] = result
    return bool(entries)


def _name_table(text: str) -> str:
    """Return the absolute path of a local table; a URI or a name in a catalog stays as it is."""
    is_name = re.fullmatch(r"[^./:]+(?:\.[^./:]+){0,2}", text) and not Path(text).exists()
    return text if is_uri(text) or is_name else str(Path(text).expanduser().absolute())


def _name_entry(root: str, path: str) -> str:
    """Return the path of a local entry, or the URI of a remote entry, with the host of `root`.

    Arrow's path of a remote entry starts with a slash (hdfs), or with the bucket or container.
    """
    if not root:
        return path
    scheme, _, rest = root.partition("://")
    host = rest.partition("?")[0].partition("/")[0]
    if path.startswith("/"):
        return f"{scheme}://{host}{path}"
    if scheme not in AZURE:
        return f"{scheme}://{path}"
    container, _, inner = path.partition("/")
    # After `scheme://`, an Azure URI may have these forms: container@account/path,
    # account@container/path, account.domain/container/path.
    return f"{scheme}://{host}/{inner if container in host.split('@') else path}"


def _name_table_folder(text: str, root: str, path: str) -> str:
    """Return the path or URI of a Delta table, with the URI scheme that the input has.

    Arrow's URIs have the scheme s3. Some installations of Spark can open s3a, but not s3.
    """
    scheme, name = text.partition("://")[0], _name_entry(root, path)
    return f"{scheme}://{name.partition('://')[2]}" if root else name


def _refuse_table(name: str, kind: str) -> str:
    return (
        f"ingest.inputs: {name} is a table of {kind}, whose files include deleted rows; climb "
        "cannot read it: export its rows to Parquet or Delta with Spark first"
    )


def _expand_input(text: str) -> tuple[str, list[Entry]]:
    """Return the file system root and an entry for every match of one input.

    Raises:
        InputError: a folder cannot be listed, or the input is a part of a table.
    """
    import pyarrow as pa

    try:
        root, path = _split_root(text)
        entry = describe_path(root, path)
        if entry is not None:
            _check_whole_table(text, root, path, find_table_above(root, path))
            return root, list_below(root, path) if entry.kind == "folder" else [entry]
        if not WILDCARD.search(path):
            return root, []
        parts = PurePosixPath(path).parts
        wild = next(i for i, part in enumerate(parts) if WILDCARD.search(part))
        folder, pattern = str(PurePosixPath(*parts[:wild])), compile_glob(path)
        matches = [e for e in list_below(root, folder) if pattern.fullmatch(e.path)]
        for entry in matches:
            if entry.table and not pattern.fullmatch(entry.table):
                _check_whole_table(text, root, path, (entry.table, entry.table_kind))
        if matches:
            _check_whole_table(text, root, path, find_table_above(root, folder))
        return root, matches
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise InputError(f"ingest.inputs: {text!r} cannot be listed: {reason}") from error


def _check_whole_table(text: str, root: str, path: str, table: tuple[str, str] | None) -> None:
    """Raise an InputError for a part of a Delta table, and for other kinds of table, whole or not.

    The files of a table also contain deleted rows. Only the log of the whole table shows which rows
    are deleted, and climb can use only the logs of Delta tables.
    """
    if table is None or (table[0] == path.rstrip("/") and table[1] == "Delta"):
        return
    name, kind = _name_table_folder(text, root, table[0]), table[1]
    if kind != "Delta":
        raise InputError(_refuse_table(name, kind))
    raise InputError(
        f"ingest.inputs: {text!r} is a part of the Delta table {name}, whose files include deleted "
        f"rows; name the whole table: {TABLE_PREFIX}{name}"
    )


def _split_root(text: str) -> tuple[str, str]:
    """Split an input into the URI of its file system (the root), and the path in that file system.

    For a local input, the root is empty and the path is absolute. For a URI, the root is the URI
    itself; if it has a wildcard, the root ends with the last folder before the wildcard.
    """
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


def _has_file_below(folder: str, files: Sequence[str]) -> bool:
    """Whether a folder has a file below it; `files` are sorted."""
    first = bisect.bisect_left(files, f"{folder}/")
    return first < len(files) and files[first].startswith(f"{folder}/")


def _classify_entry(
    root: str, entry: Entry, format_: str | None, files: Sequence[str]
) -> InputFile | FileProblem | None:
    """Return the file or problem of one entry; None for an ordinary folder.

    Args:
        root: URI of the file system; empty for local files.
        entry: the entry.
        format_: `ingest.format`.
        files: paths of all files that the input matches, sorted.
    """
    name = _name_entry(root, entry.path)
    if entry.kind == "problem":
        return FileProblem(name, "unreadable_file", entry.detail)
    kind = detect_kind(entry.path)
    if entry.kind == "folder":
        # Spark writes folders named x.parquet, so such a folder is valid if it contains files.
        if kind is None or _has_file_below(entry.path, files):
            return None
        return FileProblem(name, "unsupported_format", "a folder without files")
    kind = format_ or kind
    if kind is None:
        ending = find_ending(entry.path) or "an empty ending"
        detail = f"{ending} is not one of {DESCRIPTION}; ingest.format sets the format of all files"
        return FileProblem(name, "unsupported_format", detail)
    if entry.size == 0 and kind == "parquet":
        return FileProblem(name, "truncated_file", "zero bytes")
    partitions = parse_partitions(entry.path)
    return InputFile(root, entry.path, name, kind, entry.size, entry.mtime_ns, partitions)
