"""Record how far documents are from their centroids at the fit, and measure the drift since then.

Axes: C clusters, B bins of distances.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.domains.drift import (
    Distances,
    Drift,
    choose_bin_width,
    find_far_distance,
    measure_drift,
)
from climb.spark.delta.store import Store

SQUARE_BITS = 20
"""Squared distances are rounded to multiples of 2^-20, so that their sum is the same in every
order."""


def record_fit(store: Store, clustering: str) -> bool:
    """Record the distances of all documents, unless this clustering has a record.

    Call it when all documents are assigned. The first call after a fit records the distances at
    the fit.

    Returns:
        Whether the distances were recorded now. If so, there is no drift yet.
    """
    if store.exists(tables.FITS) and {clustering} == {
        row["clustering"] for row in store.read_rows(tables.FITS)
    }:
        return False
    assigned = store.read(tables.ASSIGNMENTS)
    n_clusters = store.read(tables.CENTROIDS).count()
    width = choose_bin_width(float(assigned.agg(F.max("distance")).collect()[0][0]))
    bins = F.floor(F.col("distance").cast("double") / width)
    counted = assigned.groupBy(bins.alias("bin")).count().collect()
    counts_B = np.zeros(1 + max(row["bin"] for row in counted), dtype=np.int64)
    for row in counted:
        counts_B[row["bin"]] = row["count"]
    far_distance = find_far_distance(counts_B, width)
    found = _count_distances(assigned, n_clusters, far_distance)
    counts = zip(found.documents_C, found.far_C, found.squares_C, strict=True)
    rows = [
        {
            "cluster": c,
            "clustering": clustering,
            "n_documents": int(n_documents),
            "n_far": int(n_far),
            "squares": float(squares),
            "far_distance": far_distance,
        }
        for c, (n_documents, n_far, squares) in enumerate(counts)
    ]
    inputs = store.history.describe_inputs(tables.CENTROIDS, clustering=clustering)
    store.replace(store.create_frame(rows, tables.FITS), tables.FITS, inputs)
    return True


def read_drift(store: Store) -> Drift | None:
    """Measure the drift; None if nothing was added or removed since the fit.

    Raises:
        TableError: there were no documents at the fit, or there are none now.
    """
    rows = store.read_rows(tables.FITS)
    fit = Distances(
        np.array([row["n_documents"] for row in rows]),
        np.array([row["n_far"] for row in rows]),
        np.array([row["squares"] for row in rows]),
    )
    assigned = store.read(tables.ASSIGNMENTS)
    now = _count_distances(assigned, len(rows), rows[0]["far_distance"])
    if (now.documents_C == fit.documents_C).all() and (now.squares_C == fit.squares_C).all():
        return None
    return measure_drift(fit, now, _read_domains(store, len(rows)))


def _count_distances(assigned: DataFrame, n_clusters: int, far_distance: float) -> Distances:
    """Count the documents of every cluster, and add up their squared distances."""
    distance = F.col("distance").cast("double")
    square = F.rint(distance * distance * 2.0**SQUARE_BITS).cast("decimal(28,0)")
    is_far = (distance >= far_distance).cast("long")
    counted = assigned.groupBy("cluster").agg(F.count("*"), F.sum(is_far), F.sum(square))
    documents_C, far_C = np.zeros((2, n_clusters), dtype=np.int64)
    squares_C = np.zeros(n_clusters)
    for cluster, n_documents, n_far, squares in counted.collect():
        documents_C[cluster], far_C[cluster] = n_documents, n_far
        squares_C[cluster] = int(squares) / 2.0**SQUARE_BITS
    return Distances(documents_C, far_C, squares_C)


def _read_domains(store: Store, n_clusters: int) -> NDArray[np.int64]:
    """Return the index of each cluster's domain; all pruned clusters share one index.

    After a new clustering, job `prune` merges the new clusters into domains. Until then, each new
    cluster counts as a domain.
    """
    made_from = store.history.read_inputs(tables.CLUSTERS)
    version = store.history.read_version(tables.CENTROIDS)
    if made_from is None or made_from["read"].get(tables.CENTROIDS.name) != version:
        return np.arange(n_clusters)
    names = [row["domain"] or "" for row in store.read_rows(tables.CLUSTERS)]
    return np.unique(names, return_inverse=True)[1]
