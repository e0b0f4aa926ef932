"""The stream of training sequences that a mixture stands for.

A stream is a pure function of (weights, shards, seed, stage): sequence i can be read without the
i - 1 before it, so a resume point needs no more than the number of the step. Two mixtures with
one seed read each domain's windows in the same order and interleave them alike, so that the
difference of their metrics is the difference of the mixtures, not of the draw.

S sequences, L tokens of a sequence, K domains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError
from climb.mixture import apportion

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """S sequences of L tokens, in training order."""

    domains: tuple[str, ...]
    shards: tuple[NDArray[np.unsignedinteger], ...]
    """Token ids of each domain."""

    domain_S: Ints
    """Which domain a sequence is from, as an index into `domains`."""

    start_S: Ints
    """Where it begins in its shard; the shard's end is followed by its beginning."""

    length: int

    def __len__(self) -> int:
        return len(self.domain_S)

    def batch(self, first: int, last: int) -> Ints:
        """Token ids of sequences first to last (excluded), shape (last - first, L)."""
        steps_L = np.arange(self.length)
        ids_SL = np.empty((last - first, self.length), dtype=np.int64)
        for row, i in enumerate(range(first, last)):
            shard = self.shards[self.domain_S[i]]
            start = int(self.start_S[i])
            whole = start + self.length <= len(shard)
            ids_SL[row] = (
                shard[start : start + self.length]
                if whole
                else shard[(start + steps_L) % len(shard)]
            )
        return ids_SL


def sequences(
    weights: Mapping[str, float],
    shards: Mapping[str, str],
    n_sequences: int,
    length: int,
    seed: int,
    stage: str,
) -> Stream:
    """Plan which windows of which domains are read, and in which order.

    Whole sequences are apportioned to the domains. A domain's windows are read in a random
    order, all of them before any again, and every epoch cuts the shard at another offset. So a
    shard that is too small repeats as often as its weight asks for. The domains are interleaved
    evenly: any stretch of the stream holds them in about the mixture's proportions.

    Args:
        weights: domain -> share of the sequences; domains of weight 0 are not opened.
        shards: domain -> .npy file of its token ids.
        n_sequences: S.
        length: L, tokens of a sequence. A shard may be shorter: it is read round and round.
        seed: of the run.
        stage: `base` or `continued`, so that a run does not begin with what its base began with.

    Raises:
        ComponentError: a shard is missing, empty, or not a flat array of unsigned integers.
    """
    domains = tuple(sorted(domain for domain, weight in weights.items() if weight != 0.0))
    opened = tuple(_open(domain, shards) for domain in domains)
    counts_K = apportion(np.array([weights[domain] for domain in domains]), n_sequences)
    starts, keys = [], []
    for domain, shard, count in zip(domains, opened, counts_K, strict=True):
        words = [seed, _number(stage), _number(domain)]
        starts.append(_window_starts(len(shard), int(count), length, words))
        jitter_S = np.random.default_rng([*words, _number("order")]).random(int(count))
        keys.append((np.arange(count) + jitter_S) / max(1, count))
    order_S = np.argsort(np.concatenate(keys), kind="stable")
    domain_S = np.repeat(np.arange(len(domains)), counts_K)[order_S]
    return Stream(domains, opened, domain_S, np.concatenate(starts)[order_S], length)


def _window_starts(n_tokens: int, count: int, length: int, words: list[int]) -> Ints:
    """Starts of the first `count` windows of a shard, epoch after epoch."""
    per_epoch = max(1, n_tokens // length)
    starts: list[Ints] = [np.empty(0, dtype=np.int64)]
    for epoch in range(-(-count // per_epoch)):
        random = np.random.default_rng([*words, epoch])
        offset = random.integers(n_tokens)
        starts.append((offset + random.permutation(per_epoch) * length) % n_tokens)
    return np.concatenate(starts)[:count]


def _open(domain: str, shards: Mapping[str, str]) -> NDArray[np.unsignedinteger]:
    if domain not in shards:
        raise ComponentError(f"domain {domain!r} has a weight but no shard; shards: {list(shards)}")
    path = shards[domain]
    try:
        ids: NDArray[np.unsignedinteger] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ComponentError(
            f"shard {path} of domain {domain!r} cannot be read: {error}"
        ) from error
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.unsignedinteger):
        raise ComponentError(
            f"shard {path} of domain {domain!r} is {ids.dtype} of shape {ids.shape}; "
            "it must be a flat array of unsigned integers"
        )
    if len(ids) == 0:
        raise ComponentError(
            f"shard {path} of domain {domain!r} is empty, but the domain has a weight"
        )
    return ids


def _number(name: str) -> int:
    """A name as a seed word; the same on every machine, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
