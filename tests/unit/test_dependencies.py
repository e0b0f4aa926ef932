"""The packages that climb needs: the core has no torch, and an import belongs to core or an extra.

The resolution against the runtimes of Databricks needs a package registry; it is a slow test.
"""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from climb.cli.start import PIPELINE

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "lib" / "climb").rglob("*.py")
} | {f"climb.jobs.{path.stem}": path for path in (ROOT / "jobs").glob("*.py")}
JOBS = (*PIPELINE, "train_scorer")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

# The module of a package, where it is not the package's name.
MODULE_OF = {
    "pyyaml": "yaml",
    "scikit_learn": "sklearn",
    "mlflow_skinny": "mlflow",
    "delta_spark": "delta",
    "fasttext_numpy2_wheel": "fasttext",
    "xgboost_cpu": "xgboost",
}
# Modules of packages that an extra's package requires.
BROUGHT = {"botorch": {"gpytorch", "torch"}}
DEEP_LEARNING = {"torch", "transformers", "sentence_transformers", "xgboost", "lightgbm", "botorch"}
SPARK = {"pyspark", "delta"}
# What a requirement must not change on Databricks: the runtime's Spark is built with them.
KEPT = {"torch", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "pydantic", "mlflow-skinny"}


def modules_of(requirements):
    names = {re.split(r"[^\w.-]", line)[0].lower().replace("-", "_") for line in requirements}
    modules = {MODULE_OF.get(name, name) for name in names}
    return modules.union(*(BROUGHT.get(name, ()) for name in names))


CORE = modules_of(PROJECT["dependencies"])


def parse(path):
    return ast.parse(path.read_text())


def handled(node):
    """Exceptions that a try statement handles."""
    return [handler.type for handler in node.handlers if handler.type is not None]


