"""What the driver does with runs that hang. Processes stand in for the tasks of Spark.

`tests/spark/test_trials.py` has the same with Spark itself.
"""

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from climb.proxy import ProxyRun
from climb.proxy.heartbeat import Heartbeat
from climb.spark.slots import Slots
from climb.spark.training import trials
from climb.spark.training.task import Outcome
from climb.spark.training.trials import HUNG_TRIES, train_runs
from climb.spark.training.watch import WatchSettings
from climb.tokenizer import TokenizerFile


@dataclasses.dataclass(frozen=True)
class Proxy:
    hangs: int
    exit_code: int = 0
    """Of the tries that do not hang."""

    deaths: int = 0
    """Number of tries of the first run that are killed."""

    reports_progress: bool = True
    supports_processes: bool = True


class Cluster:
    """Runs each run in a process, and kills that of a job group that is cancelled."""

    def __init__(self):
        self.processes, self.sparkContext = {}, self

    def submit(self, session, proxy, group, slots, named):
        name, run = named
        process = multiprocessing.get_context("fork").Process(target=work, args=(proxy, run))
        self.processes[f"{group} {name}"] = process
        process.start()
        process.join()
        if process.exitcode:
            return Outcome(name, "lost", 1.0, error="Job cancelled", kind="infrastructure")
        return Outcome(name, "finished", 1.0, {"bpb": 1.0})

    def cancelJobGroup(self, group):
        self.processes[group].kill()


def work(proxy, run):
    Heartbeat(run.heartbeat).beat()
    tries = Path(f"{run.checkpoints}.tries")
    with tries.open("a") as stream:
        stream.write("x")
    if run.seed == 0 and tries.stat().st_size <= proxy.hangs:
        os.kill(os.getpid(), signal.SIGSTOP)
    if run.seed == 0 and tries.stat().st_size <= proxy.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(proxy.exit_code)  # without the end of pytest in a copied process


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train runs `a`, which may hang, and `b`; return outcomes by name, and tries by name."""
    cluster = Cluster()
    monkeypatch.setattr(trials, "_submit", cluster.submit)
    monkeypatch.setattr(trials, "shares_local_gpu", lambda _: False)
    monkeypatch.setattr(trials, "inheritable_thread_target", lambda _: lambda function: function)
    watch = WatchSettings("search", hung_minutes=0.005, poll_seconds=0.02)

    def train(proxy, slots, processes=1):
        runs = [
            (name, ProxyRun(
                weights={}, shards={}, tokenizer=TokenizerFile(""), n_tokens=1, seed=seed,
                start=None, save=None, checkpoints=str(tmp_path / name), checkpoint_steps=1,
            ))
            for seed, name in enumerate("ab")
        ]  # fmt: skip
        planned = Slots(slots, processes=processes)
        outcomes = {o.name: o for o in train_runs(cluster, proxy, runs, planned, watch)}
        tries = {name: (tmp_path / f"{name}.tries").stat().st_size for name in "ab"}
        return SimpleNamespace(
            outcomes=outcomes, tries=tries, left=sorted(path.name for path in tmp_path.iterdir())
        )

    return train


@pytest.mark.parametrize("slots", [1, 2])
def test_a_run_that_hangs_is_killed_and_tried_again(train, capsys, slots):
    done = train(Proxy(hangs=1), slots)
    assert {name: o.status for name, o in done.outcomes.items()} == {
        "a": "finished", "b": "finished",
    }  # fmt: skip
    assert done.tries == {"a": 2, "b": 1}
    assert done.left == ["a.tries", "b.tries"]
    assert "search   a made no progress for 0.005 minutes (proxy.hung_minutes); try 1 of 3" in (
        capsys.readouterr().out
    )


def test_a_run_that_always_hangs_is_lost_after_three_tries_and_the_others_finish(train):
    done = train(Proxy(hangs=99), 1)
    lost = done.outcomes["a"]
    assert (lost.status, lost.kind, lost.metrics) == ("lost", "infrastructure", {})
    assert lost.error == "no progress for 0.005 minutes in the last of 3 tries (proxy.hung_minutes)"
    assert done.tries == {"a": HUNG_TRIES, "b": 1}
    assert done.outcomes["b"].status == "finished"


def test_a_run_that_hung_and_then_dies_for_another_reason_is_not_tried_again(train):
    done = train(Proxy(hangs=1, exit_code=1), 1)
    assert done.outcomes["a"].status == "lost"
    assert done.outcomes["a"].error == "Job cancelled"
    assert done.tries == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("processes", "deaths", "status", "tries"),
    [(1, 1, "lost", 1), (2, 1, "finished", 2), (2, 2, "finished", 3), (2, 99, "lost", HUNG_TRIES)],
)
def test_a_run_that_lost_one_of_several_processes_is_tried_again(
    train, capsys, processes, deaths, status, tries
):
    """Spark repeats a single task by itself."""
    done = train(Proxy(hangs=0, deaths=deaths), 1, processes)
    assert done.outcomes["a"].status == status
    assert done.outcomes["b"].status == "finished"
    assert done.tries == {"a": tries, "b": 1}
    assert ("a: Job cancelled (try 1 of 3)" in capsys.readouterr().out) == (processes > 1)
