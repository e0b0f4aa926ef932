"""The bundle, the jobs' arrow lines and the tables' writers agree. Checked offline."""

import copy
import importlib.util
import re
import tomllib
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from climb.cli.commands import climb
from climb.cli.preflight import run_preflight
from climb.cli.start import PIPELINE
from climb.config import load
from climb.errors import PreflightError
from climb.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
# What a job writes that is no table, and another job reads.
FILES = {"base checkpoint": "base", "target base checkpoint": "target_base"}
WRITER = {table.name: table.writer for table in TABLES if table.writer in PIPELINE} | FILES
# Tasks that wait for a task that writes nothing they read.
ALSO_WAITS_FOR = {
    "ingest": {"check"},  # before anything costs much
    "cluster": {"count", "score"},  # prune reads them, and its cluster would wait for them
    "target_base": {"base"},  # both use one GPU, and the search waits for base
}
# Variables without a default: a run cannot do without them.
REQUIRED = {
    "inputs": "[/Volumes/main/climb/raw/*.jsonl]",
    "targets": "[{name: arc, kind: choices, search: /Volumes/main/climb/items/arc.dev.jsonl, "
    "report: /Volumes/main/climb/items/arc.test.jsonl, limit: 500}]",
    "model": "/Volumes/main/climb/models/all-MiniLM-L6-v2",
}
ITEM = '{"context": "the sky is", "choices": [" blue", " green"], "label": 0}\n'


class UniqueKeys(yaml.SafeLoader):
    """YAML without repeated keys, of which PyYAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is repeated in {keys}"
        return super().construct_mapping(node, deep)


def render(value, values):
    """Replace variables as the Databricks CLI does: a text that is one variable gets its type."""
    if isinstance(value, dict):
        return {key: render(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [render(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    if (name := re.fullmatch(r"\$\{var\.(\w+)\}", value)) is not None:
        return values[name[1]]
    text = re.sub(r"\$\{var\.(\w+)\}", lambda name: str(values[name[1]]), value)
    return text.replace("${workspace.file_path}", str(ROOT))


@pytest.fixture(scope="module")
def bundle():
    return yaml.load((ROOT / "databricks.yml").read_text(), UniqueKeys)


@pytest.fixture(scope="module")
def variables(bundle):
    """The default of every variable; the required ones as a user would set them."""
    declared = bundle["variables"].items()
    return {name: variable.get("default") for name, variable in declared} | REQUIRED


@pytest.fixture(scope="module")
def job(bundle, variables):
    return render(bundle["resources"]["jobs"]["climb"], variables)


@pytest.fixture(scope="module")
def tasks(job):
    return {task["task_key"]: task for task in job["tasks"]}


@pytest.fixture(scope="module")
def clusters(job):
    return {c["job_cluster_key"]: c["new_cluster"] for c in job["job_clusters"]}


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
    assert [task.task_key for task in jobs.Job.from_dict(job).tasks] == ["check", *PIPELINE]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (["tasks", 0], "max_retrys"),
        (["tasks", 0, "libraries", 0], "requirement"),
        (["tasks", 0, "python_wheel_task"], "parameter"),
        (["job_clusters", 0], "cluster"),
        (["job_clusters", 0, "new_cluster"], "nodes"),
        (["job_clusters", 1, "new_cluster", "autoscale"], "minimum"),
    ],
)
def test_databricks_rejects_a_misspelt_key(job, path, key):
    """So the test above checks tasks, libraries and clusters."""
    jobs = pytest.importorskip("databricks.bundles.jobs")
    changed = part = copy.deepcopy(job)
    for step in path:
        part = part[step]
    part[key] = "1"
    with pytest.raises(ValueError, match=key):
        jobs.Job.from_dict(changed)


def test_the_settings_of_the_bundle_are_known(bundle):
    """Its other keys; Databricks' own parser checks the job."""
    assert bundle.keys() == {"bundle", "variables", "artifacts", "resources"}
    assert bundle["bundle"].keys() == {"name"}
    assert bundle["resources"].keys() == {"jobs"}
    assert bundle["artifacts"]["climb"].keys() == {"type", "build", "path"}
    for variable in bundle["variables"].values():
        assert variable.keys() - {"default"} == {"description"}


def test_every_variable_is_used_and_only_those_without_a_sensible_value_are_required(bundle):
    text = yaml.safe_dump(bundle["resources"])
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == bundle["variables"].keys()
    required = {name for name, v in bundle["variables"].items() if "default" not in v}
    assert required == REQUIRED.keys()


