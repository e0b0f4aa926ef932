"""Who may import what, and how large things may grow. The layout is a promise; this keeps it."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from climb.cli.start import PIPELINE
from climb.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib" / "climb"
MODULES = sorted(LIB.rglob("*.py"))
JOBS = sorted(path for path in (ROOT / "jobs").glob("*.py") if path.stem != "__init__")
SOURCES = [*MODULES, *JOBS, *sorted((ROOT / "demo").glob("*.py"))]

# The layers, lowest first: a package imports at its top, and for type checking, only from its own
# layer and from those above it in this list. The modules of climb/*.py and files/ are the first.
LAYERS = (
    ("", "files"),
    ("mixture",),
    ("config", "domains", "dataset"),
    ("predictor", "ingest", "embed", "quality", "proxy", "fidelity", "export"),
    ("search",),
    ("report", "testing", "runs", "estimate"),
    ("spark",),
    ("tracking",),
    ("cli",),
)
# The layers inside spark/; its flat modules are the first.
SPARK_LAYERS = (
    ("",),
    ("delta",),
    ("corpus",),
    ("export",),
    ("training",),
    ("results",),
    ("probe",),
)
MOST_FLAT_MODULES = 8
PURE = {"numpy", "scipy", "yaml"}
MAY_IMPORT = {
    "config": {"pydantic"},
    "search": {"pydantic"},
    "cli": {"click"},
    "spark": {"pyspark", "delta", "pandas", "pyarrow", "tqdm"},
}
HEAVY = {
    "pyspark", "delta", "pandas", "pyarrow", "torch", "transformers", "tokenizers", "safetensors",
    "sentence_transformers", "fasttext", "sklearn", "xgboost", "lightgbm",
    "botorch", "gpytorch", "mlflow", "jinja2", "tqdm",
}  # fmt: skip
# Jobs that are no step of the pipeline.
EXTRA_JOBS = {"train_scorer", "probe", "export", "remove", "maintain", "contamination", "doremi"}
EXTRA_JOBS |= {"compare", "ablate"}
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


def dotted(path):
    parts = ["climb", *path.relative_to(LIB).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


def climb_imports(path):
    """Modules of climb that a module imports anywhere: at its top, in a function, for types."""
    names = {dotted(module) for module in MODULES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("climb"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in names else node.module


def layer_of(parts, layers):
    return next(i for i, names in enumerate(layers) if parts[0] in names)


def third_party(path):
    roots = {name.split(".")[0] for name in top_level(path)}
    return roots - set(sys.stdlib_module_names) - {"climb", "__future__", ""}


def functions(path):
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_climb_has_few_flat_modules():
    assert len([path for path in MODULES if folder(path) == ""]) <= MOST_FLAT_MODULES


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_module_imports_from_a_layer_above_its_own(path):
    own = layer_of([folder(path)], LAYERS)
    for name in climb_imports(path):
        parts = name.split(".")[1:]
        target = parts[0] if (LIB / parts[0]).is_dir() else ""
        assert layer_of([target], LAYERS) <= own, f"{named(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if folder(p) == "spark"], ids=named)
def test_no_module_of_spark_imports_from_a_layer_above_its_own(path):
    def inner(parts):
        return [parts[0] if (LIB / "spark" / parts[0]).is_dir() else ""]

    own = layer_of(inner(path.relative_to(LIB / "spark").parts), SPARK_LAYERS)
    for name in climb_imports(path):
        if name.startswith("climb.spark."):
            target = layer_of(inner(name.split(".")[2:]), SPARK_LAYERS)
            assert target <= own, f"{named(path)} imports {name}"


def test_no_import_makes_a_circle():
    graph = {dotted(path): set(climb_imports(path)) - {dotted(path)} for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_the_spark_folder_knows_spark(path):
    if folder(path) == "spark":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = set(imported([node])) if isinstance(node, ast.Import | ast.ImportFrom) else set()
        spark = {n for n in names if n.split(".")[0] in {"pyspark", "delta"}}
        assert not spark, f"{named(path)} imports {spark}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_imports_at_its_top_only_what_its_folder_may(path):
    assert third_party(path) <= PURE | MAY_IMPORT.get(folder(path), set())


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_belongs_to_a_folder_that_the_layers_name(path):
    assert folder(path) in {name for layer in LAYERS for name in layer}
    assert not VAGUE & {path.stem, folder(path)}


def test_everything_but_spark_imports_without_anything_heavy():
    names = [dotted(path) for path in MODULES if folder(path) != "spark"]
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
    own = r"default_rng|Generator|SeedSequence|BitGenerator|RandomState"
    assert not re.search(rf"np\.random\.(?!{own})\w+", text)
    assert not re.search(r"(default_rng|RandomState|Random)\(\)", text)
    if "random" in top_level(path):
        assert not re.search(r"(?<![\w.])random\.(?!Random\b)\w+", text)


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
    files = {"files", "base checkpoint", "target base checkpoint", "report.html"}
    assert names <= {table.name for table in TABLES} | files


def test_a_table_has_one_writer_and_the_writers_come_in_order():
    assert len({table.name for table in TABLES}) == len(TABLES)
    order = [PIPELINE.index(t.writer) for t in TABLES if t.writer not in EXTRA_JOBS]
    assert order == sorted(order)
    extra = {t.name: t.writer for t in TABLES if t.writer in EXTRA_JOBS}
    assert (extra.pop("exclusions"), extra.pop("doremi")) == ("remove", "doremi")
    assert extra == {
        "contamination": "contamination",
        "dropped": "contamination",
        "comparisons": "compare",
        "ablations": "ablate",
    }
