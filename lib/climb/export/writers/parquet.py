"""Write documents as Parquet. The row groups do not depend on the batches passed to `write`.

A row group ends after a number of documents or of bytes of text, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("doc_id", "copy", "domain", "n_tokens", "text")

GROUP_BYTES = 1 << 24
"""Bytes of text after which a row group ends. Small groups let the allocator reuse memory."""

RELEASE_GROUPS = 4
"""Arrow returns unused memory after this many row groups; otherwise its memory would grow."""


class ParquetWriter:
    """Writes one file of documents; memory holds one row group."""

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] = COLUMNS,
        *,
        group_rows: int | None = None,
        group_bytes: int = GROUP_BYTES,
    ) -> None:
        """Open the file.

        Args:
            path: path of the file with its ending.
            columns: columns of the rows to write, in this order; one is `text`.
            group_rows: documents after which a row group ends; None: only bytes count.
            group_bytes: bytes of text after which a row group ends.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema(
            [(c, pa.int32() if c in ("copy", "n_tokens") else pa.string()) for c in columns]
        )
        # Ids and texts rarely repeat. A dictionary of them would cost time, and be discarded.
        self._writer = pq.ParquetWriter(
            str(path), self._schema, compression="zstd", store_schema=False,
            use_dictionary=[c for c in columns if c not in ("doc_id", "text")],
        )  # fmt: skip
        self._group_rows, self._group_bytes = group_rows, group_bytes
        self._pending: list[pa.Table] = []
        self._n_rows = self._n_bytes = self._n_groups = 0

    def write(self, rows: pa.RecordBatch | pa.Table, ids_N: Sequence[Any] | None = None) -> None:
        """Append documents; row groups that are full are written."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        table = table.select(self._schema.names).cast(self._schema)
        ends_N = np.cumsum(pc.binary_length(table["text"]).to_numpy(), dtype=np.int64)
        start = done = 0
        while start < len(table):
            missing = self._group_bytes - self._n_bytes
            stop = min(len(table), int(np.searchsorted(ends_N, done + missing)) + 1)
            if self._group_rows is not None:
                stop = min(stop, start + self._group_rows - self._n_rows)
            self._pending.append(table.slice(start, stop - start))
            self._n_rows += stop - start
            self._n_bytes += int(ends_N[stop - 1]) - done
            start, done = stop, int(ends_N[stop - 1])
            if self._n_bytes >= self._group_bytes or self._n_rows == self._group_rows:
                self._write_group()

    def close(self) -> None:
        """Write the last row group, and close the file."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        if not self._pending:
            return
        # The bytes of a row group depend on the chunks of its table, so the table gets one chunk.
        group = pa.concat_tables(self._pending).combine_chunks()
        self._writer.write_table(group, row_group_size=len(group))
        del group
        self._pending, self._n_rows, self._n_bytes = [], 0, 0
        self._n_groups += 1
        if self._n_groups % RELEASE_GROUPS == 0:
            pa.default_memory_pool().release_unused()
