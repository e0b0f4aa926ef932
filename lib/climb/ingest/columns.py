"""Find the configured columns in Arrow data and in JSON objects, and read their cells.

A configured name is looked up as the name of a column first. If there is no such column, the name
is read as a path into structs: `doc.text` is field `text` of column `doc`. If there is no such
field either, the name may be the key of a partition, which is part of a folder's name (`lang` in
the folder `lang=en/`). Source and metadata can come from a partition, but the text cannot. A text
may be a list of paragraphs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from climb.config.sections import IngestConfig
from climb.ingest.clean import Rejection, clean_label, encode_metadata

MAX_LISTED_COLUMNS = 50
"""Maximum columns in one message: a JSON object may have a million keys."""

Partitions = Mapping[str, str | None]


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

    left_out: set[int] = field(default_factory=set)
    """Rows with a source or metadata value that cannot be represented as text."""


def list_names(cfg: IngestConfig) -> tuple[str, ...]:
    """List the configured names without repetition: text, source, metadata."""
    source = [] if cfg.source_column is None else [cfg.source_column]
    return tuple(dict.fromkeys([cfg.text_column, *source, *cfg.metadata_columns]))


def is_text_type(type_: Any) -> bool:
    """Return whether an Arrow type is text, bytes (either may be dictionary-encoded) or null."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.null())
    return type_ in (*kinds, pa.string_view(), pa.binary_view())


def is_list_type(type_: Any) -> bool:
    """Return whether an Arrow type is a list."""
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    )


def find_type(schema: Any, name: str) -> Any:
    """Return the Arrow type of a name in a schema; None if the name is missing or not unique."""
    import pyarrow as pa

    if schema.names.count(name) == 1:
        return schema.field(name).type
    head, *rest = name.split(".")
    if schema.names.count(head) != 1:
        return None
    type_ = schema.field(head).type
    for part in rest:
        if not pa.types.is_struct(type_) or type_.get_field_index(part) < 0:
            return None
        type_ = type_.field(part).type
    return type_


def find_mistakes(schema: Any, cfg: IngestConfig, partitions: Partitions) -> list[str]:
    """Describe configured names that are missing or not unique.

    A text column that does not contain text is described too.
    """
    mistakes = []
    for name in list_names(cfg):
        if (n := schema.names.count(name)) > 1:
            mistakes.append(f"column {name!r} occurs {n} times; it must occur once")
        elif find_type(schema, name) is None and not is_partition(name, cfg, partitions):
            mistakes.append(describe_missing(name, schema.names))
    type_ = find_type(schema, cfg.text_column)
    inner = type_.value_type if type_ is not None and is_list_type(type_) else type_
    if inner is not None and not is_text_type(inner):
        mistakes.append(f"column {cfg.text_column!r} is {type_}; it must be text")
    return mistakes


def find_missing_keys(
    objects: Sequence[Mapping[str, Any]], cfg: IngestConfig, partitions: Partitions
) -> list[str]:
    """Describe configured names that none of these objects has.

    The text key is described too if none of its values is a text.
    """
    keys = list(dict.fromkeys(key for row in objects for key in row))
    mistakes = [
        describe_missing(name, keys)
        for name in list_names(cfg)
        if not any(has_key(row, name) for row in objects)
        and not is_partition(name, cfg, partitions)
    ]
    texts = [read_key(row, cfg.text_column) for row in objects]
    present = [text for text in texts if text is not None]
    if present and all(join_paragraphs(text, "") is None for text in present):
        type_name = type(present[0]).__name__
        mistakes.append(f"key {cfg.text_column!r} is {type_name}; it must be text")
    return mistakes


def is_partition(name: str, cfg: IngestConfig, partitions: Partitions) -> bool:
    """Whether a configured name is the key of a partition; the text column cannot be one."""
    return name in partitions and name != cfg.text_column


