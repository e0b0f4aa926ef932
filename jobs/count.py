"""Count every document's tokens, with the tokenizer that the proxies use.

documents -> tokenizers, tokens

Rerun it at any time: a tokenizer is trained once, and what it has counted is skipped.
"""

from climb import tables, tokenizer
from climb.config import Config
from climb.run import main
from climb.spark.steps import append_missing
from climb.spark.store import Store
from climb.spark.tokens import count_tokens, ensure_tokenizer


def run(store: Store, cfg: Config) -> str:
    """Train or load the tokenizer, and count what it has not counted yet."""
    json = ensure_tokenizer(store, cfg)
    recipe = tokenizer.recipe(cfg.count)
    new, known = append_missing(
        store,
        store.read(tables.DOCUMENTS),
        tables.TOKENS,
        recipe,
        cfg.storage.commit_documents,
        lambda documents: count_tokens(documents, json, recipe),
    )
    return f"{new:,} documents counted, {known:,} known ({recipe})"


if __name__ == "__main__":
    main(run)
