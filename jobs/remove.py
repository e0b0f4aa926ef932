"""Remove all documents of some sources from every table, and keep ingest from reading them again.

documents, tokens, assignments, clusters, rejected -> exclusions

Rerun it at any time: an interrupted removal continues, and its report counts the whole removal.
"""

from pathlib import Path

from climb.cli.start import main
from climb.config import Config
from climb.files import write_file
from climb.spark.corpus.remove_source import readmit_sources, remove_sources
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Remove the documents of the configured sources, or let ingest read these sources again."""
    sources = sorted(set(cfg.remove.sources))
    if cfg.remove.undo:
        readmit_sources(store, cfg)
        done = "is read" if len(sources) == 1 else "are read"
        done = "would be read" if cfg.remove.dry_run else done
        return f"{', '.join(map(repr, sources))} {done} again by the next `climb ingest`"
    removal, was_left = remove_sources(store, cfg)
    if cfg.remove.out is not None:
        text = removal.to_json()
        write_file(Path(cfg.remove.out), lambda: [text.encode()])
    did = "would remove" if cfg.remove.dry_run else "removed"
    did = did if was_left else "already removed"
    return f"{did} {removal}"


if __name__ == "__main__":
    main(run)
