"""Files that a task writes one after the other, from rows that are sorted by the file's number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

WRITTEN = "number BIGINT"
"""Columns of what a task returns: a row for each file that it has written."""


class OpenFile(Protocol):
    """A file that is being written."""

    def add(self, rows: pa.RecordBatch) -> None:
        """Write rows."""

    def finish(self) -> None:
        """Put the complete file in its place."""


def write_by_number(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, open_file: Callable[[int], OpenFile]
) -> Iterator[pa.RecordBatch]:
    """Write one file for each number, and yield the number when the file is finished.

    Args:
        batches: (number, and the columns of `schema`), sorted by number.
        schema: the columns and types of the rows that a file gets.
        open_file: number -> the file.
    """
    current, file = -1, None
    for batch in batches:
        for number, rows in split_by_number(batch, schema):
            if file is not None and number != current:
                yield _finish(current, file)
                file = None
            current, file = number, file or open_file(number)
            file.add(rows)
    if file is not None:
        yield _finish(current, file)


def split_by_number(
    batch: pa.RecordBatch, schema: pa.Schema
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Split a batch, sorted by number, where the number changes.

    Args:
        batch: (number, and the columns of `schema`).
        schema: the columns and types of the parts.
    """
    numbers_N = batch["number"].to_numpy(zero_copy_only=False)
    rows = pa.RecordBatch.from_arrays(
        [batch[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
    starts = [0, *(np.flatnonzero(np.diff(numbers_N)) + 1)] if len(numbers_N) else []
    for start, stop in zip(starts, [*starts[1:], len(numbers_N)], strict=False):
        yield int(numbers_N[start]), rows.slice(start, stop - start)


def _finish(number: int, file: OpenFile) -> pa.RecordBatch:
    file.finish()
    return pa.RecordBatch.from_pylist([{"number": number}])
