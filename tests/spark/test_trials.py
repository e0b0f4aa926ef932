"""Trials run in parallel, and each kind of failure has its own consequence."""

import concurrent.futures
import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest
from cluster_script import run_script
from pyspark import cloudpickle

from climb.errors import ComponentError, ResourceError
from climb.spark.slots import Slots
from climb.spark.training import trials
from climb.spark.training.trials import HUNG_TRIES, train_batches, train_runs
from climb.spark.training.watch import WatchSettings
from climb.testing.contracts import build_tiny_run
from climb.testing.proxies import PlantedProxy

CLUSTER = """
import errno, sys
from pathlib import Path
from pyspark.sql import SparkSession
from climb.spark.slots import Slots
from climb.spark.training.trials import train_runs

class Proxy:
    def __init__(self, folder, error):
        self.folder, self.error = folder, error

    def train(self, run, device):
        with (Path(self.folder) / type(self.error).__name__).open("a") as stream:
            stream.write("x")
        raise self.error

session = (
    SparkSession.builder.master("local-cluster[1,2,1024]")
    .config("spark.executor.memory", "512m")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.task.maxFailures", "3")
    .config("spark.excludeOnFailure.enabled", "false")
    .getOrCreate()
)
for error in (OSError(errno.EIO, "Input/output error"), KeyError("weights")):
    try:
        outcomes = list(train_runs(session, Proxy(sys.argv[1], error), [name_run("a")], Slots(1)))
        print("OUTCOME", *(f"{o.status} {o.kind}" for o in outcomes))
    except RuntimeError as stopped:
        print("STOPPED", str(stopped).strip().splitlines()[-1])
session.stop()
"""


def build_proxy(train):
    """Return a proxy that calls a function of the run. Workers receive its code, not its name."""

    class Local:
        def train(self, run, device):
            return train(run)

    return Local()


@pytest.fixture
def run(tmp_path):
    return dataclasses.replace(build_tiny_run(tmp_path, 64), save=None)


def name_runs(run, *names):
    return [(name, run) for name in names]


def test_as_many_trials_run_at_a_time_as_there_are_slots(spark, run):
    proxy = PlantedProxy(sleep_seconds=0.2)
    names = [f"t{i}" for i in range(5)]
    outcomes = list(train_runs(spark, proxy, name_runs(run, *names), Slots(2)))
    assert sorted(o.name for o in outcomes) == names
    assert all(o.status == "finished" for o in outcomes)
    assert len({o.metrics["letters.bpb"] for o in outcomes}) == 1


def test_all_trials_that_have_ended_are_one_batch(spark, run, monkeypatch):
    def wait_for_all(active, **_):
        return concurrent.futures.wait(active)

    monkeypatch.setattr(trials, "wait", wait_for_all)
    runs = name_runs(run, "a", "b", "c", "d")
    batches = train_batches(spark, PlantedProxy(), runs, Slots(2))
    assert [sorted(outcome.name for outcome in batch) for batch in batches] == [
        ["a", "b"], ["c", "d"],
    ]  # fmt: skip


def test_a_deterministic_failure_is_an_outcome_and_the_other_trials_finish(spark, run):
    wrong = dataclasses.replace(run, weights={"letters": 0.9, "numbers": 0.1})
    proxy = PlantedProxy(nan_when_above={"letters": 0.6})
    runs = [("bad", wrong), *name_runs(run, "a", "b")]
    outcomes = {o.name: o for o in train_runs(spark, proxy, runs, Slots(2))}
    assert {name: o.status for name, o in outcomes.items()} == {
        "bad": "failed", "a": "finished", "b": "finished",
    }  # fmt: skip
    assert outcomes["bad"].kind == "deterministic"
    assert outcomes["bad"].error.startswith("the loss is nan at step 1")


def test_trials_that_ran_out_of_memory_together_finish_when_they_run_alone(spark, run, tmp_path):
    active = tmp_path / "active"
    active.mkdir()

    def train(run):
        own = active / str(os.getpid())
        own.touch()
        try:
            began = time.monotonic()
            # Two runs start at the same time, but not at the same instant.
            while time.monotonic() - began < 2.0:
                if len(list(active.iterdir())) > 1:
                    time.sleep(1.0)
                    raise ResourceError("out of memory")
                time.sleep(0.05)
            return {"bpb": 1.0}
        finally:
            own.unlink()

    outcomes = list(train_runs(spark, build_proxy(train), name_runs(run, "a", "b"), Slots(2)))
    assert [(o.name, o.status, o.metrics) for o in outcomes] == [
        ("a", "finished", {"bpb": 1.0}),
        ("b", "finished", {"bpb": 1.0}),
    ]


