"""Cluster the documents by their embeddings, and assign every document to the nearest cluster.

documents, embeddings -> centroids, assignments, fits

Rerun it at any time: new documents are assigned to the existing clusters; assigned documents keep
their cluster. The job then reports the drift, and whether clustering again pays.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.embed import build_embedder
from climb.errors import TableError
from climb.progress import log
from climb.spark.corpus.cluster import assign_missing, ensure_centroids
from climb.spark.corpus.drift import read_drift, record_fit
from climb.spark.delta.store import Store
from climb.tracking.drift import log_drift


def run(store: Store, cfg: Config) -> str:
    """Fit centroids if these settings have none, and assign the documents without a cluster."""
    recipe = recipe_of(build_embedder(cfg.embed))
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    vectors = embeddings.where(F.col("embedding").isNotNull())
    n_vectors, n_embedded = vectors.count(), embeddings.count()
    n_missing = store.read(tables.DOCUMENTS).count() - n_embedded
    if n_missing:
        raise TableError(
            f"table embeddings has no {recipe} row for {n_missing:,} documents; "
            "run `climb embed` first"
        )
    clustering = ensure_centroids(store, cfg, vectors, n_vectors)
    new = assign_missing(store, vectors, n_vectors, clustering)
    record_fit(store, clustering.name)
    drift = read_drift(store)
    if drift is not None:
        log("cluster", str(drift))
        log_drift(store, cfg, clustering.name, drift)
    state = "fitted" if clustering.fitted else "up to date"
    return (
        f"{len(clustering.centroids_CD):,} clusters {state}; {new:,} documents assigned, "
        f"{n_vectors - new:,} already assigned, {n_embedded - n_vectors:,} without a vector"
    )


if __name__ == "__main__":
    main(run)
