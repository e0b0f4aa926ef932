"""TorchDistributor trains one model in two processes, and their failures reach the driver."""

import dataclasses
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
from cluster_script import run_script
from processes import in_folder, read_results, train_together
from pyspark import cloudpickle

from climb.config import load
from climb.errors import ComponentError, ConfigError, ResourceError, TrialError
from climb.proxy.llama import LlamaProxy
from climb.proxy.processes import find_processes
from climb.proxy.training import run_training
from climb.spark.slots import Slots, plan_process_slots
from climb.spark.training.trials import train_runs
from climb.spark.training.watch import WatchSettings
from climb.testing.contracts import build_tiny_run
from climb.testing.proxies import PlantedProxy

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
TWO = Slots(1, processes=2)

# Processes receive the classes with their code, because they cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclasses.dataclass(frozen=True)
class FailingProxy:
    """A proxy whose second process fails at a step; the first one only sees that it is gone."""

    error: BaseException | None
    """What it raises; None: the process is killed, once for each file in the folder."""

    folder: str = ""

    supports_processes = True
    reports_progress = True

    def train(self, run, device):
        def fail(loop):
            if find_processes(run).rank == 1 and loop.n_steps_done == 5:
                if self.error is not None:
                    raise self.error
                for left in Path(self.folder).glob("*"):
                    left.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)

        return run_training(TINY, run, device, fail)


@pytest.fixture
def run(tmp_path):
    return place(build_tiny_run(tmp_path / "data", 16 * 8 * 10), tmp_path / "run")


def place(run, folder):
    """The same run of two processes with its results in a folder."""
    (folder / "tries").mkdir(parents=True)
    return in_folder(run, folder, checkpoint_steps=2, processes=2)


def train(spark, proxy, run):
    [outcome] = train_runs(spark, proxy, [("a", run)], TWO, WatchSettings("train"))
    return outcome


def test_more_processes_than_slots_are_refused_before_anything_waits(spark):
    n = int(spark.sparkContext.defaultParallelism)
    cfg = load().spark
    assert plan_process_slots(spark, cfg, 1).processes == 1
    slots = plan_process_slots(spark, cfg, n)
    assert (slots.count, slots.processes, slots.has_own_gpu) == (1, n, False)
    assert slots.count_again is None  # in local mode no executor joins
    message = rf"^train.processes is {n + 1}, but only {n} processes can run at the same time .*"
    with pytest.raises(ConfigError, match=message):
        plan_process_slots(spark, cfg, n + 1)


def test_a_proxy_that_knows_no_processes_is_refused(spark, run):
    with pytest.raises(ConfigError, match="PlantedProxy does not set supports_processes"):
        train(spark, PlantedProxy(), run)


@pytest.mark.slow
def test_two_tasks_of_spark_train_the_model_of_two_processes_without_spark(spark, run, tmp_path):
    other = place(run, tmp_path / "other")
    metrics = train_together(TINY, other, 2)
    outcome = train(spark, TINY, run)
    assert (outcome.status, outcome.metrics) == ("finished", metrics)
    assert read_results(run) == read_results(other)
    assert not Path(run.checkpoints).exists()
    assert not list(Path(run.checkpoints).parent.glob("checkpoints.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrialError("the loss is nan at step 6"), "deterministic"),
        (ResourceError("out of memory"), "resource"),
        (MemoryError("32 GiB"), "resource"),
    ],
)
def test_a_failure_of_one_process_is_the_outcome_of_the_run(spark, run, error, kind):
    outcome = train(spark, FailingProxy(error), run)
    assert (outcome.status, outcome.kind) == ("failed", kind)
    assert str(error) in outcome.error
    assert not list(Path(run.checkpoints).parent.glob("*.failed-*"))


@pytest.mark.slow
def test_a_mistake_of_the_user_and_a_bug_in_one_process_stop_the_job(spark, run):
    with pytest.raises(ComponentError, match=r"^a shard is broken$"):
        train(spark, FailingProxy(ComponentError("a shard is broken")), run)
    with pytest.raises(RuntimeError, match=r"unexpected exception in a worker") as raised:
        train(spark, FailingProxy(KeyError("weights")), run)
    assert "KeyError: 'weights'" in str(raised.value)
    assert "Traceback" in str(raised.value)


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_repeated_and_has_the_bytes_of_an_unbroken_one(
    spark, run, tmp_path, capfd
):
    other = place(run, tmp_path / "other")
    metrics = train_together(TINY, other, 2)
    tries = Path(run.checkpoints).parent / "tries"
    (tries / "0").touch()
    outcome = train(spark, FailingProxy(None, str(tries)), run)
    assert (outcome.status, outcome.metrics) == ("finished", metrics)
    assert list(tries.iterdir()) == []
    lines = [line for line in capfd.readouterr().out.splitlines() if "was lost" in line]
    assert any(line.endswith("(try 1 of 3)") for line in lines)
    assert read_results(run) == read_results(other)


CLUSTER = """
import os, pickle, signal, sys
from pathlib import Path
from pyspark import TaskContext
from pyspark.sql import SparkSession
from climb.proxy.processes import find_processes
from climb.proxy.training import run_training
from climb.spark.slots import Slots
from climb.spark.training.trials import train_runs

recipe, run, victims = pickle.loads(Path(sys.argv[1]).read_bytes())

class Proxy:
    supports_processes = True

    def train(self, run, device):
        def kill(loop):
            if find_processes(run).rank == 1 and loop.n_steps_done == 5:
                for left in sorted(Path(victims).glob("*")):
                    left.unlink()
                    os.kill(find_jvm() if left.name == "executor" else os.getpid(), 9)
        return run_training(recipe, run, device, kill)

def find_jvm():
    pid = os.getpid()
    while not Path(f"/proc/{pid}/exe").resolve().name.startswith("java"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid

session = (
    SparkSession.builder.master("local-cluster[3,1,1024]")
    .config("spark.executor.memory", "512m")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.excludeOnFailure.enabled", "false")
    .getOrCreate()
)
[outcome] = train_runs(session, Proxy(), [("a", run)], Slots(1, processes=2))
is_equal = outcome.metrics == pickle.loads(Path(sys.argv[2]).read_bytes())
print("OUTCOME", outcome.status, is_equal, outcome.error)
session.stop()
"""


@pytest.mark.slow
def test_a_run_of_a_cluster_survives_the_loss_of_an_executor_and_of_a_process(run, tmp_path):
    other = place(run, tmp_path / "other")
    (tmp_path / "metrics.pickle").write_bytes(pickle.dumps(train_together(TINY, other, 2)))
    tries = Path(run.checkpoints).parent / "tries"
    for name in ("executor", "process"):
        (tries / name).touch()
    (tmp_path / "run.pickle").write_bytes(pickle.dumps((TINY, run, str(tries))))
    done = run_script(CLUSTER, tmp_path / "run.pickle", tmp_path / "metrics.pickle")
    assert "OUTCOME finished True" in done.stdout, done.stdout + done.stderr[-2000:]
    assert list(tries.iterdir()) == []
    assert read_results(run) == read_results(other)
