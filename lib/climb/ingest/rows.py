"""Units -> rows of accepted and rejected text, with ids that are hashes of the content.

`doc_id` is the SHA-256 of source, NUL and text, cut to 32 hexadecimal digits. `digest` of an
accepted row is the same with an empty source: equal digests are equal texts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from climb.config.sections import IngestConfig
from climb.ingest import Unit
from climb.ingest.clean import Rejection, check_lengths, clean_cells
from climb.ingest.read import RawRows, read_units

COLUMNS = (
    "row_id BIGINT, digest STRING, reason STRING, detail STRING, n_rows BIGINT, file STRING, "
    "doc_id STRING, source STRING, n_bytes BIGINT, repairs ARRAY<STRING>, metadata STRING, "
    "text STRING"
)
"""Spark DDL of what read_bundles yields. `reason` is null where the row is accepted; otherwise
everything from doc_id on is null or empty. row_id says where a row was read, and nothing else."""

DIGITS = 32
"""Hexadecimal digits of an id: 128 bits, so that a clash among 10^15 documents stays unlikely."""

ROWS_PER_BUNDLE = 1 << 40


def bundle_json(units: Sequence[Unit]) -> str:
    """Units as text, to travel to a task."""
    return json.dumps([dataclasses.astuple(unit) for unit in units])


def read_bundles(batches: Iterator[Any], cfg: IngestConfig) -> Iterator[Any]:
    """Read bundles of units: the body of the Spark task, and testable without Spark.

    Args:
        batches: Arrow record batches (bundle BIGINT, units STRING as of bundle_json).
        cfg: section ingest.

    Yields:
        Arrow record batches of COLUMNS, one row for each row of the files.
    """
    for batch in batches:
        for bundle, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            row_id = bundle * ROWS_PER_BUNDLE
            units = [Unit(*values) for values in json.loads(text)]
            for rows in read_units(units, cfg):
                yield to_batch(rows, row_id, cfg)
                row_id += len(rows.files)


def to_batch(rows: RawRows, first_id: int, cfg: IngestConfig) -> Any:
    """Clean a batch of raw rows, judge every one, and give it its ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rejections = dict(rows.rejections)
    short_enough = _drop_long_cells(rows, rejections, cfg.max_chars)
    cleaned = clean_cells(short_enough, cfg.max_invalid_share)
    check_lengths(cleaned, cfg.min_chars, cfg.max_chars)
    rejections |= cleaned.rejections
    for row in pc.indices_nonzero(pc.is_null(rows.cells)).to_pylist():
        rejections.setdefault(row, Rejection("missing_text", f"null in {cfg.text_column!r}"))
    n = len(rows.files)
    accepted = pa.array([row not in rejections for row in range(n)], pa.bool_())
    texts = pc.if_else(accepted, cleaned.texts, pa.scalar(None, pa.large_string()))
    digests, doc_ids = _ids(texts, rows.sources)
    for row, rejection in rejections.items():
        cell = rows.cells[row].as_py() or b""
        digests[row] = (rejection.digest or hashlib.sha256(cell).hexdigest())[:DIGITS]
        rows.sources[row], rows.metadata[row], cleaned.repairs[row] = "", "{}", []
    verdicts = [rejections.get(row) for row in range(n)]
    columns = {
        "row_id": pa.array(range(first_id, first_id + n), pa.int64()),
        "digest": pa.array(digests, pa.string()),
        "reason": pa.array([v.reason if v else None for v in verdicts], pa.string()),
        "detail": pa.array([v.detail if v else None for v in verdicts], pa.string()),
        "n_rows": pa.array([v.n_rows if v else 1 for v in verdicts], pa.int64()),
        "file": pa.array([_printable(file) for file in rows.files], pa.string()),
        "doc_id": pa.array(doc_ids, pa.string()),
        "source": pa.array(rows.sources, pa.string()),
        "n_bytes": pc.binary_length(texts).cast(pa.int64()),
        "repairs": pa.array(cleaned.repairs, pa.list_(pa.string())),
        "metadata": pa.array(rows.metadata, pa.string()),
        "text": texts.cast(pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


def _drop_long_cells(rows: RawRows, rejections: dict[int, Rejection], max_chars: int) -> Any:
    """Step 1 of the rule of clean.py: cells beyond four bytes a character are not looked at."""
    import pyarrow as pa
    import pyarrow.compute as pc

    long = pc.fill_null(pc.greater(pc.binary_length(rows.cells), 4 * max_chars), False)
    for row in pc.indices_nonzero(long).to_pylist():
        n_bytes = len(rows.cells[row].as_py())
        rejections[row] = Rejection("too_long", f"{n_bytes:,} bytes")
    return pc.if_else(long, pa.scalar(None, pa.large_binary()), rows.cells)


def _ids(texts: Any, sources: Sequence[str]) -> tuple[list[str | None], list[str | None]]:
    """Digest and doc_id of every text that is there; the bytes are hashed where they lie."""
    import numpy as np

    _, offsets, data = texts.buffers()
    offsets_N = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = memoryview(data) if data is not None else memoryview(b"")
    digests: list[str | None] = []
    doc_ids: list[str | None] = []
    for row, here in enumerate(texts.is_valid().to_pylist()):
        if not here:
            digests.append(None)
            doc_ids.append(None)
            continue
        text = content[offsets_N[row] : offsets_N[row + 1]]
        digests.append(content_id("", text))
        doc_ids.append(content_id(sources[row], text) if sources[row] else digests[-1])
    return digests, doc_ids


def content_id(source: str, text: bytes | memoryview) -> str:
    """SHA-256 of source, NUL and text, cut to DIGITS."""
    total = hashlib.sha256(source.encode() + b"\0")
    total.update(text)
    return total.hexdigest()[:DIGITS]


def _printable(name: str) -> str:
    """A file name whose bytes are no UTF-8, as a table can hold it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
