"""Prune the clusters of poor quality, and merge the others into domains.

documents, tokens, scores, centroids, assignments -> clusters, domains

Rerun it at any time: both tables are written again only if an input table or a setting has changed.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.spark.corpus.names import read_domain_names, read_given_names
from climb.spark.corpus.prune import (
    build_cluster_rows,
    build_domain_rows,
    measure_clusters,
    prune_and_merge,
)
from climb.spark.corpus.samples import sample_documents
from climb.spark.corpus.score import build_scorers
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Measure, prune and merge the clusters, and describe the domains."""
    given = read_given_names(cfg.prune.names)
    inputs = store.history.describe_inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.SCORES,
        tables.CENTROIDS,
        tables.ASSIGNMENTS,
        prune=cfg.prune,
        tokenizer=cfg.count.recipe,
        scorers=[recipe_of(scorer) for scorer in build_scorers(cfg.score.scorers)],
        names=given,
    )
    if all(store.history.is_current(table, inputs) for table in (tables.CLUSTERS, tables.DOMAINS)):
        return f"{store.read(tables.DOMAINS).count()} domains up to date"
    measured = measure_clusters(store, cfg)
    reasons, kept, labels = prune_and_merge(measured, cfg.prune)
    samples = sample_documents(store, kept.tolist(), cfg.prune.sample_documents)
    names = read_domain_names(store, given)
    domains = build_domain_rows(measured, kept, labels, samples, cfg.prune.terms, names)
    clusters = build_cluster_rows(measured, reasons, domains)
    store.replace(store.create_frame(clusters, tables.CLUSTERS), tables.CLUSTERS, inputs)
    store.replace(store.create_frame(domains, tables.DOMAINS), tables.DOMAINS, inputs)
    share = measured.tokens_C[kept].sum() / measured.tokens_C.sum()
    return (
        f"{len(kept):,} of {len(clusters):,} clusters kept ({share:.1%} of the tokens), "
        f"merged into {len(domains)} domains"
    )


if __name__ == "__main__":
    main(run)
