"""Embed and assign documents in one pass that stores no vectors.

Before this pass, the centroids are fitted to a sample of documents whose vectors are stored. If the
embedder returns the same vector each time that it embeds the same text, the centroids and the
assignments are the same as those of a run that stores all vectors.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, recipe_of
from climb.embed import build_embedder
from climb.progress import log
from climb.spark.corpus.append import append_in_steps
from climb.spark.corpus.cluster import Clustering, assign_documents
from climb.spark.corpus.embed import embed_documents
from climb.spark.delta.store import Store
from climb.spark.slots import name_device, plan_profile


def assign_without_vectors(store: Store, cfg: Config, clustering: Clustering) -> tuple[int, int]:
    """Embed and assign the documents that have neither an assignment nor a stored embedding.

    A crash loses the work of at most one commit. If the embedder returns no vector for a document,
    the document has no assignment. After the last commit, each such document gets a row in
    `embeddings` with a NULL embedding, so that the next call does not embed this document.

    Args:
        store: table `assignments` has rows of this clustering only.
        cfg: sections `embed`, `spark` and `storage`.
        clustering: the centroids.

    Returns:
        How many documents were embedded now, and for how many the embedder returned no vector.

    Raises:
        ClimbError: a task raised it.
    """
    embedder = build_embedder(cfg.embed)
    recipe = recipe_of(embedder)
    profile = plan_profile(store.session, cfg.spark, embedder)

    def compute(documents: DataFrame) -> DataFrame:
        vectors = embed_documents(documents, embedder, profile)
        vectors = vectors.where(F.col("embedding").isNotNull())
        return assign_documents(vectors, clustering.centroids_CD, clustering.name)

    n_per_step = cfg.storage.commit_documents
    device = name_device(store.session, cfg.spark, embedder)
    log("cluster", f"unassigned documents: embedding with {type(embedder).__name__} on {device}")
    missing = _select_unknown(store, recipe)
    n_missing = append_in_steps(store, missing, tables.ASSIGNMENTS, n_per_step, compute)
    without_vector = _select_unknown(store, recipe)
    n_without = without_vector.count() if n_missing else 0
    if n_without:
        columns = (F.lit(recipe).alias("recipe"), F.lit(None).alias("embedding"))
        store.append(without_vector.select("doc_id", *columns), tables.EMBEDDINGS)
    return n_missing, n_without


def _select_unknown(store: Store, recipe: str) -> DataFrame:
    """Select the documents with neither an assignment nor an embedding of this embedder."""
    documents = store.select_missing(store.read(tables.DOCUMENTS), tables.ASSIGNMENTS)
    return store.select_missing(documents, tables.EMBEDDINGS, recipe=recipe)
