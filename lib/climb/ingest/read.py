"""Units -> batches of raw cells, in bounded memory, with every row that cannot be read named."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from climb.config.sections import IngestConfig
from climb.errors import one_line
from climb.ingest import Unit
from climb.ingest.clean import Rejection, label, metadata_json
from climb.ingest.files import open_filesystem
from climb.ingest.lines import Damaged, LongLine, line_cap, parse, read_lines
from climb.ingest.plan import is_text

BATCH_ROWS = 512
BATCH_BYTES = 8 << 20
"""A batch ends at the first of the two, so a task holds some tens of megabytes."""

PIECE = 1 << 20


@dataclass
class RawRows:
    """A batch of N rows as they stand in their files."""

    cells: Any
    """pyarrow large_binary of length N; null where there is no text."""

    sources: list[str]
    metadata: list[str]
    """JSON objects with sorted keys."""

    files: list[str]
    rejections: dict[int, Rejection] = field(default_factory=dict)
    """Row -> why it is rejected before its text was looked at."""


class _Pile:
    """Rows that are read one by one, until they are a batch."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
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

    def full(self) -> bool:
        return len(self.cells) >= BATCH_ROWS or self.n_bytes >= BATCH_BYTES

    def take(self) -> Iterator[RawRows]:
        import pyarrow as pa

        if self.cells:
            sources, metadata, files = (list(column) for column in zip(*self.rows, strict=True))
            cells = pa.array(self.cells, pa.large_binary())
            yield RawRows(cells, sources, metadata, files, self.rejections)
        self._start()


def read_units(units: Iterable[Unit], cfg: IngestConfig) -> Iterator[RawRows]:
    """Read units one after the other; small files share a batch.

    A file that turns out to be damaged ends in one rejected row, of reason `truncated_file` or
    `unreadable_file`: the driver lists them all in one error, or accepts them.
    """
    pile = _Pile()
    for unit in units:
        if unit.kind == "parquet":
            yield from _read_parquet(unit, cfg, pile)
        elif unit.kind == "jsonl":
            yield from _read_jsonl(unit, cfg, pile)
        elif unit.kind == "text":
            _read_text(unit, cfg, pile)
        else:
            pile.reject(unit.name, damage(unit, unit.reason, unit.detail))
        if pile.full():
            yield from pile.take()
    yield from pile.take()


def damage(unit: Unit, reason: str, detail: str, n_rows: int = 1) -> Rejection:
    """The rejection that stands for the rest of a unit that cannot be read."""
    place = f"{unit.name}\0{unit.start}".encode("utf-8", "surrogateescape")
    return Rejection(reason, detail, hashlib.sha256(place).hexdigest(), n_rows)


def _read_parquet(unit: Unit, cfg: IngestConfig, pile: _Pile) -> Iterator[RawRows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    left = unit.n_rows
    try:
        with open_filesystem(unit.root).open_input_file(unit.path) as stream:
            # A page at a time; sums of pages are checked where the writer left them.
            file = pq.ParquetFile(stream, buffer_size=PIECE, page_checksum_verification=True)
            for group in range(unit.start, unit.stop):
                yield from _read_group(file, group, unit, cfg, pile)
                left -= file.metadata.row_group(group).num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)
        pile.reject(unit.name, damage(unit, "unreadable_file", detail, max(1, left)))


