"""The tables and files of one run: read, append and replace. `Store.history` has the versions."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from climb.config.sections import StorageConfig
from climb.errors import PreflightError, TableError
from climb.files import is_uri
from climb.spark.delta.history import Inputs, TableHistory
from climb.spark.delta.properties import PROPERTIES, STATISTICS, list_statistics, parse_schema
from climb.spark.delta.settings import apply_settings
from climb.spark.failures import find_climb_error
from climb.spark.folder import quote_path, to_hadoop_path
from climb.tables import Row, Table

WRITE_ERRORS = (
    *("Permission denied", "Read-only file system", "No space left", "Mkdirs failed"),
    *("Not a directory", "not a directory", "Access denied", "AccessDenied", "quota"),
)
"""If a line of an error contains one of these texts, the file system has refused a write."""


COMMIT_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
"""Setting with the metadata of every commit. The option of a writer has precedence, but on some
catalogs `saveAsTable` ignores that option (delta-io/delta#2037)."""

SKIP_EMPTY_COMMITS = "spark.databricks.delta.skipRecordingEmptyCommits"
"""Whether Delta skips a commit that changes no file. `replace` sets it to false. Otherwise, if an
empty table is overwritten with zero rows, Delta would skip the commit, and the new inputs would not
be recorded."""


def find_write_error(error: Exception) -> str | None:
    """Return the line in which a file system refuses a write; None for every other error.

    An error of a Python worker never counts as a refused write, even if it quotes WRITE_ERRORS.
    """
    if find_climb_error(str(error)) is not None or "PythonException" in str(error):
        return None
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if any(words in line for words in WRITE_ERRORS)), None)


def _record_commit(session: SparkSession, metadata: str) -> AbstractContextManager[None]:
    """Write these metadata to all commits in the block; record commits that change no file too."""
    return apply_settings(session, {COMMIT_METADATA: metadata, SKIP_EMPTY_COMMITS: "false"})


@dataclass(frozen=True)
class Variant:
    """Tables whose rows depend on the settings of one method of a comparison; only it uses them."""

    name: str
    tables: frozenset[str]
    """Names of the method's own tables. All other tables of the method are those of the run."""

    def has(self, table: Table) -> bool:
        """Whether the method has this table for itself."""
        return table.name in self.tables


