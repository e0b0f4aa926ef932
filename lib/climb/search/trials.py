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


@dataclass(frozen=True, eq=False)
class Trials:
    """Finished trials. Failed ones never get here."""

    domains: tuple[str, ...]
    weights_TK: Array
    metric_names: tuple[str, ...]
    metrics_TQ: Array
    rounds_T: NDArray[np.int64]
    methods_T: tuple[str, ...]
    """proposal, natural, uniform, or found: the answer, trained after it was fixed."""

    seeds_T: NDArray[np.int64]

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        domains: Sequence[str],
        metric_names: Sequence[str],
    ) -> Self:
        """Take rows with the keys round, method, seed, weights and metrics (both by name).

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
        )

    def __len__(self) -> int:
        return len(self.methods_T)

    def where(self, keep_T: ArrayLike) -> Trials:
        """The trials that a mask keeps."""
        keep = np.flatnonzero(np.asarray(keep_T, dtype=np.bool_))
        return Trials(
            self.domains,
            self.weights_TK[keep],
            self.metric_names,
            self.metrics_TQ[keep],
            self.rounds_T[keep],
            tuple(self.methods_T[t] for t in keep),
            self.seeds_T[keep],
        )

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
        weights_TK = self.weights_TK[:, order_K]
        keys = (*self.metrics_TQ.T[::-1], *weights_TK.T[::-1], self.seeds_T, self.methods_T)
        rows = np.lexsort((*keys, self.rounds_T))
        return Trials(
            domains,
            weights_TK[rows],
            self.metric_names,
            self.metrics_TQ[rows],
            self.rounds_T[rows],
            tuple(self.methods_T[t] for t in rows),
            self.seeds_T[rows],
        )

    def with_metrics(self, names: Sequence[str], metrics_TQ: Array) -> Trials:
        """The same trials measured by something else."""
        return dataclasses.replace(self, metric_names=tuple(names), metrics_TQ=metrics_TQ)

    def repeats(self) -> Repeats:
        """Trials of one mixture taken together."""
        _, first_D, index_T, counts_D = np.unique(
            np.round(self.weights_TK, _SAME),
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
        return Repeats(self.weights_TK[first_D], means_DQ, counts_D, noise_Q)


@dataclass(frozen=True, eq=False)
class Repeats:
    """Distinct mixtures with the mean of their repeats, and the noise that the repeats show."""

    weights_DK: Array
    means_DQ: Array
    counts_D: NDArray[np.int64]
    noise_Q: Array
    """Standard deviation over seeds, pooled over all mixtures with repeats; NaN without repeats."""

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
