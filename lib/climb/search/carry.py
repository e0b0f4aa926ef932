"""Runs that were trained in other domains, said in the present ones.

Whatever the domains are, a mixture is a distribution over documents. With the overlap of old and
new domains in tokens, P(new | old), its weights become `w @ P`: of all mixtures of the new domains
the one nearest to what the run read (in Kullback-Leibler divergence). It is not the same thing:
some of what the run read may be in no domain any more, and of a new domain it read the parts that
its old domains had, not the domain as it is. `doubt` is the share of the run's text that would have
to be exchanged to make it a run of its new mixture (their total variation distance).

    past = Past((Earlier.of(trials, Overlap.through(cells_then, cells_now), least=0.5),), n=80)
    trials = past.joined(own)

Axes: T runs, J old domains, K new domains, Q metrics, C clusters, B clusters before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from climb.search.trials import Trials

Array = NDArray[np.float64]

Cells = Mapping[tuple[str | None, int | None], float]
"""Tokens by (domain, cluster). Domain None: pruned. Cluster None: documents without a cluster."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """What old domains and new ones have in common, both in the order of their names."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    shared_JK: Array
    """Tokens that an old and a new domain share."""

    old_J: Array
    """Tokens of each old domain, in a new one or not."""

    new_K: Array
    """Tokens of each new domain, of an old one or not."""

    @classmethod
    def of(cls, tokens: Mapping[tuple[str | None, str | None], float]) -> Self:
        """From tokens by (old domain, new domain); None stands for documents that are in none."""
        old = sorted({name for name, _ in tokens if name is not None})
        new = sorted({name for _, name in tokens if name is not None})
        table = np.array(
            [[tokens.get((j, k), 0.0) for k in (*new, None)] for j in (*old, None)], np.float64
        )
        old_J, new_K = table[:-1].sum(axis=1), table[:, :-1].sum(axis=0)
        return cls(tuple(old), tuple(new), table[:-1, :-1], old_J, new_K)

    @classmethod
    def through(cls, old: Cells, new: Cells) -> Self:
        """From the clusters that both kinds of domains are made of.

        Exact where a cluster is in one new domain at most. What a new domain holds of a cluster
        beyond its old tokens came later, and was in no old domain.
        """
        clusters = sorted({c for _, c in [*old, *new] if c is not None})
        names_J, names_K = (
            sorted({name for name, _ in cells if name is not None}) for cells in (old, new)
        )
        old_JC, new_KC = (
            np.array([[cells.get((name, c), 0.0) for c in (*clusters, None)] for name in names])
            for cells, names in ((old, names_J), (new, [*names_K, None]))
        )
        # Documents without a cluster are known by their number alone, so they are shared by none.
        part_KC = _parts(new_KC, new_KC.sum(axis=0))[:-1, :-1]
        shared_JK = np.einsum("jc,kc->jk", old_JC[:, :-1], part_KC)
        new_K = np.maximum(new_KC[:-1].sum(axis=1), shared_JK.sum(axis=0))
        return cls(tuple(names_J), tuple(names_K), shared_JK, old_JC.sum(axis=1), new_K)

    @property
    def share_JK(self) -> Array:
        """P(new | old): a row sums to the share of the old domain that is in some new one."""
        return _parts(self.shared_JK, self.old_J[:, None])


@dataclass(frozen=True, eq=False)
class Carried:
    """Old mixtures in new domains."""

    weights_TK: Array
    """Rows sum to 1; zeros where nothing is kept."""

    kept_T: Array
    """Share of what each run read that is in some new domain."""

    doubt_T: Array
    """Share of what each run read that its new mixture would not have; 1 - kept at least."""


def carried(weights_TJ: Array, overlap: Overlap) -> Carried:
    """Say old mixtures in new domains.

    Args:
        weights_TJ: mixtures of `overlap.old`, rows summing to 1.
        overlap: what the domains have in common.
    """
    share_JK = overlap.share_JK
    # einsum adds in one order; a matrix product's last bits may depend on the number of rows.
    lost_T = np.einsum("tj,j->t", weights_TJ, np.maximum(1.0 - share_JK.sum(axis=1), 0.0))
    kept_T = np.clip(1.0 - lost_T, 0.0, 1.0)
    read_TJK = weights_TJ[:, :, None] * share_JK
    weights_TK = _parts(read_TJK.sum(axis=1), kept_T[:, None])
    would_TJK = weights_TK[:, None, :] * _parts(overlap.shared_JK, overlap.new_K)
    doubt_T = 1.0 - kept_T + np.maximum(read_TJK - would_TJK, 0.0).sum(axis=(1, 2))
    return Carried(weights_TK, kept_T, np.minimum(doubt_T, 1.0))


