"""The files in conf/: every one loads, builds its plug-ins, and the Spark settings agree."""

from pathlib import Path

import pytest

from climb.config import build, load
from climb.spark.session import DELTA, SMALL_MACHINE

ROOT = Path(__file__).resolve().parents[2]
CONFS = sorted((ROOT / "conf").glob("*.yaml"))
SPARK_CONFS = sorted((ROOT / "conf" / "spark").glob("*.conf"))


def settings(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(None, 1) for line in lines)


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.name)
def test_a_configuration_loads_and_its_plug_ins_can_be_built(path):
    cfg = load(path)
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
        plugin = build(spec, object, batch_tokens=cfg.embed.batch_tokens)
        assert type(plugin).__name__ == spec["use"].split(":")[1]


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.name)
def test_a_threshold_names_a_score_that_a_scorer_gives(path):
    cfg = load(path)
    names = {name for spec in cfg.score.scorers for name in build(spec, object).names}
    assert set(cfg.prune.thresholds) <= names


def test_the_paper_s_file_states_a_source_for_every_constant_of_the_search():
    text = (ROOT / "conf" / "climb-paper.yaml").read_text()
    search = text[text.index("\nsearch:") : text.index("\nmix:")]
    for line in search.splitlines():
        if line.startswith("  ") and not line.lstrip().startswith("#") and line[2] != " ":
            key = line.split(":")[0].strip()
            assert "#" in line or key in {"name", "predictor", "searcher"}, key


def test_the_paper_s_patience_is_twenty_whatever_is_held_out():
    predictor = load(ROOT / "conf" / "climb-paper.yaml").search.predictor
    built = build(predictor, object)
    assert (built.patience, built.patience_within_held) == (20, False)


def test_spark_submit_on_one_machine_has_the_settings_of_a_session_that_climb_starts():
    local = settings(ROOT / "conf" / "spark" / "local.conf")
    # These defaults hold for every master that is submitted to: executors elsewhere could not reach
    # a driver on loopback, so its address is left to climb's own session, which knows the master.
    loopback = {"spark.driver.host", "spark.driver.bindAddress"}
    assert not loopback & local.keys()
    for key in (DELTA | SMALL_MACHINE).keys() - loopback:
        assert local[key] == (DELTA | SMALL_MACHINE)[key]
    assert local["spark.driver.memory"] == load().spark.driver_memory


@pytest.mark.parametrize("path", SPARK_CONFS, ids=lambda path: path.name)
def test_every_spark_file_brings_delta(path):
    values = settings(path)
    assert "io.delta:delta-spark_2.13:4.0.1" in values["spark.jars.packages"].split(",")
    assert DELTA.items() <= values.items()


def test_only_the_rapids_file_loads_the_sql_plugin():
    plugged = {path.name for path in SPARK_CONFS if "spark.plugins" in settings(path)}
    assert plugged == {"gpu-cluster-rapids.conf"}


@pytest.mark.parametrize("name", ["gpu-cluster.conf", "gpu-cluster-rapids.conf"])
def test_the_tasks_of_a_gpu_executor_share_its_gpus_and_fill_its_cores(name):
    values = settings(ROOT / "conf" / "spark" / name)
    tasks = int(values["spark.executor.cores"]) // int(values.get("spark.task.cpus", 1))
    gpus = float(values["spark.executor.resource.gpu.amount"])
    assert tasks * float(values["spark.task.resource.gpu.amount"]) == gpus
