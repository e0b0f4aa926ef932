"""From clusters to domains: which clusters stay, and which of them become one domain.

Axes: C clusters, S scores, D width of the vectors, K domains.

A cluster is what k-means made; a domain is what a mixture has one weight for. Both steps are pure
functions: the same clusters, scores and sizes give the same domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from climb.errors import ConfigError

Array = NDArray[np.float64]


def prune(
    scores_CS: Array, names: Sequence[str], thresholds: Mapping[str, float]
) -> tuple[NDArray[np.bool_], list[str | None]]:
    """Drop every cluster that has any score's mean under that score's threshold.

    Args:
        scores_CS: mean of each score over a cluster's documents.
        names: the S scores.
        thresholds: score name -> smallest mean that stays; higher scores are better.

    Returns:
        kept_C, and per cluster the reason why it goes, None where it stays.

    Raises:
        ConfigError: a threshold for a score that there is not.

    Source:
        CLIMB (arXiv 2504.13161) drops clusters under a mean of 3.0; "any score" is NVIDIA's recipe.
    """
    unknown = sorted(set(thresholds) - set(names))
    if unknown:
        raise ConfigError(
            f"prune.thresholds names {', '.join(map(repr, unknown))}; "
            f"the scores are {', '.join(sorted(names)) or 'none: score.scorers is empty'}"
        )
    reasons: list[str | None] = []
    for scores_S in scores_CS:
        means = dict(zip(names, scores_S.tolist(), strict=True))
        low = [
            f"{name} {means[name]:.4g} < {least:g}"
            for name, least in sorted(thresholds.items())
            if means[name] < least
        ]
        reasons.append("; ".join(low) or None)
    return np.array([reason is None for reason in reasons], dtype=bool), reasons


def prune_to_share(
    scores_CS: Array, tokens_C: NDArray[np.int64], share: float
) -> tuple[NDArray[np.bool_], list[str | None]]:
    """Keep the best clusters by the mean of their scores until they hold a share of all tokens.

    The cluster that reaches the share is kept too; of equal clusters the lower number is better.

    Args:
        scores_CS: mean of each score over a cluster's documents.
        tokens_C: tokens of each cluster.
        share: of all tokens, in (0, 1].

    Returns:
        kept_C, and per cluster the reason why it goes, None where it stays.

    Raises:
        ConfigError: there is no score.
    """
    if not scores_CS.shape[1]:
        raise ConfigError("prune.keep_token_share needs scores, but score.scorers is empty")
    mean_C = scores_CS.mean(axis=1)
    order_C = np.argsort(-mean_C, kind="stable")
    before_C = np.concatenate([[0], np.cumsum(tokens_C[order_C])[:-1]])
    kept_C = np.zeros(len(mean_C), dtype=bool)
    kept_C[order_C] = before_C < share * tokens_C.sum()
    worst = mean_C[kept_C].min(initial=np.inf)
    over = f"clusters of {worst:.4g} and better hold {share:.4g} of the tokens"
    reasons = [
        None if kept else f"mean score {mean:.4g}: {over}"
        for kept, mean in zip(kept_C, mean_C, strict=True)
    ]
    return kept_C, reasons


def merge(
    centroids_CD: Array,
    sizes_C: NDArray[np.int64],
    *,
    height: float | None,
    n_domains: int | None,
    weighted: bool,
) -> NDArray[np.int64]:
    """Join near clusters by Ward linkage of their centroids.

    Args:
        centroids_CD: of the clusters that are kept.
        sizes_C: their documents, at least 1 each; used if `weighted` only.
        height: joins up to this Ward height are done. The height of two single clusters is their
            Euclidean distance, and it grows with the number of clusters that are joined.
        n_domains: where given, as many joins as leave this many domains; C or more joins nothing.
        weighted: count a cluster as its documents, relative to the mean cluster, instead of as 1.

    Returns:
        labels_C: domain of each cluster, numbered in order of their first cluster.

    Raises:
        ConfigError: one domain is left, so there is nothing to mix.

    Source:
        Ward linkage cut at height 1.5 is NVIDIA's CLIMB recipe; weights are ours.
    """
    if weighted:
        pairs, heights = weighted_ward(centroids_CD, sizes_C / sizes_C.mean())
    else:
        pairs, heights = ward(centroids_CD)
    if n_domains is not None:
        n_joins = max(0, len(centroids_CD) - n_domains)
    else:
        assert height is not None
        n_joins = int(np.searchsorted(heights, height, side="right"))
    if n_joins >= len(centroids_CD) - 1:
        raise ConfigError(_one_domain(len(centroids_CD), heights, height, n_domains))
    return _groups(len(centroids_CD), pairs[:n_joins])


def token_shares(tokens_K: NDArray[np.int64]) -> Array:
    """Natural proportions: each domain's part of all tokens."""
    shares_K: Array = tokens_K / tokens_K.sum()
    return shares_K