@pytest.mark.parametrize(
    ("names", "slots", "is_repeated"),
    [
        ("a", Slots(2), 0),
        ("ab", Slots(1), 0),
        ("ab", Slots(2), 1),
        ("ab", Slots(1, count_again=lambda: 2), 1),
    ],
)
def test_only_a_trial_that_is_alone_on_its_device_may_halve_its_micro_batch(
    spark, run, capsys, names, slots, is_repeated
):
    def train(run):
        if not run.halve_micro_batch:
            raise ResourceError("out of memory")
        return {"bpb": 1.0}

    outcomes = list(train_runs(spark, build_proxy(train), name_runs(run, *names), slots))
    assert [o.status for o in outcomes] == ["finished"] * len(names)
    assert capsys.readouterr().out.count("repeating them one at a time") == is_repeated


def test_a_trial_that_runs_out_of_memory_alone_has_failed(spark, run, tmp_path, capsys):
    tries = tmp_path / "tries"

    def train(run):
        with tries.open("a") as stream:
            stream.write("x")
        raise MemoryError("32 GiB")

    [outcome] = train_runs(spark, build_proxy(train), name_runs(run, "a"), Slots(2))
    assert (outcome.status, outcome.kind) == ("failed", "resource")
    assert outcome.error == "32 GiB (no other run was active)"
    assert tries.read_text() == "x"
    outcomes = list(train_runs(spark, build_proxy(train), name_runs(run, "a", "b"), Slots(2)))
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert tries.read_text() == "x" * (1 + 2 * 2)
    assert "2 runs ran out of memory; repeating them one at a time" in capsys.readouterr().out


def test_a_killed_worker_is_lost_and_not_failed(spark, run, tmp_path):
    started = dataclasses.replace(run, start=str(tmp_path))
    [outcome] = train_runs(spark, PlantedProxy(fault="exit"), name_runs(started, "a"), Slots(1))
    assert (outcome.status, outcome.kind) == ("lost", "infrastructure")
    assert "exited unexpectedly" in outcome.error


@dataclasses.dataclass(frozen=True)
class HangingProxy:
    """A proxy whose first tries stop at a step; SIGSTOP stops all threads of the worker."""

    folder: str
    hangs: int
    is_real: bool = False
    """Whether a model is trained."""

    reports_progress = True

    def train(self, run, device):
        from climb.proxy.llama import LlamaProxy
        from climb.proxy.training import run_training

        if not self.is_real:
            self.stop(run)
            return {"bpb": 1.0}

        def stop_at_a_step(loop):
            if loop.n_steps_done == 3:
                self.stop(run)

        tiny = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
        return run_training(tiny, run, device, before_step=stop_at_a_step)

    def stop(self, run):
        import os
        import signal
        from pathlib import Path

        tries = Path(self.folder) / f"seed-{run.seed}"
        with tries.open("a") as stream:
            stream.write(f"{os.getpid()} ")
        if run.seed == 0 and len(tries.read_text().split()) <= self.hangs:
            os.kill(os.getpid(), signal.SIGSTOP)


# Workers receive the class with its code, because they cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_a_run_that_hangs_is_ended_and_tried_again(spark, run, tmp_path, capfd):
    watch = WatchSettings("search", hung_minutes=0.03, poll_seconds=0.2)
    runs = [("a", run), ("b", dataclasses.replace(run, seed=1))]
    outcomes = list(train_runs(spark, HangingProxy(str(tmp_path), 1), runs, Slots(1), watch))
    assert {(o.name, o.status) for o in outcomes} == {("a", "finished"), ("b", "finished")}
    first, second = map(int, (tmp_path / "seed-0").read_text().split())
    assert first != second
    assert not is_alive(first)
    assert "a made no progress for 0.03 minutes (proxy.hung_minutes); try 1 of 3 is ended" in (
        capfd.readouterr().out
    )
    assert not list(Path(run.checkpoints).parent.glob("*.progress"))