def test_the_folder_of_the_embedding_model_is_a_variable(tasks):
    """So conf/databricks.yaml has no path of one workspace."""
    for task in tasks.values():
        model = f"embed.embedder.model={REQUIRED['model']}"
        assert model in task["python_wheel_task"]["parameters"]
    values = yaml.safe_load((ROOT / "conf" / "databricks.yaml").read_text())
    assert "/Volumes" not in yaml.safe_dump(values)


def test_every_job_is_one_task_and_the_order_is_that_of_the_pipeline(job):
    assert [task["task_key"] for task in job["tasks"]] == ["check", *PIPELINE]
    for task in job["tasks"]:
        assert task["python_wheel_task"]["parameters"][0] == task["task_key"]


def test_no_task_waits_for_a_later_one(depends_on):
    order = ["check", *PIPELINE]
    for name, others in depends_on.items():
        assert all(order.index(other) < order.index(name) for other in others), name


@pytest.mark.parametrize("name", PIPELINE)
def test_a_job_writes_the_tables_that_name_it_as_writer(name):
    written = parse_arrow(name)[1]
    assert {table for table in written if table in WRITER} == {
        table for table, writer in WRITER.items() if writer == name
    }


@pytest.mark.parametrize("name", PIPELINE)
def test_a_task_waits_for_the_writers_of_what_it_reads(name, depends_on):
    read = {table for table in parse_arrow(name)[0] if table in WRITER}
    others = ALSO_WAITS_FOR.get(name, set())
    assert not others & {WRITER[table] for table in read}
    assert depends_on[name] == {WRITER[table] for table in read} - {name} | others


def list_ancestors(depends_on):
    """Task -> all tasks that have ended when it starts."""
    ancestors = {}
    for name in TopologicalSorter(depends_on).static_order():
        ancestors[name] = set().union(*({other} | ancestors[other] for other in depends_on[name]))
    return ancestors


def test_no_cluster_is_idle_between_its_first_and_its_last_task(tasks, depends_on):
    """All that its tasks wait for on other clusters has ended when its first task starts."""
    ancestors = list_ancestors(depends_on)
    cluster_of = {name: task["job_cluster_key"] for name, task in tasks.items()}
    for cluster in set(cluster_of.values()):
        own = {name for name in tasks if cluster_of[name] == cluster}
        (first,) = [name for name in own if not ancestors[name] & own]
        for name in own:
            others = {o for o in ancestors[name] if cluster_of[o] != cluster}
            assert others <= ancestors[first], f"{cluster}: {name} waits for {others}"


def test_the_test_of_idle_clusters_finds_the_idle_ones_of_two_clusters(tasks, depends_on):
    """GPUs were idle through cluster, prune and pack when there was one cluster of each kind."""
    merged = {
        name: task | {"job_cluster_key": task["job_cluster_key"][:3]}
        for name, task in tasks.items()
    }
    with pytest.raises((AssertionError, ValueError)):
        test_no_cluster_is_idle_between_its_first_and_its_last_task(merged, depends_on)


def test_a_base_checkpoint_is_trained_on_one_node_and_nothing_else_runs_meanwhile(
    tasks, clusters, depends_on
):
    assert clusters[tasks["base"]["job_cluster_key"]]["num_workers"] == 0
    ancestors = list_ancestors(depends_on)
    after = {name for name in tasks if "base" in ancestors[name]}
    assert {"base"} | after | ancestors["base"] == tasks.keys()


def test_a_hanging_or_failing_task_ends(job, tasks):
    assert job["timeout_seconds"] > 0
    for name, task in tasks.items():
        assert 0 < task["timeout_seconds"] < job["timeout_seconds"]
        assert task["max_retries"] == (0 if name == "check" else 2)


def test_the_wheel_has_the_entry_point_that_the_tasks_call(job):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for task in job["tasks"]:
        wheel = task["python_wheel_task"]
        assert wheel["package_name"] == project["name"]
        assert wheel["entry_point"] in project["scripts"]


def test_a_task_gets_the_pinned_requirements_of_its_runtime_and_then_the_wheel(tasks, clusters):
    """In this order: the wheel alone would get newer versions than those that were tested."""
    for task in tasks.values():
        gpu = "gpu" in clusters[task["job_cluster_key"]]["spark_version"]
        requirements = f"./requirements/{'gpu' if gpu else 'cpu'}.txt"
        assert task["libraries"] == [{"requirements": requirements}, {"whl": "./dist/*.whl"}]
        assert (ROOT / requirements).is_file()


def parse_parameters(task):
    """The job, and the configuration that its task loads."""
    name, *options = task["python_wheel_task"]["parameters"]
    settings = [value for flag, value in pairwise(options) if flag == "--set"]
    return name, options[options.index("--conf") + 1], settings