def ward(centroids_CD: Array) -> tuple[NDArray[np.int64], Array]:
    """The C - 1 joins of Ward linkage, lowest first.

    Returns:
        pairs (C - 1, 2): a cluster of each of the two groups that a join makes one; and heights.
    """
    if len(centroids_CD) < 2:
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    joins = linkage(centroids_CD, method="ward")
    member = list(range(len(centroids_CD)))  # scipy numbers groups; any member stands for one
    for first, _, _, _ in joins:
        member.append(member[int(first)])
    pairs = [(member[int(first)], member[int(second)]) for first, second, _, _ in joins]
    return np.array(pairs, dtype=np.int64), joins[:, 2]


def weighted_ward(centroids_CD: Array, weights_C: Array) -> tuple[NDArray[np.int64], Array]:
    """The same for clusters that stand for unequal numbers of documents.

    Joining groups of masses m and n at distance d costs 2 m n / (m + n) d^2, the height squared;
    masses of 1 give `ward`. Nearest-neighbour chain with Lance-Williams updates, O(C^2).

    Source:
        F. Murtagh and P. Legendre, Ward's hierarchical agglomerative clustering method (2014).
    """
    mass_C = weights_C.astype(np.float64)
    cost_CC = squareform(pdist(centroids_CD, "sqeuclidean"))
    cost_CC *= 2.0 * np.outer(mass_C, mass_C) / np.add.outer(mass_C, mass_C)
    np.fill_diagonal(cost_CC, np.inf)
    alive_C = np.ones(len(mass_C), dtype=bool)
    joins: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(joins) < len(mass_C) - 1:
        chain = chain or [int(alive_C.argmax())]
        nearest = int(cost_CC[chain[-1]].argmin())
        if len(chain) < 2 or cost_CC[chain[-1], nearest] < cost_CC[chain[-1], chain[-2]]:
            chain.append(nearest)
            continue
        low, high = sorted((chain.pop(), chain.pop()))
        joins.append((float(np.sqrt(cost_CC[low, high])), low, high))
        _join(cost_CC, mass_C, low, high)
        alive_C[high] = False
    joins.sort(key=lambda join: join[0])
    pairs = np.array([join[1:] for join in joins], dtype=np.int64).reshape(-1, 2)
    return pairs, np.array([join[0] for join in joins])


def _join(cost_CC: Array, mass_C: Array, low: int, high: int) -> None:
    """Put group `high` into group `low`, in place: costs to all others by Lance and Williams."""
    row_C = (
        (mass_C[low] + mass_C) * cost_CC[low]
        + (mass_C[high] + mass_C) * cost_CC[high]
        - mass_C * cost_CC[low, high]
    ) / (mass_C[low] + mass_C[high] + mass_C)
    row_C[[low, high]] = np.inf
    cost_CC[low], cost_CC[:, low] = row_C, row_C
    cost_CC[high], cost_CC[:, high] = np.inf, np.inf
    mass_C[low] += mass_C[high]


def _groups(n_clusters: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of the groups that joins make, numbered in order of their first cluster."""
    group_C = np.arange(n_clusters)
    for first, second in pairs:
        group_C[group_C == group_C[second]] = group_C[first]
    _, firsts, labels_C = np.unique(group_C, return_index=True, return_inverse=True)
    numbered_C: NDArray[np.int64] = np.argsort(np.argsort(firsts))[labels_C]
    return numbered_C


def _one_domain(
    n_clusters: int, heights: Array, height: float | None, n_domains: int | None
) -> str:
    """Why there is nothing to mix, and which key would change it."""
    if n_clusters == 1:
        return (
            "pruning left one cluster, so there is one domain and nothing to mix: loosen "
            "prune.thresholds, raise cluster.k, or give more documents"
        )
    if n_domains is not None:
        return "prune.domains is 1, so there is nothing to mix: ask for 2 or more"
    return (
        f"prune.merge_height {height:g} merges all {n_clusters} kept clusters into one domain, so "
        f"there is nothing to mix: set it below {heights[-1]:.4g}, where the last two join"
    )
