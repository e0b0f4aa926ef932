"""Read CSV, TSV and Arrow IPC files as Arrow record batches. Each file is read by one task."""

from __future__ import annotations

import collections
import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

from climb.config.sections import IngestConfig
from climb.files import MAX_CELL_CHARS
from climb.ingest import InputFile, Unit
from climb.ingest.clean import Rejection
from climb.ingest.columns import list_names
from climb.ingest.compression import CHUNK_BYTES, DamagedFileError, open_unpacked
from climb.ingest.invalid_utf8 import EscapedFile, restore_bytes
from climb.ingest.lines import compute_max_line_bytes, reject_utf16_and_utf32
from climb.ingest.walk import open_input_file

DELIMITERS = {"csv": ",", "tsv": "\t"}

HEAD_BYTES = 1 << 20
"""Bytes at the start of a CSV file in which the header and the first row are looked for."""

# Set once at import, because the limit is global and several threads check files.
csv.field_size_limit(MAX_CELL_CHARS)

ARROW_MAGIC = b"ARROW1"
"""An Arrow file starts with this; an Arrow stream, as `datasets` writes it, does not."""


def read_header(file: InputFile, window_log: int) -> tuple[list[str], bool]:
    """Return the column names of a CSV file, and whether there are rows below them.

    For a file without lines, the list of names is empty.

    Raises:
        DamagedFileError: the file is UTF-16, or its first lines are not CSV.
    """
    with open_unpacked(file.root, file.path, window_log) as (stream, _):
        head = stream.read(HEAD_BYTES)
    reject_utf16_and_utf32(head)
    text = io.StringIO(head.decode("utf-8-sig", "replace"), newline="")
    try:
        rows = (row for row in csv.reader(text, delimiter=DELIMITERS[file.kind]) if row)
        return next(rows, []), next(rows, None) is not None
    except csv.Error as error:
        detail = f"its first lines are not CSV: {error}"
        raise DamagedFileError("unsupported_format", detail) from error


def iterate_csv(
    unit: Unit, cfg: IngestConfig, reject: Callable[[Rejection], None]
) -> Iterator[Any]:
    """Yield the record batches of a CSV file, with the configured columns as bytes.

    Args:
        unit: the whole file.
        cfg: section ingest.
        reject: called for every row with a wrong number of cells.

    Raises:
        DamagedFileError: a quote is not closed or not doubled.
    """
    _check_quotes(unit, cfg.zstd_window_log)

    def skip(row: Any) -> str:
        detail = f"{row.actual_columns} cells, but the header has {row.expected_columns}"
        content = restore_bytes((row.text or "").encode())
        reject(Rejection("wrong_columns", detail, hashlib.sha256(content).hexdigest()))
        return "skip"

    with open_unpacked(unit.root, unit.path, cfg.zstd_window_log) as (stream, _):
        header, _ = read_header(_as_file(unit), cfg.zstd_window_log)
        names = [name for name in list_columns(cfg) if name in header]
        escaped = EscapedFile(stream)
        for batch in _open_csv(escaped, unit.kind, names, cfg, skip):
            yield _restore_batch(batch) if escaped.has_escaped else batch


def _check_quotes(unit: Unit, window_log: int) -> None:
    """Check that each quoted cell is closed, and that quotes in it are doubled.

    Without this check, Arrow's reader would join rows and raise no error.

    Raises:
        DamagedFileError: a quote is not closed or not doubled.
    """
    with open_unpacked(unit.root, unit.path, window_log) as (stream, _):
        text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        rows = csv.reader(text, delimiter=DELIMITERS[unit.kind], strict=True)
        try:
            collections.deque(rows, maxlen=0)
        except csv.Error as error:
            detail = (
                f"line {rows.line_num}: a quote is not closed, or a quote in a quoted cell is not "
                f"doubled ({error}); double every quote in a cell (Spark: option escape='\"'), or "
                "use Parquet or JSON Lines"
            )
            raise DamagedFileError("unreadable_file", detail) from error


def _open_csv(
    file: EscapedFile, kind: str, names: list[str], cfg: IngestConfig, skip: Callable[[Any], str]
) -> Any:
    """Open Arrow's CSV reader; it returns the columns `names` as bytes.

    It calls `skip` for each row that has another number of cells than the header.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    return arrow_csv.open_csv(
        pa.PythonFile(io.BufferedReader(file, CHUNK_BYTES), mode="r"),
        arrow_csv.ReadOptions(use_threads=False, block_size=compute_max_line_bytes(cfg.max_chars)),
        arrow_csv.ParseOptions(
            delimiter=DELIMITERS[kind],
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        arrow_csv.ConvertOptions(
            check_utf8=False,
            include_columns=names,
            column_types=dict.fromkeys(names, pa.binary()),
        ),
    )


def _restore_batch(batch: Any) -> Any:
    """Restore the bytes of all cells that were escaped for the reader."""
    import pyarrow as pa

    columns = [
        pa.array([cell and restore_bytes(cell) for cell in column.to_pylist()], pa.binary())
        for column in batch.columns
    ]
    return pa.record_batch(columns, batch.schema.names)


def list_columns(cfg: IngestConfig) -> list[str]:
    """List the names of all columns that may hold the data of a configured name.

    For the configured name `doc.text`, these are a column `doc.text` and a struct column `doc`.
    """
    names = list_names(cfg)
    return list(dict.fromkeys([*names, *(name.split(".")[0] for name in names)]))


def _as_file(unit: Unit) -> InputFile:
    return InputFile(unit.root, unit.path, unit.name, unit.kind, 0, 0)


def read_arrow_schema(file: InputFile) -> tuple[Any, bool]:
    """Return the schema of an Arrow file or stream, and whether it has a record batch.

    Raises:
        pyarrow.ArrowException: the file is neither an Arrow file nor an Arrow stream.
    """
    with open_input_file(file.root, file.path) as stream:
        reader = _open_arrow(stream)
        return reader.schema, next(_iterate_reader(reader), None) is not None


def iterate_arrow(unit: Unit) -> Iterator[Any]:
    """Yield the record batches of an Arrow file or stream."""
    with open_input_file(unit.root, unit.path) as stream:
        yield from _iterate_reader(_open_arrow(stream))


def _open_arrow(stream: Any) -> Any:
    from pyarrow import ipc

    is_file = stream.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    stream.seek(0)
    return ipc.open_file(stream) if is_file else ipc.open_stream(stream)


def _iterate_reader(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from reader
