"""A comparison and ablations of whole small runs: killed, resumed, and started again."""

import csv
import json

import pytest
import test_runs
import world
from climb.jobs import ablate, compare
from test_runs import climb

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.spark.training.compare import OWN_JOBS

pytestmark = pytest.mark.slow

LEFT_OUT = ("natural", "regmix", "climb-published", "nvidia")
FEWER = (
    "search.replicates=0",
    "tracking.enabled=false",
    "search.predictor={use: 'climb.predictor.ridge:RidgePredictor'}",
)
"""For ablations: few trials, and a fit that takes no time."""


def write_conf(folder):
    """The world's configuration, with the comparison."""
    path = world.write_world(folder)
    own = folder / "compare.yaml"
    section = {"name": "small", "budget": 12, "seeds": 2, "methods": dict.fromkeys(LEFT_OUT)}
    own.write_text(json.dumps({"extends": [path.name], "compare": section}))
    return own


def read_tables(spark, root):
    """The rows of both runs that must be equal; another root has other paths of checkpoints."""
    store = Store(spark, load(settings=[f"storage.root={root}"]).storage)
    return {
        table.name: [
            {k: v for k, v in row.items() if k not in test_runs.PER_RUN}
            for row in store.read_rows(table)
        ]
        for table in (tables.TRIALS, tables.EVALUATIONS, tables.COMPARISONS)
    }


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison that was killed once, in its second search, and resumed."""
    folder = tmp_path_factory.mktemp("compared")
    conf, root = write_conf(folder), folder / "out"

    def has_trials(root, _):
        return test_runs._count_rows(root, tables.TRIALS) >= 16

    test_runs._kill_when("compare", conf, root, has_trials, timeout=600)
    done = climb("compare", "--conf", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    return conf, root, done.stdout


def test_a_killed_comparison_goes_on_and_prints_the_table(compared):
    _, root, out = compared
    assert "its search is up to date" in out or "already recorded" in out
    assert "compare  seed 2 of 2, method 4 of 4, climb (default): search with 12 trials" in out
    assert "| climb (default) | 12 | 2 |" in out
    with (root / "comparisons" / "compare-small.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    methods = ["uniform", "best of random", "DoReMi", "climb (default)"]
    assert [row["label"] for row in rows] == methods
    assert [float(row["trials"]) for row in rows] == [0, 12, 12, 12]
    assert {"kitchen.bpb", "heavens.accuracy", "mean.bpb", "gain.uniform.low"} <= rows[0].keys()
    assert "has the highest " in (root / "comparisons" / "compare-small.html").read_text()


def test_its_rows_are_those_of_an_unbroken_comparison(compared, spark, tmp_path):
    conf, root, _ = compared
    other = tmp_path / "out"
    options = ["--set", f"storage.root={other}", *test_runs.UNTRACKED]
    done = climb("compare", "--conf", conf, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_tables(spark, root) == read_tables(spark, other)


def test_a_second_start_does_not_start_spark(compared):
    conf, _, _ = compared
    done = climb("compare", "--conf", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session on" not in done.stdout
    assert "compare  up to date since" in done.stdout
    assert "| climb (default) | 12 | 2 |" in done.stdout


def test_mlflow_has_a_run_with_the_table(compared):
    from mlflow import MlflowClient

    _, root, _ = compared
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("climb").experiment_id
    [run] = client.search_runs([experiment], "tags.\"climb.kind\" = 'comparison'")
    assert {"score/climb", "gain/climb/uniform.low", "mean.bpb/uniform"} <= run.data.metrics.keys()
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"compare-small.csv", "compare-small.html"}


def test_predictors_are_put_side_by_side_without_a_new_trial(compared, spark):
    conf, root, _ = compared
    before = read_tables(spark, root)
    cfg = load(conf, ["search.name=small.climb.0", "compare.vary=search.predictor"])
    text = compare.run(Store(spark, cfg.storage), cfg)
    for fit in ("default", "stack", "xgboost", "lightgbm", "gp"):
        assert f"| {fit} | " in text
    assert read_tables(spark, root) == before
    with (root / "comparisons" / "vary-search.predictor-small.climb.0.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 6


def test_an_ablation_of_the_schedule_uses_the_tables_of_the_run(compared, spark):
    conf, root, _ = compared
    values = "{6-1: [[6, 1]], 4-2-1: [[4, 2, 1]]}"
    own = [f"ablate.values={values}", "ablate.name=schedule", "ablate.budget=8", "ablate.seeds=2"]
    cfg = load(conf, [*own, *FEWER])
    text = ablate.run(Store(spark, cfg.storage), cfg)
    assert "| 6-1 | 8 | 2 |" in text
    assert not (root / "variants").exists()


def test_an_ablation_of_clusters_has_tables_of_its_own_and_leaves_those_of_the_run(compared, spark):
    conf, root, _ = compared
    own = [
        *("ablate.keys=[cluster.k, prune.domains]", "ablate.values={6-3: [6, 3], 8-2: [8, 2]}"),
        *("ablate.name=clusters", "search.trials_per_round=[6]", "ablate.seeds=1"),
    ]
    cfg = load(conf, [*own, *FEWER])
    store = Store(spark, cfg.storage)
    corpus = [t for t in tables.TABLES if t.writer in OWN_JOBS]
    versions = [store.history.read_version(table) for table in corpus]
    ablate.run(store, cfg)
    assert [store.history.read_version(table) for table in corpus] == versions
    rows = [r for r in store.read_rows(tables.ABLATIONS) if r["name"] == "clusters"]
    assert {row["method"] for row in rows} == {"6-3", "8-2"}
    trials = {r["search"]: r for r in store.read_rows(tables.TRIALS)}
    assert len(trials["clusters.6-3.0"]["weights"]) == 3
    assert len(trials["clusters.8-2.0"]["weights"]) == 2
    assert (root / "variants" / "clusters.6-3" / "domains").is_dir()
    assert ablate.run(store, cfg).startswith("clusters is up to date: ")
