"""Check every input file on the driver, and split the files into units of work.

The check reads the footers of Parquet files, the headers of CSV and TSV files, the schemas of Arrow
files, and the first rows of JSON Lines. A wrong schema of a file with rows raises an error, also
with `skip_corrupt`. A file that cannot be read raises an error, or is listed in `rejected` if
`skip_corrupt` is set. A file without rows is listed in `rejected` with 0 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from climb.config.sections import IngestConfig
from climb.errors import InputError
from climb.ingest import FileProblem, InputFile, Unit
from climb.ingest.columns import (
    describe_missing,
    find_missing_keys,
    find_mistakes,
    is_partition,
    list_names,
)
from climb.ingest.compression import DamagedFileError, explain_damage
from climb.ingest.files import FileListing
from climb.ingest.lines import read_start
from climb.ingest.tabular import read_arrow_schema, read_header
from climb.ingest.walk import open_input_file

UNIT_BYTES = 64 << 20
"""Target size of a unit in bytes. A task reads such a unit in seconds, and a terabyte of input has
thousands of such units."""

OPENING_COST_BYTES = 64 << 10
"""Opening a file costs as much time as reading this many bytes. This number is added to the bytes
of each unit, so that tasks get equal work even if the files are small."""

MAX_LISTED_FILES = 10
"""Maximum files in one message; the others are counted."""


@dataclass
class _FileCheck:
    """Result of checking one file."""

    units: list[Unit] = field(default_factory=list)
    problem: FileProblem | None = None
    mistakes: list[str] = field(default_factory=list)
    """Schema mistakes, without the name of the file."""


def plan_units(listing: FileListing, cfg: IngestConfig) -> list[Unit]:
    """Return the units of all files, a unit for each problem, and one unit for all ignored files.

    Raises:
        InputError: a column is missing or has a wrong type; or a file cannot be read and
            `skip_corrupt` is false. The message names up to MAX_LISTED_FILES files, and counts the
            others. If there are mistakes of both kinds, only wrong columns are reported.
    """
    with ThreadPoolExecutor(16) as pool:  # reading footers from an object store is mostly waiting
        checks = list(pool.map(lambda file: _check_file(file, cfg), listing.files))
    mistakes = [
        f"{file.name}: {'; '.join(check.mistakes)}"
        for file, check in zip(listing.files, checks, strict=True)
        if check.mistakes
    ]
    if mistakes:
        raise InputError(describe_mistakes(mistakes))
    problems = [*listing.problems, *(check.problem for check in checks if check.problem)]
    if problems and not cfg.skip_corrupt:
        raise InputError(describe_unreadable(problems))
    units = [unit for check in checks for unit in check.units]
    units += [
        Unit("", "", p.name, "problem", n_bytes=1, reason=p.reason, detail=p.detail)
        for p in problems
    ]
    if listing.ignored:
        detail = f"{len(listing.ignored)} files and folders have names that are ignored"
        first = listing.ignored[0]
        units.append(Unit("", "", first, "empty", n_bytes=1, reason="ignored_file", detail=detail))
    return units


def describe_mistakes(mistakes: Sequence[str]) -> str:
    """Return the error message for files and tables that do not have the configured columns."""
    return (
        f"{join_limited(mistakes)}; ingest.text_column, source_column and metadata_columns "
        "must name columns of every file and table"
    )


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
        parallelism: number of task slots. Bundles have about the size at which each slot gets two
            bundles, but at least 1 MiB and at most UNIT_BYTES.
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
    checks = {
        "parquet": _check_parquet,
        "jsonl": _check_jsonl,
        "csv": _check_csv,
        "tsv": _check_csv,
        "arrow": _check_arrow,
        "text": _check_text,
    }
    try:
        with explain_damage():
            return checks[file.kind](file, cfg)
    except DamagedFileError as error:
        return _FileCheck(problem=FileProblem(file.name, error.reason, error.detail))


def _make_unit(file: InputFile, start: int, stop: int, n_bytes: int, n_rows: int = 0) -> Unit:
    return Unit(
        *(file.root, file.path, file.name, file.kind, start, stop, n_rows, max(1, n_bytes)),
        partitions=file.partitions,
    )


def _make_empty_check(file: InputFile) -> _FileCheck:
    """Return the result for a file without rows; its columns do not matter."""
    detail = "the file has no rows"
    unit = Unit("", "", file.name, "empty", n_bytes=1, reason="empty_file", detail=detail)
    return _FileCheck([unit])


def _check_text(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    names = [name for name in list_names(cfg) if name != cfg.text_column]
    missing = [name for name in names if name not in dict(file.partitions)]
    mistakes = [f"a text file has no column {name!r}" for name in missing]
    return _FileCheck([_make_unit(file, 0, 0, file.size)], mistakes=mistakes)


def _check_jsonl(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    start = read_start(file, cfg.max_chars, cfg.zstd_window_log)
    # If `skip_corrupt` is set and there are rows before the damage, no error is raised, because
    # these rows are used.
    if start.damage is not None and not (start.objects and cfg.skip_corrupt):
        raise start.damage
    if not start.objects:
        return _make_empty_check(file)
    mistakes = find_missing_keys(start.objects, cfg, dict(file.partitions))
    if start.is_compressed:
        return _FileCheck([_make_unit(file, 0, 0, 4 * file.size)], mistakes=mistakes)
    starts = range(0, file.size, UNIT_BYTES)
    ends = [*starts[1:], file.size]
    units = [_make_unit(file, a, b, b - a) for a, b in zip(starts, ends, strict=True)]
    return _FileCheck(units, mistakes=mistakes)


def _check_csv(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    header, has_rows = read_header(file, cfg.zstd_window_log)
    if not has_rows:
        return _make_empty_check(file)
    names, partitions = list_names(cfg), dict(file.partitions)
    twice = [name for name in names if header.count(name) > 1]
    mistakes = [
        f"column {name!r} occurs {header.count(name)} times; it must occur once" for name in twice
    ]
    missing = [n for n in names if n not in header and not is_partition(n, cfg, partitions)]
    mistakes += [describe_missing(name, header) for name in missing]
    return _FileCheck([_make_unit(file, 0, 0, 2 * file.size)], mistakes=mistakes)


def _check_arrow(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    schema, has_rows = read_arrow_schema(file)
    if not has_rows:
        return _make_empty_check(file)
    mistakes = find_mistakes(schema, cfg, dict(file.partitions))
    return _FileCheck([_make_unit(file, 0, 0, file.size)], mistakes=mistakes)


def _check_parquet(file: InputFile, cfg: IngestConfig) -> _FileCheck:
    import pyarrow.parquet as pq

    with open_input_file(file.root, file.path) as stream:
        head = stream.read(4)
        stream.seek(max(0, file.size - 4))
        tail = stream.read(4)
        if head != b"PAR1":
            detail = "is not a Parquet file: it does not start with PAR1"
            raise DamagedFileError("unsupported_format", detail)
        if tail != b"PAR1" or file.size < 12:
            raise DamagedFileError("truncated_file", "is incomplete: it does not end with PAR1")
        stream.seek(0)
        parquet = pq.ParquetFile(stream)
        schema, footer = parquet.schema_arrow, parquet.metadata
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
    if not footer.num_rows:
        return _make_empty_check(file)
    mistakes = find_mistakes(schema, cfg, dict(file.partitions))
    return _FileCheck(_split_row_groups(file, sizes), mistakes=mistakes)


def _split_row_groups(file: InputFile, sizes: Sequence[tuple[int, int]]) -> list[Unit]:
    """Split a file into ranges of consecutive row groups. Each range has about UNIT_BYTES.

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
