"""What a search knows: finished trials, in one order whatever order they came in.

Axes: T trials, K domains, Q metrics, D distinct mixtures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import MixtureError, SearchError
from climb.mixture import weights_array

Array = NDArray[np.float64]

_SAME = 9
"""Decimals to which two mixtures must agree to be one: what a table or a CSV file keeps."""

_ROUNDING = 1e-12
"""Of a metric's size: what is less is no noise."""

_PER_DOUBT = 2.0
"""Spreads of a metric over mixtures that a run lies off, per share of its text that is in doubt.
Random mixtures lie 1.6 apart per share of text that they do not have in common, carried runs lay
1.3 to 2.3 off (DECISIONS.md)."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Finished trials. Failed ones never get here."""

    domains: tuple[str, ...]
    weights_TK: Array
    metric_names: tuple[str, ...]
    metrics_TQ: Array
    rounds_T: NDArray[np.int64]
    methods_T: tuple[str, ...]
    """proposal, natural, uniform, found: the answer, trained after it was fixed, or carried: run in
    other domains, its mixture said in these."""

    seeds_T: NDArray[np.int64]
    doubt_T: Array
    """Share of what a carried trial read that its mixture here would not have; 0 for own ones."""

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        domains: Sequence[str],
        metric_names: Sequence[str],
    ) -> Self:
        """Take rows with the keys round, method, seed, weights and metrics (both by name).

        These are runs in these very domains: nothing about them is in doubt.

        Rows are sorted by round, method, seed and weights, so their order changes nothing.

        Raises:
            SearchError: a row weighs an unknown domain, or lacks a metric, or has one that is not
                finite.
        """
        taken = [_taken(row, domains, metric_names) for row in rows]
        taken.sort(key=lambda trial: (trial[0], trial[1], trial[2], *trial[3], *trial[4]))
        rounds, methods, seeds, weights, metrics = zip(*taken, strict=True) if taken else [()] * 5
        return cls(
            tuple(domains),
            np.array(weights, dtype=np.float64).reshape(len(taken), len(domains)),
            tuple(metric_names),
            np.array(metrics, dtype=np.float64).reshape(len(taken), len(metric_names)),
            np.array(rounds, dtype=np.int64),
            tuple(methods),
            np.array(seeds, dtype=np.int64),
            np.zeros(len(taken)),
        )

    def __len__(self) -> int:
        return len(self.methods_T)

    def where(self, keep_T: ArrayLike) -> Trials:
        """The trials that a mask keeps."""
        return self._rows(np.flatnonzero(np.asarray(keep_T, dtype=np.bool_)))

    def before(self, round_: int) -> Trials:
        """The trials of earlier rounds: all that a round's proposals may depend on."""
        return self.where(self.rounds_T < round_)

    def of(self, method: str) -> Trials:
        """The trials of one method."""
        return self.where([name == method for name in self.methods_T])

    def unanswered(self) -> Trials:
        """All but those of the answer: it must not change when it is measured."""
        return self.where([name != "found" for name in self.methods_T])

    def reordered(self, order_K: NDArray[np.int64]) -> Trials:
        """The same trials with their domains in another order, sorted anew."""
        domains = tuple(self.domains[k] for k in order_K)
        turned = dataclasses.replace(self, domains=domains, weights_TK=self.weights_TK[:, order_K])
        return turned._sorted()

    def joined(self, others: Sequence[Trials]) -> Trials:
        """These trials and others of the same domains and metrics, sorted anew."""
        every = [self, *others]
        assert {(t.domains, t.metric_names) for t in every} == {(self.domains, self.metric_names)}
        return Trials(
            self.domains,
            np.concatenate([t.weights_TK for t in every]),
            self.metric_names,
            np.concatenate([t.metrics_TQ for t in every]),
            np.concatenate([t.rounds_T for t in every]),
            tuple(method for t in every for method in t.methods_T),
            np.concatenate([t.seeds_T for t in every]),
            np.concatenate([t.doubt_T for t in every]),
        )._sorted()

    def with_metrics(self, names: Sequence[str], metrics_TQ: Array) -> Trials:
        """The same trials measured by something else."""
        return dataclasses.replace(self, metric_names=tuple(names), metrics_TQ=metrics_TQ)

    def repeats(self) -> Repeats:
        """Trials of one mixture taken together, those that are in doubt apart from those not."""
        _, first_D, index_T, counts_D = np.unique(
            np.round(np.column_stack([self.weights_TK, self.doubt_T]), _SAME),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        sums_DQ = np.zeros((len(first_D), len(self.metric_names)))
        np.add.at(sums_DQ, index_T.reshape(-1), self.metrics_TQ)
        means_DQ = sums_DQ / counts_D[:, None]
        apart_TQ = self.metrics_TQ - means_DQ[index_T.reshape(-1)]
        freedom = len(self) - len(first_D)
        noise_Q = np.full(len(self.metric_names), np.nan)
        if freedom:
            noise_Q = np.sqrt(np.square(apart_TQ).sum(axis=0) / freedom)
            # Seeds that agree to the last digit differ from their mean by rounding.
            noise_Q[noise_Q <= _ROUNDING * np.abs(means_DQ).max(axis=0)] = 0.0
        doubt_D = self.doubt_T[first_D]
        return Repeats(self.weights_TK[first_D], means_DQ, counts_D, noise_Q, doubt_D)

    def _rows(self, rows: NDArray[np.int64]) -> Trials:
        return Trials(
            self.domains,
            self.weights_TK[rows],
            self.metric_names,
            self.metrics_TQ[rows],
            self.rounds_T[rows],
            tuple(self.methods_T[t] for t in rows),
            self.seeds_T[rows],
            self.doubt_T[rows],
        )

    def _sorted(self) -> Trials:
        """By round, method, seed, weights and metrics."""
        keys = (*self.metrics_TQ.T[::-1], *self.weights_TK.T[::-1], self.seeds_T, self.methods_T)
        return self._rows(np.lexsort((self.doubt_T, *keys, self.rounds_T)))


@dataclass(frozen=True, eq=False)
class Repeats:
    """Distinct mixtures with the mean of their repeats, and the noise that the repeats show."""

    weights_DK: Array
    means_DQ: Array
    counts_D: NDArray[np.int64]
    noise_Q: Array
    """Standard deviation over seeds, pooled over all mixtures with repeats; NaN without repeats."""

    doubt_D: Array
    """See `Trials.doubt_T`."""

    @property
    def noise_DQ(self) -> Array:
        """Standard deviation of each mean: over seeds (0 where unknown), and by its doubt."""
        seeds_DQ = np.nan_to_num(self.noise_Q, nan=0.0) / np.sqrt(self.counts_D)[:, None]
        spread_Q = np.std(self.means_DQ, axis=0)
        noise_DQ: Array = np.hypot(seeds_DQ, _PER_DOUBT * self.doubt_D[:, None] * spread_Q)
        return noise_DQ

    def columns(self, used: Sequence[int]) -> Repeats:
        """Some metrics only."""
        index = list(used)
        means_DQ, noise_Q = self.means_DQ[:, index], self.noise_Q[index]
        return dataclasses.replace(self, means_DQ=means_DQ, noise_Q=noise_Q)


def _taken(
    row: Mapping[str, Any], domains: Sequence[str], metric_names: Sequence[str]
) -> tuple[int, str, int, tuple[float, ...], tuple[float, ...]]:
    where = f"trial of round {row['round']}, method {row['method']}, seed {row['seed']}"
    try:
        weights_K = weights_array(domains, row["weights"])
    except MixtureError as error:
        raise SearchError(f"{where}: {error}") from error
    metrics = []
    for name in metric_names:
        value = row["metrics"].get(name)
        if value is None or not np.isfinite(value):
            raise SearchError(
                f"{where}: metric {name!r} is {value}; a finished trial has a finite value "
                f"(its metrics: {', '.join(sorted(row['metrics']))})"
            )
        metrics.append(float(value))
    whole = (int(row["round"]), str(row["method"]), int(row["seed"]))
    return (*whole, tuple(weights_K.tolist()), tuple(metrics))
