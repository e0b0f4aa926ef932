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
from climb.spark.training.pack_settings import list_pack_settings


def run(store: Store, cfg: Config) -> str:
    """Write the shards (token arrays), and record the lineage.

    Shards are packed for trials, for target runs, and for the base checkpoints of both.
    """
    inputs = store.history.describe_inputs(
        tables.DOCUMENTS,
        tables.TOKENS,
        tables.ASSIGNMENTS,
        tables.CLUSTERS,
        tables.DOMAINS,
        **list_pack_settings(cfg),
    )
    if store.history.is_current(tables.SHARDS, inputs):
        rows = store.read_rows(tables.SHARDS)
        # In tables that were copied from another storage root, the paths are those of that root.
        # The shards there may be deleted, so only shards below the current root count.
        own = store.locate_file("shards")
        paths = [Path(row["path"]) for row in rows]
        if all(path.is_relative_to(own) and is_complete(path) for path in paths):
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
