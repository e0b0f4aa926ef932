"""Ask all questions about a platform: settings, files, tables, tasks and packages."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from climb.spark.delta.store import COMMIT_METADATA
from climb.spark.probe.files import probe_folder
from climb.spark.probe.rows import Row, ask
from climb.spark.probe.tasks import probe_packages, probe_tasks, run_limited, run_on_executors

SETTINGS = (
    *("spark.executor.cores", "spark.executor.instances", "spark.task.cpus"),
    *("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"),
    *("spark.dynamicAllocation.enabled", "spark.databricks.cluster.profile"),
)


def probe_platform(session: SparkSession, files: Path, catalog: str | None) -> list[Row]:
    """Ask all questions; one that fails does not stop the others.

    Args:
        session: of the cluster.
        files: `storage.files`; new folders are made in it, and removed.
        catalog: `catalog.schema` of the tables; None: the session's own catalog.
    """
    name = f"climb_probe_{uuid.uuid4().hex[:12]}"
    return [
        *_probe_settings(session),
        *probe_folder("files, driver", files / f"{name}_driver"),
        *_probe_files_in_task(session, files / f"{name}_task"),
        _probe_sharing(session, files / f"{name}_shared"),
        *_probe_tables(session, name if catalog is None else f"{catalog}.{name}"),
        *probe_tasks(session),
        *probe_packages(session),
    ]


def _probe_settings(session: SparkSession) -> Iterator[Row]:
    conf = session.sparkContext.getConf()
    runtime = os.environ.get("DATABRICKS_RUNTIME_VERSION", "none")
    yield ask("session", "Spark", lambda: f"{session.version} on {session.sparkContext.master}")
    yield ask("session", "Databricks runtime", lambda: runtime)
    for key in SETTINGS:
        yield ask("session", key, partial(conf.get, key, "not set"))


def _probe_files_in_task(session: SparkSession, folder: Path) -> list[Row]:
    """Do the operations on files in a task, because trials read and write files in tasks."""
    area, rows = "files, task", list[Row]()
    task = session.sparkContext.parallelize([0], 1).flatMap(lambda _: probe_folder(area, folder))

    def run() -> str:
        rows.extend(run_limited(session, task.collect))
        return f"{len(rows)} questions"

    return [ask(area, "a task runs", run), *rows]


def _probe_sharing(session: SparkSession, folder: Path) -> Row:
    """Write a file in the driver, and check in tasks on the executors that it exists."""

    def share() -> str:
        folder.mkdir(parents=True)
        path = folder / "token"
        path.write_text("token")
        try:
            found = run_on_executors(session, lambda: (socket.gethostname(), path.exists()))
        finally:
            path.unlink()
            folder.rmdir()
        lacking = sorted({host for host, exists in found if not exists})
        if lacking:
            raise ValueError(f"not shared: {', '.join(lacking)} did not see the driver's file")
        return f"seen on {', '.join(sorted({host for host, _ in found}))}"

    return ask("files, task", "sees a file of the driver", share)


def _probe_tables(session: SparkSession, table: str) -> Iterator[Row]:
    """Write Delta tables, set `userMetadata` in two ways, and read the metadata back."""
    for way, save in (("option", _save_with_option), ("setting", _save_with_setting)):
        name = f"{table}_{way}"
        read = partial(_read_metadata, session, name, save)
        question = f"userMetadata as {way}, saveAsTable"
        yield ask("tables", question, partial(run_limited, session, read))
        yield ask("tables", f"drop {name}", partial(_drop, session, name))


def _save_with_option(session: SparkSession, table: str) -> None:
    rows = session.range(3).withColumn("text", F.lit("x"))
    rows.write.format("delta").option("userMetadata", table).saveAsTable(table)


def _save_with_setting(session: SparkSession, table: str) -> None:
    session.conf.set(COMMIT_METADATA, table)
    try:
        session.range(3).write.format("delta").saveAsTable(table)
    finally:
        session.conf.unset(COMMIT_METADATA)


def _read_metadata(
    session: SparkSession, table: str, save: Callable[[SparkSession, str], None]
) -> str:
    """Save the table, and read the metadata of its last commit.

    Raises:
        ValueError: the commit has other metadata.
    """
    save(session, table)
    last = session.sql(f"DESCRIBE HISTORY {table}").orderBy(F.desc("version")).first()
    found = last["userMetadata"] if last is not None else None
    if found != table:
        raise ValueError(f"the commit has userMetadata {found!r}")
    return "read back from the history"


def _drop(session: SparkSession, table: str) -> str:
    session.sql(f"DROP TABLE {table}")
    return "dropped"
