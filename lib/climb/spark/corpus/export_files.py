"""Write the Parquet files of an export in Spark tasks, to a disk or to a mount.

Spark's own writer is not used, because it renames every file, and a mount of an object store may
refuse renames. The names and the bytes of the files depend on the rows alone.

    data/domain=law/part-00000.zstd.parquet
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from climb.export.groups import escape_name
from climb.export.writers.parquet import GROUP_BYTES, ParquetWriter
from climb.files import FileDigest, read_chunks, write_recorded

COLUMNS = ("doc_id", "copy", "n_tokens", "text")

WRITTEN = "name STRING, sha256 STRING, bytes BIGINT, n_rows BIGINT"


def write_parts(rows: DataFrame, folder: Path) -> tuple[dict[str, FileDigest], int]:
    """Write the rows, one file for each value of (domain, file).

    Args:
        rows: (domain, file, doc_id, copy, n_tokens, text). All rows with the same (domain, file)
            are in one partition, and the rows of a partition are sorted by (domain, file).
        folder: folder of the export, which every executor sees.

    Returns:
        Path inside the folder -> digest of the file; and the total number of rows.
    """
    path = str(folder)
    written = rows.mapInArrow(lambda batches: write_batches(batches, path), WRITTEN).collect()
    digests = {row["name"]: FileDigest(row["sha256"], row["bytes"]) for row in written}
    return digests, sum(row["n_rows"] for row in written)


def write_batches(batches: Iterable[pa.RecordBatch], folder: str) -> Iterator[pa.RecordBatch]:
    """Write the rows of one partition, and yield one row per file. This is the body of the task."""
    current: _PartFile | None = None
    for batch in batches:
        for key, table in _split_by_file(batch):
            if current is not None and current.key != key:
                yield current.finish()
                current = None
            current = current or _PartFile(Path(folder), key)
            current.add(table)
    if current is not None:
        yield current.finish()


class _PartFile:
    """A Parquet file that is written to the local disk, and then copied to the folder."""

    def __init__(self, folder: Path, key: tuple[str, int]) -> None:
        self.key, self._n_rows = key, 0
        self._name = f"data/domain={escape_name(key[0])}/part-{key[1]:05d}.zstd.parquet"
        self._path = folder / self._name
        self._scratch = tempfile.NamedTemporaryFile(prefix="climb-")  # noqa: SIM115  # see finish
        self._writer = ParquetWriter(Path(self._scratch.name), COLUMNS, group_bytes=GROUP_BYTES)

    def add(self, table: pa.Table) -> None:
        """Add rows; full row groups are written."""
        self._writer.write(table)
        self._n_rows += len(table)

    def finish(self) -> pa.RecordBatch:
        """Write the rows that are left, copy the file, and return the row about the file."""
        self._writer.close()
        with self._scratch as scratch:
            digest = write_recorded(self._path, lambda: read_chunks(Path(scratch.name)))
        row = {"name": self._name, "sha256": digest.sha256, "bytes": digest.bytes}
        return pa.RecordBatch.from_pylist([row | {"n_rows": self._n_rows}])


def _split_by_file(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Split a sorted batch where the domain or the file changes."""
    keys: list[Any] = list(zip(batch["domain"].to_pylist(), batch["file"].to_pylist(), strict=True))
    rows = pa.Table.from_batches([batch])
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            yield (keys[start][0], int(keys[start][1])), rows.slice(start, stop - start)
            start = stop
