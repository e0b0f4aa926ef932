"""Embed every document once, or only the sample to which clusters are fitted.

documents -> embeddings

Rerun it at any time: documents that this embedder has embedded are skipped.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.embed import build_embedder
from climb.progress import log
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.cluster import is_fitted
from climb.spark.corpus.embed import embed_documents
from climb.spark.corpus.fit_sample import select_fit_documents
from climb.spark.delta.store import Store
from climb.spark.slots import name_device, plan_profile


def run(store: Store, cfg: Config) -> str:
    """Embed the documents that have no embedding of this embedder yet."""
    embedder = build_embedder(cfg.embed)
    recipe = recipe_of(embedder)
    device = name_device(store.session, cfg.spark, embedder)
    log("embed", f"{type(embedder).__name__} runs on {device}")
    if cfg.cluster.embeddings == "sample":
        return _run_on_sample(store, cfg, recipe)
    new, existing = _embed(store, cfg, store.read(tables.DOCUMENTS))
    return f"{new:,} documents embedded, {existing:,} already embedded, {_count(store, recipe)}"


def _run_on_sample(store: Store, cfg: Config, recipe: str) -> str:
    """Embed the sample, unless clusters are fitted already.

    Job cluster embeds the documents outside of the sample.
    """
    if is_fitted(store, cfg):
        return (
            "no document embedded: the clusters are fitted, and job cluster embeds new documents "
            f"({recipe})"
        )
    n_new, new = 0, 1
    while new:
        # A document without a vector does not count in the sample, so the next selection adds
        # another one. That one may get no vector either: repeat until no document is left to embed.
        new, existing = _embed(store, cfg, select_fit_documents(store, cfg, recipe))
        n_new, n_old = n_new + new, existing - n_new
    return (
        f"{n_new:,} documents of the sample embedded, {n_old:,} already embedded, "
        f"{_count(store, recipe)}"
    )


def _embed(store: Store, cfg: Config, documents: DataFrame) -> tuple[int, int]:
    """Embed the documents that have no row; return the numbers of new rows and of existing rows."""
    embedder = build_embedder(cfg.embed)
    profile = plan_profile(store.session, cfg.spark, embedder)
    return append_missing(
        store,
        documents,
        tables.EMBEDDINGS,
        recipe_of(embedder),
        cfg.storage.commit_documents,
        lambda rows: embed_documents(rows, embedder, profile),
    )


def _count(store: Store, recipe: str) -> str:
    embeddings = store.read(tables.EMBEDDINGS).where(F.col("recipe") == recipe)
    n_null = embeddings.where(F.col("embedding").isNull()).count()
    return f"{n_null:,} without a vector ({recipe})"


if __name__ == "__main__":
    main(run)
