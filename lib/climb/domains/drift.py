"""Drift: how well the clusters of an earlier corpus still fit the corpus that has grown since.

New documents are assigned to existing clusters, so the clusters become worse while the corpus
changes. Three figures measure this: the share of documents far from every centroid, the change of
the domains' shares, and the growth of the mean squared distance. The mean squared distance is the
loss of k-means per document. The more it has grown, the more new centroids usually reduce it. So
its growth decides whether a new clustering pays (docs/decisions/clustering.md has the evidence).

Axes: C clusters, B bins of distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import TableError

FAR_SHARE = 0.01
"""Largest share of the documents of the fit that may count as far from every centroid."""

PAYS_FROM = 0.02
"""A new clustering pays if the mean squared distance has grown by at least this share."""

BINS = 1024
"""Number of equally wide bins of distances. The first bin starts at 0. The last ends at the lowest
power of 2 above the largest distance of the fit."""


@dataclass(frozen=True, eq=False)
class Distances:
    """How many documents each cluster has, and how far they are from its centroid."""

    documents_C: NDArray[np.int64]
    far_C: NDArray[np.int64]
    """Documents at the distance that `find_far_distance` returned for the fit, or farther."""

    squares_C: NDArray[np.float64]
    """Sums of the squared distances."""

    @property
    def n_documents(self) -> int:
        """Documents of all clusters."""
        return int(self.documents_C.sum())

    @property
    def far_share(self) -> float:
        """Share of the documents that are far from every centroid."""
        return int(self.far_C.sum()) / self.n_documents

    @property
    def mean_square(self) -> float:
        """Mean of the squared distances of all documents."""
        return math.fsum(self.squares_C) / self.n_documents


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What has changed since the centroids were fitted. Shares are parts of 1."""

    n_fit: int
    """Number of documents that were assigned right after the centroids were fitted. They are called
    the documents of the fit."""

    n_now: int

    far_share_fit: float
    """Share of the documents of the fit that were far from every centroid; at most FAR_SHARE."""

    far_share: float
    """Share of all documents of today that are far from every centroid."""

    far_share_new: float | None
    """Share of the added documents that are far from every centroid; None if the corpus has not
    grown. This share is computed from differences of counts, so removed documents are subtracted
    from the added ones."""

    domain_shift: float
    """Total variation distance between the domains' document shares at the fit and now, 0 to 1."""

    distance_growth: float
    """Growth of the mean squared distance: 0.02 means that it is 2 % larger than at the fit."""

    @property
    def pays(self) -> bool:
        """Whether a new clustering pays."""
        return self.distance_growth >= PAYS_FROM

    def figures(self) -> dict[str, float]:
        """Return the figures by name, without those that are unknown."""
        values = {
            "documents_fit": self.n_fit,
            "documents": self.n_now,
            "far_share_fit": self.far_share_fit,
            "far_share": self.far_share,
            "far_share_new": self.far_share_new,
            "domain_shift": self.domain_shift,
            "distance_growth": self.distance_growth,
            "clustering_again_pays": self.pays,
        }
        return {name: float(value) for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        """Describe the figures, and whether a new clustering pays."""
        far = f"{self.far_share:.1%} of {self.n_now:,} documents are far from every centroid"
        if self.far_share_new is not None:
            far += f" ({self.far_share_new:.1%} of the {self.n_now - self.n_fit:,} added ones)"
        pays = (
            "a new clustering pays: run `climb cluster --refit`"
            if self.pays
            else f"a new clustering pays from a growth of {PAYS_FROM:.0%}"
        )
        return (
            f"drift since the fit, when there were {self.n_fit:,} documents: now {far}; at the "
            f"fit, this share was {self.far_share_fit:.1%}; the shares of the domains have changed "
            f"by {self.domain_shift:.1%}; mean squared distance {self.distance_growth:+.1%}; {pays}"
        )


def choose_bin_width(largest: float) -> float:
    """Return the width of bins for distances up to `largest`: a power of two, so edges are exact.

    Embedders may return vectors of any length, so the width depends on the distances of the fit.
    """
    _, exponent = np.frexp(largest)
    return float(np.ldexp(1.0, int(exponent))) / BINS


def find_far_distance(counts_B: NDArray[np.int64], width: float) -> float:
    """Find the distance from which a document counts as far from every centroid.

    It is the smallest edge of a bin with this property: at most FAR_SHARE of the documents of the
    fit are at this distance or farther.

    Args:
        counts_B: documents whose distance is in [b, b + 1) times the width.
        width: width of a bin.
    """
    beyond_B = np.cumsum(counts_B[::-1])[::-1]
    few_B = np.flatnonzero(beyond_B <= FAR_SHARE * counts_B.sum())
    return float(few_B[0] if len(few_B) else len(counts_B)) * width


def measure_drift(fit: Distances, now: Distances, domain_C: NDArray[np.int64]) -> Drift:
    """Compare the documents of the fit with those of today.

    Args:
        fit: all documents of the first assignment after the centroids were fitted.
        now: all documents.
        domain_C: number of the domain of each cluster, from 0.

    Raises:
        TableError: there were no documents at the fit, or there are none now.
    """
    if not fit.n_documents or not now.n_documents:
        raise TableError(
            f"cannot measure drift: the clusters had {fit.n_documents:,} documents at the fit and "
            f"have {now.n_documents:,} now; run `climb cluster --refit`"
        )
    n_new = now.n_documents - fit.n_documents
    far_new = int(now.far_C.sum()) - int(fit.far_C.sum())
    shares_fit, shares_now = (
        np.bincount(domain_C, weights=part.documents_C) / part.n_documents for part in (fit, now)
    )
    before = fit.mean_square
    # If the mean was 0 at the fit, every document was equal to its centroid.
    growth = now.mean_square / before - 1.0 if before else float(now.mean_square > 0.0)
    return Drift(
        n_fit=fit.n_documents,
        n_now=now.n_documents,
        far_share_fit=fit.far_share,
        far_share=now.far_share,
        far_share_new=min(1.0, max(0.0, far_new / n_new)) if n_new > 0 else None,
        domain_shift=float(np.abs(shares_now - shares_fit).sum() / 2.0),
        distance_growth=growth,
    )
