"""Read units into batches of raw cells in bounded memory, with a rejection for unreadable rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import one_line
from climb.ingest import Unit
from climb.ingest.clean import Rejection, clean_label, encode_metadata
from climb.ingest.columns import (
    Partitions,
    RawRows,
    convert_batch,
    has_key,
    join_paragraphs,
    read_key,
)
from climb.ingest.compression import (
    CHUNK_BYTES,
    DamagedFileError,
    explain_damage,
    open_unpacked,
)
from climb.ingest.lines import (
    LongLine,
    compute_max_line_bytes,
    parse_line,
    read_lines,
)
from climb.ingest.tabular import iterate_arrow, iterate_csv, list_columns
from climb.ingest.walk import open_input_file

BATCH_ROWS = 512
BATCH_BYTES = 8 << 20
"""A batch ends at BATCH_ROWS rows or BATCH_BYTES bytes, so a task uses some tens of megabytes."""


class _RowBuffer:
    """Collects single rows until they make a batch."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.n_bytes = 0
        self.cells: list[bytes | None] = []
        self.rows: list[tuple[str, str, str]] = []
        self.rejections: dict[int, Rejection] = {}

    def add(self, file: str, cell: bytes, source: str = "", metadata: str = "{}") -> None:
        self.cells.append(cell)
        self.rows.append((source, metadata, file))
        self.n_bytes += len(cell)

    def reject(self, file: str, rejection: Rejection) -> None:
        self.rejections[len(self.cells)] = rejection
        self.cells.append(None)
        self.rows.append(("", "{}", file))

    def is_full(self) -> bool:
        return len(self.cells) >= BATCH_ROWS or self.n_bytes >= BATCH_BYTES

    def flush(self) -> Iterator[RawRows]:
        import pyarrow as pa

        if self.cells:
            sources, metadata, files = (list(column) for column in zip(*self.rows, strict=True))
            cells = pa.array(self.cells, pa.large_binary())
            yield RawRows(cells, sources, metadata, files, self.rejections)
        self._reset()


def read_units(units: Iterable[Unit], cfg: IngestConfig) -> Iterator[RawRows]:
    """Read units in order; small files share a batch.

    The unreadable rest of a file (Parquet: of a row group) becomes one rejection with reason
    `truncated_file` or `unreadable_file`. The driver raises one error for all damaged files, unless
    `skip_corrupt` is set.
    """
    buffer = _RowBuffer()
    readers = {
        "parquet": _read_parquet,
        "jsonl": _read_jsonl,
        "csv": _read_tabular,
        "tsv": _read_tabular,
        "arrow": _read_tabular,
        "text": _read_text,
    }
    for unit in units:
        if unit.kind in readers:
            yield from readers[unit.kind](unit, cfg, buffer)
        else:
            n_rows = 0 if unit.kind == "empty" else 1
            rejection = build_damage_rejection(unit, unit.reason, unit.detail, n_rows)
            buffer.reject(unit.name, rejection)
        if buffer.is_full():
            yield from buffer.flush()
    yield from buffer.flush()


def build_damage_rejection(unit: Unit, reason: str, detail: str, n_rows: int = 1) -> Rejection:
    """Build the rejection for the unreadable rest of a unit."""
    position = f"{unit.name}\0{unit.start}".encode("utf-8", "surrogateescape")
    return Rejection(reason, detail, hashlib.sha256(position).hexdigest(), n_rows)


