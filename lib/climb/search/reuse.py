"""Mixture reuse: runs of earlier domain sets, mapped to the current domains.

A mixture is a distribution over documents. P(new | old) is the share of an old domain's tokens that
is in a new domain. Old weights w map to `w @ P`, scaled to sum to 1. The result is the mixture of
new domains that is nearest to the run's text in Kullback-Leibler divergence.

The mapping is approximate. Some of the run's text may be in no current domain. And the run read
only those parts of a new domain that were in the old domains. `tv_distance` (total variation
distance) measures this error. It is the share of the run's text that a run of the mapped mixture
would replace by other text.

The earlier runs belong to another corpus than this search: they continued another base checkpoint,
so their metrics may all be higher or lower. Before reuse, this difference is removed (see
`ReusableTrials.align_with`).

    overlap = Overlap.from_clusters(old_tokens, new_tokens)
    mapped = ReusableTrials.from_trials(old, overlap, min_kept=0.5)
    trials = ReusableRuns((mapped,), n_finished=80).add_to(own)

Axes: T runs, J old domains, K new domains, Q metrics, C clusters, B clusters of the old clustering.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.search.trials import NATURAL, REUSED, Trials

Array = NDArray[np.float64]

MAX_NATURAL_DISTANCE = 0.25
"""Earlier runs are reused only if the natural mixtures of their corpus and of the current corpus
have at most this total variation distance. The metrics of the reused runs are shifted by the
difference between the metrics of these two mixtures. The shift should contain only the effect of
the other corpus, so the two mixtures must be similar. A distance of 0.25 causes an error of up to
0.5 standard deviations (see `STD_PER_TV_DISTANCE`)."""

TokenTable = Mapping[tuple[str | None, int | None], float]
"""Tokens by (domain, cluster). Domain None: pruned. Cluster None: documents without a cluster."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """Tokens that old and new domains share; domains are sorted by name."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    shared_JK: Array
    """Tokens in both an old and a new domain."""

    old_J: Array
    """All tokens of each old domain."""

    new_K: Array
    """All tokens of each new domain."""

    @classmethod
    def from_tokens(cls, tokens: Mapping[tuple[str | None, str | None], float]) -> Self:
        """Build from tokens by (old domain, new domain); None: documents in no domain."""
        old = sorted({name for name, _ in tokens if name is not None})
        new = sorted({name for _, name in tokens if name is not None})
        table = np.array(
            [[tokens.get((j, k), 0.0) for k in (*new, None)] for j in (*old, None)], np.float64
        )
        old_J, new_K = table[:-1].sum(axis=1), table[:, :-1].sum(axis=0)
        return cls(tuple(old), tuple(new), table[:-1, :-1], old_J, new_K)

    @classmethod
    def from_clusters(cls, old: TokenTable, new: TokenTable) -> Self:
        """Build from the clusters of old and new domains.

        The overlap is exact if every cluster is in at most one new domain. If a new domain has more
        tokens of a cluster than the old domains had, the difference counts as new text.
        """
        clusters = sorted({c for _, c in [*old, *new] if c is not None})
        names_J, names_K = (
            sorted({name for name, _ in table if name is not None}) for table in (old, new)
        )
        old_JC, new_KC = (
            np.array([[table.get((name, c), 0.0) for c in (*clusters, None)] for name in names])
            for table, names in ((old, names_J), (new, [*names_K, None]))
        )
        # Tokens of documents without a cluster count in their domain, but not as shared tokens,
        # because their overlap is unknown.
        share_KC = _divide(new_KC, new_KC.sum(axis=0))[:-1, :-1]
        shared_JK = np.einsum("jc,kc->jk", old_JC[:, :-1], share_KC)
        new_K = np.maximum(new_KC[:-1].sum(axis=1), shared_JK.sum(axis=0))
        return cls(tuple(names_J), tuple(names_K), shared_JK, old_JC.sum(axis=1), new_K)

    @property
    def share_JK(self) -> Array:
        """P(new | old): the sum of a row is the share of an old domain's tokens in new domains."""
        return _divide(self.shared_JK, self.old_J[:, None])


