"""Write the shards of an export: the body of the tasks.

A shard is written to the local disk, copied to the export, and recorded in a small file. If an
export was killed, the next start writes only the shards that have no record.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from climb import tokenizer
from climb.export import Format, Shard, ShardWriter, Tokenization
from climb.files import FileDigest, read_chunks, write_file, write_recorded
from climb.spark.export.rows import ShardKey
from climb.spark.numbered import write_by_number

SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("copy", pa.int32()),
        ("domain", pa.string()),
        ("n_tokens", pa.int32()),
        ("text", pa.string()),
    ]
)


@dataclass(frozen=True)
class DomainCounts:
    """What shards contain of one domain."""

    documents: int = 0
    tokens: int = 0
    squared_tokens: int = 0
    first_tokens: int = 0
    """Tokens of the first copy of each document."""

    def __add__(self, other: DomainCounts) -> DomainCounts:
        return DomainCounts(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.squared_tokens + other.squared_tokens,
            self.first_tokens + other.first_tokens,
        )


@dataclass(frozen=True)
class ShardRecord:
    """The record of a finished shard."""

    files: dict[str, FileDigest]
    """Path in the export -> digest."""

    domains: dict[str, DomainCounts]

    def describe(self, key: ShardKey) -> Shard:
        """Describe the shard for the contents of the export."""
        counts = self.domains.values()
        documents, tokens = sum(c.documents for c in counts), sum(c.tokens for c in counts)
        files = sorted(self.files)
        sizes = tuple(self.files[name].bytes for name in files)
        return Shard(key.split, key.domain, tuple(files), sizes, documents, tokens)


@dataclass(frozen=True)
class ShardTask:
    """What a task needs in order to write shards; it is sent to the executors."""

    format: Format
    folder: Path
    """The folder of the files; every node sees this folder."""

    records: Path
    """The folder of the records."""

    keys: dict[int, ShardKey] = field(repr=False)
    """The pending shards, by number."""

    tokenization: Tokenization | None
    tokenizer_json: str | None = field(repr=False)

    def write(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the shards of one partition, and yield the number of each.

        Args:
            batches: (number, *SCHEMA), sorted by number.
        """
        return write_by_number(batches, SCHEMA, lambda n: _OpenShard(self, self.keys[n]))


class _OpenShard:
    """A shard that is being written."""

    def __init__(self, task: ShardTask, key: ShardKey) -> None:
        self.key, self._task = key, task
        self._domains: dict[str, DomainCounts] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="climb-")
        path = Path(self._scratch.name) / key.stem
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer: ShardWriter = task.format.open_shard(path, task.tokenization)

    def add(self, rows: pa.RecordBatch) -> None:
        """Write rows, and count their tokens."""
        if self._task.tokenization is None:
            self._writer.write(rows, None)
            self._count(rows, rows["n_tokens"].to_numpy(zero_copy_only=False))
            return
        texts = rows["text"].to_pylist()
        for window in tokenizer.split_texts(texts):
            part = rows.slice(window.start, window.stop - window.start)
            ids_N = self._encode(texts[window], self._task.tokenization)
            self._writer.write(part, ids_N)
            self._count(part, np.array([len(ids) for ids in ids_N]))

    def finish(self) -> None:
        """Close the files, copy them to the export, and record the shard."""
        self._writer.close()
        with self._scratch as scratch:
            files = _copy_files(Path(scratch), self._task.folder)
        write_record(self._task.records, self.key, ShardRecord(files, self._domains))

    def _encode(self, texts: list[str], tokenization: Tokenization) -> list[NDArray[Any]]:
        opened = tokenizer.open_tokenizer(self._task.tokenizer_json or "")
        end = [tokenization.end_of_text_id]
        encoded = tokenizer.encode_texts(opened, texts)
        return [np.array(ids + end, tokenization.dtype) for ids in encoded]

    def _count(self, rows: pa.RecordBatch, tokens_N: NDArray[Any]) -> None:
        """Add the documents and tokens of each domain."""
        encoded = pc.dictionary_encode(rows["domain"])
        codes_N = encoded.indices.to_numpy(zero_copy_only=False)
        copies_N = rows["copy"].to_numpy(zero_copy_only=False)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            own = tokens_N[codes_N == code].astype(np.int64)
            first = own[copies_N[codes_N == code] == 0]
            sums = (int(values.sum()) for values in (own, np.square(own), first))
            new = DomainCounts(len(own), *sums)
            self._domains[name] = self._domains.get(name, DomainCounts()) + new


def _copy_files(source: Path, target: Path) -> dict[str, FileDigest]:
    """Copy the files below a folder; return path inside the folder -> digest."""
    names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
    return {name: _copy_file(source / name, target / name) for name in names}


def _copy_file(source: Path, target: Path) -> FileDigest:
    return write_recorded(target, lambda: read_chunks(source))


def write_record(folder: Path, key: ShardKey, record: ShardRecord) -> None:
    """Record that a shard is complete."""
    values = {
        "files": {name: asdict(digest) for name, digest in record.files.items()},
        "domains": {name: asdict(counts) for name, counts in record.domains.items()},
    }
    content = json.dumps(values, sort_keys=True).encode()
    write_file(_locate_record(folder, key), lambda: [content])


def read_records(folder: Path, keys: Sequence[ShardKey], data: Path) -> dict[int, ShardRecord]:
    """Read the records of the shards whose files are complete in `data`: number -> record."""
    found: dict[int, ShardRecord] = {}
    for key in keys:
        try:
            values = json.loads(_locate_record(folder, key).read_bytes())
            record = ShardRecord(
                {name: FileDigest(**digest) for name, digest in values["files"].items()},
                {name: DomainCounts(**counts) for name, counts in values["domains"].items()},
            )
            if all((data / n).stat().st_size == d.bytes for n, d in record.files.items()):
                found[key.number] = record
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not written, or truncated on a mount without renames
    return found


def _locate_record(folder: Path, key: ShardKey) -> Path:
    return folder / f"{key.number:06d}.json"
