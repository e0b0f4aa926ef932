"""The tables and files of one run: read, append, replace whole, and know what one was made from.

    inputs = store.inputs(tables.ASSIGNMENTS, tables.SCORES, settings=cfg.prune)
    if store.is_current(tables.CLUSTERS, inputs):
        return "up to date"
    store.replace(rows, tables.CLUSTERS, inputs)

`inputs` are the versions of the tables that were read and the settings that were used. They travel
in the commit itself (Delta's userMetadata), so rows and their origin are written together or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import NumericType, StringType, StructType
from pyspark.sql.utils import AnalysisException

from climb.config.sections import Section, StorageConfig
from climb.errors import PreflightError, TableError
from climb.files import is_uri
from climb.tables import Table

Inputs = dict[str, Any]

UPKEEP = (
    *("OPTIMIZE", "VACUUM START", "VACUUM END", "REORG", "ANALYZE", "COMPUTE STATS"),
    *("SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "CLUSTER BY", "UPGRADE PROTOCOL"),
)
"""Operations that make a version of a table and leave its rows as they are."""

RECENT = 20
"""Commits among which the newest that changed rows is looked for first."""

UNWRITABLE = (
    *("Permission denied", "Read-only file system", "No space left", "Mkdirs failed"),
    *("Not a directory", "not a directory", "Access denied", "AccessDenied", "quota"),
)
"""What file systems say about themselves, as opposed to what is wrong with us."""


def unwritable(error: Exception) -> str | None:
    """The line in which a file system says that it takes no files; None for every other error."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if any(words in line for words in UNWRITABLE)), None)


