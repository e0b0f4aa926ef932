"""Vectors to clusters on arrays: whole quanta, centroids in one order, and the exact assignment.

Axes: N vectors, C centroids, D width, P (vector, centroid) pairs.

Sums of floating-point numbers depend on the order of the terms, and Spark adds partial sums in the
order in which tasks end. Here every vector is a multiple of 2^-16 instead. A sum of such numbers
is a whole number of quanta, exact in double precision up to 2^53 of them - 2^36 vectors of length
1 - so it is the same in every order, and so is everything that is made of it.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError

Array = NDArray[np.float64]
Vectors = TypeVar("Vectors", NDArray[np.float32], NDArray[np.float64])

QUANTUM_BITS = 16
"""Vectors are multiples of 2^-16: a sixth of what bfloat16, which embeds, leaves uncertain."""

BLOCK = 2048
"""Vectors of one matrix product: with 1000 centroids 8 MB of scores, which a cache can hold."""

PAIRS = 65_536
"""Exact distances that are computed at once: 200 MB at D = 384."""


def quantise(vectors_ND: Vectors) -> Vectors:
    """Round to the nearest multiple of 2^-16, ties to even; single precision stays single.

    Scaling by a power of two is exact, so both precisions round a number to the same quantum.
    """
    scale = vectors_ND.dtype.type(2.0**QUANTUM_BITS)
    quanta_ND: Vectors = np.rint(vectors_ND * scale)
    return quanta_ND / scale


def canonical(centroids_CD: Array) -> Array:
    """Centroids as quanta, without duplicates, in lexicographic order.

    A cluster's number then is a property of the set of centroids, not of the run that found them.
    """
    return np.unique(quantise(centroids_CD), axis=0)


class Nearest:
    """The nearest of these centroids, for blocks of vectors; ties go to the lower number.

    Single-precision matrix products rank the centroids. Where the best is not ahead by more than
    twice the products' rounding error, all that could be the best are compared again in exact
    arithmetic on quanta. So a label depends on its vector and the centroids alone: not on the size
    of a batch, the number of threads or the BLAS.
    """

    def __init__(self, centroids_CD: Array) -> None:
        """Prepare centroids of shape (C, D).

        Raises:
            ComponentError: there are none.
        """
        if centroids_CD.ndim != 2 or not len(centroids_CD):
            raise ComponentError(
                f"centroids of shape {centroids_CD.shape}; there must be at least one"
            )
        exact_CD = quantise(centroids_CD.astype(np.float64))
        squares_C = np.einsum("cd,cd->c", exact_CD, exact_CD)
        self.centroids_CD = exact_CD.astype(np.float32)
        # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2). The half square rides along as one more column
        # against a column of ones, so that one product gives the whole score.
        self.weights_EC = np.vstack([exact_CD.T, -squares_C / 2]).astype(np.float32)
        self.longest = float(np.sqrt(squares_C.max()))

    def __call__(self, vectors_ND: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        """Assign vectors.

        Args:
            vectors_ND: shape (N, D), single precision, of length 1: entries above 64 lose quanta.

        Returns:
            labels_N, and distances_N: Euclidean, of the quantised vector to the quantised centroid.

        Raises:
            ComponentError: a width that is not the centroids', or values that are not finite.
        """
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != self.centroids_CD.shape[1]:
            raise ComponentError(
                f"vectors of shape {vectors_ND.shape} cannot be assigned to centroids of shape "
                f"{self.centroids_CD.shape}; both need the same width"
            )
        labels_N = np.empty(len(vectors_ND), dtype=np.int64)
        distances_N = np.empty(len(vectors_ND))
        for start in range(0, len(vectors_ND), BLOCK):
            block = slice(start, start + BLOCK)
            with np.errstate(invalid="ignore", over="ignore"):  # refused where it shows
                labels_N[block], distances_N[block] = self._nearest(quantise(vectors_ND[block]))
        return labels_N, distances_N

    def _nearest(self, vectors_BD: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        """Labels and distances of one block."""
        rows_B = np.arange(len(vectors_BD))
        ones_B1 = np.ones((len(vectors_BD), 1), dtype=np.float32)
        scores_BC = np.hstack([vectors_BD, ones_B1]) @ self.weights_EC
        labels_B = scores_BC.argmax(axis=1)
        best_B = scores_BC[rows_B, labels_B]
        squares_B = np.einsum("bd,bd->b", vectors_BD, vectors_BD)
        margin_B = self._margin(np.sqrt(squares_B.astype(np.float64)))
        if not np.isfinite(margin_B).all() or not np.isfinite(best_B).all():
            raise ComponentError("a vector holds NaN, inf, or values too large to square")
        least_B = (best_B - margin_B).astype(np.float32)
        scores_BC[rows_B, labels_B] = -np.inf
        open_R = np.flatnonzero(scores_BC.max(axis=1, initial=-np.inf) >= least_B)
        scores_BC[rows_B, labels_B] = best_B
        if len(open_R):
            labels_B[open_R] = self._decide(vectors_BD[open_R], scores_BC[open_R], least_B[open_R])
        return labels_B, np.sqrt(self._squared(vectors_BD, labels_B))

    def _margin(self, lengths_B: Array) -> Array:
        """Twice the largest rounding error of a score.

        A single-precision dot product of D terms errs by at most D u |x| |c|, u = 2^-24, in any
        order of summation (N. Higham, Accuracy and Stability, section 3.1); four more for the
        rounding of the half squares and of this margin.
        """
        n_terms = len(self.weights_EC) + 4
        size_B = lengths_B * self.longest + self.longest**2 / 2
        return 2.0 * n_terms * 2.0**-24 * size_B

    def _decide(
        self,
        vectors_RD: NDArray[np.float32],
        scores_RC: NDArray[np.float32],
        least_R: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Compare exactly all centroids whose score could be the best."""
        row_P, column_P = np.nonzero(scores_RC >= least_R[:, None])
        squared_P = np.empty(len(row_P))
        for start in range(0, len(row_P), PAIRS):
            pairs = slice(start, start + PAIRS)
            squared_P[pairs] = self._squared(vectors_RD[row_P[pairs]], column_P[pairs])
        # By row, then distance, then number: each row's first pair is its answer.
        order_P = np.lexsort((column_P, squared_P, row_P))
        firsts_R = np.searchsorted(row_P[order_P], np.arange(len(vectors_RD)))
        labels_R: NDArray[np.int64] = column_P[order_P[firsts_R]]
        return labels_R

    def _squared(self, vectors_BD: NDArray[np.float32], labels_B: NDArray[np.int64]) -> Array:
        """Squared distances: quanta fit single precision, their squares and sums fit double."""
        difference_BD = vectors_BD - self.centroids_CD[labels_B]
        squared_B: Array = np.einsum("bd,bd->b", difference_BD, difference_BD, dtype=np.float64)
        return squared_B
