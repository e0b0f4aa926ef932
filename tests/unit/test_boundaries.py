"""Who may import what, and how large things may grow. The layout is a promise; this keeps it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from climb.run import PIPELINE
from climb.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib" / "climb"
MODULES = sorted(LIB.rglob("*.py"))
JOBS = sorted(path for path in (ROOT / "jobs").glob("*.py") if path.stem != "__init__")
SOURCES = [*MODULES, *JOBS, *sorted((ROOT / "demo").glob("*.py"))]

# The edge: how a job starts, the console script, MLflow. The rest of climb/*.py is pure.
EDGE = {"run.py", "cli.py", "tracking.py"}
PLUG_INS = {"ingest", "embed", "quality", "proxy", "predictor", "report", "testing"}
PURE = {"numpy", "scipy", "yaml"}
HEAVY = {
    "pyspark", "delta", "pandas", "pyarrow", "torch", "transformers", "tokenizers", "safetensors",
    "sentence_transformers", "fasttext", "sklearn", "xgboost", "lightgbm",
    "botorch", "gpytorch", "mlflow", "jinja2", "tqdm",
}  # fmt: skip
# Jobs that are no step of the pipeline.
EXTRA_JOBS = {"train_scorer"}
VAGUE = {"utils", "util", "common", "core", "base", "manager", "helpers", "misc"}


def named(path):
    return str(path.relative_to(ROOT))


def imported(statements):
    """Modules that these statements import when they run; type checking does not run."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Try | ast.If) and "TYPE_CHECKING" not in ast.unparse(node):
            yield from imported(node.body)


def top_level(path):
    return set(imported(ast.parse(path.read_text()).body))


def folder(path):
    """The package of climb that a module is in; empty for climb/*.py."""
    parts = path.relative_to(LIB).parts
    return parts[0] if len(parts) > 1 else ""


def third_party(path):
    roots = {name.split(".")[0] for name in top_level(path)}
    return roots - set(sys.stdlib_module_names) - {"climb", "__future__", ""}


def functions(path):
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_the_spark_folder_knows_spark(path):
    if folder(path) == "spark":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = set(imported([node])) if isinstance(node, ast.Import | ast.ImportFrom) else set()
        spark = {n for n in names if n.split(".")[0] in {"pyspark", "delta"}}
        assert not spark, f"{named(path)} imports {spark}"
    if path.name not in EDGE:
        assert not {n for n in top_level(path) if n.startswith("climb.spark")}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_imports_at_its_top_only_what_its_folder_may(path):
    allowed = set(PURE)
    if folder(path) == "spark":
        allowed |= {"pyspark", "delta", "pandas", "pyarrow", "tqdm"}
    elif folder(path) == "config":
        allowed |= {"pydantic"}
    elif folder(path) == "" and path.name in EDGE:
        allowed |= {"click"}
    assert third_party(path) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_belongs_to_a_folder_that_the_design_names(path):
    assert folder(path) in {"", "config", "search", "spark", *PLUG_INS}
    assert not VAGUE & {path.stem, folder(path)}


def test_everything_but_spark_imports_without_anything_heavy():
    names = [
        ".".join(["climb", *path.relative_to(LIB).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if folder(path) != "spark"
    ]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_outgrows_its_room(path):
    assert len(path.read_text().splitlines()) <= 300
    for node in functions(path):
        length = node.end_lineno - node.lineno + 1
        assert length <= 40, f"{node.name} has {length} lines"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        given = [a for a in arguments if a.arg not in {"self", "cls"}]
        command = any(
            "command" in ast.unparse(d) or "option" in ast.unparse(d) for d in node.decorator_list
        )
        if not command:  # the parameters of a click command are its options, which users read
            assert len(given) <= 6, f"{node.name} has {len(given)} parameters"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_in_the_library_uses_a_global_random_state(path):
    text = path.read_text()
    assert not re.search(
        r"np\.random\.(?!default_rng|Generator|SeedSequence|BitGenerator)\w+", text
    )
    assert "default_rng()" not in text
    assert "random" not in top_level(path)


def test_the_jobs_are_those_of_the_pipeline():
    assert {path.stem for path in JOBS} == {*PIPELINE, "pipeline", *EXTRA_JOBS}


@pytest.mark.parametrize("path", [p for p in JOBS if p.stem != "pipeline"], ids=named)
def test_a_job_is_one_sentence_one_arrow_and_one_run(path):
    tree = ast.parse(path.read_text())
    sentence, arrow, rerun, *_ = ast.get_docstring(tree).split("\n\n")
    assert sentence.endswith(".")
    assert arrow.count(" -> ") == 1
    assert rerun.startswith("Rerun it")
    run = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "run")
    assert [a.arg for a in run.args.args] == ["store", "cfg"]
    assert ast.unparse(run.returns) == "str"
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    main(run)"


@pytest.mark.parametrize("path", [p for p in JOBS if p.stem in PIPELINE], ids=named)
def test_a_job_names_in_its_arrow_only_tables_that_exist(path):
    arrow = ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[1]
    names = {name.strip() for name in re.split(r",|->", arrow.replace("\n", " "))}
    assert names <= {table.name for table in TABLES} | {"files", "report.html"}


def test_a_table_has_one_writer_and_the_writers_come_in_order():
    assert len({table.name for table in TABLES}) == len(TABLES)
    order = [PIPELINE.index(table.writer) for table in TABLES]
    assert order == sorted(order)
