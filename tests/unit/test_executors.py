"""What executors must be able to import, and the message that names what is missing and where."""

import pickle
import subprocess
import sys

from pyspark import cloudpickle

from climb.cli.plugins import list_task_packages
from climb.cli.start import PIPELINE
from climb.config import load
from climb.spark.executors import _build_look, describe_missing

NEEDS = {"torch": "proxy.model"}
COMPLETE = ("node1", "./environment/bin/python", "0.1.0", [])


def test_nothing_is_missing_where_every_executor_has_all_packages():
    assert describe_missing([COMPLETE, ("node2", *COMPLETE[1:])], NEEDS, "0.1.0") is None
    assert describe_missing([("node1", "python", None, [])], NEEDS, "0.1.0") is None


def test_executors_without_climb_are_named_with_the_way_to_ship_it():
    bare = [(f"node{i}", "/usr/bin/python3", None, ["climb", "torch"]) for i in (3, 2)]
    message = describe_missing([COMPLETE, *bare], NEEDS, "0.1.0")
    assert message.startswith("executors cannot import climb on node2, node3 (/usr/bin/python3); ")
    assert "--archives env.tar.gz#environment" in message
    assert "a wheel in --py-files reaches only the driver" in message


def test_a_missing_package_is_named_with_what_needs_it():
    found = [COMPLETE, ("node2", "python", "0.1.0", ["torch"])]
    message = describe_missing(found, NEEDS, "0.1.0")
    assert message.startswith(
        "executors cannot import torch (needed by proxy.model) on node2 (python); "
    )


def test_packages_of_the_image_are_named_with_what_the_image_needs():
    needs = {"cupy": "cluster.clusterer", "cuml": "cluster.clusterer"}
    message = describe_missing([("node2", "python", "0.1.0", ["cupy", "cuml"])], needs, "0.1.0")
    assert message == (
        "executors cannot import cupy (needed by cluster.clusterer), cuml (needed by "
        "cluster.clusterer) on node2 (python); use an image or environment of the executors with "
        "RAPIDS 26.06 (conda install -c rapidsai -c conda-forge -c nvidia cuml=26.06), or "
        "climb.spark.corpus.lloyd:ExactKMeans, which needs no GPU"
    )


def test_another_version_of_climb_is_refused():
    message = describe_missing([("node1", "python", "0.0.9", [])], NEEDS, "0.1.0")
    assert "executors have climb 0.0.9 on node1 (python), and the driver has 0.1.0" in message


def test_the_task_runs_where_climb_is_not_installed(tmp_path):
    task = tmp_path / "task.pickle"
    task.write_bytes(cloudpickle.dumps(_build_look(["climb", "json", "no_such_package"])))
    code = (
        "import pickle, sys; look = pickle.load(open(sys.argv[1], 'rb')); "
        "print(pickle.dumps(list(look(None))).hex())"
    )
    environment = [sys.executable, "-S", "-c", f"import sys; sys.path.append({str(_site())!r})"]
    done = subprocess.run(
        [*environment[:-1], f"{environment[-1]}; {code}", str(task)],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    [(_, python, _, missing)] = pickle.loads(bytes.fromhex(done.stdout))
    assert python == sys.executable
    assert missing == ["climb", "no_such_package"]


def _site():
    """The folder of the installed packages: the editable climb is not below it."""
    from pathlib import Path

    import pyspark

    return Path(pyspark.__file__).parents[1]


def test_a_job_asks_for_the_packages_of_the_plug_ins_that_its_tasks_run():
    cfg = load()
    assert list_task_packages(cfg, ["ingest", "mix"]) == {}
    assert list_task_packages(cfg, ["count"]) == {"tokenizers": "job count"}
    assert list_task_packages(cfg, ["search"])["torch"] == "proxy.model"
    assert list_task_packages(cfg, ["base"])["torch"] == "proxy.model"
    assert list_task_packages(cfg, ["target_base"])["torch"] == "train.model"
    assert list_task_packages(cfg, PIPELINE)["safetensors"] == "embed.embedder"
    rapids = "{use: climb.spark.corpus.rapids:RapidsKMeans, max_iterations: 9, tolerance: 1.0e-4, "
    rapids += "workers: 2, samples_per_batch: 9}"
    found = list_task_packages(load(settings=[f"cluster.clusterer={rapids}"]), ["cluster"])
    assert set(found) == {"spark_rapids_ml", "psutil", "cupy", "cuml"}
    assert list_task_packages(cfg, ["cluster"]) == {}
    one_pass = load(settings=["cluster.embeddings=sample"])
    assert "safetensors" in list_task_packages(one_pass, ["cluster"])
    assert "xgboost" not in list_task_packages(cfg, PIPELINE)  # only the driver fits predictors
