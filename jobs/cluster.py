"""Cluster the documents by their embeddings, and assign every document to the nearest cluster.

documents, embeddings -> centroids, assignments, fits

Rerun it at any time: new documents are assigned to the existing clusters; assigned documents keep
their cluster. With `cluster.embeddings: sample`, this job embeds the documents outside of the
sample. At the end, it reports the drift since the fit, and whether a new clustering pays.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.embed import build_embedder
from climb.errors import TableError
from climb.progress import log
from climb.spark.corpus.cluster import assign_missing, ensure_centroids, is_fitted
from climb.spark.corpus.drift import read_drift, record_fit
from climb.spark.corpus.fit_sample import measure_sample, select_fit_documents
from climb.spark.corpus.one_pass import assign_without_vectors
from climb.spark.delta.store import Store
from climb.tracking.drift import log_drift


def run(store: Store, cfg: Config) -> str:
    """Fit centroids if none exist for `cfg`, and assign the documents that have no cluster."""
    recipe = recipe_of(build_embedder(cfg.embed))
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    vectors = embeddings.where(F.col("embedding").isNotNull())
    n_vectors, n_embedded = vectors.count(), embeddings.count()
    n_documents, n_null = store.read(tables.DOCUMENTS).count(), n_embedded - n_vectors
    _check_embedded(store, cfg, recipe, n_documents - n_embedded)
    clustering = ensure_centroids(store, cfg, vectors, n_vectors)
    new = assign_missing(store, vectors, n_vectors, clustering)
    if cfg.cluster.embeddings == "sample":
        n_passed, n_without = assign_without_vectors(store, cfg, clustering)
        new, n_null = new + n_passed - n_without, n_null + n_without
    if clustering.fitted and (found := measure_sample(store, cfg.cluster)) is not None:
        log("cluster", found.describe())
    is_recorded = record_fit(store, clustering.name)
    drift = None if is_recorded else read_drift(store)
    if drift is not None:
        log("cluster", str(drift))
        log_drift(store, cfg, clustering.name, drift)
    state = "fitted" if clustering.fitted else "up to date"
    return (
        f"{len(clustering.centroids_CD):,} clusters {state}; {new:,} documents assigned, "
        f"{n_documents - n_null - new:,} already assigned, {n_null:,} without a vector"
    )


def _check_embedded(store: Store, cfg: Config, recipe: str, n_missing: int) -> None:
    """Check that `embeddings` has the documents that this job reads from it.

    Args:
        store: tables `documents` and `embeddings`.
        cfg: section cluster.
        recipe: name of the embedder.
        n_missing: number of documents that are not embedded. With `cluster.embeddings: sample` it
            is ignored, because only the documents of the sample must be embedded.

    Raises:
        TableError: documents are missing.
    """
    if cfg.cluster.embeddings == "sample":
        if is_fitted(store, cfg):
            return
        sample = select_fit_documents(store, cfg, recipe)
        n_missing = store.select_missing(sample, tables.EMBEDDINGS, recipe=recipe).count()
    if n_missing:
        raise TableError(
            f"table embeddings has no {recipe} row for {n_missing:,} documents; "
            "run `climb embed` first"
        )


if __name__ == "__main__":
    main(run)
