"""Merge clusters into domains by Ward linkage of their centroids.

Axes: C clusters, D width of the vectors, K domains.

A cluster is one k-means cluster; a domain is the unit that has one mixture weight. The functions
are pure: the same centroids and sizes give the same domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from climb.errors import ConfigError

Array = NDArray[np.float64]


def merge(
    centroids_CD: Array,
    sizes_C: NDArray[np.int64],
    *,
    height: float | None,
    n_domains: int | None,
    weighted: bool,
    min_documents: int = 1,
) -> NDArray[np.int64]:
    """Merge similar clusters by Ward linkage of their centroids.

    The dendrogram is cut at `height` or into `n_domains`. Then each group of fewer than
    `min_documents` joins the group with the nearest centroid; the smallest group is joined first.

    Args:
        centroids_CD: centroids of the kept clusters.
        sizes_C: number of documents of each cluster, at least 1.
        height: Ward height of the cut. Without weights, the height of two single clusters is
            their Euclidean distance; for groups, it also grows with their size.
        n_domains: number of domains, instead of a height; fewer remain if no cut leaves so many.
        weighted: whether weights are proportional to `sizes_C`, with mean 1; false: all are 1.
        min_documents: minimum number of documents of a domain.

    Returns:
        labels_C: domain of each cluster; domains are numbered in order of their first cluster.

    Raises:
        ConfigError: one domain remains, so there is nothing to mix.

    Source:
        Ward linkage cut at height 1.5 is NVIDIA's CLIMB recipe; weights are ours.
    """
    labels_C = _cut(centroids_CD, sizes_C, height, n_domains, weighted, min_documents)
    labels_C = _join_small_groups(centroids_CD, sizes_C, labels_C, min_documents, n_domains)
    if not labels_C.any():
        raise ConfigError(
            f"prune.min_domain_documents is {min_documents}: smaller groups joined others, and one "
            f"domain of {sizes_C.sum():,} documents remains; lower this key, or keep more clusters"
        )
    return labels_C


def _cut(
    centroids_CD: Array,
    sizes_C: NDArray[np.int64],
    height: float | None,
    n_domains: int | None,
    weighted: bool,
    min_documents: int,
) -> NDArray[np.int64]:
    """Cut the dendrogram; arguments as for `merge`. Groups may be smaller than `min_documents`."""
    if weighted:
        pairs, heights = compute_weighted_ward_linkage(centroids_CD, sizes_C / sizes_C.mean())
    else:
        pairs, heights = compute_ward_linkage(centroids_CD)
    if n_domains is not None:
        n_merges = _count_merges(sizes_C, pairs, n_domains, min_documents)
    else:
        assert height is not None
        n_merges = int(np.searchsorted(heights, height, side="right"))
    if n_merges >= len(centroids_CD) - 1:
        cut = height if n_domains is None else n_domains
        raise ConfigError(_explain_single_domain(heights, cut, n_domains is None, min_documents))
    return _label_groups(len(centroids_CD), pairs[:n_merges])


def compute_ward_linkage(centroids_CD: Array) -> tuple[NDArray[np.int64], Array]:
    """Compute the C - 1 merges of Ward linkage, lowest first.

    Returns:
        Pairs, shape (C - 1, 2): one cluster of each of the two groups that are merged; and the
        heights, shape (C - 1,).
    """
    if len(centroids_CD) < 2:
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    merges = linkage(centroids_CD, method="ward")
    # scipy gives each merged group a new number; here, one of its clusters identifies a group
    member = list(range(len(centroids_CD)))
    for first, _, _, _ in merges:
        member.append(member[int(first)])
    pairs = [(member[int(first)], member[int(second)]) for first, second, _, _ in merges]
    return np.array(pairs, dtype=np.int64), merges[:, 2]


def compute_weighted_ward_linkage(
    centroids_CD: Array, weights_C: Array
) -> tuple[NDArray[np.int64], Array]:
    """Compute Ward linkage of clusters with unequal weights, such as numbers of documents.

    A merge of two groups with total weights m and n has the squared height 2 m n / (m + n) d^2,
    where d is the distance between the group centroids. If all weights are 1, the result
    is that of `compute_ward_linkage`. The algorithm is the nearest-neighbor chain with
    Lance-Williams updates, O(C^2).

    Returns:
        Pairs, shape (C - 1, 2), and heights, shape (C - 1,), as `compute_ward_linkage`.

    Source:
        F. Murtagh and P. Legendre, Ward's hierarchical agglomerative clustering method (2014).
    """
    mass_C = weights_C.astype(np.float64)
    cost_CC = squareform(pdist(centroids_CD, "sqeuclidean"))
    cost_CC *= 2.0 * np.outer(mass_C, mass_C) / np.add.outer(mass_C, mass_C)
    np.fill_diagonal(cost_CC, np.inf)
    active_C = np.ones(len(mass_C), dtype=bool)
    merges: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(merges) < len(mass_C) - 1:
        chain = chain or [int(active_C.argmax())]
        nearest = int(cost_CC[chain[-1]].argmin())
        if len(chain) < 2 or cost_CC[chain[-1], nearest] < cost_CC[chain[-1], chain[-2]]:
            chain.append(nearest)
            continue
        low, high = sorted((chain.pop(), chain.pop()))
        merges.append((float(np.sqrt(cost_CC[low, high])), low, high))
        _merge_groups(cost_CC, mass_C, low, high)
        active_C[high] = False
    merges.sort(key=lambda merge: merge[0])
    pairs = np.array([merge[1:] for merge in merges], dtype=np.int64).reshape(-1, 2)
    return pairs, np.array([merge[0] for merge in merges])


def _merge_groups(cost_CC: Array, mass_C: Array, low: int, high: int) -> None:
    """Merge group `high` into group `low`, in place, with the Lance-Williams update of costs."""
    row_C = (
        (mass_C[low] + mass_C) * cost_CC[low]
        + (mass_C[high] + mass_C) * cost_CC[high]
        - mass_C * cost_CC[low, high]
    ) / (mass_C[low] + mass_C[high] + mass_C)
    row_C[[low, high]] = np.inf
    cost_CC[low], cost_CC[:, low] = row_C, row_C
    cost_CC[high], cost_CC[:, high] = np.inf, np.inf
    mass_C[low] += mass_C[high]


def _label_groups(n_clusters: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label the groups that the merges make, numbered in order of their first cluster."""
    group_C = np.arange(n_clusters)
    for first, second in pairs:
        group_C[group_C == group_C[second]] = group_C[first]
    return _number_groups(group_C)


