"""Embed every document once.

documents -> embeddings

Rerun it at any time: what this embedder has already embedded is skipped.
"""

from pyspark.sql import functions as F

from climb import tables
from climb.config import Config, recipe_of
from climb.embed import embedder_of
from climb.run import main
from climb.spark.embed import embed_documents
from climb.spark.steps import append_missing
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Embed the documents that this embedder has not seen yet."""
    embedder = embedder_of(cfg.embed)
    recipe = recipe_of(embedder)
    new, known = append_missing(
        store,
        store.read(tables.DOCUMENTS),
        tables.EMBEDDINGS,
        recipe,
        cfg.storage.commit_documents,
        lambda documents: embed_documents(documents, embedder),
    )
    made = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    without = made.where(F.col("embedding").isNull()).count()
    return f"{new:,} documents embedded, {known:,} known, {without:,} without a vector ({recipe})"


if __name__ == "__main__":
    main(run)
