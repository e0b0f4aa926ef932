"""The Spark session: the caller's where there is one, else a small one on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from delta import configure_spark_with_delta_pip
from pyspark import SparkConf
from pyspark.sql import SparkSession

from climb.config.sections import SparkConfig

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

SMALL_MACHINE = {
    # The default of 50 makes reading a table's log take seconds on two cores.
    "spark.databricks.delta.snapshotPartitions": "2",
    # A laptop changes networks; loopback stays.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    # A machine that is busy training answers heartbeats late.
    "spark.network.timeout": "800s",
    "spark.executor.heartbeatInterval": "60s",
    # The parallel collector's threads fight with the tasks. The second compiler stays on, though it
    # warms up slowly: without it MLlib's vector instructions run through boxed objects.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Documents are long: 10,000 to a batch would be hundreds of megabytes in a Python worker.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "512",
    # Stage bars of one job overwrite the lines that climb prints.
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


def start_session(cfg: SparkConfig) -> SparkSession:
    """Take the session that Databricks made, or build one.

    What spark-submit was given wins over what is set here. Settings for a small machine are
    used with a local master only, so a cluster keeps its own.
    """
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return SparkSession.builder.getOrCreate()
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    given = SparkConf() if submitted else None
    master = given.get("spark.master", "local[*]") if given else "local[*]"
    settings = dict(DELTA)
    if str(master).startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings |= SMALL_MACHINE
        settings["spark.driver.memory"] = cfg.driver_memory
    settings["spark.sql.shuffle.partitions"] = str(cfg.shuffle_partitions)
    builder = SparkSession.builder.appName("climb").master(str(master))
    for key, value in settings.items():
        if given is None or not given.contains(key):
            builder = builder.config(key, value)
    if not submitted:
        builder = configure_spark_with_delta_pip(builder)
    with _quiet_start():
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep what Ivy and the JVM say while they start in a file; show it if they fail.

    The JVM inherits the file as its standard error, so its later lines go there too; Python's
    own errors and bars do not.
    """
    kept = os.dup(2)
    with tempfile.NamedTemporaryFile(prefix="climb-jvm-", suffix=".log", delete=False) as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            os.write(kept, Path(log.name).read_bytes()[-4000:])
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def parallel_slots(session: SparkSession, wanted: int | None) -> int:
    """How many one-task jobs run at once: what was asked for, else one per GPU, else per core."""
    if wanted is not None:
        return wanted
    context = session.sparkContext
    gpus = float(context.getConf().get("spark.task.resource.gpu.amount", "0") or 0)
    executors = max(1, context._jsc.sc().getExecutorMemoryStatus().size() - 1)
    if gpus > 0:
        per_executor = float(context.getConf().get("spark.executor.resource.gpu.amount", "1") or 1)
        return max(1, int(executors * per_executor / gpus))
    return max(1, int(context.defaultParallelism))
