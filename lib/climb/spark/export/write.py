"""Write all shards of an export from Spark tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from climb.export import Format, Kind, Tokenization
from climb.export.folder import Target
from climb.files import FileDigest
from climb.spark.export.rows import ShardKey, divide_rows, plan_shards
from climb.spark.export.shards import ShardRecord, ShardTask, read_records
from climb.spark.numbered import WRITTEN
from climb.spark.shared import check_shared


@dataclass(frozen=True)
class ShardSettings:
    """What determines the files of the shards, besides the rows."""

    format: Format
    kind: Kind
    tokenization: Tokenization | None
    tokenizer_json: str | None


def write_shards(
    rows: DataFrame, target: Target, settings: ShardSettings
) -> list[tuple[ShardKey, ShardRecord]]:
    """Write the shards that have no record; return all shards that have rows, with their records.

    Args:
        rows: what `climb.spark.export.rows.select_rows` returned.
        target: the folder of the export, after `Target.start`.
        settings: the format and the tokenizer.

    Raises:
        PreflightError: an executor does not see the folder.
    """
    check_shared(rows.sparkSession, target.data, "export.path")
    keys, n_rows = plan_shards(rows, settings.format)
    finished = read_records(target.records, keys, target.data)
    pending = [key for key in keys if key.number not in finished]
    if pending:
        task = ShardTask(
            settings.format,
            target.data,
            target.records,
            {key.number: key for key in pending},
            settings.tokenization,
            settings.tokenizer_json,
        )
        divided = divide_rows(rows, keys, pending)
        divided.mapInArrow(lambda batches: task.write(batches), WRITTEN).collect()
        finished = read_records(target.records, keys, target.data)
    # Each shard gets the rows of one range of hashes, and the number of shards depends on the bytes
    # of text. If the documents are few and long, a range may have no row. Its shard is not written.
    written = [(key, finished[key.number]) for key in keys if key.number in finished]
    n_written = sum(d.documents for _, record in written for d in record.domains.values())
    assert n_written == n_rows, (n_written, n_rows)
    return written


def collect_digests(written: Sequence[tuple[ShardKey, ShardRecord]]) -> dict[str, FileDigest]:
    """Return path in the export -> digest, for the files of all shards."""
    return {name: digest for _, record in written for name, digest in record.files.items()}
