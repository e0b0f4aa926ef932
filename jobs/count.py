"""Count the tokens of every document, with the tokenizer of the proxies.

documents -> tokenizers, tokens

Rerun it at any time: the tokenizer is trained once, and counted documents are skipped.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.count import count_tokens, ensure_tokenizer
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Train or load the tokenizer, and count the documents that have no count yet."""
    json = ensure_tokenizer(store, cfg)
    recipe = cfg.count.recipe
    new, existing = append_missing(
        store,
        store.read(tables.DOCUMENTS),
        tables.TOKENS,
        recipe,
        cfg.storage.commit_documents,
        lambda documents: count_tokens(documents, json, recipe),
    )
    return f"{new:,} documents counted, {existing:,} already counted ({recipe})"


if __name__ == "__main__":
    main(run)