@dataclass(frozen=True, eq=False)
class MappedMixtures:
    """Mixtures of old domains, mapped to new domains."""

    weights_TK: Array
    """Rows sum to 1; a row of zeros where no text is kept."""

    kept_T: Array
    """Share of each run's text that is in new domains."""

    tv_distance_T: Array
    """Share of each run's text that its mapped mixture would replace; at least 1 - kept."""


def map_mixtures(weights_TJ: Array, overlap: Overlap) -> MappedMixtures:
    """Map mixtures of old domains to new domains.

    Args:
        weights_TJ: mixtures of `overlap.old`, shape (T, J), rows summing to 1.
        overlap: shared tokens of old and new domains.
    """
    share_JK = overlap.share_JK
    # einsum adds in a fixed order; the last bits of a matrix product may depend on the number of
    # rows.
    lost_T = np.einsum("tj,j->t", weights_TJ, np.maximum(1.0 - share_JK.sum(axis=1), 0.0))
    kept_T = np.clip(1.0 - lost_T, 0.0, 1.0)
    read_TJK = weights_TJ[:, :, None] * share_JK
    weights_TK = _divide(read_TJK.sum(axis=1), kept_T[:, None])
    mapped_TJK = weights_TK[:, None, :] * _divide(overlap.shared_JK, overlap.new_K)
    tv_distance_T = 1.0 - kept_T + np.maximum(read_TJK - mapped_TJK, 0.0).sum(axis=(1, 2))
    return MappedMixtures(weights_TK, kept_T, np.minimum(tv_distance_T, 1.0))


def regroup(tokens: TokenTable, moved_BC: Array) -> dict[tuple[str | None, int | None], float]:
    """Convert a table of tokens by (domain, old cluster) to a table by (domain, new cluster).

    The tokens of an old cluster are distributed over new clusters in the same proportions for every
    domain.

    Args:
        tokens: tokens by (domain, old cluster).
        moved_BC: tokens by old and new cluster, shape (B, C); the last column has the tokens of
            documents without a new cluster.
    """
    names = sorted({name or "" for name, _ in tokens})
    n_old = len(moved_BC)
    old_JB = np.zeros((len(names), n_old + 1))
    for (name, cluster), n in tokens.items():
        exists = cluster is not None and cluster < n_old
        old_JB[names.index(name or ""), cluster if exists else n_old] += n
    # Tokens of old clusters without a row in `moved_BC` count as tokens without a new cluster.
    none_C = np.eye(moved_BC.shape[1])[-1]
    share_BC = np.vstack([_divide(moved_BC, moved_BC.sum(axis=1, keepdims=True)), none_C])
    share_BC[:-1][moved_BC.sum(axis=1) <= 0.0] = none_C
    new_JC = np.einsum("jb,bc->jc", old_JB, share_BC)
    last = new_JC.shape[1] - 1
    return {
        (names[j] or None, int(c) if c < last else None): float(new_JC[j, c])
        for j, c in np.argwhere(new_JC > 0.0)
    }


