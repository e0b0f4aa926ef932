"""How many trials share a GPU follows from the memory that the first ones needed."""

import sys
from types import SimpleNamespace

import pytest
from fake_session import FakeSession

from climb.config import load
from climb.spark.device import CONTEXT_BYTES, track_gpu_memory
from climb.spark.training import sharing
from climb.spark.training.sharing import choose_trials_per_gpu, plan_trials, train_trials
from climb.spark.training.task import Outcome

GPUS = {
    "spark.executor.resource.gpu.amount": "2",
    "spark.executor.cores": "16",
}
FIXED = GPUS | {"spark.task.resource.gpu.amount": "1"}


class Recorded:
    """The tables `trials` and `rungs`, as lists of rows."""

    def __init__(self, session, **rows):
        self.session, self.rows = session, rows

    def exists(self, table):
        return table.name in self.rows

    def read_rows(self, table, proxy):
        return [row for row in self.rows[table.name] if row["proxy"] == proxy]


def finished(share, proxy="p-1", status="finished"):
    return {"proxy": proxy, "status": status, "gpu_share": share}


def rung(share):
    return {"proxy": "p-1", "gpu_share": share}


@pytest.fixture(autouse=True)
def plain_profile(monkeypatch):
    """A profile is built in the JVM; here it is the share of a GPU and the cores."""
    monkeypatch.setattr("climb.spark.slots._build_profile", lambda s: (round(1 / s.gpus), s.cores))


@pytest.mark.parametrize(
    ("share", "cores", "expected"),
    [
        (0.041, 8, 8),  # a core for each
        (0.041, 64, 21),
        (0.3, 8, 3),
        (0.46, 8, 1),
        (1.2, 8, 1),
        (None, 8, 1),
    ],
)
def test_trials_share_nine_tenths_of_the_memory_and_have_a_core_each(share, cores, expected):
    assert choose_trials_per_gpu(share, cores) == expected


def plan(settings, *keys, master="spark://head:7077", n_runs=100, **rows):
    store = Recorded(FakeSession(master, settings, cores=12, executors=3), **rows)
    cfg = load(settings=["spark.trials_per_gpu=null", *keys]).spark
    return plan_trials(store, cfg, "p-1", n_runs)


def test_the_first_trials_have_a_gpu_each():
    planned = plan(GPUS, trials=[finished(0.1, proxy="p-2"), finished(None, status="failed")])
    assert (planned.slots.count, planned.slots.profile, planned.n_first) == (6, (1, 8), 6)


def test_later_trials_share_a_gpu_by_the_largest_need_of_trials_and_rungs(capsys):
    planned = plan(GPUS, trials=[finished(0.1)], rungs=[rung(0.2), rung(None)])
    assert (planned.slots.count, planned.slots.profile, planned.n_first) == (24, (4, 2), None)
    line = "a trial needs 20.0% of a GPU's memory: 4 trials share a GPU (spark.trials_per_gpu)"
    assert line in capsys.readouterr().out


def test_trials_that_fill_a_gpu_or_do_not_use_it_keep_one_each():
    for row in (finished(0.6), finished(None)):
        planned = plan(GPUS, trials=[row])
        assert (planned.slots.count, planned.slots.profile, planned.n_first) == (6, (1, 8), None)


def test_a_configured_number_is_used_from_the_first_trial_on():
    planned = plan(GPUS, "spark.trials_per_gpu=2", trials=[finished(0.1)])
    assert (planned.slots.count, planned.slots.profile, planned.n_first) == (12, (2, 4), None)


def test_where_the_settings_of_the_cluster_decide_the_log_says_what_would_fit(capsys):
    planned = plan(FIXED, "spark.resource_profiles=false", trials=[finished(0.2)])
    assert (planned.slots.count, planned.slots.profile) == (6, None)
    line = "4 trials could share a GPU (spark.task.resource.gpu.amount)"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(("n_runs", "per_gpu"), [(6, 1), (7, 2), (13, 3), (100, 4)])
def test_few_trials_use_all_gpus_since_spark_fills_one_before_the_next(n_runs, per_gpu):
    planned = plan(GPUS, trials=[finished(0.2)], n_runs=n_runs)
    assert planned.slots.profile == (per_gpu, 8 // per_gpu)
    planned = plan(GPUS, f"spark.parallel_trials={n_runs}", trials=[finished(0.2)])
    assert (planned.slots.count, planned.slots.profile) == (n_runs, (per_gpu, 8 // per_gpu))


def test_trials_on_cores_are_not_planned_by_memory():
    planned = plan({}, master="local[*]", trials=[])
    assert (planned.slots.count, planned.n_first) == (12, None)


def test_trials_share_the_gpu_of_local_mode(monkeypatch):
    for module in ("climb.spark.slots", "climb.spark.training.sharing"):
        monkeypatch.setattr(f"{module}.shares_local_gpu", lambda session: True)
    first = plan({}, master="local[*]")
    assert (first.slots.count, first.n_first) == (1, 1)
    assert plan({}, master="local[*]", trials=[finished(0.2)]).slots.count == 4
    many = "spark.parallel_trials=9"
    assert plan({}, many, master="local[*]").slots.count == 1
    assert plan({}, many, master="local[*]", trials=[finished(0.2)]).slots.count == 4


def test_rows_of_the_first_trials_are_recorded_before_the_others_are_planned(monkeypatch):
    store = Recorded(FakeSession("spark://head:7077", GPUS, executors=3), trials=[])
    parts = []

    def train_batches(session, proxy, runs, slots, watch):
        parts.append((slots.count, [name for name, _ in runs]))
        for name, _ in runs:
            yield [Outcome(name, "finished", 1.0, gpu_share=0.1)]

    monkeypatch.setattr(sharing, "train_batches", train_batches)
    runs = [(f"t{i}", None) for i in range(40)]
    cfg = load(settings=["spark.trials_per_gpu=null"]).spark
    for [outcome] in train_trials(store, cfg, "p-1", None, runs):
        store.rows["trials"].append(finished(outcome.gpu_share))
    names = [name for name, _ in runs]
    assert parts == [(6, names[:6]), (36, names[6:])]  # 34 on 6 GPUs


def test_the_share_of_the_memory_is_the_peak_of_torch_and_that_of_a_process(monkeypatch):
    peaks = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        reset_peak_memory_stats=peaks.append,
        max_memory_reserved=lambda device: 3 * CONTEXT_BYTES,
        get_device_properties=lambda device: SimpleNamespace(total_memory=80 * CONTEXT_BYTES),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with track_gpu_memory("cuda:1") as memory:
        assert peaks == ["cuda:1"]
    assert memory.share == 4 / 80
    with track_gpu_memory("cpu") as memory:
        pass
    assert memory.share is None
    cuda.max_memory_reserved = lambda device: 0  # a proxy that does not use torch
    with track_gpu_memory("cuda:1") as memory:
        pass
    assert memory.share is None
