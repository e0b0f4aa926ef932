"""Interpolated n-gram model: its counts are linear in the weights of a mixture.

Axes: K domains, M mixtures, Q targets, U distinct n-grams of the full length that end in a
predicted token of a target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError
from climb.fidelity import Array, FidelityInputs, MeasureMixtures, limit_items
from climb.proxy import ProxyRun
from climb.proxy.shards import open_shard
from climb.proxy.targets import Item, load_items

Ints = NDArray[np.int64]

_SEQUENCE = 2_048
"""Maximum tokens of a context or a choice. A trial uses its sequence length instead."""

_BLOCK = 8
"""Mixtures that are measured at once, to bound the memory of their counts."""


@dataclass(frozen=True, kw_only=True)
class NGramFidelity:
    """Bits per byte of the targets under an n-gram model of the mixture.

    For a multiple-choice target, these are the bits and bytes of the right choices. For any other
    target, they are those of its texts.

    The count of an n-gram under a mixture is its count in the tokens of the base checkpoint, plus
    `trial_factor` times its count in the tokens of a trial. Both are weighted sums of counts per
    domain, so nothing is counted again for another mixture.

    The probability of a token after a history (the tokens before it) is
    (count + strength * shorter) / (total + strength). `count` is the count of the history with the
    token, and `total` is the count of the history. `shorter` is the probability of the token after
    the same history without its first token.

    Source:
        Interpolation: the predictive distribution of MacKay and Peto (1995), "A hierarchical
        Dirichlet language model". Counts that are linear in the weights: our own.
    """

    order: int = 3
    """Tokens of the longest n-grams."""

    strength: float = 8.0
    """Weight of the shorter history: it counts as much as this many tokens."""

    trial_factor: float = 4.0
    """Weight of a token of the trial, if a token of the base checkpoint has weight 1: a model
    remembers best what it has read last."""

    max_tokens: int = 1_000_000
    """Maximum number of tokens that are read of each domain: the first tokens of its shard."""

    items: int | None = None
    """Maximum items of each target; null: all items that a trial uses."""

    mixtures: int = 256
    """Number of mixtures that are measured."""

    needs: ClassVar[tuple[str, ...]] = ("tokenizers",)
    """Packages that `load` imports."""

    component_tokens: ClassVar[int] = 0

    def __post_init__(self) -> None:
        counts, factors = (self.order, self.max_tokens), (self.strength, self.trial_factor)
        if min(counts) < 1 or min(factors) <= 0.0 or self.mixtures < 4:
            raise ConfigError(
                f"{self}: order and max_tokens must be at least 1, strength and trial_factor "
                "positive, and mixtures at least 4"
            )

    def list_metrics(self, run: ProxyRun) -> tuple[str, ...]:
        """List bits per byte of every target."""
        return tuple(f"{target.name}.bpb" for target in run.targets)

    def load(self, inputs: FidelityInputs, device: str) -> MeasureMixtures:
        """Count the n-grams of every domain.

        Raises:
            ConfigError: the vocabulary is too large for this order.
            InputError: the file of a target cannot be read.
            ComponentError: a shard is missing or invalid.
        """
        run = limit_items(inputs.run, self.items)
        vocabulary = 1 + max(run.tokenizer.open().get_vocab().values())
        if vocabulary**self.order >= 2**62:
            raise ConfigError(
                f"NGramFidelity.order is {self.order}, but with {vocabulary} token ids, n-grams of "
                f"more than {int(62 / np.log2(vocabulary))} tokens do not fit into 64 bits; set a "
                "lower order"
            )
        loaded = [load_items(target, run.tokenizer, _SEQUENCE) for target in run.targets]
        queries = Queries.build(loaded, self.order, vocabulary)
        tables = [
            queries.count(_read_shard(inputs, domain, self.max_tokens)) for domain in inputs.domains
        ]
        natural_K = np.array([run.weights[domain] for domain in inputs.domains])
        n_tokens = (float(inputs.base_tokens), self.trial_factor * run.n_tokens)
        return NGramModel.build(queries, tables, natural_K, n_tokens, self.strength)


def _read_shard(inputs: FidelityInputs, domain: str, max_tokens: int) -> Ints:
    shard = open_shard(inputs.run.shards[domain], domain)
    return np.asarray(shard[:max_tokens], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Queries:
    """The n-grams whose counts give the probabilities of the targets' tokens, grouped by length."""

    vocabulary: int
    keys: tuple[Ints, ...]
    """Sorted distinct n-grams of 0, 1, ... tokens, each as one number in base `vocabulary`."""

    ngrams: tuple[tuple[Ints, Ints], ...]
    """For n = 1, 2, ... and each of the longest n-grams: the index of its last n tokens in
    `keys[n]` (U,), and the index of the first n - 1 of these tokens in `keys[n - 1]` (U,)."""

    n_predicted_QU: Array
    """How often each of the longest n-grams ends in a predicted token of a target."""

    n_bytes_Q: Array
    """Bytes of all right choices, or of all texts, of each target."""

    @classmethod
    def build(cls, targets: Sequence[Sequence[Item]], order: int, vocabulary: int) -> Self:
        """Collect the n-grams of the right choices and of the texts."""
        rows_Q = [np.array(list(_list_predicted(items, order))) for items in targets]
        distinct_UL, index = np.unique(np.concatenate(rows_Q), axis=0, return_inverse=True)
        n_predicted_QU = np.zeros((len(targets), len(distinct_UL)))
        ends = np.cumsum([len(rows) for rows in rows_Q])
        for q, part in enumerate(np.split(index.reshape(-1), ends[:-1])):
            n_predicted_QU[q] = np.bincount(part, minlength=len(distinct_UL))
        whole = [_encode(distinct_UL[:, order - n :], vocabulary) for n in range(order + 1)]
        histories = [_encode(distinct_UL[:, order - n : -1], vocabulary) for n in range(order + 1)]
        keys = [np.zeros(1, dtype=np.int64)]
        for n in range(1, order + 1):
            longer = histories[n + 1] if n < order else whole[n][:0]
            keys.append(np.unique(np.concatenate([whole[n], longer])))
        ngrams = tuple(
            (np.searchsorted(keys[n], whole[n]), np.searchsorted(keys[n - 1], histories[n]))
            for n in range(1, order + 1)
        )
        n_bytes_Q = [sum(item.n_bytes[item.label] for item in items) for items in targets]
        return cls(vocabulary, tuple(keys), ngrams, n_predicted_QU, np.array(n_bytes_Q, float))

    def count(self, ids_N: Ints) -> list[Array]:
        """Return how often each n-gram of `keys` occurs in a text, per token of the text."""
        n_tokens = len(ids_N)
        counts = [np.array([1.0])]
        for n, keys in enumerate(self.keys[1:], start=1):
            if n_tokens < n:
                counts.append(np.zeros(len(keys)))
                continue
            windows = np.lib.stride_tricks.sliding_window_view(ids_N, n)
            found = _encode(windows, self.vocabulary)
            at = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
            total = np.bincount(at[keys[at] == found], minlength=len(keys))
            counts.append(total / n_tokens)
        return counts


