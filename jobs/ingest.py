"""Read text files and Delta tables, clean the text, and remove duplicates.

files, exclusions, dropped -> documents, rejected, read_files

Rerun it at any time: existing documents are skipped, and unchanged inputs are not read. If files
were added and nothing else has changed, only the added files are read.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.spark.corpus.ingest import ingest_rows
from climb.spark.corpus.inputs import describe_batch, find_inputs, read_batch
from climb.spark.corpus.read_files import record_files
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Append the new documents, and count the rejected rows by reason."""
    found = find_inputs(store, cfg.ingest)
    if found.is_current(store):
        # An ingest that was killed may have written the documents without recording the files.
        record_files(store, found.listing, found.inputs)
        return f"inputs unchanged, {store.read(tables.DOCUMENTS).count():,} documents up to date"
    batch = read_batch(store, found, cfg.ingest)
    counts = ingest_rows(store, batch, cfg.ingest, found.inputs)
    record_files(store, found.listing, found.inputs)
    return describe_batch(counts, found, batch)


if __name__ == "__main__":
    main(run)
