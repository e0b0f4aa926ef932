"""The Spark session: that of Databricks or of spark-submit, or a small one on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from delta import configure_spark_with_delta_pip
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from climb.config.sections import SparkConfig
from climb.progress import log
from climb.spark.device import is_local, shares_local_gpu
from climb.spark.machine import find_delta_jars, find_ivy_folder, is_utf8_locale
from climb.spark.slots import plan_slots

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

SMALL_MACHINE = {
    # With the default of 50, reading a table's log takes seconds on two cores.
    "spark.databricks.delta.snapshotPartitions": "2",
    # A laptop changes networks; the loopback address stays the same.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    # A machine that is busy with training sends heartbeats late.
    "spark.network.timeout": "800s",
    "spark.executor.heartbeatInterval": "60s",
    # The threads of the parallel garbage collector compete with the tasks. The second JIT compiler
    # stays on, although it starts slowly: MLlib's vector instructions use boxed objects without it.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Documents are long: 10,000 in a batch would be hundreds of megabytes in a Python worker.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "512",
    # Even 512 documents can be too many: the longest have 2 million characters each.
    "spark.sql.execution.arrow.maxBytesPerBatch": "67108864",
    # The stage bars of Spark overwrite the lines that climb prints.
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


def start_session(cfg: SparkConfig, folder: Path | None = None) -> SparkSession:
    """Return the session of Databricks, or build one.

    Settings of spark-submit take precedence over the settings here. SMALL_MACHINE is used
    with a local master only, so a cluster keeps its own settings.

    Args:
        cfg: section spark.
        folder: folder for what Spark writes beside the tables (its warehouse, and a metastore if
            Hive is on); None: a folder in the system's temporary folder.

    Raises:
        ConfigError: the shares of GPUs and cores do not fit the executors.
    """
    session = _open_session(cfg, folder)
    plan_slots(session, cfg, cfg.trials_per_gpu or 1)  # raises if the shares do not fit
    if shares_local_gpu(session):
        log("spark", "local mode schedules no GPUs: all tasks share cuda:0")
    return session


def _open_session(cfg: SparkConfig, folder: Path | None) -> SparkSession:
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return SparkSession.builder.getOrCreate()
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        SparkContext._ensure_initialized()  # without it SparkConf does not see submitted settings
    folder = folder or Path(tempfile.gettempdir()) / f"climb-spark-{os.getuid()}"
    conf = SparkConf() if submitted else None
    master = conf.get("spark.master", "local[*]") if conf else "local[*]"
    settings = dict(DELTA)
    if str(master).startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings |= SMALL_MACHINE
        settings["spark.sql.warehouse.dir"] = f"file:{folder.absolute()}/spark-warehouse"
        settings["spark.driver.memory"] = cfg.driver_memory
        if conf is not None and is_local(str(master)):
            _drop_gpus(conf)
    settings["spark.sql.shuffle.partitions"] = str(cfg.shuffle_partitions)
    builder = SparkSession.builder.appName("climb").master(str(master))
    for key, value in settings.items():
        if conf is None or not conf.contains(key):
            builder = builder.config(key, value)
    if not submitted:
        builder = _add_delta(builder)
    with _hide_start_output(), _use_utf8():
        session = builder.getOrCreate()
    _locate_metastore(session, folder)
    # WARN on a cluster: Spark warns while no executor accepts a job, and waits without end.
    session.sparkContext.setLogLevel("ERROR" if is_local(str(master)) else "WARN")
    return session


def _locate_metastore(session: SparkSession, folder: Path) -> None:
    """Name the folder of the metastore, which a session with Hive opens at its first query."""
    jvm: Any = session._jvm
    jvm.java.lang.System.setProperty("derby.system.home", str(folder.absolute()))


def _add_delta(builder: SparkSession.Builder) -> SparkSession.Builder:
    if jars := find_delta_jars():
        return builder.config("spark.jars", ",".join(map(str, jars)))
    if (ivy := find_ivy_folder()) is not None:
        builder = builder.config("spark.jars.ivy", str(ivy))
    with_delta: SparkSession.Builder = configure_spark_with_delta_pip(builder)
    return with_delta


@contextlib.contextmanager
def _use_utf8() -> Iterator[None]:
    """Start the JVM with UTF-8: with LC_ALL=C it cannot open a file whose name is not ASCII."""
    before = os.environ.get("LC_ALL")
    if not is_utf8_locale():
        os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("LC_ALL", None)
        else:
            os.environ["LC_ALL"] = before


def _drop_gpus(conf: SparkConf) -> None:
    """Remove GPU settings: local mode does not schedule GPUs, and its tasks would wait forever.

    spark-submit leaves them in the JVM's system properties, where every new SparkConf reads them.
    """
    keys = [key for key, _ in conf.getAll() if ".resource.gpu." in key]
    if keys:
        names = ", ".join(sorted(keys))
        log("spark", f"warning: local mode does not schedule GPUs; ignored settings: {names}")
    for key in keys:
        # _jvm is None only before `_ensure_initialized`.
        SparkContext._jvm.java.lang.System.clearProperty(key)  # type: ignore[union-attr]


@contextlib.contextmanager
def _hide_start_output() -> Iterator[None]:
    """Redirect the output of Ivy and the JVM to a file while they start; print the file on failure.

    The JVM inherits the file as its standard error, so its later lines go there too; Python's own
    errors and progress bars do not. The file has no name: it is not needed after this process.
    """
    stderr = os.dup(2)
    with tempfile.TemporaryFile(prefix="climb-jvm-") as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except BaseException:
            output.seek(0)
            os.write(stderr, output.read()[-4000:])
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
