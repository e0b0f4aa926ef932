"""Find documents that contain items of the targets; drop those that `contamination.drop` selects.

documents -> contamination, dropped

Rerun it at any time: checked documents are skipped, and an interrupted drop continues.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.corpus.contamination import (
    check_documents,
    count_overlaps,
    drop_documents,
    readmit_documents,
)
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Check the documents that were not checked yet, and drop documents if so configured.

    All documents that contain items are counted, also those that an earlier run has checked.
    """
    drop = cfg.contamination.drop
    if drop == "undo":
        return f"the next `climb ingest` reads {readmit_documents(store):,} dropped documents again"
    recipe, new, existing = check_documents(store, cfg)
    n_found, lines = count_overlaps(store, recipe)
    line = f"{new:,} documents checked, {existing:,} already checked ({recipe}); "
    line += f"{n_found:,} contain items of targets"
    if drop != "none":
        n_dropped = drop_documents(store, recipe, None if drop == "all" else drop)
        line += f"; {n_dropped:,} dropped"
    return "\n".join([line, *lines])


if __name__ == "__main__":
    main(run)
