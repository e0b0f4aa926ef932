"""Convert units to rows of accepted and rejected text, with ids that are hashes of the content.

`doc_id` is the SHA-256 of source, NUL and text, cut to 32 hexadecimal digits. The `digest` of an
accepted row is the same hash with an empty source, so equal digests mean equal texts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import InputError
from climb.ingest import Unit
from climb.ingest.clean import CleanedCells, Rejection, clean_cells, reject_by_length
from climb.ingest.columns import RawRows, convert_batch
from climb.ingest.read import read_units

COLUMNS = (
    "row_id BIGINT, digest STRING, reason STRING, detail STRING, n_rows BIGINT, file STRING, "
    "doc_id STRING, source STRING, n_bytes BIGINT, repairs ARRAY<STRING>, metadata STRING, "
    "text STRING"
)
"""Spark DDL of the rows that read_bundles yields. `reason` is null for an accepted row. For a
rejected row, all columns from doc_id on are null or empty. row_id identifies a row in one run."""

ID_DIGITS = 32
"""Hexadecimal digits of an id: 128 bits, so a collision among 10^15 documents is unlikely."""

ROWS_PER_BUNDLE = 1 << 32
"""Row ids reserved for each bundle. A BIGINT has room for 2^31 bundles."""


def encode_bundle(units: Sequence[Unit]) -> str:
    """Encode units as JSON for a task."""
    return json.dumps([dataclasses.astuple(unit) for unit in units])


def read_bundles(batches: Iterator[Any], cfg: IngestConfig) -> Iterator[Any]:
    """Read bundles of units. This is the body of the Spark task, testable without Spark.

    Args:
        batches: Arrow record batches (bundle BIGINT, units STRING from encode_bundle).
        cfg: section ingest.

    Yields:
        Arrow record batches of COLUMNS: one row for each input row, and one for each unreadable
        part of a file.

    Raises:
        InputError: a bundle has more than ROWS_PER_BUNDLE rows.
    """
    for batch in batches:
        for bundle, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            units = [Unit(*values) for values in json.loads(text)]
            yield from _number_rows(read_units(units, cfg), bundle, cfg)


def read_table_rows(
    batches: Iterator[Any], name: str, bundle: int, cfg: IngestConfig
) -> Iterator[Any]:
    """Convert the Arrow batches of a table; row ids start at `bundle` * ROWS_PER_BUNDLE.

    Yields:
        As `read_bundles`.

    Raises:
        InputError: as `read_bundles`.
    """
    yield from _number_rows((convert_batch(b, name, cfg, {}) for b in batches), bundle, cfg)


def _number_rows(batches: Iterable[RawRows], bundle: int, cfg: IngestConfig) -> Iterator[Any]:
    """Build the batches of a bundle, with consecutive row ids."""
    row_id = bundle * ROWS_PER_BUNDLE
    for rows in batches:
        next_id = row_id + len(rows.files)
        if next_id > (bundle + 1) * ROWS_PER_BUNDLE:
            raise InputError(
                f"ingest.inputs: a task has read more than {ROWS_PER_BUNDLE:,} rows, the last of "
                f"them from {_make_printable(rows.files[-1])}; split this input into several files"
            )
        yield build_batch(rows, row_id, cfg)
        row_id = next_id


def build_batch(rows: RawRows, first_id: int, cfg: IngestConfig) -> Any:
    """Clean N raw rows, accept or reject each, and compute the ids; row_id starts at `first_id`.

    Returns:
        An Arrow record batch of COLUMNS with N rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rejections = dict(rows.rejections)
    cells = _drop_long_cells(rows, rejections, cfg.max_chars)
    cleaned = clean_cells(cells, cfg.max_invalid_share)
    reject_by_length(cleaned, cfg.min_chars, cfg.max_chars)
    rejections |= cleaned.rejections
    _reject_missing(rows, rejections, cfg.text_column)
    _record_left_out(rows, cleaned)
    n = len(rows.files)
    rejected = pa.array([row in rejections for row in range(n)], pa.bool_())
    texts = pc.replace_with_mask(cleaned.texts, rejected, pa.scalar(None, pa.large_string()))
    digests, doc_ids = _compute_ids(texts, rows.sources)
    for row, rejection in rejections.items():
        digest = rejection.digest or hashlib.sha256(rows.cells[row].as_py() or b"").hexdigest()
        digests[row] = digest[:ID_DIGITS]
        rows.sources[row], rows.metadata[row], cleaned.repairs[row] = "", "{}", []
    verdicts = [rejections.get(row) for row in range(n)]
    columns = {
        "row_id": pa.array(range(first_id, first_id + n), pa.int64()),
        "digest": pa.array(digests, pa.string()),
        "reason": pa.array([v.reason if v else None for v in verdicts], pa.string()),
        "detail": _build_printable([v.detail if v else None for v in verdicts]),
        "n_rows": pa.array([v.n_rows if v else 1 for v in verdicts], pa.int64()),
        "file": _build_printable(rows.files),
        "doc_id": pa.array(doc_ids, pa.string()),
        "source": pa.array(rows.sources, pa.string()),
        "n_bytes": pc.binary_length(texts).cast(pa.int64()),
        "repairs": pa.array(cleaned.repairs, pa.list_(pa.string())),
        "metadata": pa.array(rows.metadata, pa.string()),
        "text": texts.cast(pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


def _reject_missing(rows: RawRows, rejections: dict[int, Rejection], column: str) -> None:
    """Reject the rows that have no text and are not rejected yet."""
    import pyarrow.compute as pc

    for row in pc.indices_nonzero(pc.is_null(rows.cells)).to_pylist():
        rejections.setdefault(row, Rejection("missing_text", f"null in {column!r}"))


def _record_left_out(rows: RawRows, cleaned: CleanedCells) -> None:
    for row in rows.left_out:
        cleaned.repairs[row] = sorted([*cleaned.repairs[row], "left_out_label"])


def _drop_long_cells(rows: RawRows, rejections: dict[int, Rejection], max_chars: int) -> Any:
    """Reject cells of more than 4 * `max_chars` bytes (clean.py, step 1), and make them null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    long = pc.fill_null(pc.greater(pc.binary_length(rows.cells), 4 * max_chars), False)
    for row in pc.indices_nonzero(long).to_pylist():
        n_bytes = len(rows.cells[row].as_py())
        rejections[row] = Rejection("too_long", f"{n_bytes:,} bytes")
    # pc.if_else returns wrong bytes for a slice (docs/decisions/ingest.md).
    return pc.replace_with_mask(rows.cells, long, pa.scalar(None, pa.large_binary()))


def _compute_ids(texts: Any, sources: Sequence[str]) -> tuple[list[str | None], list[str | None]]:
    """Compute digest and doc_id of every text that is not null, without copying the bytes."""
    import numpy as np

    _, offsets, data = texts.buffers()
    offsets_N = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = memoryview(data) if data is not None else memoryview(b"")
    digests: list[str | None] = []
    doc_ids: list[str | None] = []
    for row, valid in enumerate(texts.is_valid().to_pylist()):
        if not valid:
            digests.append(None)
            doc_ids.append(None)
            continue
        text = content[offsets_N[row] : offsets_N[row + 1]]
        digests.append(hash_content("", text))
        doc_ids.append(hash_content(sources[row], text) if sources[row] else digests[-1])
    return digests, doc_ids


def hash_content(source: str, text: bytes | memoryview) -> str:
    """Hash source, NUL and text with SHA-256, cut to ID_DIGITS hexadecimal digits."""
    digest = hashlib.sha256(source.encode() + b"\0")
    digest.update(text)
    return digest.hexdigest()[:ID_DIGITS]


def _build_printable(texts: Sequence[str | None]) -> Any:
    """Build a column of file names, or of texts that quote them."""
    import pyarrow as pa

    return pa.array([None if t is None else _make_printable(t) for t in texts], pa.string())


def _make_printable(name: str) -> str:
    """Replace the bytes of file names that are not valid UTF-8 by U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
