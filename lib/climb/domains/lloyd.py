"""k-means in exact arithmetic: first centroids, sums of blocks, and the means of clusters.

Axes: N vectors, C centroids, D width, M vectors drawn in a round.

Vectors and centroids are multiples of 2^-16 (`climb.domains.assignment`). Their sums, products and
squared distances are exact in double precision. So every function returns the same bits for every
division of the vectors into blocks, and on every processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.domains.assignment import QUANTUM_BITS, NearestCentroid, quantize

Array = NDArray[np.float64]

SQUARE = 2.0 ** (2 * QUANTUM_BITS)
"""A squared distance is a multiple of 1 / SQUARE, so it is counted in whole numbers."""

GROWTH = 8
"""A round of `draw_centroids` draws an eighth as many centroids as there are already, but at least
one. Drawing one at a time, as in k-means++, is limited by memory bandwidth. Drawing several at once
is faster, because their distances are one matrix product."""

SHIFT = 0.5
"""A split moves two centroids in opposite directions, each by this share of the cluster's root mean
square distance."""


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums of one pass over vectors, per cluster; the sums of several blocks can be added."""

    sums_CD: Array
    counts_C: NDArray[np.int64]
    squares_C: NDArray[np.int64]
    """Squared distances to the centroid, in units of 1 / SQUARE: exact up to 5 x 10^8 vectors."""

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(
            self.sums_CD + other.sums_CD,
            self.counts_C + other.counts_C,
            self.squares_C + other.squares_C,
        )

    @property
    def inertia(self) -> float:
        """Mean squared distance of a vector to its centroid."""
        return float(self.squares_C.sum() / SQUARE / self.counts_C.sum())


@dataclass(frozen=True, eq=False)
class Fit:
    """Centroids, and how they were found."""

    centroids_CD: Array
    inertias: tuple[float, ...]
    """Mean squared distance to the centroids before each iteration."""

    n_emptied: int
    """Number of clusters without vectors, summed over the iterations."""

    is_converged: bool
    """Whether no centroid moved further than the tolerance in the last iteration."""


def fit_centroids(
    centroids_CD: Array,
    sum_all: Callable[[Array], ClusterSums],
    max_iterations: int,
    tolerance: float,
    rng: np.random.Generator,
) -> Fit:
    """Move centroids to the means of their clusters until none moves further than the tolerance.

    Args:
        centroids_CD: the first centroids, multiples of the quantum.
        sum_all: centroids_CD -> sums over all vectors.
        max_iterations: at least 1.
        tolerance: a distance.
        rng: draws the directions in which clusters are split.

    Returns:
        The fit, with at most C centroids: a cluster that is empty in the last iteration is dropped.
    """
    inertias: list[float] = []
    n_emptied = 0
    is_converged = False
    while len(inertias) < max_iterations and not is_converged:
        total = sum_all(centroids_CD)
        inertias.append(total.inertia)
        is_empty_C = total.counts_C == 0
        n_emptied += int(is_empty_C.sum())
        moved_CD = move_centroids(centroids_CD, total, rng)
        distance = np.sqrt(((moved_CD - centroids_CD) ** 2).sum(axis=1).max())
        is_converged = bool(distance <= tolerance)
        centroids_CD = moved_CD
    return Fit(centroids_CD[~is_empty_C], tuple(inertias), n_emptied, is_converged)


