"""Sample the training sequences of a mixture.

A stream is a pure function of (weights, shards, seed, stage). Sequence i can be read without the
sequences before it, so a checkpoint needs only the number of the step. With the same seed, two
mixtures read the windows of a domain in the same order and interleave domains in the same way. So
their metrics differ because of the mixtures, not because of sampling.

Axes: S sequences, L tokens of a sequence, K domains.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError
from climb.mixture import apportion
from climb.proxy import ProxyRun
from climb.proxy.shards import JoinedShard, TokenIds, open_shard

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """S sequences of L tokens, in training order."""

    domains: tuple[str, ...]
    shards: tuple[TokenIds | JoinedShard, ...]
    """Token ids of each domain."""

    domain_S: Ints
    """Domain of each sequence, as an index into `domains`."""

    start_S: Ints
    """Position of each sequence's first token in its shard; reading wraps around at the end."""

    length: int

    def __len__(self) -> int:
        return len(self.domain_S)

    def read_batch(self, first: int, stop: int) -> Ints:
        """Read the token ids of the sequences from first to stop - 1, shape (stop - first, L)."""
        ids_SL = np.empty((stop - first, self.length), dtype=np.int64)
        for row, i in enumerate(range(first, stop)):
            shard = self.shards[self.domain_S[i]]
            position, n_read = int(self.start_S[i]), 0
            while n_read < self.length:
                piece = shard[position : position + self.length - n_read]
                ids_SL[row, n_read : n_read + len(piece)] = piece
                position, n_read = 0, n_read + len(piece)
        return ids_SL


@contextlib.contextmanager
def hold_local_shards(run: ProxyRun) -> Iterator[ProxyRun]:
    """Yield the run with the local copies of its shards, which stay while the block runs."""
    if run.local_copies is None:
        yield run
        return
    read = [domain for domain, weight in run.weights.items() if weight and domain in run.shards]
    with run.local_copies.hold(Path(run.shards[domain]) for domain in read) as local:
        copies = {domain: str(local[Path(run.shards[domain])]) for domain in read}
        yield replace(run, shards={**run.shards, **copies})


def plan_stream(
    weights: Mapping[str, float],
    shards: Mapping[str, str],
    n_sequences: int,
    length: int,
    seed: int,
    stage: str,
) -> Stream:
    """Plan the windows of each domain and their order in the stream.

    Each domain gets a whole number of sequences, which are windows of its shard. The windows are
    read in random order, each once per epoch. Every epoch divides the shard into windows from
    another offset. A small shard is repeated as often as its weight requires. Domains are
    interleaved evenly: every section of the stream has about the mixture's proportions.

    Args:
        weights: domain -> share of the sequences; shards of weight 0 are not opened.
        shards: domain -> .npy file of its token ids, or a folder of such files.
        n_sequences: S.
        length: L, tokens of a sequence. A shard with fewer tokens is repeated within a sequence.
        seed: seed of the run.
        stage: `base` or `continued`, so that a continued run reads other sequences than its base.

    Raises:
        ComponentError: a shard is missing, incomplete, empty, or not a one-dimensional array of
            unsigned integers.
    """
    domains = tuple(sorted(domain for domain, weight in weights.items() if weight != 0.0))
    arrays = tuple(_open_shard(domain, shards) for domain in domains)
    counts_K = apportion(np.array([weights[domain] for domain in domains]), n_sequences)
    starts, keys = [], []
    for domain, shard, count in zip(domains, arrays, counts_K, strict=True):
        words = [seed, _hash_to_int(stage), _hash_to_int(domain)]
        starts.append(_draw_window_starts(len(shard), int(count), length, words))
        jitter_S = np.random.default_rng([*words, _hash_to_int("order")]).random(int(count))
        keys.append((np.arange(count) + jitter_S) / max(1, count))
    order_S = np.argsort(np.concatenate(keys), kind="stable")
    domain_S = np.repeat(np.arange(len(domains)), counts_K)[order_S]
    return Stream(domains, arrays, domain_S, np.concatenate(starts)[order_S], length)


def _draw_window_starts(n_tokens: int, count: int, length: int, words: list[int]) -> Ints:
    """Draw the starts of the first `count` windows of a shard, epoch by epoch."""
    per_epoch = max(1, n_tokens // length)
    starts: list[Ints] = [np.empty(0, dtype=np.int64)]
    for epoch in range(-(-count // per_epoch)):
        random = np.random.default_rng([*words, epoch])
        offset = random.integers(n_tokens)
        starts.append((offset + random.permutation(per_epoch) * length) % n_tokens)
    return np.concatenate(starts)[:count]


def _open_shard(domain: str, shards: Mapping[str, str]) -> TokenIds | JoinedShard:
    if domain not in shards:
        raise ComponentError(
            f"domain {domain!r} has a weight above 0 but no shard; run `climb pack` again "
            f"(domains with shards: {list(shards)})"
        )
    return open_shard(shards[domain], domain)


def _hash_to_int(name: str) -> int:
    """Hash a name to a seed; unlike `hash`, the value is the same in every process."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
