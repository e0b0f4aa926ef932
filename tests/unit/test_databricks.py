"""The bundle, the jobs' arrow lines and the tables' writers agree. Checked offline."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from climb.cli.start import PIPELINE
from climb.config import load
from climb.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
WRITER = {table.name: table.writer for table in TABLES}


@pytest.fixture(scope="module")
def bundle():
    return yaml.safe_load((ROOT / "databricks.yml").read_text())


@pytest.fixture(scope="module")
def job(bundle):
    return bundle["resources"]["jobs"]["climb"]


@pytest.fixture(scope="module")
def depends_on(job):
    return {
        task["task_key"]: {other["task_key"] for other in task.get("depends_on", ())}
        for task in job["tasks"]
    }


def parse_arrow(name):
    """Return the tables read and the tables written, from the job's docstring."""
    text = (ROOT / "jobs" / f"{name}.py").read_text()
    docstring = text.split('"""')[1]
    found = re.fullmatch(r"(.*) -> (.*)", docstring.split("\n\n")[1].replace("\n", " "))
    assert found, f"jobs/{name}.py has no arrow line after its first sentence"
    return tuple({part.strip() for part in side.split(",")} for side in found.groups())


def test_databricks_accepts_the_job(job):
    jobs = pytest.importorskip("databricks.bundles.jobs")
    assert [task.task_key for task in jobs.Job.from_dict(job).tasks] == list(PIPELINE)


def test_databricks_rejects_a_misspelt_key(job):
    jobs = pytest.importorskip("databricks.bundles.jobs")
    with pytest.raises(ValueError, match="max_retrys"):
        jobs.Job.from_dict(job | {"tasks": [job["tasks"][0] | {"max_retrys": 1}]})


def test_every_job_is_one_task_and_the_order_is_that_of_the_pipeline(job):
    assert [task["task_key"] for task in job["tasks"]] == list(PIPELINE)
    for task in job["tasks"]:
        assert task["python_wheel_task"]["parameters"][0] == task["task_key"]


def test_no_task_waits_for_a_later_one(depends_on):
    for name, others in depends_on.items():
        assert all(PIPELINE.index(other) < PIPELINE.index(name) for other in others), name


@pytest.mark.parametrize("name", PIPELINE)
def test_a_job_writes_the_tables_that_name_it_as_writer(name):
    written = parse_arrow(name)[1]
    assert {table for table in written if table in WRITER} == {
        table for table, writer in WRITER.items() if writer == name
    }


@pytest.mark.parametrize("name", PIPELINE)
def test_a_task_waits_for_exactly_the_writers_of_the_tables_it_reads(name, depends_on):
    read = {table for table in parse_arrow(name)[0] if table in WRITER}
    assert depends_on[name] == {WRITER[table] for table in read} - {name}


def test_the_wheel_has_the_entry_point_that_the_tasks_call(job):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for task in job["tasks"]:
        wheel = task["python_wheel_task"]
        assert wheel["package_name"] == project["name"]
        assert wheel["entry_point"] in project["scripts"]
        assert task["libraries"] == [{"whl": "./dist/*.whl"}]


def test_the_tasks_parameters_give_a_valid_configuration(bundle, job):
    values = {name: variable["default"] for name, variable in bundle["variables"].items()}
    for task in job["tasks"]:
        parameters = [
            re.sub(r"\$\{var\.(\w+)\}", lambda name: str(values[name[1]]), text)
            for text in task["python_wheel_task"]["parameters"]
        ]
        conf = parameters[parameters.index("--conf") + 1].replace(
            "${workspace.file_path}", str(ROOT)
        )
        settings = [value for flag, value in pairwise(parameters) if flag == "--set"]
        cfg = load(conf, settings)
        assert cfg.storage.catalog == "main.climb"
        assert cfg.storage.root == "/Volumes/main/climb/climb"
        assert cfg.ingest.inputs == ("/Volumes/main/climb/raw/*.parquet",)


def test_the_clusters_have_the_runtime_of_the_pinned_spark_version(job):
    clusters = {c["job_cluster_key"]: c["new_cluster"] for c in job["job_clusters"]}
    assert clusters["cpu"]["spark_version"] == "17.3.x-scala2.13"
    assert clusters["gpu"]["spark_version"] == "17.3.x-gpu-ml-scala2.13"
    for cluster in clusters.values():
        assert cluster["data_security_mode"] == "SINGLE_USER"
        assert cluster["runtime_engine"] == "STANDARD"
        assert cluster["spark_conf"]["spark.speculation"] == "false"
    assert {task["job_cluster_key"] for task in job["tasks"]} == set(clusters)
