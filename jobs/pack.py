"""Pack a share of every domain into the token arrays that proxies read.

documents, tokenizers, tokens, assignments, clusters, domains -> shards, lineage

Rerun it at any time: a finished shard is skipped, and nothing is written while the inputs stay.
"""

from pathlib import Path

from climb import tables, tokenizer
from climb.config import Config
from climb.run import main
from climb.spark.lineage import record
from climb.spark.pack import pack_shards
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Write the shards of bases, trials and target runs, and what their domains are made of."""
    inputs = store.inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.ASSIGNMENTS,
        tables.CLUSTERS,
        tables.DOMAINS,
        tokenizer=tokenizer.recipe(cfg.count),
        base_tokens=[cfg.proxy.base_tokens, cfg.train.base_tokens],
        run_tokens=[cfg.proxy.trial_tokens, cfg.train.tokens, cfg.search.target_tokens],
    )
    if store.is_current(tables.SHARDS, inputs):
        rows = store.rows(tables.SHARDS)
        if all(Path(row["path"]).exists() for row in rows):
            record(store, cfg, rows)
            return f"{len(rows)} shards up to date"
    rows = pack_shards(store, cfg, inputs)
    record(store, cfg, rows)
    store.replace(store.frame(rows, tables.SHARDS), tables.SHARDS, inputs)
    sizes = {row["kind"]: 0 for row in rows}
    for row in rows:
        sizes[row["kind"]] += row["n_tokens"]
    return "shards packed: " + ", ".join(f"{kind} {n:,} tokens" for kind, n in sizes.items())


if __name__ == "__main__":
    main(run)