def _read_group(
    file: Any, group: int, unit: Unit, cfg: IngestConfig, pile: _Pile
) -> Iterator[RawRows]:
    """One row group; where a page is damaged, its other rows count as unreadable."""
    import pyarrow as pa

    footer = file.metadata.row_group(group)
    n_rows = footer.num_rows
    average = max(1, footer.total_byte_size // max(1, n_rows))
    done, detail = 0, f"row group {group} holds fewer rows than the {n_rows} in its footer"
    batches = file.iter_batches(
        batch_size=max(1, min(BATCH_ROWS, BATCH_BYTES // average)),
        row_groups=[group],
        columns=list(_columns(cfg)),
        use_threads=False,
    )
    try:
        for batch in batches:
            yield _parquet_rows(batch, unit.name, cfg)
            done += len(batch)
    except (OSError, pa.ArrowException) as error:
        detail = one_line(error)
    if done < n_rows:
        part = dataclasses.replace(unit, start=group)
        pile.reject(unit.name, damage(part, "unreadable_file", detail, n_rows - done))


def _columns(cfg: IngestConfig) -> dict[str, None]:
    source = [] if cfg.source_column is None else [cfg.source_column]
    return dict.fromkeys([cfg.text_column, *source, *cfg.metadata_columns])


def _parquet_rows(batch: Any, name: str, cfg: IngestConfig) -> RawRows:
    n = len(batch)
    sources, metadata = [""] * n, ["{}"] * n
    if cfg.source_column is not None:
        sources = [label(value) or "" for value in _values(batch.column(cfg.source_column))]
    if cfg.metadata_columns:
        columns = [_values(batch.column(column)) for column in cfg.metadata_columns]
        rows = zip(*columns, strict=True)
        metadata = [metadata_json(cfg.metadata_columns, row) for row in rows]
    return RawRows(as_bytes(batch.column(cfg.text_column)), sources, metadata, [name] * n)


def as_bytes(column: Any) -> Any:
    """A text column as large_binary: invalid UTF-8 neither raises nor passes unseen."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    return column.cast(pa.large_binary())


def _values(column: Any) -> list[Any]:
    """Python values; text as bytes, for text inside of lists may be invalid as well."""
    if is_text(column.type):
        return as_bytes(column).to_pylist()  # type: ignore[no-any-return]
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return [_value_or_none(value) for value in column]


def _value_or_none(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None


def _read_jsonl(unit: Unit, cfg: IngestConfig, pile: _Pile) -> Iterator[RawRows]:
    try:
        for line in read_lines(unit, line_cap(cfg.max_chars)):
            _add_line(line, unit.name, cfg, pile)
            if pile.full():
                yield from pile.take()
    except Damaged as error:
        pile.reject(unit.name, damage(unit, error.reason, error.detail))


def _add_line(line: bytes | LongLine, file: str, cfg: IngestConfig, pile: _Pile) -> None:
    if isinstance(line, LongLine):
        detail = f"a line of {line.n_bytes:,} bytes; {line_cap(cfg.max_chars):,} are read"
        pile.reject(file, Rejection("line_too_long", detail, line.digest))
        return
    digest = hashlib.sha256(line.strip()).hexdigest()
    try:
        row = parse(line)
        text = row.get(cfg.text_column) if isinstance(row, dict) else row
        if isinstance(row, dict) and text is None:
            pile.reject(file, Rejection("missing_text", f"no {cfg.text_column!r}", digest))
        elif not isinstance(row, dict) or not isinstance(text, str):
            where = repr(cfg.text_column) if isinstance(row, dict) else "the row"
            found = f"{where} is {type(text).__name__}"
            pile.reject(file, Rejection("wrong_type", found, digest))
        else:
            source = label(row.get(cfg.source_column)) if cfg.source_column else None
            metadata = _json_metadata(row, cfg.metadata_columns)
            pile.add(file, text.encode("utf-8", "surrogatepass"), source or "", metadata)
    except (ValueError, RecursionError) as error:
        pile.reject(file, Rejection("bad_json", str(error)[:200], digest))


def _json_metadata(row: dict[str, Any], names: Sequence[str]) -> str:
    return metadata_json(names, [row.get(name) for name in names]) if names else "{}"


def _read_text(unit: Unit, cfg: IngestConfig, pile: _Pile) -> None:
    """A whole file as one cell; beyond four bytes a character it is hashed, not held."""
    cap = 4 * cfg.max_chars
    try:
        with open_filesystem(unit.root).open_input_stream(unit.path, compression=None) as stream:
            content = stream.read(cap + 1)
            if len(content) <= cap:
                pile.add(unit.name, content)
                return
            total, n_bytes = hashlib.sha256(content), len(content)
            while piece := stream.read(PIECE):
                total.update(piece)
                n_bytes += len(piece)
    except OSError as error:
        detail = one_line(error)
        pile.reject(unit.name, damage(unit, "unreadable_file", detail))
        return
    pile.reject(unit.name, Rejection("too_long", f"{n_bytes:,} bytes", total.hexdigest()))
