"""Shards: divide the documents of a domain, in hash order, into files; read these as one array.

A shard is one .npy file of token ids, or a folder of such files. Each file has the documents of
consecutive buckets of the hash. Job `count` has already stored the number of tokens of every
document. So the files are planned from these numbers, before job `pack` encodes the documents. The
files do not depend on how Spark partitions the documents.

Axes: B buckets, P files of a shard.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError
from climb.files import is_complete, list_complete_files

TokenIds = NDArray[np.unsignedinteger]

PART_TOKENS = 1 << 24
"""Number of tokens of a file: 34 MB in uint16. A shard with fewer tokens is one file."""

MAX_PARTS = 256
"""If all shards of a kind (such as base or trial) together have more than MAX_PARTS * PART_TOKENS
tokens, the files are larger. A run keeps all of its files open, and many systems allow a process
1,024 open files."""

BUCKET_TOKENS = 1 << 16
"""Mean tokens of a bucket. A file ends where a bucket ends; only the last file of a shard may end
inside a bucket."""

MAX_BUCKETS = 1 << 17
"""Maximum buckets of all domains; a larger corpus has larger buckets, so that the plan is small."""


@dataclass(frozen=True)
class Part:
    """The documents of one file of a shard, from its first bucket to its last one."""

    first_bucket: int
    last_bucket: int
    n_tokens: int
    """Tokens of the file. In the last file of a shard, the last documents may be missing or cut."""


def count_buckets(tokens_K: Sequence[int]) -> list[int]:
    """Return the number of hash buckets of each domain, from the tokens of each domain."""
    size = max(BUCKET_TOKENS, -(-sum(tokens_K) // MAX_BUCKETS))
    return [max(1, tokens // size) for tokens in tokens_K]


def compute_part_tokens(n_tokens: int) -> int:
    """Return the tokens per file, for shards that have `n_tokens` tokens together."""
    return max(PART_TOKENS, -(-n_tokens // MAX_PARTS))


def plan_parts(tokens_B: NDArray[np.int64], n_tokens: int, part_tokens: int) -> list[Part]:
    """Divide a shard into files. A file ends with the bucket that brings it to `part_tokens`.

    Args:
        tokens_B: tokens of each bucket in the order of the shard, end-of-text tokens included.
        n_tokens: wanted tokens of the shard.
        part_tokens: wanted tokens of a file.

    Returns:
        The files in order. Their tokens sum to `n_tokens`, or to all tokens if these are fewer.
    """
    end_B = np.cumsum(tokens_B)
    total = min(n_tokens, int(end_B[-1]))
    parts: list[Part] = []
    start = bucket = 0
    while start < total:
        last = int(np.searchsorted(end_B, min(start + part_tokens, total)))
        end = min(int(end_B[last]), total)
        parts.append(Part(bucket, last, end - start))
        start, bucket = end, last + 1
    return parts


@dataclass(frozen=True, eq=False)
class JoinedShard:
    """The token ids of several memory-mapped files as one sequence."""

    parts: tuple[TokenIds, ...]

    @cached_property
    def _end_P(self) -> list[int]:
        return list(itertools.accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._end_P[-1]

    def __getitem__(self, window: slice) -> TokenIds:
        """Return the ids of a window: a copy only if the window crosses the end of a file."""
        start, stop, _ = window.indices(len(self))
        first = bisect.bisect_right(self._end_P, start)
        pieces: list[TokenIds] = []
        for part, end in zip(self.parts[first:], self._end_P[first:], strict=True):
            offset = end - len(part)
            pieces.append(part[max(0, start - offset) : max(0, stop - offset)])
            if stop <= end:
                break
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [self.parts[0][:0]])


def open_shard(path: str, domain: str) -> TokenIds | JoinedShard:
    """Open the shard of a domain without reading it.

    Args:
        path: an .npy file, or a folder that job `pack` has completed.
        domain: name of the domain, for messages.

    Raises:
        ComponentError: the shard is missing, incomplete, empty, or a file is not a one-dimensional
            array of unsigned integers.
    """
    folder = Path(path)
    if not folder.is_dir():
        return _open_part(folder, domain)
    if not is_complete(folder):
        raise ComponentError(
            f"shard {path} of domain {domain!r} is not complete; run `climb pack` again"
        )
    return JoinedShard(tuple(_open_part(file, domain) for file in list_complete_files(folder)))


def _open_part(path: Path, domain: str) -> TokenIds:
    try:
        ids: TokenIds = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ComponentError(
            f"shard {path} of domain {domain!r} cannot be read: {error}"
        ) from error
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.unsignedinteger):
        raise ComponentError(
            f"shard {path} of domain {domain!r} is {ids.dtype} of shape {ids.shape}; "
            "it must be a one-dimensional array of unsigned integers"
        )
    if len(ids) == 0:
        raise ComponentError(
            f"shard {path} of domain {domain!r} is empty, but the weight of the domain is not 0"
        )
    return ids