def regrouped(cells: Cells, moved_BC: Array) -> dict[tuple[str | None, int | None], float]:
    """Say in the clusters of another clustering where domains' tokens lie.

    A cluster's tokens are taken to go where its tokens went, whichever domain has them.

    Args:
        cells: tokens by (domain, cluster before).
        moved_BC: tokens by cluster before and cluster after; the last column is of documents that
            have no cluster now.
    """
    names = sorted({name or "" for name, _ in cells})
    n_before = len(moved_BC)
    held_JB = np.zeros((len(names), n_before + 1))
    for (name, cluster), n in cells.items():
        known = cluster is not None and cluster < n_before
        held_JB[names.index(name or ""), cluster if known else n_before] += n
    # Tokens that no row of the other clustering accounts for are in none of its clusters.
    gone_C = np.eye(moved_BC.shape[1])[-1]
    part_BC = np.vstack([_parts(moved_BC, moved_BC.sum(axis=1, keepdims=True)), gone_C])
    part_BC[:-1][moved_BC.sum(axis=1) <= 0.0] = gone_C
    now_JC = np.einsum("jb,bc->jc", held_JB, part_BC)
    last = now_JC.shape[1] - 1
    return {
        (names[j] or None, int(c) if c < last else None): float(now_JC[j, c])
        for j, c in np.argwhere(now_JC > 0.0)
    }


@dataclass(frozen=True, eq=False)
class Earlier:
    """The runs of one earlier corpus whose text is still there, in the present domains."""

    trials: Trials
    """With the methods and rounds that they had."""

    kept_T: Array
    """Share of what each run read that is in some present domain."""

    @classmethod
    def of(cls, trials: Trials, overlap: Overlap, least: float) -> Self:
        """Say trials in the new domains, and leave out those that keep less than `least`."""
        assert trials.domains == overlap.old, "trials in the domains that the overlap knows"
        said = carried(trials.weights_TK, overlap)
        moved = dataclasses.replace(
            trials, domains=overlap.new, weights_TK=said.weights_TK, doubt_T=said.doubt_T
        )
        keep_T = said.kept_T >= least
        return cls(moved.where(keep_T), said.kept_T[keep_T])

    def beside(self, own: Trials) -> Trials | None:
        """These runs as part of what a search knows: of method `carried` and a round before all.

        Another corpus has another base, so its metrics have another level: they are moved by what
        natural proportions gained or lost. None where one of the two lacks natural proportions, or
        a metric.
        """
        here, there = own.of("natural"), self.trials.of("natural")
        if not (len(here) and len(there) and set(own.metric_names) <= {*self.trials.metric_names}):
            return None
        columns_Q = [self.trials.metric_names.index(name) for name in own.metric_names]
        level_Q = here.metrics_TQ.mean(axis=0) - there.metrics_TQ[:, columns_Q].mean(axis=0)
        n = len(self.trials)
        return dataclasses.replace(
            self.trials.with_metrics(
                own.metric_names, self.trials.metrics_TQ[:, columns_Q] + level_Q
            ),
            methods_T=("carried",) * n,
            rounds_T=np.full(n, -1),
        )


@dataclass(frozen=True, eq=False)
class Past:
    """All that was trained in other domains with the same recipe."""

    earlier: tuple[Earlier, ...] = ()
    n: int = 0
    """Finished runs, carried or not."""

    def joined(self, own: Trials) -> Trials:
        """What a search knows: its own trials, and the carried ones."""
        found = [trials for one in self.earlier if (trials := one.beside(own)) is not None]
        return own.joined(found) if found else own

    def __str__(self) -> str:
        """One line for whoever watches a search."""
        kept_T = np.concatenate([np.empty(0), *(one.kept_T for one in self.earlier)])
        line = f"{self.n} runs of earlier domains known, {len(kept_T)} carried"
        return f"{line}: {kept_T.mean():.1%} of their text kept" if len(kept_T) else line

    def summary(self, own: Trials) -> dict[str, Any]:
        """How many runs are carried, how much of their text is kept, and how many are not."""
        used = [one for one in self.earlier if len(one.trials) and one.beside(own) is not None]
        kept_T = np.concatenate([one.kept_T for one in used]) if used else np.empty(0)
        doubt_T = np.concatenate([one.trials.doubt_T for one in used]) if used else np.empty(0)
        return {
            "n": len(kept_T),
            "dropped": self.n - len(kept_T),
            "kept_mean": float(kept_T.mean()) if used else None,
            "kept_min": float(kept_T.min()) if used else None,
            "doubt_mean": float(doubt_T.mean()) if used else None,
        }


def _parts(some: Array, whole: Array) -> Array:
    """some / whole; 0 where there is nothing."""
    there = np.broadcast_to(whole, some.shape) > 0.0
    return np.divide(some, whole, out=np.zeros_like(some), where=there)
