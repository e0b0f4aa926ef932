"""The versions of Delta tables, and the inputs that each table was made from.

    inputs = store.history.describe_inputs(tables.ASSIGNMENTS, tables.SCORES, settings=cfg.prune)
    if store.history.is_current(tables.CLUSTERS, inputs):
        return "up to date"
    store.replace(rows, tables.CLUSTERS, inputs)

Inputs are the ids and versions of the tables that a job reads and the settings that it uses. A
commit contains them (Delta's userMetadata), so rows and their origin are written together or not at
all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, cast

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from climb.config.sections import Section
from climb.errors import TableError
from climb.tables import CHANGING, Table

RECENT_COMMITS = 20
"""The first query reads at least this many commits. If it finds too few commits that changed rows,
a second query reads all commits."""

SCOPED_COMMITS = 1000
"""A scope is the part of a table that a commit replaced. The last commit of a scope is searched
among this many of the newest commits that changed rows. It may be far back, because other scopes
are committed after it: a comparison commits one scope for each search, and may run one search for
each method and seed."""


class Inputs(TypedDict):
    """What the rows of a table depend on. JSON values only, so that inputs
    that are read back from a commit equal those that were written."""

    read: dict[str, int | None]
    """Table -> version that was read; None for a table that does not exist."""

    settings: dict[str, Any]
    ids: NotRequired[dict[str, str]]
    """Table -> its id, for each existing table that was read. A table that was made again has
    another id. Commits of earlier versions of climb have no ids."""


def are_equal(made_from: Inputs | None, inputs: Inputs) -> bool:
    """Whether a commit was made from these inputs; ids are compared only if the commit has ids."""
    if made_from is None:
        return False
    ids = made_from.get("ids", inputs.get("ids"))
    return {**made_from, "ids": ids} == {**inputs, "ids": inputs.get("ids")}


def have_equal_tables(made_from: Inputs, inputs: Inputs) -> bool:
    """Whether a commit was made from these tables and versions, with whatever settings."""
    return are_equal({**made_from, "settings": inputs["settings"]}, inputs)


class TableHistory:
    """The history of every table of a store."""

    def __init__(
        self,
        session: SparkSession,
        locate: Callable[[Table], str],
        exists: Callable[[Table], bool],
    ) -> None:
        """`locate` returns the table's name in SQL, `exists` whether the table exists."""
        self._session, self._locate, self._exists = session, locate, exists

    def read_version(self, table: Table) -> int | None:
        """Return the newest version that changed rows; None if the table does not exist.

        Upkeep (OPTIMIZE, VACUUM, ...) also creates versions, but the rows stay the same.

        Raises:
            TableError: the table's log cannot be read.
        """
        changes = self._read_changes(table, 1)
        return int(changes[0]["version"]) if changes else None

    def read_table_id(self, table: Table) -> str:
        """Return the id of the table; a table that was dropped and created again has a new one.

        Raises:
            TableError: the table's log cannot be read.
        """
        return str(self._query(table, f"DESCRIBE DETAIL {self._locate(table)}")[0]["id"])

    def find_newest_copy(self, table: Table, version: int) -> int:
        """Return the newest version that has the same rows as `version`.

        Upkeep creates versions with the same rows.

        Raises:
            TableError: the table's log cannot be read.
        """
        commits = self._query(table, f"DESCRIBE HISTORY {self._locate(table)}")
        later = {c["version"]: c["operation"] for c in commits if c["version"] > version}
        changes = [number for number, operation in later.items() if operation in CHANGING]
        return int(min(changes) - 1 if changes else max(later, default=version))

    def describe_inputs(self, *read: Table, **settings: Any) -> Inputs:
        """Describe what a table is made from: the ids and versions of tables, and settings.

        Args:
            read: the tables that the job reads.
            settings: JSON values or configuration sections, by name.
        """
        values = {
            key: value.model_dump(mode="json") if isinstance(value, Section) else value
            for key, value in settings.items()
        }
        versions = {table.name: self.read_version(table) for table in read}
        ids = {t.name: self.read_table_id(t) for t in read if versions[t.name] is not None}
        inputs = {"read": versions, "ids": ids, "settings": values}
        return cast(Inputs, json.loads(json.dumps(inputs, sort_keys=True)))

    def is_current(self, table: Table, inputs: Inputs, scope: str | None = None) -> bool:
        """Whether the table (or the part that `scope` selects) was last made from these inputs."""
        return are_equal(self.read_inputs(table, scope), inputs)

    def read_inputs(self, table: Table, scope: str | None = None) -> Inputs | None:
        """Return the inputs of the newest commit that changed rows.

        With `scope`, return the inputs of the newest commit that replaced exactly this scope. The
        result is None if there is no such commit, or if it has no inputs. Without `scope`, the
        result is also None if the newest commit replaced only a part of the table.

        Raises:
            TableError: the table's log cannot be read.
        """
        for commit in self._read_changes(table, 1 if scope is None else SCOPED_COMMITS):
            metadata = _parse_metadata(commit["userMetadata"])
            if metadata.get("scope") == scope:
                return cast(Inputs | None, metadata.get("inputs"))
        return None

    def check_metadata(self, table: Table, metadata: str) -> None:
        """Check that the history of a table has a commit with this metadata.

        Args:
            table: the table, just after the commit.
            metadata: text that only this commit has.

        Raises:
            TableError: the metadata are not there, so later jobs could not find the inputs.
        """
        commits = self._read_changes(table, SCOPED_COMMITS)
        if not any(commit["userMetadata"] == metadata for commit in commits):
            found = commits[0]["userMetadata"] if commits else None
            raise TableError(
                f"table {table.name} ({self._locate(table)}) was written, but its history lacks "
                f"the record of the job's inputs (userMetadata is {str(found)[:80]!r}), so every "
                "start would run the job again; use another version of Delta, or set "
                "storage.catalog to null if it is set"
            )

    def _read_changes(self, table: Table, n: int) -> list[dict[str, Any]]:
        """Return up to n commits that changed rows, newest first."""
        if not self._exists(table):
            return []
        describe = f"DESCRIBE HISTORY {self._locate(table)}"
        for limit in (max(n, RECENT_COMMITS), None):
            commits = self._query(table, describe + (f" LIMIT {limit}" if limit else ""))
            changes = [commit for commit in commits if commit["operation"] in CHANGING]
            if len(changes) >= n or len(commits) < (limit or 0):
                break
        return changes[:n]

    def _query(self, table: Table, query: str) -> list[dict[str, Any]]:
        try:
            return [row.asDict() for row in self._session.sql(query).collect()]
        except AnalysisException as error:
            raise TableError(f"table {table.name} cannot be read: {error}") from error


def _parse_metadata(text: str | None) -> dict[str, Any]:
    """Return what `Store.replace` wrote into a commit; empty for other metadata."""
    try:
        metadata = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return (
        metadata if isinstance(metadata, dict) and isinstance(metadata.get("inputs"), dict) else {}
    )
