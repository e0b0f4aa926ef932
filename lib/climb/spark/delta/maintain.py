"""Upkeep of the tables: compact small files, order rows for readers, delete unused files.

No row changes, so no job runs again afterwards. An old version of a table loses its files a week
after a newer version has replaced it (Delta's retention, `delta.deletedFileRetentionDuration`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from climb.errors import TableError
from climb.progress import show_progress
from climb.spark.delta.properties import STATISTICS, list_statistics
from climb.spark.delta.settings import apply_settings
from climb.spark.delta.store import Store
from climb.tables import TABLES, Table

FILE_BYTES = 256 << 20
"""Size of a compacted file. With Delta's default of 1 GB, few tasks would read a table of a few
gigabytes, and the removal of one document would rewrite 1 GB."""

FILE_SIZES = (
    "spark.databricks.delta.optimize.minFileSize",
    "spark.databricks.delta.optimize.maxFileSize",
)
"""Settings: the size below which files are compacted, and the size of a compacted file."""

LISTING = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
"""Setting: number of tasks with which VACUUM lists a table. The default of 10,000 keeps a core busy
for a minute, although each table is one folder."""


@dataclass(frozen=True)
class TableUpkeep:
    """What was done with a table, or would be done."""

    table: str
    files: int
    """Number of data files before the upkeep."""

    n_bytes: int
    compacted: int
    """Files that were replaced by fewer or better ordered ones."""

    added: int
    unused: tuple[str, ...]
    """Files that VACUUM would delete; only with `dry_run`."""

    held: str | None
    """Why the files of old versions are kept; None: VACUUM may delete them."""

    def __str__(self) -> str:
        """Describe the upkeep in one line."""
        line = f"{self.table}: {self.files:,} files, {self.n_bytes / 1e6:,.1f} MB"
        if self.compacted:
            line += f"; {self.compacted:,} files became {self.added:,}"
        if self.unused:
            line += f"; {len(self.unused):,} unused files"
        return line + (f"; files of old versions are kept: {self.held}" if self.held else "")


def maintain_tables(store: Store, held: Mapping[str, str], dry_run: bool) -> list[TableUpkeep]:
    """Compact every table, and delete the files that no version within the retention needs.

    Args:
        store: all tables.
        held: table -> why the files of its old versions are still needed.
        dry_run: whether to change nothing, and to list the files that would be deleted.

    Raises:
        TableError: there is no table.
    """
    existing = [table for table in TABLES if store.exists(table)]
    if not existing:
        where = store.cfg.catalog or store.locate_folder("tables")
        raise TableError(
            f"{where} has no table of climb; set storage.root and storage.catalog as in the run"
        )
    with apply_settings(store.session, _list_settings(store.session)):
        return [
            _maintain(store, table, held.get(table.name), dry_run)
            for table in show_progress(existing, len(existing), "maintain", "table")
        ]


def _maintain(store: Store, table: Table, held: str | None, dry_run: bool) -> TableUpkeep:
    where = store.locate(table)
    detail = store.session.sql(f"DESCRIBE DETAIL {where}").collect()[0].asDict(recursive=True)
    compacted = added = 0
    if not dry_run:
        _set_layout(store, table, detail)
        if int(detail["numFiles"]) > 1:
            metrics = store.session.sql(f"OPTIMIZE {where}").collect()[0]["metrics"]
            compacted, added = int(metrics["numFilesRemoved"]), int(metrics["numFilesAdded"])
    unused: tuple[str, ...] = ()
    if held is None:
        found = store.session.sql(f"VACUUM {where}{' DRY RUN' if dry_run else ''}").collect()
        unused = tuple(sorted(row[0] for row in found)) if dry_run else ()
    size = int(detail["numFiles"]), int(detail["sizeInBytes"])
    return TableUpkeep(table.name, *size, compacted, added, unused, held)


def _set_layout(store: Store, table: Table, detail: Mapping[str, Any]) -> None:
    """Set the columns with statistics and those that OPTIMIZE orders by, unless they are set."""
    where, statistics = store.locate(table), list_statistics(table)
    if detail["properties"].get(STATISTICS) != statistics:
        store.session.sql(
            f"ALTER TABLE {where} SET TBLPROPERTIES ('{STATISTICS}' = '{statistics}')"
        )
    if table.ordered_by and tuple(detail["clusteringColumns"] or ()) != table.ordered_by:
        store.session.sql(f"ALTER TABLE {where} CLUSTER BY ({', '.join(table.ordered_by)})")


def _list_settings(session: SparkSession) -> dict[str, str]:
    """Return the sizes of files, and the parallelism of VACUUM."""
    settings = dict.fromkeys(FILE_SIZES, str(FILE_BYTES))
    return settings | {LISTING: str(session.sparkContext.defaultParallelism)}
