"""Score every document once with each scorer.

documents -> scores

Rerun it at any time: what a scorer has already scored is skipped.
"""

from functools import partial

from climb import tables
from climb.config import Config, recipe_of
from climb.run import main
from climb.spark.score import build_scorers, score_documents
from climb.spark.steps import append_missing
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Score the documents that each scorer has not seen yet."""
    documents = store.read(tables.DOCUMENTS)
    done = []
    for scorer in build_scorers(cfg.score.scorers):
        recipe = recipe_of(scorer)
        new, known = append_missing(
            store,
            documents,
            tables.SCORES,
            recipe,
            cfg.storage.commit_documents,
            partial(score_documents, scorer=scorer),
        )
        done.append(f"{', '.join(scorer.names)}: {new:,} scored, {known:,} known ({recipe})")
    return "; ".join(done) or "no scorers configured"


if __name__ == "__main__":
    main(run)
