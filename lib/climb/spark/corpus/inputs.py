"""What an ingest reads: files, and for each Delta table all rows or those that were added.

Only the rows that were added are read if nothing but such rows has changed since the last ingest:
the same settings, no files, and commits that only append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from climb import tables
from climb.config.sections import IngestConfig
from climb.ingest.clean import RULES_VERSION
from climb.ingest.files import FileListing, find_files
from climb.ingest.plan import plan_units
from climb.spark.corpus.ingest import Batch, Counts
from climb.spark.delta.history import Inputs
from climb.spark.delta.source import (
    SourceTable,
    describe_sources,
    find_source,
    list_removing_versions,
    read_added,
    read_source,
)
from climb.spark.delta.store import Store

REMOVE = "`climb ingest --set ingest.remove_missing=true`"


@dataclass(frozen=True)
class FoundInputs:
    """Files and tables behind `ingest.inputs`, and what an earlier ingest has read of them."""

    listing: FileListing
    sources: tuple[SourceTable, ...]
    inputs: Inputs
    earlier: Inputs | None
    """Of the last complete ingest."""

    removing: dict[str, list[int]]
    """Label of a table -> versions since the last ingest that changed or removed rows."""

    def is_current(self, store: Store) -> bool:
        """Whether the last ingest has read the same inputs with the same settings."""
        return store.exists(tables.DOCUMENTS) and self.earlier == self.inputs

    def count_documents(self, store: Store) -> int:
        """Count the documents of the table."""
        return store.read(tables.DOCUMENTS).count()

    def find_versions_before(self) -> dict[str, int] | None:
        """Return the version of each table that was read before; None if all rows must be read."""
        before = self.earlier["settings"] if self.earlier is not None else {}
        now = self.inputs["settings"]
        same = all(before.get(key) == now[key] for key in ("files", "rules", "settings"))
        if not same or self.listing.files or self.listing.problems:
            return None
        tables_before: dict[str, list[Any]] = before.get("tables", {})
        if any(self.removing.values()) or tables_before.keys() != now["tables"].keys():
            return None
        if any(tables_before[s.name][0] != s.table_id for s in self.sources):
            return None
        return {name: int(version) for name, (_, version) in tables_before.items()}


def find_inputs(store: Store, cfg: IngestConfig) -> FoundInputs:
    """Find files and tables, their versions, and what was read before.

    Raises:
        InputError: an input does not exist or cannot be read.
    """
    listing = find_files(cfg.inputs, cfg.format)
    sources = tuple(find_source(store.session, name) for name in listing.tables)
    inputs = store.history.describe_inputs(
        files=listing.digest(),
        tables=describe_sources(sources),
        rules=RULES_VERSION,
        settings=cfg,
    )
    earlier = store.history.read_inputs(tables.REJECTED)
    known = earlier["settings"].get("tables", {}) if earlier is not None else {}
    removing = {
        source.label: list_removing_versions(store.session, source, int(known[source.name][1]))
        for source in sources
        if known.get(source.name, [None])[0] == source.table_id
    }
    return FoundInputs(listing, sources, inputs, earlier, removing)


def read_batch(store: Store, found: FoundInputs, cfg: IngestConfig) -> Batch:
    """Plan the files, and read all rows of the tables or those that were added.

    Raises:
        InputError: a file cannot be read, or has other columns than configured.
    """
    before = found.find_versions_before() if not cfg.remove_missing else None
    if before is not None and found.sources:
        added = [(s.label, read_added(store.session, s, before[s.name])) for s in found.sources]
        rows = [(label, frame) for label, frame in added if frame is not None]
        if len(rows) == len(added):
            return Batch((), rows, is_increment=True)
    sources = [(s.label, read_source(store.session, s)) for s in found.sources]
    return Batch(tuple(plan_units(found.listing, cfg)), sources)


def describe_batch(counts: Counts, found: FoundInputs, batch: Batch) -> str:
    """Describe the result, and the versions of tables that were read."""
    lines = [str(counts)]
    for source in found.sources:
        part = "rows added up to" if batch.is_increment else "all rows of"
        lines.append(f"{source.label}: {part} version {source.version}")
    removing = {label: versions for label, versions in found.removing.items() if versions}
    for label, versions in removing.items():
        names = ", ".join(map(str, versions))
        lines.append(f"{label} changed or removed rows in version {names}")
    if counts.older and removing:
        lines.append(f"{REMOVE} removes documents that are no longer in the inputs")
    return "; ".join(lines)
