"""Finished trials as arrays, in an order that does not depend on the order of the input rows.

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
from climb.mixture import SAME_DECIMALS, weights_to_array

Array = NDArray[np.float64]

RECOMMENDED, PROPOSAL, REUSED = "recommended", "proposal", "reused"
"""Methods of trials whose mixture is not a baseline: replicates of the recommendation, proposals of
the search, and runs of earlier domains or of other CSV files."""

NATURAL = "natural"
"""Name of the baseline with the token shares of the corpus. The metrics of trials that are reused
from another corpus are shifted. The shift is the difference between the metrics of this baseline in
this search and those of the same baseline on the other corpus."""

_ROUNDING = 1e-12
"""Noise below this share of a metric's size is rounding and counts as 0."""

STD_PER_TV_DISTANCE = 2.0
"""Error of a reused run per unit of `tv_distance`, in standard deviations of the metric over
mixtures. Measured: 1.3 to 2.3 for reused runs, 1.6 for two random mixtures (see "Noise of reused
runs" in benchmarks/measurements.md)."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Finished trials; failed ones are excluded."""

    domains: tuple[str, ...]
    weights_TK: Array
    metric_names: tuple[str, ...]
    metrics_TQ: Array
    rounds_T: NDArray[np.int64]
    methods_T: tuple[str, ...]
    """`proposal`; the name of a baseline; `recommended`, trained after the search; or `reused`, a
    run of earlier domains or of another CSV file, mapped to the current domains."""

    seeds_T: NDArray[np.int64]
    tv_distance_T: Array
    """Share of a reused run's text that a run of its mapped mixture would replace; 0 for own runs.
    The noise of borrowed sets and the conversion errors of stopped trials are errors in standard
    deviations. They are divided by `STD_PER_TV_DISTANCE` and included in this field."""

    tokens_T: Array | None = None
    """Tokens that each run read, if `climb.search.repetition` needs them; NaN: unknown. Runs of one
    mixture are then replicates only if their tokens are equal."""

    scale_distance_T: Array | None = None
    """Error of converting each run's metrics from its own model size and tokens to those of the
    predictions, in the unit of `tv_distance_T`; None: all runs have one scale. Runs of one mixture
    are replicates only if this error is equal."""

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        domains: Sequence[str],
        metric_names: Sequence[str],
    ) -> Self:
        """Read rows with the keys round, method, seed, weights (by name) and metrics (by name).

        The runs were trained on these domains, so their `tv_distance_T` is 0. Rows are sorted by
        round, method, seed, weights and metrics.

        Raises:
            SearchError: a row has weights that are invalid or name an unknown domain, or lacks a
                metric, or has a metric that is not finite.
        """
        parsed = [_parse_row(row, domains, metric_names) for row in rows]
        parsed.sort(key=lambda trial: (trial[0], trial[1], trial[2], *trial[3], *trial[4]))
        rounds, methods, seeds, weights, metrics = zip(*parsed, strict=True) if parsed else [()] * 5
        return cls(
            tuple(domains),
            np.array(weights, dtype=np.float64).reshape(len(parsed), len(domains)),
            tuple(metric_names),
            np.array(metrics, dtype=np.float64).reshape(len(parsed), len(metric_names)),
            np.array(rounds, dtype=np.int64),
            tuple(methods),
            np.array(seeds, dtype=np.int64),
            np.zeros(len(parsed)),
        )

    def __len__(self) -> int:
        return len(self.methods_T)

    def select(self, mask_T: ArrayLike) -> Trials:
        """Return the trials for which the mask is true."""
        return self._take_rows(np.flatnonzero(np.asarray(mask_T, dtype=np.bool_)))

    def select_before(self, round_: int) -> Trials:
        """Return the trials of earlier rounds; a round's proposals depend on no other trials."""
        return self.select(self.rounds_T < round_)

    def with_method(self, method: str) -> Trials:
        """Return the trials of one method."""
        return self.select([name == method for name in self.methods_T])

    def without_recommended(self) -> Trials:
        """Return the trials that determine the recommendation: all except its own replicates."""
        return self.select([name != RECOMMENDED for name in self.methods_T])

    def reorder_domains(self, order_K: NDArray[np.int64]) -> Trials:
        """Return the same trials with their domains in another order.

        The trials are sorted again, because their order depends on the order of the domains.
        """
        domains = tuple(self.domains[k] for k in order_K)
        weights_TK = self.weights_TK[:, order_K]
        return dataclasses.replace(self, domains=domains, weights_TK=weights_TK)._sort()

    def concatenate(self, others: Sequence[Trials]) -> Trials:
        """Return these trials and others of the same domains and metrics, sorted again."""
        tables = [self, *others]
        assert {(t.domains, t.metric_names) for t in tables} == {(self.domains, self.metric_names)}
        tokens = [t.list_tokens() for t in tables]
        has_scales = any(t.scale_distance_T is not None for t in tables)
        return Trials(
            self.domains,
            np.concatenate([t.weights_TK for t in tables]),
            self.metric_names,
            np.concatenate([t.metrics_TQ for t in tables]),
            np.concatenate([t.rounds_T for t in tables]),
            tuple(method for t in tables for method in t.methods_T),
            np.concatenate([t.seeds_T for t in tables]),
            np.concatenate([t.tv_distance_T for t in tables]),
            None if self.tokens_T is None else np.concatenate(tokens),
            np.concatenate([t.list_scale_distances() for t in tables]) if has_scales else None,
        )._sort()

    def list_tokens(self) -> Array:
        """Return the tokens that each run read, shape (T,); NaN where they are unknown."""
        return np.full(len(self), np.nan) if self.tokens_T is None else self.tokens_T

    def list_scale_distances(self) -> Array:
        """Return the distance of each run's scale from that of the predictions, shape (T,)."""
        return np.zeros(len(self)) if self.scale_distance_T is None else self.scale_distance_T

    def replace_metrics(self, names: Sequence[str], metrics_TQ: Array) -> Trials:
        """Return the same trials with other metrics, shape (T, Q)."""
        return dataclasses.replace(self, metric_names=tuple(names), metrics_TQ=metrics_TQ)

    def group_replicates(self) -> Replicates:
        """Average the trials of each mixture; own runs and reused runs are averaged separately."""
        keys = [self.weights_TK, self.tv_distance_T]
        if self.scale_distance_T is not None:
            keys.append(self.scale_distance_T)
        if self.tokens_T is not None:
            keys.append(np.nan_to_num(np.log(self.tokens_T)))
        _, first_D, index_T, counts_D = np.unique(
            np.round(np.column_stack(keys), SAME_DECIMALS),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        sums_DQ = np.zeros((len(first_D), len(self.metric_names)))
        np.add.at(sums_DQ, index_T.reshape(-1), self.metrics_TQ)
        means_DQ = sums_DQ / counts_D[:, None]
        residuals_TQ = self.metrics_TQ - means_DQ[index_T.reshape(-1)]
        degrees_of_freedom = len(self) - len(first_D)
        noise_Q = np.full(len(self.metric_names), np.nan)
        squares_DQ = np.zeros_like(means_DQ)
        np.add.at(squares_DQ, index_T.reshape(-1), np.square(residuals_TQ))
        if degrees_of_freedom:
            noise_Q = np.sqrt(squares_DQ.sum(axis=0) / degrees_of_freedom)
            # Equal replicates may differ from their mean by rounding, which is not noise.
            noise_Q[noise_Q <= _ROUNDING * np.abs(means_DQ).max(axis=0)] = 0.0
        return Replicates(
            self.weights_TK[first_D],
            means_DQ,
            counts_D,
            noise_Q,
            self.tv_distance_T[first_D],
            squares_DQ,
            self.list_tokens()[first_D],
            self.list_scale_distances()[first_D],
        )

    def _take_rows(self, rows: NDArray[np.int64]) -> Trials:
        return Trials(
            self.domains,
            self.weights_TK[rows],
            self.metric_names,
            self.metrics_TQ[rows],
            self.rounds_T[rows],
            tuple(self.methods_T[t] for t in rows),
            self.seeds_T[rows],
            self.tv_distance_T[rows],
            None if self.tokens_T is None else self.tokens_T[rows],
            None if self.scale_distance_T is None else self.scale_distance_T[rows],
        )

    def _sort(self) -> Trials:
        """Sort by round, method, seed, weights, metrics, `tv_distance_T`, scale and tokens."""
        keys = (*self.metrics_TQ.T[::-1], *self.weights_TK.T[::-1], self.seeds_T, self.methods_T)
        tokens_T = np.nan_to_num(self.list_tokens())
        last = (tokens_T, self.list_scale_distances(), self.tv_distance_T)
        return self._take_rows(np.lexsort((*last, *keys, self.rounds_T)))


@dataclass(frozen=True, eq=False)
class Replicates:
    """Distinct mixtures with the mean of their replicates, and the observation noise."""

    weights_DK: Array
    means_DQ: Array
    counts_D: NDArray[np.int64]
    noise_Q: Array
    """Standard deviation over seeds, pooled over all mixtures with replicates; NaN without any."""

    tv_distance_D: Array
    """See `Trials.tv_distance_T`."""

    squares_DQ: Array
    """For each mixture, the sum of squared differences between its replicates and their mean."""

    tokens_D: Array
    """Tokens that the runs read; NaN where they are unknown."""

    scale_distance_D: Array
    """See `Trials.scale_distance_T`."""

    @property
    def known_noise_Q(self) -> Array:
        """Standard deviation over seeds; 0 without any replicates."""
        return np.nan_to_num(self.noise_Q, nan=0.0)

    @property
    def noise_DQ(self) -> Array:
        """Standard deviation of the error of each mean.

        The error has three causes: seeds (0 if unknown), reuse, and another scale.
        """
        seeds_DQ = self.known_noise_Q / np.sqrt(self.counts_D)[:, None]
        std_Q = np.std(self.means_DQ, axis=0)
        distance_D = np.hypot(self.tv_distance_D, self.scale_distance_D)
        noise_DQ: Array = np.hypot(seeds_DQ, STD_PER_TV_DISTANCE * distance_D[:, None] * std_Q)
        return noise_DQ

    @property
    def n_mixtures(self) -> int:
        """Number of distinct mixtures; a mixture with own and reused runs counts once."""
        return len(np.unique(np.round(self.weights_DK, SAME_DECIMALS), axis=0))

    def select(self, mask_D: NDArray[np.bool_]) -> Replicates:
        """Return the mixtures for which the mask is true; `noise_Q` is not changed."""
        return Replicates(
            self.weights_DK[mask_D],
            self.means_DQ[mask_D],
            self.counts_D[mask_D],
            self.noise_Q,
            self.tv_distance_D[mask_D],
            self.squares_DQ[mask_D],
            self.tokens_D[mask_D],
            self.scale_distance_D[mask_D],
        )

    def select_metrics(self, indices: Sequence[int]) -> Replicates:
        """Return the same mixtures with some of the metrics, in the order of the indices."""
        index = list(indices)
        means_DQ, noise_Q = self.means_DQ[:, index], self.noise_Q[index]
        squares_DQ = self.squares_DQ[:, index]
        return dataclasses.replace(self, means_DQ=means_DQ, noise_Q=noise_Q, squares_DQ=squares_DQ)


def _parse_row(
    row: Mapping[str, Any], domains: Sequence[str], metric_names: Sequence[str]
) -> tuple[int, str, int, tuple[float, ...], tuple[float, ...]]:
    where = f"trial of round {row['round']}, method {row['method']}, seed {row['seed']}"
    try:
        weights_K = weights_to_array(domains, row["weights"])
    except MixtureError as error:
        raise SearchError(f"{where}: {error}") from error
    metrics = []
    for name in metric_names:
        value = row["metrics"].get(name)
        if value is None or not np.isfinite(value):
            raise SearchError(
                f"{where}: metric {name!r} is {value}; a finished trial must have a finite value "
                f"of every metric (metrics found: {', '.join(sorted(row['metrics']))})"
            )
        metrics.append(float(value))
    key = (int(row["round"]), str(row["method"]), int(row["seed"]))
    return (*key, tuple(weights_K.tolist()), tuple(metrics))