class Store:
    """Delta tables below a folder or URI, or by name in a catalog."""

    def __init__(self, session: SparkSession, cfg: StorageConfig) -> None:
        self.session = session
        self.cfg = cfg

    def location(self, table: Table) -> str:
        """The table as Delta's SQL names it."""
        if self.cfg.catalog is not None:
            return f"{self.cfg.catalog}.{table.name}"
        return f"delta.`{self.folder('tables')}/{table.name}`"

    def folder(self, name: str) -> str:
        """Path or URI of a folder that Spark reads and writes."""
        root = self.cfg.root.rstrip("/")
        # Spark's SQL reads a relative path another way than its writers do.
        return f"{root}/{name}" if is_uri(root) else str(Path(root).absolute() / name)

    def files(self, name: str) -> Path:
        """Folder of files that proxies and readers open as plain paths on every node."""
        return Path(self.cfg.files or self.cfg.root).absolute() / name

    def exists(self, table: Table) -> bool:
        """Whether the table has ever been written."""
        if self.cfg.catalog is not None:
            return bool(self.session.catalog.tableExists(self.location(table)))
        return bool(DeltaTable.isDeltaTable(self.session, f"{self.folder('tables')}/{table.name}"))

    def read(self, table: Table) -> DataFrame:
        """All rows.

        Raises:
            TableError: nobody wrote the table yet.
        """
        if not self.exists(table):
            raise TableError(
                f"table {table.name} does not exist ({self.location(table)}); "
                f"run `climb {table.writer}` first"
            )
        return self.session.table(self.location(table))

    def read_at(self, table: Table, version: int) -> DataFrame:
        """All rows of an earlier version; reading them fails where its files were vacuumed.

        Raises:
            TableError: there is no such version, or it is forgotten.
        """
        query = f"SELECT * FROM {self.location(table)} VERSION AS OF {version}"
        try:
            return self.session.sql(query)
        except AnalysisException as error:
            raise TableError(f"table {table.name} has no version {version}: {error}") from error

    def rows(self, table: Table, **equals: str) -> list[dict[str, Any]]:
        """The rows of a small table as dicts, in the order of the key."""
        frame = self.read(table)
        for column, value in equals.items():
            frame = frame.where(F.col(column) == value)
        return [row.asDict(recursive=True) for row in frame.orderBy(*table.key).collect()]

    def missing(self, rows: DataFrame, table: Table, **made_with: str) -> DataFrame:
        """Those rows whose doc_id the table does not hold yet, made with this recipe."""
        if not self.exists(table):
            return rows
        known = self.read(table)
        for column, value in made_with.items():
            known = known.where(F.col(column) == value)
        return rows.join(known.select("doc_id"), on="doc_id", how="left_anti")

    def version(self, table: Table) -> int | None:
        """The newest version that changed rows; None where the table does not exist.

        Upkeep (OPTIMIZE, VACUUM, ...) makes versions too, but no reader has to look again.
        """
        changes = self._changes(table, 1)
        return int(changes[0]["version"]) if changes else None

    def identity(self, table: Table) -> str:
        """Id of the table itself: a table that was dropped and made again has another."""
        return str(self._sql(table, f"DESCRIBE DETAIL {self.location(table)}")[0]["id"])

    def inputs(self, *read: Table, **settings: Any) -> Inputs:
        """What a table is about to be made from: versions of the tables read, and settings."""
        versions: Inputs = {table.name: self.version(table) for table in read}
        plain = {
            key: value.model_dump(mode="json") if isinstance(value, Section) else value
            for key, value in settings.items()
        }
        return json.loads(json.dumps({"read": versions, "settings": plain}, sort_keys=True))  # type: ignore[no-any-return]

    def is_current(self, table: Table, inputs: Inputs, scope: str | None = None) -> bool:
        """Whether the table (or the part that `scope` selects) was last made from exactly these."""
        return self.made_from(table, scope) == inputs

    def made_from(self, table: Table, scope: str | None = None) -> Inputs | None:
        """What the newest commit (of that scope) says the rows were made from."""
        for commit in self._changes(table, 1 if scope is None else 100):
            metadata = json.loads(commit["userMetadata"] or "{}")
            if metadata.get("scope") == scope:
                return metadata.get("inputs")  # type: ignore[no-any-return]
        return None

    def append(self, rows: DataFrame, table: Table, once: str | None = None) -> None:
        """Add rows in one commit.

        Args:
            rows: the table's columns, in any order.
            table: the table.
            once: a name of this commit; a second commit of the same name is skipped by Delta.

        Raises:
            PreflightError: the table's place cannot be written.
        """
        writer = self._writer(rows, table, {}).mode("append")
        if once is not None:
            writer = writer.option("txnAppId", f"{table.name}:{once}").option("txnVersion", "1")
        self._commit(writer, table)

    def replace(
        self, rows: DataFrame, table: Table, inputs: Inputs, scope: str | None = None
    ) -> None:
        """Put rows in the place of all rows, or of those that the SQL predicate `scope` selects.

        Raises:
            PreflightError: the table's place cannot be written.
        """
        metadata = {"inputs": inputs, "scope": scope}
        writer = self._writer(rows, table, metadata).mode("overwrite")
        if scope is not None and self.exists(table):
            writer = writer.option("replaceWhere", scope)
        self._commit(writer, table)

    def frame(self, rows: Iterable[Mapping[str, Any]], table: Table) -> DataFrame:
        """A DataFrame of the table's columns from dicts."""
        schema = StructType.fromDDL(table.columns)
        names = schema.fieldNames()
        data = [{name: row[name] for name in names} for row in rows]
        # By way of Arrow no Python worker has a part in it: a commit takes a quarter of the time.
        arrow = pa.Table.from_pylist(data, schema=to_arrow_schema(schema))
        return self.session.createDataFrame(arrow, schema)

    def _writer(self, rows: DataFrame, table: Table, metadata: Inputs) -> Any:
        schema = StructType.fromDDL(table.columns)
        columns = [F.col(f.name).cast(f.dataType).alias(f.name) for f in schema.fields]
        writer = rows.select(*columns).write.format("delta")
        if metadata:
            writer = writer.option("userMetadata", json.dumps(metadata, sort_keys=True))
        simple = [
            f.name
            for f in schema.fields
            if isinstance(f.dataType, StringType | NumericType) and f.name not in table.long
        ]
        return writer.option("delta.dataSkippingStatsColumns", ",".join(simple))

    def _commit(self, writer: Any, table: Table) -> None:
        try:
            if self.cfg.catalog is not None:
                writer.saveAsTable(self.location(table))
            else:
                writer.save(f"{self.folder('tables')}/{table.name}")
        except Exception as error:
            reason = unwritable(error)
            if reason is None:
                raise
            raise PreflightError(
                f"table {table.name}: cannot write {self.location(table)}: {reason}"
            ) from error

    def _changes(self, table: Table, n: int) -> list[dict[str, Any]]:
        """Up to n commits that changed rows, newest first."""
        if not self.exists(table):
            return []
        describe = f"DESCRIBE HISTORY {self.location(table)}"
        for limit in (max(n, RECENT), None):
            commits = self._sql(table, describe + (f" LIMIT {limit}" if limit else ""))
            changes = [commit for commit in commits if commit["operation"] not in UPKEEP]
            if len(changes) >= n or len(commits) < (limit or 0):
                break
        return changes[:n]

    def _sql(self, table: Table, query: str) -> list[dict[str, Any]]:
        try:
            return [row.asDict() for row in self.session.sql(query).collect()]
        except AnalysisException as error:
            raise TableError(f"table {table.name} cannot be read: {error}") from error
