"""Pack a share of every domain into the token arrays that proxies read.

documents, tokenizers, tokens, assignments, clusters, domains -> shards, lineage

Rerun it at any time: complete shards of unchanged inputs are skipped.
"""

from pathlib import Path

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.files import is_complete
from climb.spark.delta.store import Store
from climb.spark.training.lineage import record_lineage
from climb.spark.training.pack import pack_shards


def run(store: Store, cfg: Config) -> str:
    """Write the shards of base checkpoints, trials and target runs, and record the lineage."""
    # The default is left out of the inputs, so that shards of earlier versions stay up to date.
    unmatched = {} if cfg.proxy.match_repetition else {"match_repetition": False}
    inputs = store.history.describe_inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.ASSIGNMENTS,
        tables.CLUSTERS,
        tables.DOMAINS,
        tokenizer=[cfg.count.recipe, cfg.count.end_of_text],
        base_tokens=[cfg.proxy.base_tokens, cfg.train.base_tokens],
        run_tokens=[cfg.proxy.trial_tokens, cfg.train.tokens, cfg.search.target_tokens],
        **unmatched,
    )
    if store.history.is_current(tables.SHARDS, inputs):
        rows = store.read_rows(tables.SHARDS)
        if all(is_complete(Path(row["path"])) for row in rows):
            store.used_folders.update(str(Path(row["path"]).parent) for row in rows)
            record_lineage(store, cfg, rows)
            return f"{len(rows)} shards up to date"
    rows = pack_shards(store, cfg, inputs)
    store.used_folders.update(str(Path(row["path"]).parent) for row in rows)
    record_lineage(store, cfg, rows)
    store.replace(store.create_frame(rows, tables.SHARDS), tables.SHARDS, inputs)
    sizes = {row["kind"]: 0 for row in rows}
    for row in rows:
        sizes[row["kind"]] += row["n_tokens"]
    return "shards packed: " + ", ".join(f"{kind} {n:,} tokens" for kind, n in sizes.items())


if __name__ == "__main__":
    main(run)