def _number_groups(group_C: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups from 0, in order of their first cluster."""
    _, firsts, labels_C = np.unique(group_C, return_index=True, return_inverse=True)
    numbered_C: NDArray[np.int64] = np.argsort(np.argsort(firsts))[labels_C]
    return numbered_C


def _count_merges(
    sizes_C: NDArray[np.int64], pairs: NDArray[np.int64], n_domains: int, min_documents: int
) -> int:
    """Find how many merges leave `n_domains` groups of at least `min_documents` documents.

    Smaller groups do not count. A merge with a smaller group can leave the number of counted groups
    unchanged. So several numbers of merges may leave `n_domains` counted groups; the largest of
    these numbers is returned. If no number of merges leaves `n_domains` counted groups, the largest
    number of counted groups that occurs replaces `n_domains`.
    """
    group_C, size_C = np.arange(len(sizes_C)), sizes_C.copy()
    large = [int((size_C >= min_documents).sum())]
    for first, second in pairs:
        a, b = group_C[first], group_C[second]
        size_C[a], size_C[b] = size_C[a] + size_C[b], 0
        group_C[group_C == b] = a
        large.append(int((size_C >= min_documents).sum()))
    most = min(n_domains, max(large))
    return max(n for n, count in enumerate(large) if count >= most)


def _join_small_groups(
    centroids_CD: Array,
    sizes_C: NDArray[np.int64],
    labels_C: NDArray[np.int64],
    least: int,
    n_domains: int | None,
) -> NDArray[np.int64]:
    """Join every group with fewer than `least` documents to the one with the nearest centroid.

    A small group may join another small one, and both together may have `least` documents. The cut
    of the dendrogram did not count this new group, so there may be more than `n_domains` groups. If
    `n_domains` is given, the smallest groups then join others until at most `n_domains` remain.
    """
    labels_C = labels_C.copy()
    weighted_CD = centroids_CD * sizes_C[:, None]
    while True:
        groups_K, index_C = np.unique(labels_C, return_inverse=True)
        sizes_K = np.bincount(index_C, weights=sizes_C)
        smallest = int(np.argmin(sizes_K))
        too_many = n_domains is not None and len(groups_K) > n_domains
        if len(groups_K) == 1 or (sizes_K[smallest] >= least and not too_many):
            return _number_groups(labels_C)
        sums_KD = np.zeros((len(groups_K), centroids_CD.shape[1]))
        np.add.at(sums_KD, index_C, weighted_CD)
        means_KD = sums_KD / sizes_K[:, None]
        distance_K = ((means_KD - means_KD[smallest]) ** 2).sum(axis=1)
        distance_K[smallest] = np.inf
        labels_C[index_C == smallest] = groups_K[int(np.argmin(distance_K))]


def _explain_single_domain(
    heights: Array, cut: float | None, is_height: bool, min_documents: int
) -> str:
    """Explain why only one domain remains, and which configuration key changes that."""
    if not len(heights):
        return (
            "pruning kept one cluster, so there is one domain and nothing to mix: lower "
            "prune.thresholds (or raise prune.keep_token_share), raise cluster.k, or add documents "
            "to ingest.inputs"
        )
    if is_height:
        return (
            f"prune.merge_height {cut:g} merges all {len(heights) + 1} kept clusters into one "
            f"domain, so there is nothing to mix: set it below {heights[-1]:.4g}, the height of "
            "the last merge"
        )
    if cut == 1:
        return "prune.domains is 1, so there is nothing to mix: set it to 2 or more"
    return (
        f"no cut of the dendrogram leaves two groups of at least {min_documents:,} documents "
        "each, so there is nothing to mix: lower prune.min_domain_documents, or keep more clusters"
    )
