"""Find clusters of like documents, and assign every document to its nearest.

embeddings -> centroids, assignments

Rerun it at any time: new documents are assigned to the clusters there are; nobody is re-clustered.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, build, recipe_of
from climb.embed import Embedder
from climb.run import main
from climb.spark.kmeans import assign_missing, ensure_centroids
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Fit centroids if these settings have none, and assign what has no cluster yet."""
    recipe = recipe_of(build(cfg.embed.embedder, Embedder))
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    vectors = embeddings.where(F.col("embedding").isNotNull())
    n_vectors = vectors.count()
    clustering = ensure_centroids(store, cfg, vectors, n_vectors)
    new = assign_missing(store, vectors, n_vectors, clustering)
    made = "fitted" if clustering.fitted else "known"
    return (
        f"{len(clustering.centroids_CD):,} clusters {made}; {new:,} documents assigned, "
        f"{n_vectors - new:,} known, {embeddings.count() - n_vectors:,} without a vector"
    )


if __name__ == "__main__":
    main(run)
