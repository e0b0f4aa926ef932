"""Input files -> rows of documents, without Spark.

    listing = find_files(cfg.inputs, cfg.format)   # files.py: lists names, sizes, dates; opens none
    units = plan_units(listing, cfg)               # plan.py:  checks footers and first lines
    for bundle in bundle_units(units, n_slots):    # plan.py:  one bundle is the work of one task
        for rows in read_units(bundle, cfg):       # read.py:  raw cells in bounded batches
            yield build_batch(rows, row_id, cfg)   # rows.py:  cells cleaned by clean.py, with ids

A unit is a part of one file that one task reads: a range of row groups, a range of bytes, or a
whole file. The documents depend only on the content of the rows, and on configured folder
partitions (`lang=en/`). File names, their order, row groups and the assignment of units to tasks
change nothing.

`walk.py` finds folders that have the log of a table; their files are not read as documents. Spark
reads a Delta table through its log. The table's rows then pass through `columns.py`, `clean.py` and
`rows.py` like those of files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputFile:
    """A file that the user named, or a file below a folder that the user named."""

    root: str
    """URI that opens the file system; empty for local files."""

    path: str
    """Path inside that file system."""

    name: str
    """Path or URI by which messages and tables name the file."""

    kind: str
    """parquet, jsonl, csv, tsv, arrow or text."""

    size: int
    mtime_ns: int

    partitions: tuple[tuple[str, str | None], ...] = ()
    """Columns in the names of the file's folders: `lang=en/` is ("lang", "en"); None is null."""


@dataclass(frozen=True)
class FileProblem:
    """A file, folder or link that cannot be read, and why."""

    name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Unit:
    """A part of one file that one task reads.

    A unit of kind `problem` or `empty` is not read; table `rejected` gets a row for it.
    """

    root: str
    path: str
    name: str
    kind: str
    start: int = 0
    """First row group (parquet) or byte (jsonl)."""

    stop: int = 0
    """End of the range, exclusive; 0 means the end of the file."""

    n_rows: int = 0
    """Rows according to the footer; 0 where the format has no such count."""

    n_bytes: int = 0
    """Expected bytes of text, at least 1; used only to give the tasks equal work."""

    reason: str = ""
    detail: str = ""
    partitions: tuple[tuple[str, str | None], ...] = ()
