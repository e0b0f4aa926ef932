"""The files in conf/: each one loads, its plug-ins can be built, and Spark settings agree."""

from pathlib import Path

import pytest

from climb.config import build, load
from climb.spark.session import DELTA, SMALL_MACHINE

ROOT = Path(__file__).resolve().parents[2]
CONFS = sorted((ROOT / "conf").glob("*.yaml"))
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


@pytest.mark.parametrize("name", ["gpu-cluster.conf", "gpu-cluster-rapids.conf"])
def test_the_tasks_of_a_gpu_executor_share_its_gpus_and_fill_its_cores(name):
    values = read_settings(ROOT / "conf" / "spark" / name)
    tasks = int(values["spark.executor.cores"]) // int(values.get("spark.task.cpus", 1))
    gpus = float(values["spark.executor.resource.gpu.amount"])
    assert tasks * float(values["spark.task.resource.gpu.amount"]) == gpus