@dataclass(frozen=True, eq=False)
class ReusableTrials:
    """The reusable runs on one earlier domain set, mapped to the current domains."""

    trials: Trials
    """With their original methods and rounds."""

    kept_T: Array
    """Share of each run's text that is in current domains."""

    @classmethod
    def from_trials(cls, trials: Trials, overlap: Overlap, min_kept: float) -> Self:
        """Map trials of `overlap.old` to the new domains.

        Runs that keep less than the share `min_kept` of their text are dropped.
        """
        assert trials.domains == overlap.old, "trials and overlap have different old domains"
        mapped = map_mixtures(trials.weights_TK, overlap)
        moved = dataclasses.replace(
            trials,
            domains=overlap.new,
            weights_TK=mapped.weights_TK,
            tv_distance_T=mapped.tv_distance_T,
        )
        keep_T = mapped.kept_T >= min_kept
        return cls(moved.select(keep_T), mapped.kept_T[keep_T])

    def align_with(self, own: Trials) -> Trials | None:
        """Return these runs in a form that can be added to `own`, the trials of this search.

        Only the metrics that `own` has are kept. All runs get the method `reused` and the round -1.

        These runs belong to another corpus and continued another base checkpoint, so their metrics
        may all be higher or lower. So each metric is shifted by its value for the natural mixture
        of `own`, minus its value for the natural mixture of these runs. The result is None if `own`
        or these runs have no trial of the natural mixture, if the distance between the two natural
        mixtures is above `MAX_NATURAL_DISTANCE`, or if these runs lack a metric.
        """
        here, there = own.with_method(NATURAL), self.trials.with_method(NATURAL)
        if len(here) and len(there):
            moved_TK = np.abs(there.weights_TK - here.weights_TK.mean(axis=0))
            there = there.select(0.5 * moved_TK.sum(axis=1) <= MAX_NATURAL_DISTANCE)
        if not (len(here) and len(there) and set(own.metric_names) <= {*self.trials.metric_names}):
            return None
        columns_Q = [self.trials.metric_names.index(name) for name in own.metric_names]
        shift_Q = here.metrics_TQ.mean(axis=0) - there.metrics_TQ[:, columns_Q].mean(axis=0)
        n = len(self.trials)
        return dataclasses.replace(
            self.trials.replace_metrics(
                own.metric_names, self.trials.metrics_TQ[:, columns_Q] + shift_Q
            ),
            methods_T=(REUSED,) * n,
            rounds_T=np.full(n, -1),
        )


@dataclass(frozen=True)
class ReuseSummary:
    """How many runs a search reuses. Without reused runs, the shares are None."""

    n_reused: int
    n_dropped: int
    """Finished runs that are not reused."""

    kept_mean: float | None
    """Mean share of a run's text that is in current domains."""

    kept_min: float | None
    tv_distance_mean: float | None
    """Mean share of a run's text that its mapped mixture would replace."""


@dataclass(frozen=True, eq=False)
class ReusableRuns:
    """All finished runs of the same training setup on earlier domains."""

    by_domain_set: tuple[ReusableTrials, ...] = ()
    n_finished: int = 0
    """Finished runs, reusable or not."""

    def add_to(self, own: Trials) -> Trials:
        """Return the search's own trials and the reused ones."""
        aligned = [
            trials for one in self.by_domain_set if (trials := one.align_with(own)) is not None
        ]
        return own.concatenate(aligned) if aligned else own

    def __str__(self) -> str:
        """Return one line for the run log."""
        kept_T = np.concatenate([np.empty(0), *(one.kept_T for one in self.by_domain_set)])
        line = f"{self.n_finished} finished runs of earlier domains, {len(kept_T)} reusable"
        return f"{line} ({kept_T.mean():.1%} of their text kept)" if len(kept_T) else line

    def summarize(self, own: Trials) -> ReuseSummary:
        """Count reused and dropped runs."""
        used = [x for x in self.by_domain_set if len(x.trials) and x.align_with(own) is not None]
        kept_T = np.concatenate([one.kept_T for one in used]) if used else np.empty(0)
        tv_distance_T = (
            np.concatenate([one.trials.tv_distance_T for one in used]) if used else np.empty(0)
        )
        return ReuseSummary(
            n_reused=len(kept_T),
            n_dropped=self.n_finished - len(kept_T),
            kept_mean=float(kept_T.mean()) if used else None,
            kept_min=float(kept_T.min()) if used else None,
            tv_distance_mean=float(tv_distance_T.mean()) if used else None,
        )


def _divide(part: Array, whole: Array) -> Array:
    """Divide elementwise; 0 where `whole` is 0."""
    positive = np.broadcast_to(whole, part.shape) > 0.0
    return np.divide(part, whole, out=np.zeros_like(part), where=positive)
