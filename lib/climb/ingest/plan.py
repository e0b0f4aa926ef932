"""Check every input file on the driver, and split the files into units of work.

The check reads Parquet footers and the first rows of JSON Lines. A wrong schema always raises an
error. A file that cannot be read becomes a problem, and an error unless `skip_corrupt` is set.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import InputError, one_line
from climb.ingest import FileProblem, InputFile, Unit
from climb.ingest.files import FileListing, open_filesystem
from climb.ingest.lines import DamagedFileError, is_splittable, read_first_objects

UNIT_BYTES = 64 << 20
"""Target size of a unit: seconds of work, and thousands of units per terabyte."""

OPENING_COST_BYTES = 64 << 10
"""Cost of opening a file, in bytes of reading, so that many small files are balanced too."""

MAX_LISTED_FILES = 10
"""Maximum files in one message; the others are counted."""

MAX_LISTED_COLUMNS = 50
"""Maximum columns in one message: a JSON object may have a million keys."""


@dataclass
class _FileCheck:
    """Result of checking one file."""

    units: list[Unit] = field(default_factory=list)
    problem: FileProblem | None = None
    mistakes: list[str] = field(default_factory=list)
    """Schema mistakes, without the name of the file."""


def plan_units(listing: FileListing, cfg: IngestConfig) -> list[Unit]:
    """Return the units of all files, and one unit for each problem.

    Raises:
        InputError: a column is missing or has a wrong type; or a file cannot be read and
            `skip_corrupt` is false. One message lists all such files.
    """
    with ThreadPoolExecutor(16) as pool:  # reading footers from an object store is mostly waiting
        checks = list(pool.map(lambda file: _check_file(file, cfg), listing.files))
    mistakes = [
        f"{file.name}: {'; '.join(check.mistakes)}"
        for file, check in zip(listing.files, checks, strict=True)
        if check.mistakes
    ]
    if mistakes:
        raise InputError(
            f"{join_limited(mistakes)}; ingest.text_column, source_column and metadata_columns "
            "must name columns of every file"
        )
    problems = [*listing.problems, *(check.problem for check in checks if check.problem)]
    if problems and not cfg.skip_corrupt:
        raise InputError(describe_unreadable(problems))
    units = [unit for check in checks for unit in check.units]
    units += [
        Unit("", "", p.name, "problem", n_bytes=1, reason=p.reason, detail=p.detail)
        for p in problems
    ]
    return units


def describe_unreadable(problems: Sequence[FileProblem]) -> str:
    """Return the error message for files that cannot be read."""
    files = sorted(f"{problem.name} ({problem.detail})" for problem in problems)
    return (
        f"{len(files)} of the input files cannot be read: {join_limited(files)}; fix or remove "
        "them, or set ingest.skip_corrupt=true to list them in table rejected"
    )


def join_limited(items: Sequence[str]) -> str:
    """Join the first MAX_LISTED_FILES items in one line, and count the others."""
    rest = len(items) - MAX_LISTED_FILES
    return "; ".join(items[:MAX_LISTED_FILES]) + (f"; and {rest} more" if rest > 0 else "")


def bundle_units(units: Sequence[Unit], parallelism: int) -> list[list[Unit]]:
    """Group units into bundles of about equal bytes, one bundle per task.

    Args:
        units: in order; a bundle contains consecutive units.
        parallelism: number of task slots. Each slot gets at least two bundles where there are
            enough units.
    """
    costs = [unit.n_bytes + OPENING_COST_BYTES for unit in units]
    target = min(UNIT_BYTES, max(1 << 20, sum(costs) // (2 * parallelism)))
    bundles: list[list[Unit]] = []
    remaining = 0
    for unit, cost in zip(units, costs, strict=True):
        if remaining <= 0:
            bundles.append([])
            remaining = target
        bundles[-1].append(unit)
        remaining -= cost
    return bundles


def _check_file(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    import pyarrow as pa

    check = {"parquet": _check_parquet, "jsonl": _check_jsonl, "text": _check_text}[file.kind]
    try:
        return check(file, cfg)
    except DamagedFileError as error:
        return _FileCheck(problem=FileProblem(file.name, error.reason, error.detail))
    except (OSError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)
        return _FileCheck(problem=FileProblem(file.name, "unreadable_file", detail))


def _make_unit(file: InputFile, start: int, stop: int, n_bytes: int, n_rows: int = 0) -> Unit:
    return Unit(file.root, file.path, file.name, file.kind, start, stop, n_rows, max(1, n_bytes))


def _check_text(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    columns = [cfg.source_column, *cfg.metadata_columns]
    mistakes = [f"a text file has no column {name!r}" for name in columns if name is not None]
    return _FileCheck([_make_unit(file, 0, 0, file.size)], mistakes=mistakes)


def _check_jsonl(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    objects, damage = read_first_objects(file, cfg.max_chars)
    if damage is not None and not (objects and cfg.skip_corrupt):
        raise damage  # with skip_corrupt, the rows before the damage are used
    keys = list(dict.fromkeys(key for row in objects for key in row))
    texts = [row[cfg.text_column] for row in objects if cfg.text_column in row]
    present = [text for text in texts if text is not None]
    mistakes = _find_column_mistakes(keys, cfg)
    if present and not any(isinstance(text, str) for text in present):
        type_name = type(present[0]).__name__
        mistakes.append(f"key {cfg.text_column!r} is {type_name}; it must be text")
    if not is_splittable(file.path):
        return _FileCheck([_make_unit(file, 0, 0, 4 * file.size)], mistakes=mistakes)
    starts = range(0, file.size, UNIT_BYTES)
    ends = [*starts[1:], file.size]
    units = [_make_unit(file, a, b, b - a) for a, b in zip(starts, ends, strict=True)]
    return _FileCheck(units, mistakes=mistakes)


def _check_parquet(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    import pyarrow.parquet as pq

    with open_filesystem(file.root).open_input_file(file.path) as stream:
        head = stream.read(4)
        stream.seek(max(0, file.size - 4))
        tail = stream.read(4)
        if head != b"PAR1":
            raise DamagedFileError(
                "unsupported_format", "does not start with PAR1, as Parquet does"
            )
        if tail != b"PAR1" or file.size < 12:
            raise DamagedFileError("truncated_file", "does not end with PAR1, as Parquet does")
        stream.seek(0)
        parquet = pq.ParquetFile(stream)
        schema, footer = parquet.schema_arrow, parquet.metadata
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
    mistakes = _find_column_mistakes(schema.names, cfg)
    if cfg.text_column in schema.names:
        type_ = schema.field(schema.names.index(cfg.text_column)).type
        if not is_text_type(type_):
            mistakes.append(f"column {cfg.text_column!r} is {type_}; it must be text")
    return _FileCheck(_split_row_groups(file, sizes), mistakes=mistakes)


def _split_row_groups(file: InputFile, sizes: Sequence[tuple[int, int]]) -> list[Unit]:
    """Split a file into ranges of row groups of about UNIT_BYTES.

    Args:
        file: a Parquet file.
        sizes: (bytes, rows) of each row group.
    """
    units, start = [], 0
    for stop in range(1, len(sizes) + 1):
        n_bytes = sum(size for size, _ in sizes[start:stop])
        if n_bytes >= UNIT_BYTES or stop == len(sizes):
            n_rows = sum(rows for _, rows in sizes[start:stop])
            units.append(_make_unit(file, start, stop, n_bytes, n_rows))
            start = stop
    return units


def is_text_type(type_: Any) -> bool:
    """Return whether an Arrow type is text or bytes, plain or dictionary-encoded."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    return type_ in (*kinds, pa.string_view(), pa.binary_view())


def _find_column_mistakes(columns: Sequence[str], cfg: IngestConfig) -> list[str]:
    """Describe each configured column that does not occur exactly once."""
    mistakes = []
    for name in dict.fromkeys((cfg.text_column, cfg.source_column, *cfg.metadata_columns)):
        n = columns.count(name)  # type: ignore[arg-type]  # a source_column of None is skipped
        if name is None or n == 1:
            continue
        if n > 1:
            mistakes.append(f"column {name!r} occurs {n} times")
            continue
        matches = difflib.get_close_matches(name, columns[:MAX_LISTED_COLUMNS], n=1)
        hint = f"; did you mean {matches[0]!r}?" if matches else ""
        present = ", ".join(map(str, columns[:MAX_LISTED_COLUMNS])) or "none"
        more = f", ... ({len(columns)} in all)" if len(columns) > MAX_LISTED_COLUMNS else ""
        mistakes.append(f"no column {name!r} among {present}{more}{hint}")
    return mistakes
