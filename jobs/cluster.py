"""Find clusters of like documents, and assign every document to its nearest.

documents, embeddings -> centroids, assignments

Rerun it at any time: new documents are assigned to the clusters there are; nobody is re-clustered.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, recipe_of
from climb.embed import embedder_of
from climb.errors import TableError
from climb.run import main
from climb.spark.kmeans import assign_missing, ensure_centroids
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Fit centroids if these settings have none, and assign what has no cluster yet."""
    recipe = recipe_of(embedder_of(cfg.embed))
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    vectors = embeddings.where(F.col("embedding").isNotNull())
    n_vectors, n_embedded = vectors.count(), embeddings.count()
    n_missing = store.read(tables.DOCUMENTS).count() - n_embedded
    if n_missing:
        raise TableError(
            f"table embeddings lacks {n_missing:,} documents of {recipe}; run `climb embed` first"
        )
    clustering = ensure_centroids(store, cfg, vectors, n_vectors)
    new = assign_missing(store, vectors, n_vectors, clustering)
    made = "fitted" if clustering.fitted else "known"
    return (
        f"{len(clustering.centroids_CD):,} clusters {made}; {new:,} documents assigned, "
        f"{n_vectors - new:,} known, {n_embedded - n_vectors:,} without a vector"
    )


if __name__ == "__main__":
    main(run)
