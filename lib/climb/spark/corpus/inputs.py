"""What an ingest reads: files, and for each Delta table all rows or only the added rows.

Only the added rows of tables are read if the settings are those of the last ingest, no input is a
file, and all commits since then only append. Only the added files are read if nothing else changed.
If table `documents` is not as the last complete ingest left it, everything is read. With
`ingest.remove_missing`, everything is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from climb import tables
from climb.config.sections import IngestConfig
from climb.ingest.clean import RULES_VERSION
from climb.ingest.files import FileListing, find_files
from climb.ingest.plan import plan_units
from climb.spark.corpus.exclusions import list_excluded
from climb.spark.corpus.ingest import Batch, Counts
from climb.spark.corpus.read_files import find_new_files
from climb.spark.delta.history import Inputs, are_equal, have_equal_tables
from climb.spark.delta.source import (
    Changes,
    SourceTable,
    find_changes,
    find_source,
    read_added,
    read_source,
)
from climb.spark.delta.store import Store

KEYS = ("files", "rules", "settings", "excluded", "exclusions", "dropped")
"""Keys of the recorded inputs of an ingest, beside `tables`."""

REMOVE = "`climb ingest` with `--set ingest.remove_missing=true`"


@dataclass(frozen=True)
class FoundInputs:
    """Files and tables behind `ingest.inputs`, and what an earlier ingest has read of them."""

    listing: FileListing
    sources: tuple[SourceTable, ...]
    inputs: Inputs
    earlier: Inputs | None
    """The inputs of the last complete ingest, and the version of `documents` after it; None if
    there was none."""

    changes: Mapping[str, Changes]
    """Name of a table that the last ingest read -> what happened to it since then."""

    new_files: FileListing | None
    """The files that were added since the last ingest; None if anything else has changed."""

    def is_current(self, store: Store) -> bool:
        """Whether the last complete ingest has read the same inputs with the same settings.

        The result is False if `documents` has changed since that ingest, because then a later
        ingest was killed or documents were deleted.
        """
        return store.exists(tables.DOCUMENTS) and are_equal(self.earlier, self.inputs)

    def has_only_added_rows(self) -> bool:
        """Whether no input is a file, and only appended rows differ from the last ingest."""
        if self.earlier is None or not have_equal_tables(self.earlier, self.inputs):
            return False
        before, now = self.earlier["settings"], self.inputs["settings"]
        return (
            all(before.get(key) == now.get(key) for key in KEYS)
            and not (self.listing.files or self.listing.problems)
            and self.changes.keys() == now["tables"].keys() == before["tables"].keys()
            and not any(c.removing or c.is_rewritten for c in self.changes.values())
        )


def find_inputs(store: Store, cfg: IngestConfig) -> FoundInputs:
    """Find files and tables, their versions, and what was read before.

    Raises:
        InputError: an input does not exist or cannot be read.
        TableError: the removal of a source was interrupted.
    """
    listing = find_files(cfg.inputs, cfg.format)
    sources = tuple(find_source(store.session, name) for name in listing.tables)
    inputs = store.history.describe_inputs(
        tables.DOCUMENTS,
        files=listing.digest(),
        tables={source.name: [source.table_id, source.version] for source in sources},
        rules=RULES_VERSION,
        settings=cfg,
        **_describe_exclusions(store),
    )
    earlier = store.history.read_inputs(tables.REJECTED)
    known = earlier["settings"].get("tables", {}) if earlier is not None else {}
    changes = {
        source.name: find_changes(store.session, source, int(known[source.name][1]))
        for source in sources
        if known.get(source.name, [None])[0] == source.table_id
    }
    new_files = find_new_files(store, listing, inputs, earlier)
    return FoundInputs(listing, sources, inputs, earlier, changes, new_files)


def _describe_exclusions(store: Store) -> dict[str, Any]:
    """List the removed sources, and the versions of tables `exclusions` and `dropped`.

    The versions show that documents were deleted, even if the removal was undone before an ingest.
    A missing table adds no key, so ingests of earlier versions of climb stay up to date.
    """
    described: dict[str, Any] = {}
    if store.exists(tables.EXCLUSIONS):
        version = store.history.read_version(tables.EXCLUSIONS)
        described = {"excluded": list_excluded(store), "exclusions": version}
    if store.exists(tables.DROPPED):
        described["dropped"] = store.history.read_version(tables.DROPPED)
    return described


def read_batch(store: Store, found: FoundInputs, cfg: IngestConfig) -> Batch:
    """Plan all files or only the added ones, and read all rows of tables or only the added ones.

    Raises:
        InputError: a file cannot be read, or has other columns than configured.
    """
    if found.new_files is not None and not cfg.remove_missing:
        return Batch(tuple(plan_units(found.new_files, cfg)), (), is_increment=True, is_unread=True)
    if found.has_only_added_rows() and not cfg.remove_missing:
        added = [
            (s.label, read_added(store.session, s, found.changes[s.name].since))
            for s in found.sources
        ]
        rows = [(label, frame) for label, frame in added if frame is not None]
        if len(rows) == len(added):
            return Batch((), rows, is_increment=True)
    sources = [(s.label, read_source(store.session, s)) for s in found.sources]
    return Batch(tuple(plan_units(found.listing, cfg)), sources, is_increment=False)


def describe_batch(counts: Counts, found: FoundInputs, batch: Batch) -> str:
    """Describe the result, and the versions of tables that were read."""
    lines = [str(counts)]
    if batch.is_unread and found.new_files is not None:
        lines.append(f"{len(found.new_files.files):,} new files read")
    for source in () if batch.is_unread else found.sources:
        part = "rows added up to" if batch.is_increment else "all rows of"
        lines.append(f"{source.label}: {part} version {source.version}")
    removing = {name: c.removing for name, c in found.changes.items() if c.removing}
    for name, versions in removing.items():
        listed = ", ".join(map(str, versions))
        lines.append(f"delta:{name} changed or removed rows in version {listed}")
    if counts.older and removing:
        lines.append(f"{REMOVE} removes documents that are no longer in the inputs")
    return "; ".join(lines)
