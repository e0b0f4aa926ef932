"""Read units into batches of raw cells in bounded memory, with a rejection for unreadable rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import one_line
from climb.ingest import Unit
from climb.ingest.clean import Rejection, clean_label, encode_metadata
from climb.ingest.files import open_filesystem
from climb.ingest.lines import (
    DamagedFileError,
    LongLine,
    compute_max_line_bytes,
    parse_line,
    read_lines,
)
from climb.ingest.plan import is_text_type

BATCH_ROWS = 512
BATCH_BYTES = 8 << 20
"""A batch ends when it reaches one of the two, so a task uses some tens of megabytes."""

CHUNK_BYTES = 1 << 20


@dataclass
class RawRows:
    """A batch of N rows before cleaning."""

    cells: Any
    """pyarrow large_binary of length N; null where a row has no text."""

    sources: list[str]
    metadata: list[str]
    """JSON objects with sorted keys."""

    files: list[str]
    rejections: dict[int, Rejection] = field(default_factory=dict)
    """Row -> its rejection, if it was rejected before cleaning."""


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

    The rest of a damaged file becomes one rejected row with reason `truncated_file` or
    `unreadable_file`. The driver lists these rows in one error, or accepts them.
    """
    buffer = _RowBuffer()
    for unit in units:
        if unit.kind == "parquet":
            yield from _read_parquet(unit, cfg, buffer)
        elif unit.kind == "jsonl":
            yield from _read_jsonl(unit, cfg, buffer)
        elif unit.kind == "text":
            _read_text(unit, cfg, buffer)
        else:
            buffer.reject(unit.name, build_damage_rejection(unit, unit.reason, unit.detail))
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
        with open_filesystem(unit.root).open_input_file(unit.path) as stream:
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
    """Read one row group; its rows from a damaged page on count as unreadable."""
    import pyarrow as pa

    footer = file.metadata.row_group(group)
    n_rows = footer.num_rows
    bytes_per_row = max(1, footer.total_byte_size // max(1, n_rows))
    n_read, detail = 0, f"row group {group} holds fewer rows than the {n_rows} in its footer"
    batches = file.iter_batches(
        batch_size=max(1, min(BATCH_ROWS, BATCH_BYTES // bytes_per_row)),
        row_groups=[group],
        columns=list(_list_columns(cfg)),
        use_threads=False,
    )
    try:
        for batch in batches:
            yield _convert_batch(batch, unit.name, cfg)
            n_read += len(batch)
    except (OSError, pa.ArrowException) as error:
        detail = one_line(error)
    if n_read < n_rows:
        part = dataclasses.replace(unit, start=group)
        rejection = build_damage_rejection(part, "unreadable_file", detail, n_rows - n_read)
        buffer.reject(unit.name, rejection)


def _list_columns(cfg: IngestConfig) -> dict[str, None]:
    source = [] if cfg.source_column is None else [cfg.source_column]
    return dict.fromkeys([cfg.text_column, *source, *cfg.metadata_columns])


def _convert_batch(batch: Any, name: str, cfg: IngestConfig) -> RawRows:
    n = len(batch)
    sources, metadata = [""] * n, ["{}"] * n
    if cfg.source_column is not None:
        values = _to_python_values(batch.column(cfg.source_column))
        sources = [clean_label(value) or "" for value in values]
    if cfg.metadata_columns:
        columns = [_to_python_values(batch.column(column)) for column in cfg.metadata_columns]
        rows = zip(*columns, strict=True)
        metadata = [encode_metadata(cfg.metadata_columns, row) for row in rows]
    return RawRows(cast_to_binary(batch.column(cfg.text_column)), sources, metadata, [name] * n)


def cast_to_binary(column: Any) -> Any:
    """Cast a text column to large_binary, so that `clean_cells` finds and repairs invalid UTF-8."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    return column.cast(pa.large_binary())


def _to_python_values(column: Any) -> list[Any]:
    """Convert a column to Python values: text to bytes, and invalid nested text to None."""
    if is_text_type(column.type):
        return cast_to_binary(column).to_pylist()  # type: ignore[no-any-return]
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return [_to_python_or_none(value) for value in column]


def _to_python_or_none(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None


def _read_jsonl(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> Iterator[RawRows]:
    try:
        for line in read_lines(unit, compute_max_line_bytes(cfg.max_chars)):
            _add_line(line, unit.name, cfg, buffer)
            if buffer.is_full():
                yield from buffer.flush()
    except DamagedFileError as error:
        buffer.reject(unit.name, build_damage_rejection(unit, error.reason, error.detail))


def _add_line(line: bytes | LongLine, file: str, cfg: IngestConfig, buffer: _RowBuffer) -> None:
    if isinstance(line, LongLine):
        detail = (
            f"a line of {line.n_bytes:,} bytes; {compute_max_line_bytes(cfg.max_chars):,} are read"
        )
        buffer.reject(file, Rejection("line_too_long", detail, line.digest))
        return
    digest = hashlib.sha256(line.strip()).hexdigest()
    try:
        row = parse_line(line)
        text = row.get(cfg.text_column) if isinstance(row, dict) else row
        if isinstance(row, dict) and text is None:
            buffer.reject(file, Rejection("missing_text", f"no {cfg.text_column!r}", digest))
        elif not isinstance(row, dict) or not isinstance(text, str):
            where = repr(cfg.text_column) if isinstance(row, dict) else "the row"
            detail = f"{where} is {type(text).__name__}"
            buffer.reject(file, Rejection("wrong_type", detail, digest))
        else:
            source = clean_label(row.get(cfg.source_column)) if cfg.source_column else None
            metadata = _encode_json_metadata(row, cfg.metadata_columns)
            buffer.add(file, text.encode("utf-8", "surrogatepass"), source or "", metadata)
    except (ValueError, RecursionError) as error:
        buffer.reject(file, Rejection("bad_json", str(error)[:200], digest))


def _encode_json_metadata(row: dict[str, Any], names: Sequence[str]) -> str:
    return encode_metadata(names, [row.get(name) for name in names]) if names else "{}"


def _read_text(unit: Unit, cfg: IngestConfig, buffer: _RowBuffer) -> None:
    """Read a whole file as one cell; a file of more than 4 bytes per character is only hashed."""
    max_bytes = 4 * cfg.max_chars
    try:
        with open_filesystem(unit.root).open_input_stream(unit.path, compression=None) as stream:
            content = stream.read(max_bytes + 1)
            if len(content) <= max_bytes:
                buffer.add(unit.name, content)
                return
            digest, n_bytes = hashlib.sha256(content), len(content)
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                n_bytes += len(chunk)
    except OSError as error:
        detail = one_line(error)
        buffer.reject(unit.name, build_damage_rejection(unit, "unreadable_file", detail))
        return
    buffer.reject(unit.name, Rejection("too_long", f"{n_bytes:,} bytes", digest.hexdigest()))