@pytest.mark.slow
def test_a_training_that_hung_has_the_bits_of_an_uninterrupted_one(spark, run, tmp_path):
    watch = WatchSettings("search", hung_minutes=0.5, poll_seconds=0.2)
    run = dataclasses.replace(run, n_tokens=16 * 8 * 6, checkpoint_steps=2)
    metrics = []
    for folder, hangs in (("whole", 0), ("hung", 1)):
        (tmp_path / folder).mkdir()
        proxy = HangingProxy(str(tmp_path / folder), hangs, is_real=True)
        [outcome] = train_runs(spark, proxy, name_runs(run, "a"), Slots(1), watch)
        assert outcome.status == "finished"
        assert len((tmp_path / folder / "seed-0").read_text().split()) == 1 + hangs
        metrics.append(outcome.metrics)
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_a_run_that_always_hangs_is_lost_and_never_failed(spark, run, tmp_path):
    watch = WatchSettings("search", hung_minutes=0.03, poll_seconds=0.2)
    proxy = HangingProxy(str(tmp_path), 99)
    runs = [("a", run), ("b", dataclasses.replace(run, seed=1))]
    outcomes = {o.name: o for o in train_runs(spark, proxy, runs, Slots(1), watch)}
    assert (outcomes["a"].status, outcomes["a"].kind) == ("lost", "infrastructure")
    assert (
        outcomes["a"].error
        == "no progress for 0.03 minutes in the last of 3 tries (proxy.hung_minutes)"
    )
    assert len((tmp_path / "seed-0").read_text().split()) == HUNG_TRIES
    assert outcomes["b"].status == "finished"  # its slot is free again


def is_alive(pid, seconds=10.0):
    """Whether a process still runs after some seconds; Spark kills workers after two."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.1)
    return True


def test_a_mistake_of_the_user_stops_all_trials_with_its_own_message(spark, run):
    started = dataclasses.replace(run, start="/nowhere")
    message = r"^the checkpoint folder `start` does not exist: /nowhere$"
    with pytest.raises(ComponentError, match=message):
        list(train_runs(spark, PlantedProxy(), name_runs(started, "a", "b"), Slots(2)))


def test_a_bug_stops_all_trials_after_one_try_with_the_traceback_of_the_worker(
    spark, run, tmp_path
):
    tries = tmp_path / "tries"

    def train(run):
        with tries.open("a") as stream:
            stream.write("x")
        return {"bpb": run.no_such_field}

    runs = name_runs(run, *(f"t{i}" for i in range(9)))
    with pytest.raises(RuntimeError, match="Traceback") as error:
        list(train_runs(spark, build_proxy(train), runs, Slots(1)))
    assert "AttributeError: 'ProxyRun' object has no attribute 'no_such_field'" in str(error.value)
    assert tries.read_text() == "x"


@pytest.mark.slow
def test_spark_repeats_a_lost_mount_and_does_not_repeat_a_bug(tmp_path):
    done = run_script(CLUSTER, tmp_path)
    lines = [x for x in done.stdout.splitlines() if x.startswith(("OUTCOME", "STOPPED"))]
    assert lines == ["OUTCOME lost infrastructure", "STOPPED KeyError: 'weights'"], done.stderr
    assert {path.name: len(path.read_text()) for path in Path(tmp_path).iterdir()} == {
        "OSError": 3,
        "KeyError": 1,
    }


LOST_EXECUTOR = """
import os, signal, sys, time
from pathlib import Path
from pyspark.sql import SparkSession
from climb.config import load
from climb.spark.slots import plan_slots
from climb.spark.training.trials import train_runs

FOLDER = Path(sys.argv[1])

def find_parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

class Proxy:
    def train(self, run, device):
        started = FOLDER / run.checkpoints
        with started.open("a") as stream:
            stream.write("x")
        if run.checkpoints == "t3" and started.read_text() == "x":
            daemon = os.getppid()
            os.kill(find_parent(daemon), signal.SIGKILL)
            time.sleep(60)  # the daemon ends its workers when its executor is gone
        time.sleep(1.0)
        return {"bpb": float(len(run.checkpoints))}

session = (
    SparkSession.builder.master("local-cluster[2,1,1024]")
    .config("spark.executor.memory", "512m")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
runs = [name_run(f"t{i}") for i in range(8)]
slots = plan_slots(session, load().spark)
finished = []
for outcome in train_runs(session, Proxy(), runs, slots):
    finished.append(outcome.name)
    print("OUTCOME", outcome.name, outcome.status)
print("SLOTS", slots.count)
session.stop()
"""


@pytest.mark.slow
def test_a_killed_executor_costs_only_the_trials_that_it_ran(tmp_path):
    done = run_script(LOST_EXECUTOR, tmp_path)
    outcomes = dict(x.split()[1:] for x in done.stdout.splitlines() if x.startswith("OUTCOME"))
    assert outcomes == {f"t{i}": "finished" for i in range(8)}, done.stderr
    assert "SLOTS 2" in done.stdout
    tries = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert tries == {f"t{i}": 1 + (i == 3) for i in range(8)}
