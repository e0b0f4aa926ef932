"""The files in conf/: each one loads, its plug-ins can be built, and Spark settings agree."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from climb.config import build, load
from climb.estimate.models import count_parameters as estimate_parameters
from climb.proxy import Proxy
from climb.spark.session import DELTA, SMALL_MACHINE
from climb.spark.slots import (
    EXECUTOR_GPUS,
    TASK_GPUS,
    GpuShare,
    divide_executor,
    read_configured_share,
)

ROOT = Path(__file__).resolve().parents[2]
CONFS = sorted((ROOT / "conf").glob("**/*.yaml"))
SPARK_CONFS = sorted((ROOT / "conf" / "spark").glob("*.conf"))


# Keys that databricks.yml sets, because they differ between workspaces.
SET_ELSEWHERE = {"databricks.yaml": ["embed.embedder.model=/Volumes/main/climb/models/minilm"]}


def read_settings(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(None, 1) for line in lines)


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.name)
def test_a_configuration_loads_and_its_plug_ins_can_be_built(path):
    cfg = load(path, SET_ELSEWHERE.get(path.name, ()))
    specs = [
        cfg.embed.embedder,
        *cfg.score.scorers,
        cfg.cluster.clusterer,
        cfg.proxy.model,
        cfg.search.predictor,
        cfg.search.searcher,
        cfg.train.model,
    ]
    for spec in specs:
        plugin = build(spec, object, batch_tokens=64)
        assert type(plugin).__name__ == spec["use"].split(":")[1]


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.name)
def test_a_threshold_names_a_score_of_a_scorer(path):
    cfg = load(path)
    names = {name for spec in cfg.score.scorers for name in build(spec, object).names}
    assert set(cfg.prune.thresholds) <= names


def test_the_paper_s_file_has_a_source_for_every_constant_of_the_search():
    text = (ROOT / "conf" / "climb-paper.yaml").read_text()
    search = text[text.index("\nsearch:") : text.index("\nmix:")]
    for line in search.splitlines():
        if line.startswith("  ") and not line.lstrip().startswith("#") and line[2] != " ":
            key = line.split(":")[0].strip()
            assert "#" in line or key in {"name", "predictor", "searcher"}, key


SIZES = {"62m": 62e6, "132m": 132e6, "350m": 350e6, "1b": 950e6, "0.4m": 0.42e6, "3m": 3e6}
"""File in conf/proxy -> number of parameters that it is named after, or that the paper gives."""


def count_parameters(proxy, n_ids):
    import torch

    with torch.device("meta"):
        model = proxy.create_model(n_ids)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_its_number_of_parameters(name):
    cfg = load(ROOT / "conf" / "proxy" / f"{name}.yaml")
    spec = (cfg.train if name == "1b" else cfg.proxy).model
    proxy = build(spec, Proxy)
    found = count_parameters(proxy, cfg.count.vocab_size)
    assert found == pytest.approx(SIZES[name], rel=0.02)
    stated = re.search(r"([\d.]+) M parameters", (ROOT / f"conf/proxy/{name}.yaml").read_text())
    assert float(stated.group(1)) == pytest.approx(found / 1e6, rel=5e-3)
    assert proxy.hidden // proxy.heads in range(32, 65, 8)


@pytest.mark.parametrize("name", ["62m", "132m", "350m", "1b"])
def test_no_other_hidden_size_comes_nearer_to_the_number_of_the_paper(name):
    cfg = load(ROOT / "conf" / "proxy" / f"{name}.yaml")
    spec = (cfg.train if name == "1b" else cfg.proxy).model
    assert spec["layers"] == 32

    def distance(hidden):
        size = estimate_parameters("model", spec | {"hidden": hidden}, cfg.count.vocab_size, {})
        return abs(size.parameters - SIZES[name])

    others = {heads * size for size in range(32, 65, 8) for heads in range(4, 60)}
    assert min(others, key=distance) == spec["hidden"]


def test_a_size_goes_with_another_file_and_the_paper_has_two_of_them():
    demo, size = ROOT / "conf" / "demo.yaml", ROOT / "conf" / "proxy" / "62m.yaml"
    cfg = load([demo, size])
    assert (cfg.proxy.model["hidden"], cfg.proxy.model["layers"]) == (360, 32)
    assert [target.name for target in cfg.proxy.targets] == ["arc_easy", "arc_challenge", "piqa"]
    assert load([size, demo]).proxy.model["hidden"] == 96
    paper = load(ROOT / "conf" / "climb-paper.yaml")
    assert paper.proxy.model == load(ROOT / "conf" / "proxy" / "350m.yaml").proxy.model
    assert paper.train.model == load(ROOT / "conf" / "proxy" / "1b.yaml").train.model
    assert (paper.proxy.trial_tokens, paper.train.tokens) == (30_000_000_000, 40_000_000_000)


def test_the_paper_s_search_has_no_limit_on_epochs():
    search = load(ROOT / "conf" / "climb-paper.yaml").search
    assert search.max_epochs is None
    assert search.mixture_constraints.find_epoch_limits(["a", "b"]) == {}


def test_the_paper_s_patience_is_always_twenty():
    predictor = load(ROOT / "conf" / "climb-paper.yaml").search.predictor
    built = build(predictor, object)
    assert (built.patience, built.patience_within_held) == (20, False)


def test_spark_submit_on_one_machine_has_the_settings_of_climbs_own_session():
    local = read_settings(ROOT / "conf" / "spark" / "local.conf")
    # spark-submit uses these defaults for every master, and executors on other machines could not
    # reach a driver on loopback. So only climb's own session, which knows the master, sets it.
    loopback = {"spark.driver.host", "spark.driver.bindAddress"}
    assert not loopback & local.keys()
    for key in (DELTA | SMALL_MACHINE).keys() - loopback:
        assert local[key] == (DELTA | SMALL_MACHINE)[key]
    assert local["spark.driver.memory"] == load().spark.driver_memory


@pytest.mark.parametrize("path", SPARK_CONFS, ids=lambda path: path.name)
def test_every_spark_file_loads_delta(path):
    values = read_settings(path)
    assert "io.delta:delta-spark_2.13:4.0.1" in values["spark.jars.packages"].split(",")
    assert DELTA.items() <= values.items()


def test_only_the_rapids_file_loads_the_sql_plugin():
    plugged = {path.name for path in SPARK_CONFS if "spark.plugins" in read_settings(path)}
    assert plugged == {"gpu-cluster-rapids.conf"}


RAPIDS_JAR = "com.nvidia:rapids-4-spark_2.13:26.08.1"


def read_rapids_keys():
    """Keys of the pinned versions, and the comment that names the versions."""
    lines = (ROOT / "tests" / "rapids_keys.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}, lines[0]


@pytest.mark.parametrize("path", SPARK_CONFS, ids=lambda path: path.name)
def test_every_key_of_rapids_exists_in_the_pinned_version(path):
    known, _ = read_rapids_keys()
    assert len(known) > 300
    used = {key for key in read_settings(path) if key.startswith("spark.rapids.")}
    assert not used - known
    assert bool(used) == (path.name == "gpu-cluster-rapids.conf")


def test_the_list_of_keys_is_that_of_the_jar_and_the_package_that_are_pinned():
    _, versions = read_rapids_keys()
    values = read_settings(ROOT / "conf" / "spark" / "gpu-cluster-rapids.conf")
    assert RAPIDS_JAR in values["spark.jars.packages"].split(",")
    assert RAPIDS_JAR in versions
    requirements = (ROOT / "requirements.txt").read_text()
    (package,) = re.findall(r"^spark-rapids-ml==([\w.]+)", requirements, re.M)
    assert f"spark-rapids-ml {package}" in versions
    # The daemon of Python workers is a module of the jar, under the name that Ivy gives the jar.
    group, name, version = RAPIDS_JAR.split(":")
    assert values["spark.executorEnv.PYTHONPATH"] == f"{group}_{name}-{version}.jar"


def test_every_setting_of_the_rapids_file_is_below_a_comment_of_its_own_group():
    text = (ROOT / "conf" / "spark" / "gpu-cluster-rapids.conf").read_text()
    for block in text.split("\n\n"):
        assert block.startswith("#"), block


def without_profiles(name):
    """Settings of a file with the lines that its comments give for a session without profiles."""
    text = (ROOT / "conf" / "spark" / name).read_text()
    extra = [line[2:] for line in text.splitlines() if line.startswith("# spark.task.")]
    return read_settings(ROOT / "conf" / "spark" / name) | dict(x.split(None, 1) for x in extra)


@pytest.mark.parametrize(
    ("name", "cpu_tasks", "gpu_tasks"),
    [("gpu-cluster.conf", 8, 1), ("cpu-cluster.conf", 8, 0)],
)
def test_a_stage_without_a_gpu_has_a_task_on_every_core_and_another_one_a_task_per_gpu(
    name, cpu_tasks, gpu_tasks
):
    values = read_settings(ROOT / "conf" / "spark" / name)
    cores, gpus = int(values["spark.executor.cores"]), int(values.get(EXECUTOR_GPUS, 0))
    assert not [key for key in values if key.startswith("spark.task.")]
    assert cores == cpu_tasks
    share = divide_executor(gpus, cores, tasks_per_gpu=1) if gpus else GpuShare(0, cores, 0)
    assert (share.per_executor, share.cores) == (gpu_tasks, cores)


@pytest.mark.parametrize(
    ("name", "per_executor"), [("gpu-cluster.conf", 1), ("gpu-cluster-rapids.conf", 8)]
)
def test_without_profiles_the_tasks_of_a_gpu_executor_share_its_gpus_and_fill_its_cores(
    name, per_executor
):
    values = without_profiles(name)
    share = read_configured_share(values)
    assert share.per_executor == per_executor
    assert share.per_executor * share.cores == int(values["spark.executor.cores"])


def test_the_quarter_of_a_gpu_in_the_comments_fits_the_cores():
    text = (ROOT / "conf" / "spark" / "gpu-cluster.conf").read_text().replace("\n# ", " ")
    amount, cpus, tasks, cores = re.search(
        r"lower both values: (\S+) and (\d+) give (\w+) tasks on (\d+) cores", text
    ).groups()
    values = read_settings(ROOT / "conf" / "spark" / "gpu-cluster.conf")
    share = read_configured_share(values | {TASK_GPUS: amount, "spark.task.cpus": cpus})
    assert (share.per_executor, tasks) == (4, "four")
    assert share.per_executor * share.cores == int(cores) == int(values["spark.executor.cores"])


def test_the_discovery_script_lists_the_gpus_as_spark_reads_them(tmp_path):
    """Spark needs one line of JSON; here nvidia-smi is a script that shows two GPUs."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 0\necho 3\n")
    fake.chmod(0o755)
    script = ROOT / "conf" / "spark" / "discover-gpus.sh"
    for name in ("gpu-cluster.conf", "gpu-cluster-rapids.conf"):
        key = "spark.executor.resource.gpu.discoveryScript"
        assert read_settings(script.parent / name)[key] == f"./{script.name}"
    done = subprocess.run(
        [script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": ["0", "3"]}
