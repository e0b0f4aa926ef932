"""Compact the files of all tables, and delete files of old versions that are not needed.

all tables -> all tables

Rerun it at any time: no row changes, so no other job has to run again.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.maintain import maintain_tables
from climb.spark.delta.store import Store
from climb.spark.training.lineage import find_held_tables


def run(store: Store, cfg: Config) -> str:
    """Maintain every table, or list the files that would be deleted."""
    dry_run = cfg.maintain.dry_run
    done = maintain_tables(store, find_held_tables(store), dry_run)
    lines = [str(upkeep) for upkeep in done]
    if dry_run:
        unused = [path for upkeep in done for path in upkeep.unused]
        return "\n".join([f"would delete {len(unused):,} files", *unused, *lines])
    compacted, added = (sum(getattr(u, name) for u in done) for name in ("compacted", "added"))
    return "\n".join([f"{len(done)} tables; {compacted:,} files became {added:,}", *lines])


if __name__ == "__main__":
    main(run)
