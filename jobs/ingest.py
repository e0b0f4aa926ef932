"""Read text files, clean them, and keep every text once.

files -> documents, rejected

Rerun it at any time: existing documents are skipped, and unchanged files are not read.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.ingest.clean import RULES_VERSION
from climb.ingest.files import find_files
from climb.ingest.plan import plan_units
from climb.spark.corpus.ingest import ingest_units
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Append the new documents, and count the rejected rows by reason."""
    files = find_files(cfg.ingest.inputs)
    inputs = store.history.describe_inputs(
        files=files.digest(), rules=RULES_VERSION, settings=cfg.ingest
    )
    if store.exists(tables.DOCUMENTS) and store.history.is_current(tables.REJECTED, inputs):
        return f"files unchanged, {store.read(tables.DOCUMENTS).count():,} documents up to date"
    units = plan_units(files, cfg.ingest)
    return str(ingest_units(store, units, cfg.ingest, inputs))


if __name__ == "__main__":
    main(run)
