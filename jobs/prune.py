"""Drop the clusters of poor text, and merge the others into domains.

documents, tokens, scores, centroids, assignments -> clusters, domains

Rerun it at any time: both tables are a function of what is read, and stay while that stays.
"""

from climb import tables, tokenizer
from climb.config import Config, recipe_of
from climb.run import main
from climb.spark.domains import cluster_rows, decide, domain_rows, measure, sample_documents
from climb.spark.score import build_scorers
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Measure, prune, merge and describe."""
    inputs = store.inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.SCORES,
        tables.CENTROIDS,
        tables.ASSIGNMENTS,
        prune=cfg.prune,
        tokenizer=tokenizer.recipe(cfg.count),
        scorers=[recipe_of(scorer) for scorer in build_scorers(cfg.score.scorers)],
    )
    if all(store.is_current(table, inputs) for table in (tables.CLUSTERS, tables.DOMAINS)):
        return f"{store.read(tables.DOMAINS).count()} domains up to date"
    measured = measure(store, cfg)
    reasons, kept, labels = decide(measured, cfg.prune)
    samples = sample_documents(store, kept.tolist(), cfg.prune.sample_documents)
    domains = domain_rows(measured, kept, labels, samples, cfg.prune.terms)
    clusters = cluster_rows(measured, reasons, domains)
    store.replace(store.frame(clusters, tables.CLUSTERS), tables.CLUSTERS, inputs)
    store.replace(store.frame(domains, tables.DOMAINS), tables.DOMAINS, inputs)
    share = measured.tokens_C[kept].sum() / measured.tokens_C.sum()
    return (
        f"{len(kept):,} of {len(clusters):,} clusters kept ({share:.1%} of the tokens), "
        f"merged into {len(domains)} domains"
    )


if __name__ == "__main__":
    main(run)