class Store:
    """Delta tables below a folder or URI, or by name in a catalog."""

    def __init__(
        self, session: SparkSession, cfg: StorageConfig, variant: Variant | None = None
    ) -> None:
        self.session = session
        self.cfg = cfg
        self.variant = variant
        self.history = TableHistory(session, self.locate, self.exists)
        self.used: set[str] = set()
        """Names of the tables that were looked at or written, for the record of a job."""

        self.used_folders: set[str] = set()
        """Folders that a job wrote or found complete: if their files change, the job runs again."""

    def locate(self, table: Table) -> str:
        """Return the table's name in Delta's SQL."""
        if self.cfg.catalog is not None:
            name = f"{self.cfg.catalog}.{table.name}"
            if self.variant is not None and self.variant.has(table):
                name += "__" + re.sub(r"\W", "_", self.variant.name)
            return name
        return quote_path(self._locate_path(table))

    def _locate_path(self, table: Table) -> str:
        if self.variant is not None and self.variant.has(table):
            return f"{self.locate_folder('variants')}/{self.variant.name}/{table.name}"
        return f"{self.locate_folder('tables')}/{table.name}"

    def locate_folder(self, name: str) -> str:
        """Return the path or URI of a folder that Spark reads and writes."""
        root = self.cfg.root.rstrip("/")
        return f"{root}/{name}" if is_uri(root) else str(Path(root).absolute() / name)

    def locate_file(self, name: str) -> Path:
        """Return the path of a file or folder that every node opens as a plain path."""
        if self.variant is not None and name == "shards":  # made from the variant's own tables
            return self.cfg.files_folder / "variants" / self.variant.name / name
        return self.cfg.files_folder / name

    def exists(self, table: Table) -> bool:
        """Whether the table exists."""
        self.used.add(table.name)
        if self.cfg.catalog is not None:
            return bool(self.session.catalog.tableExists(self.locate(table)))
        path = to_hadoop_path(self._locate_path(table))
        return bool(DeltaTable.isDeltaTable(self.session, path))

    def read(self, table: Table) -> DataFrame:
        """Return all rows.

        Raises:
            TableError: the table does not exist yet.
        """
        if not self.exists(table):
            raise TableError(
                f"table {table.name} does not exist ({self.locate(table)}); "
                f"run `climb {table.writer}` first"
            )
        return self.session.table(self.locate(table))

    def read_at(self, table: Table, version: int) -> DataFrame:
        """Return all rows of an earlier version; reading fails if VACUUM deleted the files.

        Upkeep writes the same rows to other files, as a new version. The newest version with these
        rows is read, because VACUUM deletes the files of older versions first.

        Raises:
            TableError: the table's log does not have this version.
        """
        version = self.history.find_newest_copy(table, version)
        query = f"SELECT * FROM {self.locate(table)} VERSION AS OF {version}"
        try:
            return self.session.sql(query)
        except AnalysisException as error:
            raise TableError(f"table {table.name} has no version {version}: {error}") from error

    def read_rows(self, table: Table, **equals: str) -> list[Row]:
        """Return the rows of a small table as dicts, in the order of its key.

        If several rows have the same key, the first of them is returned; see `Table.select_first`.

        Args:
            table: the table.
            equals: column -> value; only rows with these values are returned.

        Raises:
            TableError: the table does not exist yet.
        """
        frame = self.read(table)
        for column, value in equals.items():
            frame = frame.where(F.col(column) == value)
        order = [*table.key, *({"finished"} & {*table.column_names})]
        return table.select_first(r.asDict(recursive=True) for r in frame.orderBy(*order).collect())

    def select_missing(self, rows: DataFrame, table: Table, **equals: str) -> DataFrame:
        """Select those of `rows` whose doc_id is missing in the table.

        If `equals` has values, rows of the table with other values are ignored.

        Args:
            rows: with a column doc_id.
            table: with a column doc_id too.
            equals: column -> value, for instance the recipe that made a row.
        """
        if not self.exists(table):
            return rows
        existing = self.read(table)
        for column, value in equals.items():
            existing = existing.where(F.col(column) == value)
        return rows.join(existing.select("doc_id"), on="doc_id", how="left_anti")

    def append(self, rows: DataFrame, table: Table, once: str | None = None) -> None:
        """Add rows in one commit.

        Args:
            rows: the table's columns, in any order.
            table: the table.
            once: a name of this commit; Delta skips a second commit of the same name.

        Raises:
            PreflightError: the file system refuses the write.
        """
        writer = self._create_writer(rows, table).mode("append")
        if once is not None:
            writer = writer.option("txnAppId", f"{table.name}:{once}").option("txnVersion", "1")
        self._commit(writer, table)

    def replace(
        self, rows: DataFrame, table: Table, inputs: Inputs, scope: str | None = None
    ) -> None:
        """Replace all rows, or those that the SQL predicate `scope` selects, in one commit.

        Args:
            rows: the table's columns, in any order.
            table: the table.
            inputs: what the rows are made from; written with the commit.
            scope: an SQL predicate that all `rows` satisfy; None replaces the whole table.

        Raises:
            PreflightError: the file system refuses the write.
            TableError: the commit lost its inputs.
        """
        # The random field `commit` makes these metadata differ from those of every earlier commit.
        record = {"inputs": inputs, "scope": scope, "commit": uuid.uuid4().hex}
        metadata = json.dumps(record, sort_keys=True)
        writer = self._create_writer(rows, table).option("userMetadata", metadata)
        writer = writer.mode("overwrite")
        if scope is not None and self.exists(table):
            writer = writer.option("replaceWhere", scope)
        with _record_commit(self.session, metadata):
            self._commit(writer, table)
        self.history.check_metadata(table, metadata)

    def delete(self, ids: DataFrame, table: Table) -> None:
        """Delete the rows with these doc_ids, if the table exists and has such rows.

        Args:
            ids: (doc_id), without repetition.
            table: with a column doc_id.
        """
        if not self.exists(table) or self.read(table).join(ids, "doc_id", "left_semi").isEmpty():
            return
        target = (
            DeltaTable.forName(self.session, self.locate(table))
            if self.cfg.catalog is not None
            else DeltaTable.forPath(self.session, to_hadoop_path(self._locate_path(table)))
        )
        merge = target.alias("rows").merge(ids.alias("ids"), "rows.doc_id = ids.doc_id")
        merge.whenMatchedDelete().execute()

    def create_frame(self, rows: Iterable[Mapping[str, Any]], table: Table) -> DataFrame:
        """Create a DataFrame of the table's columns from dicts."""
        schema = parse_schema(table)
        names = schema.fieldNames()
        data = [{name: row[name] for name in names} for row in rows]
        # Arrow needs no Python worker: a commit takes a quarter of the time that it needs with one.
        arrow = pa.Table.from_pylist(data, schema=to_arrow_schema(schema))
        return self.session.createDataFrame(arrow, schema)

    def _create_writer(self, rows: DataFrame, table: Table) -> DataFrameWriter:
        schema = parse_schema(table)
        if rows.schema != schema:
            rows = rows.select(*(F.col(f.name).cast(f.dataType).alias(f.name) for f in schema))
        writer = rows.write.format("delta").options(**PROPERTIES)
        return writer.option(STATISTICS, list_statistics(table))

    def _commit(self, writer: DataFrameWriter, table: Table) -> None:
        self.used.add(table.name)
        try:
            if self.cfg.catalog is not None:
                writer.saveAsTable(self.locate(table))
            else:
                writer.save(to_hadoop_path(self._locate_path(table)))
        except Exception as error:
            reason = find_write_error(error)
            if reason is None:
                raise
            raise PreflightError(
                f"table {table.name}: cannot write {self.locate(table)}: {reason}"
            ) from error
