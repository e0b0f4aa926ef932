"""Read all inputs once, in Spark tasks, and write their rows to a staging folder.

Later steps read the rows from this folder: they find duplicates (by hash, without the text), count,
and copy the text of new documents. So every file is read, decompressed and cleaned once. The counts
agree with the rows even if a file changes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import RecordBatch
from pyspark import TaskContext
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from climb.config.sections import IngestConfig
from climb.errors import InputError, PreflightError
from climb.ingest import FileProblem, Unit
from climb.ingest.columns import find_mistakes
from climb.ingest.plan import bundle_units, describe_mistakes, describe_unreadable
from climb.ingest.rows import COLUMNS, ROWS_PER_BUNDLE, encode_bundle, read_bundles, read_table_rows
from climb.ingest.tabular import list_columns
from climb.spark.delta.store import Store
from climb.spark.folder import open_folder, to_hadoop_path

DAMAGED = ("truncated_file", "unreadable_file")
"""Reasons for which a task stops reading a file that looked complete."""

EXACT_PATH = ("__globPaths__", "false")
"""Option of Spark's readers: the path is no pattern, even if it has a `[`, `{` or `*`."""

TABLE_BUNDLES = 1 << 22
"""A bundle is the work of one task. This many bundle numbers are reserved for all files (256 TiB of
text), and as many for the partitions of each table."""

MAX_TABLES = (1 << 63) // (ROWS_PER_BUNDLE * TABLE_BUNDLES) - 1
"""Maximum number of tables: with more, row ids would not fit a BIGINT."""

SourceRows = Sequence[tuple[str, DataFrame]]
"""Label and rows of each Delta table that is read."""


@contextlib.contextmanager
def stage_rows(
    store: Store, units: Sequence[Unit], sources: SourceRows, cfg: IngestConfig
) -> Iterator[DataFrame]:
    """Read parts of files and rows of tables in tasks, and yield the rows from a staging folder.

    The columns are those of `climb.ingest.rows`. The folder is deleted at the end.

    Raises:
        PreflightError: the folder storage.root cannot be written.
        InputError: a file is damaged and `skip_corrupt` is false, a table lacks a column, or the
            inputs are too large for the row ids.
    """
    frames = _read_files(store, units, cfg) if units else []
    frames += _read_tables(sources, cfg, first_bundle=TABLE_BUNDLES)
    with _create_temporary_folder(store) as folder:
        written = _write(frames, folder)
        reader = store.session.read.schema(COLUMNS).option(*EXACT_PATH)
        rows = reader.parquet(to_hadoop_path(folder))
        if (n := rows.count()) != written:
            raise AssertionError(f"{written} rows were written to {folder}, and {n} were read")
        if not cfg.skip_corrupt:
            _check_damage(rows)
        yield rows


def _write(frames: Sequence[DataFrame], folder: str) -> int:
    """Write the rows of all frames, and return how many the tasks wrote."""
    rows = frames[0]
    for frame in frames[1:]:
        rows = rows.unionByName(frame)
    counted = Observation()
    observed = rows.observe(counted, F.count(F.lit(1)).alias("n"))
    observed.write.mode("overwrite").parquet(to_hadoop_path(folder))
    return int(counted.get["n"])


@contextlib.contextmanager
def _create_temporary_folder(store: Store) -> Iterator[str]:
    """Create a folder of a new name, and delete it at the end.

    The name has the host and the process, so folders of killed processes are found and deleted.
    """
    parent = open_folder(store.session, store.locate_folder("ingest.staging"))
    host = socket.gethostname().replace(".", "-")
    name = f"{host}.{os.getpid()}.{secrets.token_hex(4)}"
    folder = open_folder(store.session, f"{parent.path}/{name}")
    try:
        folder.create()
    except Exception as error:
        # The reason is in the error of Hadoop, which Py4J wraps.
        reason = str(getattr(error, "java_exception", error)).splitlines()[0]
        raise PreflightError(
            f"cannot write below storage.root {store.cfg.root}: {reason}"
        ) from error
    for name in parent.list_names():
        owner, pid, *_ = [*name.split("."), "", ""]
        is_dead = pid.isdigit() and not Path(f"/proc/{pid}").exists()
        if owner == host and is_dead:
            open_folder(store.session, f"{parent.path}/{name}").delete()
    try:
        yield folder.path
    finally:
        folder.delete()
        if parent.is_empty():
            parent.delete()


def check_numbers(n_bundles: int, n_tables: int) -> None:
    """Check that each bundle of files and each table gets row ids of its own.

    Raises:
        InputError: there are too many.
    """
    files = (n_bundles, TABLE_BUNDLES, "bundles of files")
    for n, most, what in (files, (n_tables, MAX_TABLES, "tables")):
        if n > most:
            raise InputError(
                f"ingest.inputs: {n:,} {what} are too many for one ingest, which reads at most "
                f"{most:,}; ingest a part of the inputs, and then the others"
            )


def _read_files(store: Store, units: Sequence[Unit], cfg: IngestConfig) -> list[DataFrame]:
    shared = bundle_units(units, store.session.sparkContext.defaultParallelism)
    check_numbers(len(shared), 0)
    data = [(number, encode_bundle(bundle)) for number, bundle in enumerate(shared)]
    frame = store.session.createDataFrame(data, "bundle BIGINT, units STRING")

    def read(batches: Iterable[RecordBatch]) -> Iterable[RecordBatch]:
        pa.set_cpu_count(1)  # tasks run in parallel; threads in a task would compete with them
        return read_bundles(iter(batches), cfg)

    return [frame.repartition(max(1, len(shared))).mapInArrow(read, COLUMNS)]


def _read_tables(sources: SourceRows, cfg: IngestConfig, first_bundle: int) -> list[DataFrame]:
    """Convert the rows of tables; bundles are numbered from `first_bundle`, for the row ids."""
    check_numbers(0, len(sources))
    mistakes, frames = [], []
    for label, rows in sources:
        names = [name for name in list_columns(cfg) if name in rows.columns]
        chosen = rows.select([F.col("`" + name.replace("`", "``") + "`") for name in names])
        found = find_mistakes(to_arrow_schema(chosen.schema), cfg, {})
        mistakes += [f"{label}: {'; '.join(found)}"] if found else []
        frames.append(chosen.mapInArrow(_build_reader(label, cfg, first_bundle), COLUMNS))
        first_bundle += TABLE_BUNDLES
    if mistakes:
        raise InputError(describe_mistakes(mistakes))
    return frames


def _build_reader(
    label: str, cfg: IngestConfig, first_bundle: int
) -> Callable[[Iterable[RecordBatch]], Iterable[RecordBatch]]:
    def read(batches: Iterable[RecordBatch]) -> Iterable[RecordBatch]:
        context = TaskContext.get()
        assert context is not None, "this runs in a task"
        partition = context.partitionId()
        if partition >= TABLE_BUNDLES:
            raise InputError(
                f"{label}: Spark reads it in more than {TABLE_BUNDLES:,} partitions; raise "
                "spark.sql.files.maxPartitionBytes"
            )
        return read_table_rows(iter(batches), label, first_bundle + partition, cfg)

    return read


def _check_damage(rows: DataFrame) -> None:
    """Raise an InputError that names every damaged file."""
    damaged = rows.where(F.col("reason").isin(*DAMAGED)).groupBy("file")
    found = damaged.agg(F.min("reason").alias("reason"), F.min("detail").alias("detail")).collect()
    if found:
        problems = [FileProblem(row.file, row.reason, row.detail) for row in found]
        raise InputError(describe_unreadable(problems))
