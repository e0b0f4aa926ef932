"""Write documents as MDS, the format of MosaicML streaming.

A file starts with 32-bit unsigned integers: the number of samples, the offset of each sample, and
the end of the last sample. A JSON header follows, which describes the columns; then the samples. A
sample starts with the lengths of its columns of variable length. All columns follow, sorted by
name.

Source: mosaicml-streaming 0.13.0, `streaming/base/format/mds/writer.py` and `encodings.py`.
The files that climb writes are equal to those of the MDSWriter in that package.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from climb.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {"doc_id": "str", "domain": "str", "n_tokens": "int", "text": "str"}
"""Column -> encoding, sorted by name. `int` is a 64-bit integer."""

COLUMN_SIZES = (None, None, 8, None)

SIZE_LIMIT = 1 << 26
"""MDSWriter writes this maximum size of a file to the header of the file. Readers ignore it."""

MOST_BYTES = (1 << 32) - 1
"""Largest size of a file, because offsets have 32 bits."""


def describe_columns() -> dict[str, Any]:
    """Describe the columns, as the header of a file and the entries of `index.json` do."""
    return {
        "column_encodings": list(COLUMNS.values()),
        "column_names": list(COLUMNS),
        "column_sizes": list(COLUMN_SIZES),
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": SIZE_LIMIT,
        "version": 2,
    }


def describe_file(name: str, n_bytes: int, n_documents: int) -> dict[str, Any]:
    """Return the entry of a file in `index.json`."""
    data = {"basename": name, "bytes": n_bytes, "hashes": {}}
    return describe_columns() | {"raw_data": data, "samples": n_documents, "zip_data": None}


class MdsWriter:
    """Writes one file. A temporary file keeps the samples until all of their offsets are known."""

    def __init__(self, path: Path) -> None:
        """Open the temporary file; `close` writes `path`.mds."""
        self._path = Path(f"{path}.mds")
        self._samples = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # see close
        self._sizes = array("I")

    def write(self, rows: pa.RecordBatch, ids_N: Sequence[Any] | None) -> None:
        """Append documents."""
        columns = [rows.column(name).to_pylist() for name in COLUMNS]
        for doc_id, domain, n_tokens, text in zip(*columns, strict=True):
            parts = doc_id.encode(), domain.encode(), text.encode()
            lengths = struct.pack("<3I", *map(len, parts))
            number = struct.pack("<q", n_tokens)
            sample = b"".join((lengths, parts[0], parts[1], number, parts[2]))
            self._samples.write(sample)
            self._sizes.append(len(sample))

    def close(self) -> None:
        """Write the file.

        Raises:
            InputError: the documents need more than the 4 GiB that a file can have.
        """
        header = json.dumps(describe_columns(), sort_keys=True).encode()
        n_documents = len(self._sizes)
        offsets_N = np.zeros(n_documents + 1, np.uint64)
        np.cumsum(np.frombuffer(self._sizes, np.uint32), dtype=np.uint64, out=offsets_N[1:])
        offsets_N += np.uint64(4 + 4 * len(offsets_N) + len(header))
        if offsets_N[-1] > MOST_BYTES:
            raise InputError(
                f"{self._path.name} needs {offsets_N[-1]} bytes, but an MDS file can have at most "
                f"{MOST_BYTES}; lower shard_bytes"
            )
        with self._samples, self._path.open("wb") as file:
            file.write(struct.pack("<I", n_documents))
            file.write(offsets_N.astype("<u4").tobytes())
            file.write(header)
            self._samples.seek(0)
            shutil.copyfileobj(self._samples, file)
