"""Check a folder on a cluster of two executors, one of which may have a mount of its own there.

    JAVA_HOME=WRAPPER python unshared.py FOLDER

The wrapper of `test_shared.py` starts executor 1. Prints seconds of a repeated check, or the error.
"""

import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession

from climb.errors import PreflightError
from climb.spark.session import SMALL_MACHINE
from climb.spark.shared import check_shared


def main(folder):
    builder = SparkSession.builder.master("local-cluster[2,1,512]")
    settings = SMALL_MACHINE | {"spark.executor.memory": "512m", "spark.driver.memory": "512m"}
    settings |= {"spark.scheduler.minRegisteredResourcesRatio": "1.0"}
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    try:
        check_shared(session, folder)
        started = time.monotonic()
        check_shared(session, folder)
        print(f"shared {time.monotonic() - started:.2f} {len(list(folder.iterdir()))}")
    except PreflightError as error:
        print(f"error {error}")
    session.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
