"""One Spark session for all tests, and the one place that knows the folder of shared data."""

import os
from pathlib import Path

import pytest

# Tests run in several processes: two BLAS threads in each of them would compete for the cores.
# NumPy reads these when it is imported, which is after this file.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Commands that tests start run for a minute or two: Java's second compiler does not pay there.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora and published runs beside the checkout; not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(
            f"needs the folder of shared data at {SHARED}; it is not part of the project: copy it "
            "there, or ignore this test"
        )
    return SHARED


@pytest.fixture(scope="session")
def spark():
    from climb.config import load
    from climb.spark.session import start_session

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPARK_SUBMIT_OPTS")  # this JVM runs for a quarter of an hour
        session = start_session(
            load(settings=["spark.shuffle_partitions=2", "spark.driver_memory=2g"]).spark
        )
    # Compiling Java takes longer than small queries; the end-to-end tests run with it.
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    yield session
    session.stop()


@pytest.fixture
def store(spark, tmp_path):
    from climb.config import load
    from climb.spark.delta.store import Store

    return Store(spark, load(settings=[f"storage.root={tmp_path}/out"]).storage)