def _list_predicted(items: Sequence[Item], order: int) -> Iterator[tuple[int, ...]]:
    """List the n-grams of `order` tokens that end in a token of a right choice, or of a text.

    An n-gram that would begin before the context is padded with the context's first token.
    """
    for item in items:
        for passage in item.passages:
            context = passage.context
            right = passage.continuations[item.label if len(item.n_bytes) > 1 else 0]
            ids = [*[context[0]] * order, *context, *right]
            for i in range(len(ids) - len(right), len(ids)):
                yield tuple(ids[i - order + 1 : i + 1])


def _encode(ids_UL: Ints, vocabulary: int) -> Ints:
    """Return each row of token ids as one number in base `vocabulary`, shape (U,)."""
    key_U = np.zeros(len(ids_UL), dtype=np.int64)
    for column in range(ids_UL.shape[1]):
        key_U = key_U * vocabulary + ids_UL[:, column]
    return key_U


@dataclass(frozen=True, eq=False)
class NGramModel:
    """Measures mixtures with the counts of every domain; a `climb.fidelity.MeasureMixtures`."""

    queries: Queries
    counts: tuple[tuple[Array, Array], ...]
    """For n = 1, 2, ...: two arrays of shape (K, U), in occurrences per token of a domain. Both
    have one column for each of the longest n-grams. The first array has the count of the n-gram
    that consists of the last n tokens of the longest n-gram. The second has the count of the same
    n-gram without its last token."""

    fixed_K: Array
    """Number of tokens of each domain that the base checkpoint has read; equal for all mixtures."""

    n_varied: float
    """`trial_factor` times the tokens of a trial. A mixture distributes this number over the
    domains."""

    strength: float

    @classmethod
    def build(
        cls,
        queries: Queries,
        tables: Sequence[Sequence[Array]],
        natural_K: Array,
        n_tokens: tuple[float, float],
        strength: float,
    ) -> Self:
        """Arrange the counts of each domain by n-gram."""
        by_length = [np.stack([table[n] for table in tables]) for n in range(len(queries.keys))]
        counts = tuple(
            (by_length[n][:, whole_U], by_length[n - 1][:, history_U])
            for n, (whole_U, history_U) in enumerate(queries.ngrams, start=1)
        )
        return cls(queries, counts, n_tokens[0] * natural_K, n_tokens[1], strength)

    def __call__(self, weights_MK: Array) -> Array:
        """Return bits per byte of every target, shape (M, Q)."""
        blocks = [
            self._measure(weights_MK[i : i + _BLOCK]) for i in range(0, len(weights_MK), _BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.queries.n_bytes_Q)))

    def _measure(self, weights_MK: Array) -> Array:
        tokens_MK = self.fixed_K + self.n_varied * weights_MK
        probability_MU = np.full((len(weights_MK), 1), 1.0 / self.queries.vocabulary)
        for whole_KU, history_KU in self.counts:
            shorter_MU = self.strength * probability_MU
            seen_MU, total_MU = tokens_MK @ whole_KU, tokens_MK @ history_KU
            probability_MU = (seen_MU + shorter_MU) / (total_MU + self.strength)
        bits_MQ = -np.log2(probability_MU) @ self.queries.n_predicted_QU.T
        return np.asarray(bits_MQ / self.queries.n_bytes_Q)