def describe_missing(name: str, columns: Sequence[str]) -> str:
    """Describe a missing column, with the nearest name that exists."""
    matches = difflib.get_close_matches(name, columns[:MAX_LISTED_COLUMNS], n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    present = ", ".join(map(str, columns[:MAX_LISTED_COLUMNS])) or "none"
    more = f", ... ({len(columns)} in all)" if len(columns) > MAX_LISTED_COLUMNS else ""
    return f"no column {name!r} among {present}{more}{hint}"


def has_key(row: Mapping[str, Any], name: str) -> bool:
    """Whether a JSON object has a key, or a path of keys; its value may be null."""
    if name in row:
        return True
    head, _, rest = name.partition(".")
    value = row.get(head)
    return isinstance(value, dict) and bool(rest) and has_key(value, rest)


def read_key(row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a key, or of a path of keys; None if it is not there."""
    if name in row:
        return row[name]
    head, _, rest = name.partition(".")
    value = row.get(head)
    return read_key(value, rest) if isinstance(value, dict) and rest else None


def join_paragraphs(value: Any, separator: str) -> str | None:
    """Return a text, or the paragraphs of a list as one text; None for everything else."""
    if isinstance(value, list) and all(isinstance(part, str | None) for part in value):
        return separator.join(part for part in value if part is not None)
    return value if isinstance(value, str) else None


def convert_batch(batch: Any, name: str, cfg: IngestConfig, partitions: Partitions) -> RawRows:
    """Convert an Arrow record batch to raw rows.

    Args:
        batch: has the configured columns.
        name: path or URI by which messages name the file or table.
        cfg: section ingest.
        partitions: columns in the names of the file's folders.

    Raises:
        ValueError: the batch does not have the text column.
    """
    n = len(batch)
    left_out: set[int] = set()

    def read(column: str) -> list[str | None]:
        array = find_array(batch, column)
        if array is None:
            return [clean_label(partitions.get(column))] * n
        return read_labels(array, left_out)

    sources, metadata = [""] * n, ["{}"] * n
    if cfg.source_column is not None:
        sources = [label or "" for label in read(cfg.source_column)]
    if cfg.metadata_columns:
        rows = zip(*map(read, cfg.metadata_columns), strict=True)
        metadata = [encode_metadata(cfg.metadata_columns, row) for row in rows]
    texts = find_array(batch, cfg.text_column)
    if texts is None:
        raise ValueError(f"no column {cfg.text_column!r}: the file changed after it was checked")
    cells = read_cells(texts, cfg.paragraph_separator)
    return RawRows(cells, sources, metadata, [name] * n, {}, left_out)


def find_array(batch: Any, name: str) -> Any:
    """Return the column or the field of a struct that a name means; None if there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in batch.schema.names:
        return batch.column(name)
    head, *rest = name.split(".")
    if head not in batch.schema.names:
        return None
    array = batch.column(head)
    for part in rest:
        if not pa.types.is_struct(array.type) or array.type.get_field_index(part) < 0:
            return None
        array = pc.struct_field(array, part)
    return array


def read_cells(column: Any, separator: str) -> Any:
    """Return a column of text, or of lists of paragraphs, as large_binary."""
    import pyarrow as pa

    if not is_list_type(column.type):
        return cast_to_binary(column)
    glue = separator.encode()
    # Bytes, because to_pylist raises an error for invalid UTF-8.
    lists = column.cast(pa.list_(pa.large_binary())).to_pylist()
    cells = [
        None if parts is None else glue.join(part for part in parts if part is not None)
        for parts in lists
    ]
    return pa.array(cells, pa.large_binary())


def cast_to_binary(column: Any) -> Any:
    """Cast a text column to large_binary, so that `clean_cells` finds and repairs invalid UTF-8."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    return column.cast(pa.large_binary())


def read_labels(column: Any, left_out: set[int]) -> list[str | None]:
    """Read the cells of a source or metadata column as clean text.

    Dates, times, durations and decimals have Arrow's text form; a time with a zone is in UTC.
    Numbers, lists and structs become JSON. A cell that neither Arrow nor Python can represent
    becomes None, and its row is added to `left_out`.
    """
    column = _cast_times(column)
    if is_text_type(column.type):
        return [clean_label(value) for value in cast_to_binary(column).to_pylist()]
    if _is_number(column.type):
        return [clean_label(value) for value in column.to_pylist()]
    labels: list[str | None] = []
    for row, cell in enumerate(column):
        try:
            labels.append(clean_label(cell.as_py()))
        except Exception:  # may be any error of a library that the type needs
            labels.append(None)
            left_out.add(row)
    return labels


def _is_number(type_: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(type_) or types.is_floating(type_) or types.is_boolean(type_))


def _cast_times(column: Any) -> Any:
    """Cast dates, times, durations and decimals to text: Python's types may not hold the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    type_, types = column.type, pa.types
    if types.is_timestamp(type_) and type_.tz is not None:
        # A cast from a type with a zone to text needs the machine's time zone database. So the zone
        # is removed first. The text then has the stored values, which are in UTC.
        text = column.cast(pa.timestamp(type_.unit)).cast(pa.string())
        return pc.binary_join_element_wise(text, "Z", "")
    is_time = types.is_temporal(type_) and not types.is_interval(type_)
    return column.cast(pa.string()) if is_time or types.is_decimal(type_) else column