def imports(tree):
    """Modules that a module imports anywhere, also in functions, but not for type checking."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inner)
        elif isinstance(node, ast.Try) and "ImportError" in map(ast.unparse, handled(node)):
            continue  # the module does without it
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports(node)


def closure(name):
    """Third-party modules that `name` and all modules of climb behind it import."""
    seen, todo, found = set(), [name], set()
    while todo:
        module = todo.pop()
        if module in seen or module.startswith("climb.cli"):  # starts jobs; no part of them
            continue
        seen.add(module)
        parts = module.split(".")
        todo += [".".join(parts[:i]) for i in range(1, len(parts))]
        for imported in imports(parse(MODULES[module])):
            if imported in MODULES:
                todo.append(imported)
            elif imported.split(".")[0] not in sys.stdlib_module_names:
                found.add(imported.split(".")[0])
    return found - {"climb"}


MODULES.setdefault("climb.jobs", ROOT / "jobs" / "__init__.py")


def find_plugins():
    """Classes of climb that name the packages they need."""
    for name, path in MODULES.items():
        if "needs: ClassVar" in path.read_text():
            module = importlib.import_module(name)
            for cls in vars(module).values():
                if isinstance(cls, type) and cls.__module__ == name and hasattr(cls, "needs"):
                    yield cls


PLUGINS = list(find_plugins())


def test_the_core_requires_neither_deep_learning_nor_spark():
    assert not CORE & (DEEP_LEARNING | SPARK)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_imports_only_the_core_and_spark(job):
    """Models come from plug-ins, whose packages preflight checks in the job that loads them."""
    assert closure(f"climb.jobs.{job}") <= CORE | SPARK


def test_the_search_for_plug_ins_finds_those_of_every_kind():
    names = {cls.__name__ for cls in PLUGINS}
    assert {"SentenceEmbedder", "TrainingRecipe", "FastTextScorer", "XGBoostPredictor"} <= names


@pytest.mark.parametrize("cls", PLUGINS, ids=lambda cls: cls.__name__)
def test_a_plug_in_imports_only_the_core_and_its_extra(cls):
    allowed = CORE | modules_of(EXTRAS[cls.extra]) if hasattr(cls, "extra") else CORE
    assert set(cls.needs) <= allowed
    assert closure(cls.__module__) - SPARK <= allowed


def test_every_package_of_the_core_is_imported():
    used = {name.split(".")[0] for path in MODULES.values() for name in imports(parse(path))}
    only_a_bound = {"huggingface_hub"}
    assert used >= CORE - only_a_bound


def test_all_of_climb_but_spark_imports_without_deep_learning():
    """And preflight runs: it builds every plug-in of the configuration."""
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {DEEP_LEARNING | SPARK}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for name in {sorted(n for n in MODULES if not n.startswith(("climb.spark", "climb.jobs")))}:
    importlib.import_module(name)
from climb.cli.plugins import check_plugin, list_plugins
from climb.config import load
for plugin in list_plugins(load({str(ROOT / "conf" / "databricks.yaml")!r})):
    problems = [p for p in check_plugin(plugin, packages=False) if "does not exist" not in p]
    if plugin.key not in ("embed.embedder", "cluster.clusterer", "compare.methods.doremi.mixture"):
        assert not problems, problems
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def read_pins(name):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_requirements_of_a_cluster_are_exact_and_leave_the_runtime_unchanged(kind):
    pins, runtime = read_pins(f"{kind}.txt"), read_pins(f"runtime-{kind}.txt")
    assert pins
    assert all(re.fullmatch(r"[\w.]+", version) for version in (pins | runtime).values())
    assert not pins.keys() & runtime.keys()
    assert not {"pyspark", "delta-spark", "mlflow"} & pins.keys()
    assert runtime.keys() >= KEPT - ({"torch"} if kind == "cpu" else set())


def test_a_gpu_cluster_has_the_tested_versions_of_the_libraries_of_models():
    pins = read_pins("gpu.txt")
    tested = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.M))
    names = {"transformers", "tokenizers", "sentence-transformers", "safetensors"}
    assert {name: pins[name] for name in names} == {name: tested[name] for name in names}


def test_only_gpu_clusters_get_transformers():
    assert {"transformers", "sentence-transformers"} <= read_pins("gpu.txt").keys()
    assert not {"torch", "transformers", "sentence-transformers"} & read_pins("cpu.txt").keys()


def build_wheel(folder):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "benchmarks")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def make_environment(folder):
    """An environment without packages, of the Python version of the runtime if there is one."""
    for program in ("python3.12", sys.executable):
        done = subprocess.run([program, "-m", "venv", str(folder)], capture_output=True)
        if done.returncode == 0:
            return folder / "bin" / "python"
    raise AssertionError(done.stderr.decode())


def add_stubs(python, versions):
    """Show pip these packages as installed: metadata without code."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    for name, version in versions.items():
        stub = site / f"{name.replace('-', '_')}-{version}.dist-info"
        stub.mkdir()
        (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (stub / "INSTALLER").write_text("stub\n")


def resolve(python, report, *arguments):
    """What pip would install; skips if no registry is reachable."""
    command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--no-input"]
    done = subprocess.run(
        [*command, "--report", str(report), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    if done.returncode and re.search(r"Connection|Temporary failure|No matching", done.stderr):
        pytest.skip(f"no package registry is reachable: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"].lower().replace("_", "-") for item in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def runtime(request, tmp_path):
    """The packages of a runtime, and a Python in whose environment pip sees them."""
    versions = read_pins(f"runtime-{request.param}.txt")
    versions |= {"pyspark": "4.0.0", "delta-spark": "4.0.0"}
    python = make_environment(tmp_path / "runtime")
    add_stubs(python, versions)
    return python, versions.keys()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["cpu", "gpu"], indirect=True)
def test_the_wheel_alone_changes_no_package_of_a_runtime(runtime, wheel, tmp_path):
    python, packages = runtime
    installed = resolve(python, tmp_path / "report.json", str(wheel))
    assert {"climb-mixture", "tokenizers"} <= installed
    assert not installed & (packages | {"torch", "transformers"})


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "kind"), [("cpu",) * 2, ("gpu",) * 2], indirect=["runtime"])
def test_the_pinned_requirements_change_none_and_are_all_that_the_wheel_needs(
    runtime, kind, wheel, tmp_path
):
    """Databricks installs the libraries of a task one after the other."""
    python, _ = runtime
    pins = read_pins(f"{kind}.txt")
    listed = ["-r", str(ROOT / "requirements" / f"{kind}.txt")]
    assert resolve(python, tmp_path / "pins.json", *listed) == pins.keys()
    add_stubs(python, pins)
    assert resolve(python, tmp_path / "wheel.json", str(wheel)) == {"climb-mixture"}
