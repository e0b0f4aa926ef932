"""Delta tables of other people as input: which version is read, and which rows are new in it.

A table is read through its log, so deleted rows stay deleted and corrected rows appear once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from climb.errors import InputError, one_line
from climb.files import is_uri
from climb.spark.folder import to_hadoop_path

REWRITING = (
    *("OPTIMIZE", "REORG", "REORG TABLE UPGRADE UNIFORM", "CLUSTER BY", "UPGRADE PROTOCOL"),
    *("RENAME COLUMN", "CHANGE COLUMN", "CHANGE COLUMNS", "DROP COLUMNS", "UPDATE SCHEMA"),
    *("DROP FEATURE", "REMOVE COLUMN MAPPING", "ROW TRACKING BACKFILL"),
)
"""Delta operations that keep all rows, and write them to other files or change columns."""

APPENDING = (
    *("COPY INTO", "ADD COLUMNS", "VACUUM START", "VACUUM END", "ANALYZE", "COMPUTE STATS"),
    *("SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD CONSTRAINT", "DROP CONSTRAINT"),
)
"""Delta operations that change or remove no row. WRITE and STREAMING UPDATE in mode Append are such
operations too. Every other operation that is not in REWRITING counts as changing or removing rows.
"""

ADDED_FILE = "__climb_added_file"
"""Temporary column that selects rows of added files; a table has no column of this name."""


@dataclass(frozen=True)
class SourceTable:
    """One version of a Delta table that `ingest.inputs` names."""

    name: str
    """Path, URI or name in a catalog."""

    table_id: str
    """A table that was dropped and created again has another id."""

    version: int
    """The version that is read."""

    @property
    def label(self) -> str:
        """Name in messages and tables."""
        return f"delta:{self.name}"


def find_source(session: SparkSession, name: str) -> SourceTable:
    """Find the newest version of a table.

    Raises:
        InputError: it is not a Delta table, or its log cannot be read.
    """
    try:
        table = _open_table(session, name)
        table_id = str(table.detail().select("id").collect()[0][0])
        version = int(table.history(1).select("version").collect()[0][0])
    except Exception as error:
        # Delta raises errors of several classes for a log that is missing, damaged or too new.
        reason = one_line(error)
        raise InputError(
            f"ingest.inputs: delta:{name} cannot be read as a Delta table: {reason}"
        ) from error
    return SourceTable(name, table_id, version)


def read_source(session: SparkSession, source: SourceTable) -> DataFrame:
    """Return all rows of the version."""
    return _read_version(session, source.name, source.version)


@dataclass(frozen=True)
class Changes:
    """What happened to a table between two versions."""

    since: int
    """The older version."""

    removing: tuple[int, ...]
    """Versions whose commits may have changed or removed rows."""

    is_rewritten: bool
    """Whether rows may be in other files or columns than before."""


def find_changes(session: SparkSession, source: SourceTable, since: int) -> Changes:
    """Find what happened after version `since`."""
    history = _open_table(session, source.name).history()
    new = history.where((F.col("version") > since) & (F.col("version") <= source.version))
    commits = new.select("version", "operation", "operationParameters").collect()
    removing = (
        row["version"]
        for row in commits
        if row["operation"] not in REWRITING
        and not _only_adds(row["operation"], row["operationParameters"] or {})
    )
    is_rewritten = any(row["operation"] in REWRITING for row in commits)
    return Changes(since, tuple(sorted(removing)), is_rewritten)


def read_added(session: SparkSession, source: SourceTable, since: int) -> DataFrame | None:
    """Return the rows of the files that were added after version `since`.

    All commits after this version must only add rows.

    Returns:
        The rows; None if they cannot be distinguished from the older rows. This is so if the log of
        the older version was removed, two files share a name, or a column is called `_metadata`.
    """
    try:
        before = set(_read_version(session, source.name, since).inputFiles())
    except Exception:  # the log of that version was removed
        return None
    rows = read_source(session, source)
    now = set(rows.inputFiles())
    names = [_file_name(file) for file in now | before]
    if "_metadata" in rows.columns or len(set(names)) < len(names):
        return None
    added = sorted(_file_name(file) for file in now - before)
    files = session.createDataFrame([(name,) for name in added], f"{ADDED_FILE} STRING")
    file = F.element_at(F.split(F.col("_metadata.file_path"), "/"), -1)
    named = rows.withColumn(ADDED_FILE, file)
    return named.join(F.broadcast(files), on=ADDED_FILE, how="left_semi").drop(ADDED_FILE)


def _only_adds(operation: str, parameters: Mapping[str, str]) -> bool:
    if operation in APPENDING:
        return True
    mode = {"WRITE": "mode", "STREAMING UPDATE": "outputMode"}.get(operation)
    return mode is not None and parameters.get(mode) == "Append"


def _is_path(name: str) -> bool:
    return is_uri(name) or name.startswith("/") or Path(name).exists()


def _open_table(session: SparkSession, name: str) -> DeltaTable:
    if _is_path(name):
        return DeltaTable.forPath(session, to_hadoop_path(name))
    return DeltaTable.forName(session, name)


def _read_version(session: SparkSession, name: str, version: int) -> DataFrame:
    reader = session.read.format("delta").option("versionAsOf", version)
    return reader.load(to_hadoop_path(name)) if _is_path(name) else reader.table(name)


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
