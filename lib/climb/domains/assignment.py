"""Assign vectors to clusters exactly: quantized vectors, ordered centroids, nearest centroids.

Axes: N vectors, B vectors of a block, R vectors with several candidates, C centroids, D width,
E = D + 1, P (vector, centroid) pairs.

Sums of floating-point numbers depend on the order of the terms, and Spark adds partial sums in the
order in which tasks end. So every vector is rounded to multiples of 2^-16, the quantum. A sum of
such numbers is a whole number of quanta. It is exact in double precision up to 2^53 quanta; an
entry of the sum of 2^36 vectors of length 1 has at most 2^52 quanta. So neither the sum nor
anything computed from it depends on the order.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError

Array = NDArray[np.float64]
Vectors = TypeVar("Vectors", NDArray[np.float32], NDArray[np.float64])

QUANTUM_BITS = 16
"""Vectors are rounded to multiples of 2^-16. For entries of 1/32 to 1/16, the error is at most
2^-17: a sixteenth of that of bfloat16."""

BLOCK = 2048
"""Vectors in one matrix product: 1000 centroids give 8 MB of scores, which fit in a cache."""

PAIRS = 65_536
"""Number of exact distances computed at once, from three arrays of 100 MB at D = 384."""


def quantize(vectors_ND: Vectors) -> Vectors:
    """Round to the nearest multiple of 2^-16, ties to even; the result has the input's dtype.

    Scaling by a power of two is exact, so single and double precision round to the same quantum.
    """
    scale = vectors_ND.dtype.type(2.0**QUANTUM_BITS)
    quanta_ND: Vectors = np.rint(vectors_ND * scale)
    return quanta_ND / scale


def canonicalize_centroids(centroids_CD: Array) -> Array:
    """Quantize centroids, remove duplicates, and sort them lexicographically.

    So the number of a cluster depends on the set of centroids alone, not on the run of k-means.
    """
    return np.unique(quantize(centroids_CD), axis=0)


class NearestCentroid:
    """Assigns vectors to the nearest centroid; ties go to the lower number.

    Single-precision matrix products rank the centroids. If the best one is ahead of others by no
    more than twice the rounding error of the products, it and these others are compared again in
    exact arithmetic on quanta. So a label depends on its vector and the centroids alone, and not on
    the batch size, the number of threads or the BLAS.
    """

    def __init__(self, centroids_CD: Array) -> None:
        """Prepare centroids of shape (C, D).

        Raises:
            ComponentError: there is no centroid.
        """
        if centroids_CD.ndim != 2 or not len(centroids_CD):
            raise ComponentError(
                f"centroids have shape {centroids_CD.shape}; they must have shape (C, D) with C at "
                "least 1"
            )
        exact_CD = quantize(centroids_CD.astype(np.float64))
        squares_C = np.einsum("cd,cd->c", exact_CD, exact_CD)
        self.centroids_CD = exact_CD.astype(np.float32)
        # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2). One more row of weights has -|c|^2 / 2, and the
        # vectors get one more column of ones, so that one product gives the score x.c - |c|^2 / 2.
        self.weights_EC = np.vstack([exact_CD.T, -squares_C / 2]).astype(np.float32)
        self.max_length = float(np.sqrt(squares_C.max()))

    def assign(self, vectors_ND: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        """Find the nearest centroid of each vector.

        Args:
            vectors_ND: shape (N, D), single precision, normally of norm 1. Entries above 256 lose
                accuracy, because there single precision is coarser than a quantum.

        Returns:
            labels_N, and distances_N: Euclidean, between quantized vector and quantized centroid.

        Raises:
            ComponentError: a width other than the centroids', or values that are not finite.
        """
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != self.centroids_CD.shape[1]:
            raise ComponentError(
                f"vectors of shape {vectors_ND.shape} cannot be assigned to centroids of shape "
                f"{self.centroids_CD.shape}; both must have the same width"
            )
        labels_N = np.empty(len(vectors_ND), dtype=np.int64)
        distances_N = np.empty(len(vectors_ND))
        for start in range(0, len(vectors_ND), BLOCK):
            block = slice(start, start + BLOCK)
            with np.errstate(invalid="ignore", over="ignore"):  # _assign_block raises an error
                labels_N[block], distances_N[block] = self._assign_block(
                    quantize(vectors_ND[block])
                )
        return labels_N, distances_N

    def _assign_block(self, vectors_BD: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        """Find labels and distances of one block."""
        rows_B = np.arange(len(vectors_BD))
        ones_B1 = np.ones((len(vectors_BD), 1), dtype=np.float32)
        scores_BC = np.hstack([vectors_BD, ones_B1]) @ self.weights_EC
        labels_B = scores_BC.argmax(axis=1)
        best_B = scores_BC[rows_B, labels_B]
        squares_B = np.einsum("bd,bd->b", vectors_BD, vectors_BD)
        margin_B = self._compute_margin(np.sqrt(squares_B.astype(np.float64)))
        if not np.isfinite(margin_B).all() or not np.isfinite(best_B).all():
            raise ComponentError("a vector contains NaN, inf, or values too large to square")
        threshold_B = (best_B - margin_B).astype(np.float32)
        scores_BC[rows_B, labels_B] = -np.inf
        unsure_R = np.flatnonzero(scores_BC.max(axis=1, initial=-np.inf) >= threshold_B)
        scores_BC[rows_B, labels_B] = best_B
        if len(unsure_R):
            labels_B[unsure_R] = self._compare_exactly(
                vectors_BD[unsure_R], scores_BC[unsure_R], threshold_B[unsure_R]
            )
        return labels_B, np.sqrt(self._compute_squared_distances(vectors_BD, labels_B))

    def _compute_margin(self, lengths_B: Array) -> Array:
        """Compute twice the largest rounding error of a score.

        The error of a single-precision dot product of n terms is at most n u |x| |c|, u = 2^-24, in
        any order of summation (N. Higham, Accuracy and Stability, section 3.1). A score has E
        terms: D products, and -|c|^2 / 2. The bound uses n = E + 4. The added 4 covers the rounding
        of |c|^2 / 2 and of the margin itself.
        """
        n_terms = len(self.weights_EC) + 4
        size_B = lengths_B * self.max_length + self.max_length**2 / 2
        return 2.0 * n_terms * 2.0**-24 * size_B

    def _compare_exactly(
        self,
        vectors_RD: NDArray[np.float32],
        scores_RC: NDArray[np.float32],
        threshold_R: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Compare the exact distances of all centroids whose score could be the best."""
        row_P, column_P = np.nonzero(scores_RC >= threshold_R[:, None])
        squared_P = np.empty(len(row_P))
        for start in range(0, len(row_P), PAIRS):
            pairs = slice(start, start + PAIRS)
            squared_P[pairs] = self._compute_squared_distances(
                vectors_RD[row_P[pairs]], column_P[pairs]
            )
        # By row, then distance, then number: the first pair of each row is the nearest.
        order_P = np.lexsort((column_P, squared_P, row_P))
        firsts_R = np.searchsorted(row_P[order_P], np.arange(len(vectors_RD)))
        labels_R: NDArray[np.int64] = column_P[order_P[firsts_R]]
        return labels_R

    def _compute_squared_distances(
        self, vectors_BD: NDArray[np.float32], labels_B: NDArray[np.int64]
    ) -> Array:
        """Compute exact squared distances: quanta fit float32, the sums of squares fit float64."""
        difference_BD = vectors_BD - self.centroids_CD[labels_B]
        squared_B: Array = np.einsum("bd,bd->b", difference_BD, difference_BD, dtype=np.float64)
        return squared_B
