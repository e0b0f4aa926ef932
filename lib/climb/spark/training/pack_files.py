"""Write the files of shards in Spark tasks; larger files do not need more memory.

The token ids of a file go to the local disk while its texts are encoded. Then the file is copied
to its place, and its completion file is written last. If packing is killed, the next start writes
only the files that are not complete.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from climb.errors import TableError
from climb.files import read_chunks, write_complete
from climb.proxy.shards import Part
from climb.spark.numbered import write_by_number
from climb.tokenizer import encode_texts, open_tokenizer

SCHEMA = pa.schema([("doc_id", pa.string()), ("n_tokens", pa.int32()), ("text", pa.string())])


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard."""

    number: int
    """Unique among the files of all shards."""

    kind: str
    domain: str
    path: Path
    part: Part


@dataclass(frozen=True)
class PackTask:
    """What a task needs in order to write files; it is sent to the executors."""

    files: dict[int, ShardFile] = field(repr=False)
    """The pending files, by number."""

    tokenizer_json: str = field(repr=False)
    end_of_text: str
    """Token that ends a document."""

    def write(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the files of one partition, and yield the number of each.

        Args:
            batches: (number, *SCHEMA), sorted by number and then in the order of the shard.

        Raises:
            TableError: a document has another number of tokens than table `tokens` records.
        """
        return write_by_number(batches, SCHEMA, lambda n: _OpenFile(self, self.files[n]))


class _OpenFile:
    """A file that is being written."""

    def __init__(self, task: PackTask, file: ShardFile) -> None:
        self.file, self._missing = file, file.part.n_tokens
        self._tokenizer = open_tokenizer(task.tokenizer_json)
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self._end = [vocabulary[task.end_of_text]]
        self._dtype = np.dtype(np.uint16 if max(vocabulary.values()) < 2**16 else np.uint32)
        self._scratch = tempfile.NamedTemporaryFile(prefix="climb-")  # noqa: SIM115  # see finish

    def add(self, rows: pa.RecordBatch) -> None:
        """Write the ids of documents, each with the end-of-text token, until the file is full."""
        counts = rows["n_tokens"].to_pylist()
        ends_N = np.cumsum(np.array(counts, dtype=np.int64) + 1)
        n = int(np.searchsorted(ends_N, self._missing)) + 1  # the last one may be cut
        texts = rows["text"].slice(0, n).to_pylist() if self._missing else []
        for i, ids in enumerate(encode_texts(self._tokenizer, texts)):
            if len(ids) != counts[i]:
                raise TableError(
                    f"table `tokens` has a count of {counts[i]:,} tokens for document "
                    f"{rows['doc_id'][i].as_py()}, but the tokenizer returns {len(ids):,}; the "
                    "counts are from another version of package tokenizers: delete table tokens, "
                    "and run `climb count` again"
                )
            kept = np.array(ids + self._end, self._dtype)[: self._missing]
            self._scratch.write(kept.tobytes())
            self._missing -= len(kept)

    def finish(self) -> None:
        """Copy the ids to their place."""
        n_tokens = self.file.part.n_tokens
        assert self._missing == 0, (self.file.path, n_tokens, self._missing)
        with self._scratch as scratch:
            scratch.flush()
            header, path = _make_header(self._dtype, n_tokens), Path(scratch.name)
            write_complete(self.file.path, lambda: _chain(header, path))


def _chain(header: bytes, path: Path) -> Iterator[bytes]:
    yield header
    yield from read_chunks(path)


def _make_header(dtype: DTypeLike, n: int) -> bytes:
    """Make the header of an .npy file with a one-dimensional array of n values."""
    header, npy = io.BytesIO(), cast(Any, np.lib.format)
    described = npy.header_data_from_array_1_0(np.empty(0, dtype))
    npy.write_array_header_1_0(header, described | {"shape": (n,)})
    return header.getvalue()
