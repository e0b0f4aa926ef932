"""Read text files, clean them, and keep every text once.

files -> documents, rejected

Rerun it at any time: known documents are skipped, and unchanged files are not even read.
"""

from climb import tables
from climb.config import Config
from climb.ingest.clean import RULES
from climb.ingest.files import find_files
from climb.ingest.plan import plan
from climb.run import main
from climb.spark.ingest import ingest_units
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Add the documents that are new, and say what became of every row."""
    found = find_files(cfg.ingest.inputs)
    inputs = store.inputs(files=found.digest(), rules=RULES, settings=cfg.ingest)
    if store.exists(tables.DOCUMENTS) and store.is_current(tables.REJECTED, inputs):
        return f"files unchanged, {store.read(tables.DOCUMENTS).count():,} documents known"
    units = plan(found, cfg.ingest)
    return str(ingest_units(store, units, cfg.ingest, inputs))


if __name__ == "__main__":
    main(run)
