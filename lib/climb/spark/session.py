"""The Spark session: the caller's where there is one, else a small one on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from delta import configure_spark_with_delta_pip
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from climb.config.sections import SparkConfig
from climb.progress import say

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
    if submitted:
        SparkContext._ensure_initialized()  # or SparkConf sees nothing of what was submitted
    given = SparkConf() if submitted else None
    master = given.get("spark.master", "local[*]") if given else "local[*]"
    settings = dict(DELTA)
    if str(master).startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings |= SMALL_MACHINE
        settings["spark.driver.memory"] = cfg.driver_memory
        if given is not None:
            _drop_gpus(given)
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


def _drop_gpus(given: SparkConf) -> None:
    """Take out settings of GPUs: local mode has no GPU scheduling, and would wait for ever.

    spark-submit left them in the JVM's system properties, where every new SparkConf reads them.
    """
    keys = [key for key, _ in given.getAll() if ".resource.gpu." in key]
    if keys:
        say("spark", f"warning: local mode schedules no GPUs, left out: {', '.join(sorted(keys))}")
    for key in keys:
        SparkContext._jvm.java.lang.System.clearProperty(key)  # type: ignore[union-attr]


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep what Ivy and the JVM say while they start in a file; show it if they fail.

    The JVM inherits the file as its standard error, so its later lines go there too; Python's
    own errors and bars do not. Nobody reads it once this process has ended, so it has no name.
    """
    kept = os.dup(2)
    with tempfile.TemporaryFile(prefix="climb-jvm-") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(kept, log.read()[-4000:])
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def parallel_slots(session: SparkSession, wanted: int | None) -> int:
    """How many one-task jobs run at once: what was asked for, else one per GPU, else per core.

    A cluster whose executors are still registering is taken for as large as it was asked to be.
    """
    if wanted is not None:
        return wanted
    context = session.sparkContext
    conf = context.getConf()
    gpus = float(conf.get("spark.task.resource.gpu.amount", "0") or 0)
    if gpus <= 0:
        return max(1, int(context.defaultParallelism))
    asked = "spark.executor.instances"
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        asked = "spark.dynamicAllocation.maxExecutors"
    registered = int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1
    executors = max(1, registered, int(conf.get(asked, "0") or 0))
    per_executor = float(conf.get("spark.executor.resource.gpu.amount", "1") or 1)
    return max(1, int(executors * per_executor / gpus))
