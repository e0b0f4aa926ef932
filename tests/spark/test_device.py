"""A task computes on the (fake) GPU that Spark assigned to it, or on the CPU without one."""

import os
import subprocess
import sys

from climb.spark.device import get_task_device, has_own_gpu

CLUSTER = """
import sys
from pyspark.sql import SparkSession
from climb.spark.device import get_task_device, has_own_gpu
from climb.spark.session import count_parallel_slots
session = (
    SparkSession.builder.master("local-cluster[2,1,1024]")
    .config("spark.executor.memory", "512m")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.worker.resource.gpu.amount", "2")
    .config("spark.worker.resource.gpu.discoveryScript", sys.argv[1])
    .config("spark.executor.resource.gpu.amount", "1")
    .config("spark.executor.resource.gpu.discoveryScript", sys.argv[1])
    .config("spark.task.resource.gpu.amount", "1")
    .getOrCreate()
)
devices = session.sparkContext.parallelize(range(4), 4).map(lambda _: get_task_device()).collect()
print("DEVICES", *devices, "OWN", has_own_gpu(session), end=" ")
print("SLOTS", count_parallel_slots(session, None))
session.stop()
"""


def test_the_device_is_the_cpu_without_a_task_or_without_a_gpu(spark):
    assert not has_own_gpu(spark)
    assert get_task_device() == "cpu"
    assert spark.sparkContext.parallelize([0], 1).map(lambda _: get_task_device()).collect() == [
        "cpu"
    ]


def test_a_task_computes_on_the_gpu_that_spark_assigned(tmp_path):
    discovery = tmp_path / "gpus.sh"
    discovery.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["3", "5"]}'\n""")
    discovery.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(discovery)],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    line = next((x for x in done.stdout.splitlines() if x.startswith("DEVICES")), done.stderr)
    assert {word for word in line.split() if word.startswith("c")} <= {"cuda:3", "cuda:5"}, line
    assert "cuda:3" in line
    assert line.endswith("OWN True SLOTS 2"), line
