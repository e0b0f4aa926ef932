"""Files of text -> rows of documents, without Spark.

    found = find_files(cfg.inputs)               # files.py: names, sizes, dates; nothing is opened
    units, problems = plan(found.files, cfg)     # plan.py:  footers and first lines are checked
    for batch in read_units(units, cfg): ...     # rows.py:  read.py's cells, cleaned by clean.py

A unit is a part of one file that one task reads: a range of row groups, a range of bytes, or a
whole file. What comes out depends on the content of the rows alone: not on the names of files,
their order, their row groups, or on how units are shared out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputFile:
    """A file that the user named, or that lies in a folder that they named."""

    root: str
    """URI by which its file system is opened; empty for files on this machine."""

    path: str
    """Path inside that file system."""

    name: str
    """How messages and tables name it: a path or a URI."""

    kind: str
    """parquet, jsonl or text."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Problem:
    """A file that cannot be read, and why."""

    name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Unit:
    """A part of one file; `kind` problem stands for a file that goes to `rejected` unread."""

    root: str
    path: str
    name: str
    kind: str
    start: int = 0
    """First row group (parquet) or byte (jsonl)."""

    stop: int = 0
    """End of the range, exclusive; 0 reads to the end."""

    n_rows: int = 0
    """Rows that the footer promises; 0 where the format does not say."""

    n_bytes: int = 0
    """Bytes of text to expect, at least 1; only balances the tasks."""

    reason: str = ""
    detail: str = ""