def _read_parquet(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> Iterator[RawRows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_remaining = unit.n_rows
    try:
        with open_input_file(unit.root, unit.path) as stream:
            # Reads one page at a time, and verifies page checksums where the file has them.
            file = pq.ParquetFile(stream, buffer_size=CHUNK_BYTES, page_checksum_verification=True)
            for group in range(unit.start, unit.stop):
                yield from _read_group(file, group, unit, cfg, buffer)
                n_remaining -= file.metadata.row_group(group).num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)
        n_rows = max(1, n_remaining)
        buffer.reject(unit.name, build_damage_rejection(unit, "unreadable_file", detail, n_rows))


def _read_group(
    file: Any, group: int, unit: Unit, cfg: IngestConfig, buffer: _RowBuffer
) -> Iterator[RawRows]:
    """Read one row group; if a batch cannot be read, it and all later rows count as unreadable."""
    import pyarrow as pa

    footer = file.metadata.row_group(group)
    n_rows = footer.num_rows
    bytes_per_row = max(1, footer.total_byte_size // max(1, n_rows))
    n_read, detail = 0, f"row group {group} holds fewer rows than the {n_rows} in its footer"
    batches = file.iter_batches(
        batch_size=max(1, min(BATCH_ROWS, BATCH_BYTES // bytes_per_row)),
        row_groups=[group],
        columns=list_columns(cfg),
        use_threads=False,
    )
    try:
        for batch in batches:
            yield convert_batch(batch, unit.name, cfg, dict(unit.partitions))
            n_read += len(batch)
    except (OSError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)
    if n_read < n_rows:
        part = dataclasses.replace(unit, start=group)
        rejection = build_damage_rejection(part, "unreadable_file", detail, n_rows - n_read)
        buffer.reject(unit.name, rejection)


def _read_tabular(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> Iterator[RawRows]:
    """Read a CSV, TSV or Arrow file in slices of bounded size."""

    def reject(rejection: Rejection) -> None:
        buffer.reject(unit.name, rejection)

    batches = iterate_arrow(unit) if unit.kind == "arrow" else iterate_csv(unit, cfg, reject)
    try:
        with explain_damage():
            for batch in batches:
                bytes_per_row = max(1, batch.get_total_buffer_size() // max(1, len(batch)))
                size = max(1, min(BATCH_ROWS, BATCH_BYTES // bytes_per_row))
                for start in range(0, len(batch), size):
                    part = batch.slice(start, size)
                    yield convert_batch(part, unit.name, cfg, dict(unit.partitions))
                if buffer.is_full():
                    yield from buffer.flush()
    except DamagedFileError as error:
        buffer.reject(unit.name, build_damage_rejection(unit, error.reason, error.detail))


def _read_jsonl(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> Iterator[RawRows]:
    max_bytes = compute_max_line_bytes(cfg.max_chars)
    try:
        for line in read_lines(unit, max_bytes, cfg.zstd_window_log):
            _add_line(line, unit, cfg, buffer)
            if buffer.is_full():
                yield from buffer.flush()
    except DamagedFileError as error:
        buffer.reject(unit.name, build_damage_rejection(unit, error.reason, error.detail))


def _add_line(line: bytes | LongLine, unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> None:
    if isinstance(line, LongLine):
        detail = (
            f"a line of {line.n_bytes:,} bytes; the maximum is "
            f"{compute_max_line_bytes(cfg.max_chars):,}"
        )
        buffer.reject(unit.name, Rejection("line_too_long", detail, line.digest))
        return
    digest = hashlib.sha256(line.strip()).hexdigest()
    try:
        row = parse_line(line)
        value = read_key(row, cfg.text_column) if isinstance(row, dict) else row
        text = join_paragraphs(value, cfg.paragraph_separator)
        if isinstance(row, dict) and value is None:
            rejection = Rejection("missing_text", f"no {cfg.text_column!r}", digest)
            buffer.reject(unit.name, rejection)
        elif not isinstance(row, dict) or text is None:
            where = repr(cfg.text_column) if isinstance(row, dict) else "the row"
            detail = f"{where} is {type(value).__name__}"
            buffer.reject(unit.name, Rejection("wrong_type", detail, digest))
        else:
            source, metadata = _read_json_labels(row, cfg, dict(unit.partitions))
            buffer.add(unit.name, text.encode("utf-8", "surrogatepass"), source, metadata)
    except (ValueError, RecursionError) as error:
        buffer.reject(unit.name, Rejection("bad_json", str(error)[:200], digest))


def _read_json_labels(
    row: dict[str, Any], cfg: IngestConfig, partitions: Partitions
) -> tuple[str, str]:
    """Return the source and the metadata of a row."""

    def read(name: str) -> Any:
        return read_key(row, name) if has_key(row, name) else partitions.get(name)

    source = clean_label(read(cfg.source_column)) if cfg.source_column else None
    if not cfg.metadata_columns:
        return source or "", "{}"
    names = cfg.metadata_columns
    return source or "", encode_metadata(names, [clean_label(read(name)) for name in names])


def _read_text(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> Iterator[RawRows]:
    """Read a whole file as one cell; a file of more than 4 * `max_chars` bytes is only hashed."""
    max_bytes = 4 * cfg.max_chars
    partitions = dict(unit.partitions)
    try:
        window_log = cfg.zstd_window_log
        with explain_damage(), open_unpacked(unit.root, unit.path, window_log) as (stream, _):
            content = stream.read(max_bytes + 1)
            if len(content) <= max_bytes:
                source, metadata = _read_json_labels({}, cfg, partitions)
                buffer.add(unit.name, content, source, metadata)
                return
            digest, n_bytes = hashlib.sha256(content), len(content)
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                n_bytes += len(chunk)
    except DamagedFileError as error:
        buffer.reject(unit.name, build_damage_rejection(unit, error.reason, error.detail))
        return
    rejection = Rejection("too_long", f"{n_bytes:,} bytes", digest.hexdigest())
    buffer.reject(unit.name, rejection)
    yield from ()
