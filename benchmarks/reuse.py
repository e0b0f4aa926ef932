"""Mixture reuse: runs of earlier domains against as many new runs.

    python benchmarks/bench.py reuse

A world has documents of hidden kinds, whose vectors overlap. It is clustered twice, with different
seeds and numbers of domains. The true metrics of a mixture are power laws of its hidden kinds. 64
runs of the old domains are mapped to the new domains. The default predictor is fitted to them and
ranks unseen mixtures of the new domains. Bar: the Spearman correlation with the true score is at
least 0.9 of the one from 64 new runs (median over worlds).

The table has three changes: documents are clustered again, poor text is pruned, or new kinds of
text are added. It also shows the effect of reused runs in addition to 12 new runs. The metrics of
old runs have another level, as with another base checkpoint.

Axes: N documents, D width, H hidden kinds, J old domains, K new domains, T runs, M mixtures, Q
metrics.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from section import Bar, Section, Table, run_section
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from climb.config import build, load
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Problem, Surrogate, Trials
from climb.search.reuse import Overlap, ReusableRuns, ReusableTrials
from climb.search.rounds import sample_first_round

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Change = Literal["clustered again", "pruned", "extended"]
CHANGES: tuple[Change, ...] = ("clustered again", "pruned", "extended")

BAR = 0.9
WORLDS, DOCUMENTS, RUNS = 12, 20_000, 64
QUICK_WORLDS, QUICK_DOCUMENTS, QUICK_RUNS = 1, 2_000, 24
WIDTH, KINDS, METRICS = 24, 20, 4
FEW, UNSEEN = 12, 256
OLD_DOMAINS, NEW_DOMAINS = 16, 20
CENTRE_STD = 0.75
"""Standard deviation of the kinds' centres. It gives an NMI of 0.82 between two clusterings, and of
0.68 between clusters and kinds. The shared corpora have slightly higher values: 0.82 to 0.88, and
0.74 between clusters and sources."""

NOISE = 0.3
"""Standard deviation of the score over seeds / standard deviation over mixtures."""

LEVEL = 0.5
"""Standard deviation of the level shift of old metrics / that of the metric over mixtures."""

REPLICATES = 3
CFG = load().search
METRIC_NAMES = tuple(f"task{q}.bpb" for q in range(METRICS))
OBJECTIVE = Objective.parse("mean(*.bpb):min", METRIC_NAMES)


@dataclass(frozen=True, eq=False)
class World:
    """Documents, and their domains before and after a change; -1: in no domain."""

    kinds_N: Labels
    tokens_N: NDArray[np.int64]
    old_N: Labels
    new_N: Labels
    needs_QH: Array

    @classmethod
    def build(cls, change: Change, seed: int, n_documents: int) -> World:
        """Draw documents, and cluster them twice."""
        rng = np.random.default_rng([seed, 7])
        centres_HD = CENTRE_STD * rng.normal(size=(KINDS, WIDTH))
        kinds_N = rng.choice(KINDS, size=n_documents, p=rng.dirichlet(np.full(KINDS, 2.0)))
        std_N1 = rng.uniform(0.7, 1.6, size=(KINDS, 1))[kinds_N]
        vectors_ND = centres_HD[kinds_N] + std_N1 * rng.normal(size=(n_documents, WIDTH))
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        tokens_N = np.maximum(20, rng.lognormal(6.0, 1.0, size=n_documents)).astype(np.int64)
        needs_QH = rng.dirichlet(np.ones(METRICS), size=KINDS).T * rng.dirichlet(np.ones(KINDS))
        in_old_N, in_new_N = np.ones((2, n_documents), dtype=bool)
        if change == "pruned":  # four kinds improve no metric; pruning finds 90 % of their text
            poor = rng.choice(KINDS, 4, replace=False)
            needs_QH[:, poor] = 0.0
            in_new_N = ~(np.isin(kinds_N, poor) & (rng.random(n_documents) < 0.9))
        elif change == "extended":  # two new kinds, and a quarter more of all others
            added = rng.choice(KINDS, 2, replace=False)
            in_old_N = ~np.isin(kinds_N, added) & (rng.random(n_documents) < 0.8)
        old_N = cluster(vectors_ND, in_old_N, OLD_DOMAINS, seed)
        new_N = cluster(vectors_ND, in_new_N, NEW_DOMAINS, seed + 1000)
        return cls(kinds_N, tokens_N, old_N, new_N, needs_QH)

    def build_space(self, labels_N: Labels) -> FeasibleSet:
        """Build the feasible set of domains, for a target run of a fifth of all tokens."""
        tokens_K = self._count_tokens(labels_N).sum(axis=1)
        names = [f"d{k:02d}" for k in range(len(tokens_K))]
        target = float(tokens_K.sum()) / 5.0
        constraints = Constraints(target_tokens=target, max_epochs=4.0, max_share_ratio=15.0)
        return FeasibleSet.from_constraints(names, tokens_K, constraints)

    def losses(self, weights_MK: Array, labels_N: Labels) -> Array:
        """True metrics of mixtures of these domains, shape (M, Q)."""
        tokens_KH = self._count_tokens(labels_N)
        kinds_MH = weights_MK @ (tokens_KH / tokens_KH.sum(axis=1, keepdims=True))
        return (kinds_MH + 0.02) ** -0.3 @ self.needs_QH.T

    def overlap(self) -> Overlap:
        """Tokens by old and new domain."""
        tokens: dict[tuple[str | None, str | None], float] = {}
        pairs, index_N = np.unique([self.old_N, self.new_N], axis=1, return_inverse=True)
        sums = np.bincount(index_N.reshape(-1), weights=self.tokens_N)
        for (j, k), n in zip(pairs.T.tolist(), sums.tolist(), strict=True):
            tokens[f"d{j:02d}" if j >= 0 else None, f"d{k:02d}" if k >= 0 else None] = n
        return Overlap.from_tokens(tokens)

    def sample_losses(self) -> Array:
        """True metrics of 1,000 random mixtures of the new domains, shape (M, Q)."""
        drawn_MK = self.build_space(self.new_N).sample(
            np.random.default_rng(1), 1_000, concentration=(0.1, 5.0), temperature=0.5
        )
        return self.losses(drawn_MK, self.new_N)

    def _count_tokens(self, labels_N: Labels) -> Array:
        tokens_KH = np.zeros((int(labels_N.max()) + 1, KINDS))
        inside = labels_N >= 0
        np.add.at(tokens_KH, (labels_N[inside], self.kinds_N[inside]), self.tokens_N[inside])
        return tokens_KH


def cluster(vectors_ND: Array, inside_N: NDArray[np.bool_], k: int, seed: int) -> Labels:
    """K-means of some documents; -1 for the others."""
    labels_N = np.full(len(vectors_ND), -1)
    labels_N[inside_N] = KMeans(k, n_init=1, random_state=seed).fit_predict(vectors_ND[inside_N])
    return labels_N


def run_trials(world: World, labels_N: Labels, n: int, level_Q: Array, seed: int) -> Trials:
    """Simulate baselines with three seeds each, and n mixtures of a first round."""
    space = world.build_space(labels_N)
    rng = np.random.default_rng([seed, n, len(space.domains)])
    cfg = CFG.model_copy(update={"seed": seed})
    problem, restore_K = Problem.from_config(space, None, cfg).sort_domains()
    proposed_MK = sample_first_round(n, problem)[:, restore_K]
    runs = [
        (baseline.name, baseline.make_mixture(space), s)
        for baseline in problem.baselines
        for s in range(REPLICATES)
    ]
    runs += [("proposal", weights_K, 0) for weights_K in proposed_MK]
    losses_TQ = world.losses(np.stack([weights_K for _, weights_K, _ in runs]), labels_N)
    noise = NOISE * np.sqrt(METRICS) * float(world.sample_losses().mean(axis=1).std())
    losses_TQ += level_Q + noise * rng.normal(size=losses_TQ.shape)
    rows = [
        {"round": 0, "method": method, "seed": s}
        | {"weights": dict(zip(space.domains, weights_K.tolist(), strict=True))}
        | {"metrics": dict(zip(METRIC_NAMES, losses_Q.tolist(), strict=True))}
        for (method, weights_K, s), losses_Q in zip(runs, losses_TQ, strict=True)
    ]
    return Trials.from_rows(rows, space.domains, METRIC_NAMES)


def rank_unseen(world: World, trials: Trials, seed: int) -> float:
    """Spearman of predicted and true score over unseen mixtures of the new domains."""
    drawn_MK = world.build_space(world.new_N).sample(
        np.random.default_rng([seed, 2]), UNSEEN, concentration=(0.1, 5.0), temperature=0.5
    )
    surrogate = Surrogate.fit(trials, OBJECTIVE, build(CFG.predictor, Predictor))
    truth_M = OBJECTIVE.score(world.losses(drawn_MK, world.new_N))
    return float(spearmanr(surrogate.predict_mean(drawn_MK), truth_M).statistic)


def compare(change: Change, seed: int, n_documents: int, n_runs: int) -> dict[str, float]:
    """Spearman from reused, few, both and as many new runs, and the similarity of the domains."""
    world = World.build(change, seed, n_documents)
    rng = np.random.default_rng([seed, 5])
    level_Q = LEVEL * world.sample_losses().std(axis=0) * rng.normal(size=METRICS)
    old = run_trials(world, world.old_N, n_runs, level_Q, seed)
    few, new = (run_trials(world, world.new_N, n, np.zeros(METRICS), seed) for n in (FEW, n_runs))
    reused = ReusableTrials.from_trials(old, world.overlap(), CFG.reuse_min_kept)
    both = ReusableRuns((reused,), len(old)).add_to(few)
    inside_N = (world.old_N >= 0) & (world.new_N >= 0)
    old_N, new_N, kinds_N = (x_N[inside_N] for x_N in (world.old_N, world.new_N, world.kinds_N))
    return {
        "reused": rank_unseen(world, reused.trials, seed),
        "few": rank_unseen(world, few, seed),
        "both": rank_unseen(world, both, seed),
        "new": rank_unseen(world, new, seed),
        "kept": float(reused.kept_T.mean()),
        "tv_distance": float(reused.trials.tv_distance_T.mean()),
        "nmi": float(normalized_mutual_info_score(old_N, new_N)),
        "kinds": float(normalized_mutual_info_score(old_N, kinds_N)),
    }


def tabulate(figures: dict[Change, dict[str, Array]], n_runs: int) -> Table:
    """One row for each change of the domains, means over worlds."""
    rows = []
    for change, values in figures.items():
        shares = [f"{values[key].mean():.1%}" for key in ("kept", "tv_distance")]
        ranks = [f"{values[key].mean():.3f}" for key in ("reused", "few", "both", "new")]
        rows.append((change, *shares, *ranks))
    columns = ("domains", "text kept", "TV distance", f"{n_runs} reused", f"{FEW} new")
    return Table((*columns, f"{FEW} new and {n_runs} reused", f"{n_runs} new"), tuple(rows))


def measure(args: argparse.Namespace) -> Section:
    n_worlds, n_documents, n_runs = WORLDS, DOCUMENTS, RUNS
    if args.quick:
        n_worlds, n_documents, n_runs = QUICK_WORLDS, QUICK_DOCUMENTS, QUICK_RUNS
    figures = {}
    for change in CHANGES:
        worlds = [compare(change, seed, n_documents, n_runs) for seed in range(n_worlds)]
        figures[change] = {key: np.array([one[key] for one in worlds]) for key in worlds[0]}
    again = figures["clustered again"]
    share = again["reused"] / again["new"]
    return Section(
        "reuse",
        "Search: mixture reuse, runs of earlier domains against as many new runs",
        f"{n_worlds} worlds of {n_documents:,} documents and {KINDS} hidden kinds; {OLD_DOMAINS} "
        f"old and {NEW_DOMAINS} new domains; {METRICS} metrics, noise {NOISE} of the score's "
        f"standard deviation. Spearman correlation on {UNSEEN} unseen mixtures, mean over worlds, "
        "by the runs that the predictor learns from.",
        (tabulate(figures, n_runs),),
        (Bar("clustered again: reused / new, median", float(np.median(share)), at_least=BAR),),
        (
            f"Range of the ratio over worlds: {share.min():.3f} to {share.max():.3f}.",
            f"Old and new domains agree at NMI {again['nmi'].mean():.2f}, old domains and hidden "
            f"kinds at {again['kinds'].mean():.2f}.",
        ),
    )


if __name__ == "__main__":
    run_section(measure)
