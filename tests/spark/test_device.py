"""How stages with and without GPUs are scheduled: one session on a cluster of fake GPUs."""

import json

import pytest
from cluster_script import run_script

from climb.spark.device import get_task_device

N_CORES = 8

CLUSTER = """
import json, os, sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from pyspark import TaskContext
from pyspark.sql import SparkSession
from climb.config import load
from climb.spark.corpus.embed import embed_documents
from climb.spark.device import get_task_device
from climb.spark.slots import plan_profile, plan_slots
from climb.spark.training.trials import train_runs

DISCOVERY, FOLDER = sys.argv[1:]

def meet(name, device, want):
    # Wait until `want` tasks of this stage are active, and describe what this task sees.
    folder = Path(FOLDER) / name
    own = folder / f"{device}-{TaskContext.get().taskAttemptId()}"
    own.touch()
    end = time.monotonic() + 20
    while len(list(folder.iterdir())) < want and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)
    active = [path.name.rpartition("-")[0] for path in folder.iterdir()]
    time.sleep(0.5)
    own.unlink()
    cpus = TaskContext.get().cpus()
    threads = [int(os.environ[f"{x}_NUM_THREADS"]) for x in ("OMP", "RAYON")]
    return device, len(active), active.count(device), cpus, threads

@dataclass(frozen=True)
class Embedder:
    dim: int = 1
    uses_gpu: bool = True
    def load(self, device):
        def embed(texts):
            row = meet("embed" if self.uses_gpu else "plain", device, 2 if self.uses_gpu else 8)
            with (Path(FOLDER) / f"rows-{self.uses_gpu}").open("a") as stream:
                stream.write(json.dumps(row) + chr(10))
            return np.ones((len(texts), 1), dtype=np.float32)
        return embed

class Proxy:
    def __init__(self, stage, want):
        self.stage, self.want = stage, want
    def train(self, run, device):
        row = meet(self.stage, device, self.want)
        with (Path(FOLDER) / f"rows-{self.stage}").open("a") as stream:
            stream.write(json.dumps(row) + chr(10))
        return {"active": row[1]}

class Patient:
    # All but the first trial end only after a Spark job of the driver has.
    def train(self, run, device):
        done, end = Path(FOLDER) / "committed", time.monotonic() + 30
        while run.checkpoints != "first" and not done.exists() and time.monotonic() < end:
            time.sleep(0.02)
        return {"waited": run.checkpoints != "first" and not done.exists()}

session = (
    SparkSession.builder.master("local-cluster[1,8,1024]")
    .config("spark.executor.memory", "512m")
    .config("spark.executor.cores", "8")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "8")
    .config("spark.worker.resource.gpu.amount", "2")
    .config("spark.worker.resource.gpu.discoveryScript", DISCOVERY)
    .config("spark.executor.resource.gpu.amount", "2")
    .getOrCreate()
)
for name in ("plain", "embed", "whole", "quarter"):
    (Path(FOLDER) / name).mkdir()
cfg = load(settings=["spark.trials_per_gpu=4"]).spark
rows = [(f"d{i}", f"text {i}") for i in range(64)]
documents = session.createDataFrame(rows, "doc_id string, text string").repartition(8, "doc_id")
result = {}
for embedder in (Embedder(uses_gpu=False), Embedder()):
    profile = plan_profile(session, cfg, embedder)
    chosen = documents if not embedder.uses_gpu else documents.repartition(4, "doc_id")
    assert embed_documents(chosen, embedder, profile).count() == 64
    lines = (Path(FOLDER) / f"rows-{embedder.uses_gpu}").read_text().splitlines()
    result["embed" if embedder.uses_gpu else "plain"] = [json.loads(line) for line in lines]
for stage, share, n in (("whole", 1, 4), ("quarter", 4, 8)):
    slots = plan_slots(session, cfg, share)
    result[stage + " slots"] = slots.count, slots.has_own_gpu
    runs = [name_run(f"t{i}") for i in range(n)]
    assert sum(1 for _ in train_runs(session, Proxy(stage, slots.count), runs, slots)) == n
    lines = (Path(FOLDER) / f"rows-{stage}").read_text().splitlines()
    result[stage] = [json.loads(line) for line in lines]
waited = {}
runs = [name_run(name) for name in ("first", "b", "c")]
for o in train_runs(session, Patient(), runs, plan_slots(session, cfg)):
    waited[o.name] = o.metrics["waited"]
    if o.name == "first":
        session.range(1).rdd.map(lambda row: row.id).collect()
        (Path(FOLDER) / "committed").touch()
result["waited"] = waited
print("RESULT", json.dumps(result))
session.stop()
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What tasks saw: by stage, rows of device, tasks at once, tasks on its device, cpus, threads.

    One executor has eight cores and the GPUs 3 and 5, in a session that schedules with profiles.
    """
    folder = tmp_path_factory.mktemp("gpus")
    discovery = folder / "gpus.sh"
    discovery.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["3", "5"]}'\n""")
    discovery.chmod(0o755)
    done = run_script(CLUSTER, discovery, folder)
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT")), None)
    assert line is not None, done.stderr[-4000:]
    return json.loads(line.removeprefix("RESULT"))


def test_the_device_is_the_cpu_without_a_task_or_without_a_gpu(spark):
    assert get_task_device() == "cpu"
    assert spark.sparkContext.parallelize([0], 1).map(lambda _: get_task_device()).collect() == [
        "cpu"
    ]


def test_a_stage_without_a_gpu_uses_every_core_with_one_thread_each(seen):
    assert max(n for _, n, _, _, _ in seen["plain"]) == N_CORES
    assert {device for device, *_ in seen["plain"]} == {"cpu"}
    assert {(cpus, *threads) for *_, cpus, threads in seen["plain"]} == {(1, 1, 1)}


@pytest.mark.parametrize("stage", ["embed", "whole"])
def test_a_gpu_stage_has_one_task_per_address_with_its_half_of_the_cores(seen, stage):
    rows = seen[stage]
    assert len(rows) == 4
    assert {device for device, *_ in rows} == {"cuda:3", "cuda:5"}
    assert max(n for _, n, _, _, _ in rows) == 2
    assert {own for _, _, own, _, _ in rows} == {1}
    assert {(cpus, *threads) for *_, cpus, threads in rows} == {(4, 4, 4)}


def test_four_small_proxies_share_one_address(seen):
    rows = seen["quarter"]
    assert len(rows) == 8
    assert max(n for _, n, _, _, _ in rows) == 8
    assert max(own for _, _, own, _, _ in rows) == 4
    assert {(cpus, *threads) for *_, cpus, threads in rows} == {(1, 1, 1)}


def test_there_are_as_many_slots_as_trials_run_at_once(seen):
    assert seen["whole slots"] == [2, True]
    assert seen["quarter slots"] == [8, False]


def test_the_row_of_a_trial_is_committed_while_other_trials_hold_every_gpu(seen):
    """The job that commits needs a core, and trials with whole GPUs have them all."""
    assert seen["waited"] == {"first": False, "b": False, "c": False}