def test_all_tasks_have_the_same_parameters(tasks):
    check, *others = (task["python_wheel_task"]["parameters"][1:] for task in tasks.values())
    assert all(parameters == check for parameters in others)


def test_the_tasks_parameters_give_a_valid_configuration(tasks):
    _, conf, settings = parse_parameters(tasks["check"])
    cfg = load(conf, settings)
    assert cfg.storage.catalog == "main.climb"
    assert cfg.storage.root == "/Volumes/main/climb/climb"
    assert cfg.ingest.inputs == ("/Volumes/main/climb/raw/*.jsonl",)
    assert cfg.proxy.targets[0].search == "/Volumes/main/climb/items/arc.dev.jsonl"
    assert cfg.embed.embedder["model"] == REQUIRED["model"]
    assert (cfg.tracking.uri, cfg.tracking.experiment) == ("databricks", "/Shared/climb")
    assert not cfg.tracking.artifacts


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """The volumes that the variables name, below another folder than /Volumes."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    folder = tmp_path / "Volumes/main/climb"
    for name in ("raw", "items", "models/all-MiniLM-L6-v2"):
        (folder / name).mkdir(parents=True)
    (folder / "raw/text.jsonl").write_text('{"text": "A text."}\n')
    for name in ("arc.dev.jsonl", "arc.test.jsonl"):
        (folder / "items" / name).write_text(ITEM)
    return tmp_path


def move_volumes(task, folder):
    parameters = [
        text.replace("/Volumes/", f"{folder}/Volumes/")
        for text in task["python_wheel_task"]["parameters"]
    ]
    return task | {"python_wheel_task": {"parameters": parameters}}


@pytest.mark.parametrize("name", PIPELINE)
def test_preflight_of_a_task_finds_nothing(name, tasks, clusters, volumes, monkeypatch):
    if "gpu" not in clusters[tasks[name]["job_cluster_key"]]["spark_version"]:
        absent = {"torch", "transformers", "sentence_transformers", "xgboost", "pyspark"}
        find = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n in absent else find(n))
    job, conf, settings = parse_parameters(move_volumes(tasks[name], volumes))
    run_preflight(load(conf, settings), [job])


def run_check(tasks, folder):
    parameters = move_volumes(tasks["check"], folder)["python_wheel_task"]["parameters"]
    return CliRunner().invoke(climb, parameters)


def test_the_first_task_checks_all_jobs(tasks, volumes):
    done = run_check(tasks, volumes)
    assert done.exit_code == 0, done.output
    assert done.output == "nothing is missing for the 13 jobs of `climb run`\n"


@pytest.mark.parametrize(
    ("removed", "key"),
    [
        ("raw/text.jsonl", "ingest.inputs"),
        ("items/arc.dev.jsonl", "proxy.targets 'arc': search"),
        ("items/arc.test.jsonl", "proxy.targets 'arc': report"),
        ("models/all-MiniLM-L6-v2", "embed.embedder.model"),
    ],
)
def test_the_first_task_finds_what_only_a_later_job_needs(tasks, volumes, removed, key):
    path = volumes / "Volumes/main/climb" / removed
    path.rename(path.with_name("renamed.txt"))
    done = run_check(tasks, volumes)
    assert isinstance(done.exception, PreflightError)
    assert key in str(done.exception)


def test_the_first_task_refuses_empty_targets(bundle, variables, volumes):
    """Once, ingest to pack were paid for before the search refused them."""
    job = render(bundle["resources"]["jobs"]["climb"], variables | {"targets": "[]"})
    done = run_check({task["task_key"]: task for task in job["tasks"]}, volumes)
    assert "proxy.targets is empty" in str(done.exception)


def test_the_clusters_have_the_runtime_of_the_pinned_spark_version(tasks, clusters):
    for key, cluster in clusters.items():
        kind = "gpu-ml-" if key.startswith("gpu") else ""
        assert cluster["spark_version"] == f"17.3.x-{kind}scala2.13"
        assert cluster["data_security_mode"] == "SINGLE_USER"
        assert cluster["runtime_engine"] == "STANDARD"
        assert cluster["spark_conf"]["spark.speculation"] == "false"
    assert {task["job_cluster_key"] for task in tasks.values()} == set(clusters)


@pytest.mark.parametrize("key", ["check", "gpu-base", "cpu-end"])
def test_a_cluster_of_one_node_is_declared_as_databricks_needs_it(clusters, key):
    cluster = clusters[key]
    assert cluster["num_workers"] == 0
    assert cluster["custom_tags"] == {"ResourceClass": "SingleNode"}
    assert cluster["spark_conf"]["spark.databricks.cluster.profile"] == "singleNode"
    assert cluster["spark_conf"]["spark.master"] == "local[*]"
