"""Look at every file once on the driver, before any task: can it be read, and has it the columns?

Parquet footers and the first rows of JSON Lines decide. Schema mistakes always stop; files that
are no such files become problems, which stop too unless `skip_corrupt` is set.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import InputError, one_line
from climb.ingest import InputFile, Problem, Unit
from climb.ingest.files import Found, open_filesystem
from climb.ingest.lines import Damaged, first_objects, splittable

UNIT_BYTES = 64 << 20
"""A unit is about this much text: seconds of work, and thousands of units in a terabyte."""

OPENING_BYTES = 64 << 10
"""What opening a file costs, in bytes of reading: a million small files must spread out too."""

LISTED = 10
"""Files named in one message; the others are counted."""

COLUMNS_LISTED = 50
"""Columns named in one message: an object of JSON may have a million keys."""


@dataclass
class _Look:
    """What looking at one file found out."""

    units: list[Unit] = field(default_factory=list)
    problem: Problem | None = None
    mistakes: list[str] = field(default_factory=list)
    """Schema mistakes, each a clause without the name of the file."""


def plan(found: Found, cfg: IngestConfig) -> list[Unit]:
    """Units of all files, and one unit for each problem.

    Raises:
        InputError: a column is missing or of a wrong type; or a file cannot be read and
            `skip_corrupt` is false. All such files are in one message.
    """
    with ThreadPoolExecutor(16) as pool:  # footers in object stores: waiting, not work
        looks = list(pool.map(lambda file: _look(file, cfg), found.files))
    mistakes = [
        f"{file.name}: {'; '.join(look.mistakes)}"
        for file, look in zip(found.files, looks, strict=True)
        if look.mistakes
    ]
    if mistakes:
        raise InputError(
            f"{listed(mistakes)}; ingest.text_column, source_column and metadata_columns must "
            "name columns of every file"
        )
    problems = [*found.problems, *(look.problem for look in looks if look.problem)]
    if problems and not cfg.skip_corrupt:
        raise InputError(unreadable(problems))
    units = [unit for look in looks for unit in look.units]
    units += [
        Unit("", "", p.name, "problem", n_bytes=1, reason=p.reason, detail=p.detail)
        for p in problems
    ]
    return units


def unreadable(problems: Sequence[Problem]) -> str:
    """The message for files that cannot be read."""
    files = sorted(f"{problem.name} ({problem.detail})" for problem in problems)
    return (
        f"{len(files)} of the input files cannot be read: {listed(files)}; mend or remove them, "
        "or set ingest.skip_corrupt=true to list them in table rejected"
    )


def listed(items: Sequence[str]) -> str:
    """The first items in one line, and how many there are besides."""
    rest = len(items) - LISTED
    return "; ".join(items[:LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def bundles(units: Sequence[Unit], parallelism: int) -> list[list[Unit]]:
    """Share units out to tasks: about as many bytes each, at least two rounds for every slot."""
    costs = [unit.n_bytes + OPENING_BYTES for unit in units]
    target = min(UNIT_BYTES, max(1 << 20, sum(costs) // (2 * parallelism)))
    shared: list[list[Unit]] = []
    room = 0
    for unit, cost in zip(units, costs, strict=True):
        if room <= 0:
            shared.append([])
            room = target
        shared[-1].append(unit)
        room -= cost
    return shared


def _look(file: InputFile, cfg: IngestConfig) -> _Look:
    import pyarrow as pa

    look = {"parquet": _look_parquet, "jsonl": _look_jsonl, "text": _look_text}[file.kind]
    try:
        return look(file, cfg)
    except Damaged as error:
        return _Look(problem=Problem(file.name, error.reason, error.detail))
    except (OSError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)
        return _Look(problem=Problem(file.name, "unreadable_file", detail))


def _unit(file: InputFile, start: int, stop: int, n_bytes: int, n_rows: int = 0) -> Unit:
    return Unit(file.root, file.path, file.name, file.kind, start, stop, n_rows, max(1, n_bytes))


def _look_text(file: InputFile, cfg: IngestConfig) -> _Look:
    wanted = [cfg.source_column, *cfg.metadata_columns]
    mistakes = [f"a text file has no column {name!r}" for name in wanted if name is not None]
    return _Look([_unit(file, 0, 0, file.size)], mistakes=mistakes)


def _look_jsonl(file: InputFile, cfg: IngestConfig) -> _Look:
    objects, damage = first_objects(file, cfg.max_chars)
    if damage is not None and not (objects and cfg.skip_corrupt):
        raise damage  # with skip_corrupt the rows before the damage are read
    keys = list(dict.fromkeys(key for row in objects for key in row))
    texts = [row[cfg.text_column] for row in objects if cfg.text_column in row]
    present = [text for text in texts if text is not None]
    mistakes = _missing(keys, cfg)
    if present and not any(isinstance(text, str) for text in present):
        found = type(present[0]).__name__
        mistakes.append(f"key {cfg.text_column!r} holds {found}; it must hold text")
    if not splittable(file.path):
        return _Look([_unit(file, 0, 0, 4 * file.size)], mistakes=mistakes)
    starts = range(0, file.size, UNIT_BYTES)
    ends = [*starts[1:], file.size]
    units = [_unit(file, a, b, b - a) for a, b in zip(starts, ends, strict=True)]
    return _Look(units, mistakes=mistakes)


def _look_parquet(file: InputFile, cfg: IngestConfig) -> _Look:
    import pyarrow.parquet as pq

    with open_filesystem(file.root).open_input_file(file.path) as stream:
        head = stream.read(4)
        stream.seek(max(0, file.size - 4))
        tail = stream.read(4)
        if head != b"PAR1":
            raise Damaged("foreign_file", "does not start with PAR1, as Parquet does")
        if tail != b"PAR1" or file.size < 12:
            raise Damaged("truncated_file", "does not end with PAR1, as Parquet does")
        stream.seek(0)
        opened = pq.ParquetFile(stream)
        schema, footer = opened.schema_arrow, opened.metadata
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
    mistakes = _missing(schema.names, cfg)
    if cfg.text_column in schema.names:
        found = schema.field(schema.names.index(cfg.text_column)).type
        if not is_text(found):
            mistakes.append(f"column {cfg.text_column!r} is {found}; it must be text")
    return _Look(_row_groups(file, sizes), mistakes=mistakes)


def _row_groups(file: InputFile, sizes: Sequence[tuple[int, int]]) -> list[Unit]:
    """Ranges of row groups of about UNIT_BYTES; sizes are (bytes, rows) of each group."""
    units, start = [], 0
    for stop in range(1, len(sizes) + 1):
        n_bytes = sum(size for size, _ in sizes[start:stop])
        if n_bytes >= UNIT_BYTES or stop == len(sizes):
            n_rows = sum(rows for _, rows in sizes[start:stop])
            units.append(_unit(file, start, stop, n_bytes, n_rows))
            start = stop
    return units


def is_text(type_: Any) -> bool:
    """Whether an Arrow type holds text or bytes, plain or as a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    return type_ in (*kinds, pa.string_view(), pa.binary_view())


def _missing(columns: Sequence[str], cfg: IngestConfig) -> list[str]:
    """A clause for each configured column that is not there exactly once."""
    mistakes = []
    for name in dict.fromkeys((cfg.text_column, cfg.source_column, *cfg.metadata_columns)):
        n = columns.count(name)  # type: ignore[arg-type]  # a source_column of None is skipped
        if name is None or n == 1:
            continue
        if n > 1:
            mistakes.append(f"column {name!r} is there {n} times")
            continue
        near = difflib.get_close_matches(name, columns[:COLUMNS_LISTED], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = ", ".join(map(str, columns[:COLUMNS_LISTED])) or "none"
        more = f", ... ({len(columns)} in all)" if len(columns) > COLUMNS_LISTED else ""
        mistakes.append(f"no column {name!r} among {there}{more}{hint}")
    return mistakes