def sum_clusters(blocks: Iterable[NDArray[np.float32]], centroids_CD: Array) -> ClusterSums:
    """Assign the vectors of all blocks to their nearest centroids, and sum them per cluster.

    Args:
        blocks: vectors_ND; each vector has norm 1.
        centroids_CD: multiples of the quantum.
    """
    from scipy.sparse import csr_matrix

    n_clusters = len(centroids_CD)
    sums_CD = np.zeros_like(centroids_CD)
    counts_C = np.zeros(n_clusters, dtype=np.int64)
    squares_C = np.zeros(n_clusters, dtype=np.int64)
    nearest = NearestCentroid(centroids_CD)
    for block_ND in blocks:
        vectors_ND = quantize(block_ND)
        labels_N, distances_N = nearest.assign(vectors_ND)
        n = len(labels_N)
        members_CN = csr_matrix((np.ones(n), (labels_N, np.arange(n))), shape=(n_clusters, n))
        sums_CD += members_CN @ vectors_ND.astype(np.float64)
        counts_C += np.bincount(labels_N, minlength=n_clusters)
        # The exact squared distances are whole multiples of 1 / SQUARE. The distances are roots
        # with a rounding error. It is so small that `rint` gives the exact multiples.
        squares_N = np.rint(distances_N * distances_N * SQUARE).astype(np.int64)
        np.add.at(squares_C, labels_N, squares_N)
    return ClusterSums(sums_CD, counts_C, squares_C)


def draw_centroids(vectors_ND: Array, k: int, rng: np.random.Generator) -> Array:
    """Draw the first centroids, in rounds, from the vectors.

    The probability of a vector is proportional to the square of its distance to the nearest
    centroid of the rounds before.

    Args:
        vectors_ND: multiples of the quantum, of length 1.
        k: number of centroids.
        rng: source of the draws.

    Returns:
        centroids_CD: k of the vectors; fewer if fewer are distinct.

    Source:
        k-means||: B. Bahmani et al., Scalable K-Means++ (VLDB 2012), without oversampling.
    """
    squares_N = np.einsum("nd,nd->n", vectors_ND, vectors_ND)
    chosen = np.array([rng.integers(len(vectors_ND))])
    distances_N = np.full(len(vectors_ND), np.inf)
    latest_M = chosen
    while len(chosen) < k:
        products_NM = vectors_ND @ vectors_ND[latest_M].T
        to_latest_N = (squares_N[latest_M] - 2.0 * products_NM).min(axis=1) + squares_N
        np.minimum(distances_N, to_latest_N, out=distances_N)
        bounds_N = np.cumsum(distances_N)
        if bounds_N[-1] <= 0.0:
            break
        n_draws = min(k - len(chosen), max(1, len(chosen) // GROWTH))
        points_M = rng.random(n_draws) * bounds_N[-1]
        latest_M = np.unique(np.searchsorted(bounds_N, points_M, side="right"))
        chosen = np.concatenate([chosen, latest_M])
    centroids_CD: Array = vectors_ND[chosen]
    return centroids_CD


def move_centroids(centroids_CD: Array, total: ClusterSums, rng: np.random.Generator) -> Array:
    """Return the means of the clusters; each empty cluster gets a part of another cluster.

    The clusters with the largest sums of squared distances are split. The centroid of such a
    cluster moves to one side, and the centroid of the empty cluster is put on the other side.

    Args:
        centroids_CD: the centroids to which the vectors were assigned.
        total: sums over all vectors.
        rng: draws the directions of splits.
    """
    counts_C = np.maximum(total.counts_C, 1)
    means_CD = np.where(
        total.counts_C[:, None] > 0, total.sums_CD / counts_C[:, None], centroids_CD
    )
    empty = np.flatnonzero(total.counts_C == 0)
    # Largest sum of squares first; of equal sums, the lower number first.
    split = np.argsort(-total.squares_C, kind="stable")[: len(empty)]
    split = split[total.squares_C[split] > 0]
    lengths_C = np.sqrt(total.squares_C / SQUARE / counts_C)
    width = centroids_CD.shape[1]
    for source, target in zip(split, empty, strict=False):
        signs_D = rng.integers(0, 2, size=width) * 2.0 - 1.0
        shift_D = SHIFT * lengths_C[source] / np.sqrt(width) * signs_D
        means_CD[target] = means_CD[source] - shift_D
        means_CD[source] = means_CD[source] + shift_D
    return quantize(means_CD)
