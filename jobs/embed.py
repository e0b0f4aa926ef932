"""Embed every document once.

documents -> embeddings

Rerun it at any time: documents that this embedder has embedded are skipped.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.embed import build_embedder
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.embed import embed_documents
from climb.spark.delta.store import Store
from climb.spark.slots import plan_profile


def run(store: Store, cfg: Config) -> str:
    """Embed the documents that have no embedding of this embedder yet."""
    embedder = build_embedder(cfg.embed)
    recipe = recipe_of(embedder)
    profile = plan_profile(store.session, cfg.spark, embedder)
    new, existing = append_missing(
        store,
        store.read(tables.DOCUMENTS),
        tables.EMBEDDINGS,
        recipe,
        cfg.storage.commit_documents,
        lambda documents: embed_documents(documents, embedder, profile),
    )
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    n_null = embeddings.where(F.col("embedding").isNull()).count()
    return (
        f"{new:,} documents embedded, {existing:,} already embedded, "
        f"{n_null:,} without a vector ({recipe})"
    )


if __name__ == "__main__":
    main(run)
