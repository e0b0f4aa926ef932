"""Score every document once with each scorer.

documents -> repeated_ngrams, scores

Rerun it at any time: documents that a scorer has scored are skipped.
"""

from functools import partial

from climb import tables
from climb.cli.start import main
from climb.config import Config, recipe_of
from climb.quality import CorpusScorer
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.score import (
    build_scorers,
    ensure_repeated_ngrams,
    score_documents,
)
from climb.spark.delta.store import Store
from climb.spark.slots import plan_profile


def run(store: Store, cfg: Config) -> str:
    """For each scorer, score the documents that this scorer has not scored yet."""
    documents = store.read(tables.DOCUMENTS)
    lines = []
    for scorer in build_scorers(cfg.score.scorers):
        recipe = recipe_of(scorer)
        profile = plan_profile(store.session, cfg.spark, scorer)
        repeated = None
        if isinstance(scorer, CorpusScorer):
            repeated = ensure_repeated_ngrams(store, documents, scorer)
        new, existing = append_missing(
            store,
            documents,
            tables.SCORES,
            recipe,
            cfg.storage.commit_documents,
            partial(score_documents, scorer=scorer, repeated=repeated, profile=profile),
        )
        names = ", ".join(scorer.names)
        lines.append(f"{names}: {new:,} scored, {existing:,} already scored ({recipe})")
    return "; ".join(lines) or "no scorers configured"


if __name__ == "__main__":
    main(run)
