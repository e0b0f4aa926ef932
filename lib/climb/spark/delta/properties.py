"""The properties of Delta tables: what Delta keeps and records for each."""

from __future__ import annotations

from typing import cast

from pyspark.sql.types import NumericType, StringType, StructType

from climb.tables import Table

PROPERTIES = {
    # How long Delta keeps the commits of a table. A commit records the inputs of the job that wrote
    # it. After Delta's default of 30 days, this record would be lost, and the job would run again.
    "delta.logRetentionDuration": "interval 3650 days",
    # A checkpoint of the log takes as long as four commits, and the search commits each trial. The
    # default is a checkpoint after every 10 commits.
    "delta.checkpointInterval": "50",
}
"""Properties of every new table."""

STATISTICS = "delta.dataSkippingStatsColumns"
"""Table property: the columns whose minimum and maximum Delta records for each file."""

HASHED = ("doc_id",)
"""Columns of hashes. Each file has hashes of the whole range, so statistics exclude no file."""


def parse_schema(table: Table) -> StructType:
    """Return the columns of a table as Spark's type."""
    return cast(StructType, StructType.fromDDL(table.columns))


def list_statistics(table: Table) -> str:
    """Return the value of the property STATISTICS: the columns of numbers and of short strings."""
    left_out = {*table.long, *HASHED}
    return ",".join(
        f.name
        for f in parse_schema(table).fields
        if isinstance(f.dataType, StringType | NumericType) and f.name not in left_out
    )
