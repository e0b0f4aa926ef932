"""The notebook runs without changes on the tables of a run, and changes no table."""

import runpy
import tomllib
from pathlib import Path

from small_search import small_search

from climb import tables

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_quick_start.py"


def run_notebook(store, cfg, **globals_):
    defaults = {"given": {"root": cfg.storage.root}, "spark": store.session}
    return runpy.run_path(str(NOTEBOOK), init_globals=defaults | globals_)


def test_the_notebook_shows_the_recommendation_of_a_run(small_run, tmp_path, monkeypatch, capsys):
    store, cfg = small_run
    monkeypatch.chdir(tmp_path)
    before = {table.name: store.history.read_version(table) for table in tables.TABLES}
    result = run_notebook(store, cfg)
    printed = capsys.readouterr().out
    search = small_search().result
    gain = search.measured_gains["natural"]
    assert f"gain: {gain.mean:+.4f} over the natural mixture" in printed
    recommended = search.recommended.weights
    assert result["mixture"].index[0] == max(recommended, key=recommended.get)
    assert list(result["mixture"].columns) == ["recommended", "natural", "uniform", "epochs"]
    assert len(result["trials"]) == 24
    assert (tmp_path / "mixture.svg").read_text().startswith("<svg")
    assert {table.name: store.history.read_version(table) for table in tables.TABLES} == before


class Widgets:
    """Stands for Databricks' widgets: text fields with defaults that a user can change."""

    def __init__(self, values):
        self.values = values

    @property
    def widgets(self):
        return self

    def text(self, name, default):
        self.values.setdefault(name, default)

    def get(self, name):
        return self.values[name]


def test_on_databricks_the_notebook_reads_widgets_and_draws_with_display(small_run):
    store, cfg = small_run
    shown = []
    result = run_notebook(
        store,
        cfg,
        given={},
        dbutils=Widgets({"root": cfg.storage.root}),
        display=shown.append,
        displayHTML=shown.append,
    )
    assert result["parameters"] == {"root": cfg.storage.root, "catalog": "", "search": "default"}
    assert len(shown) == 4
    assert shown[-1].startswith("<svg")


def test_the_notebook_installs_the_wheel_of_the_bundle_before_it_imports_climb():
    """In paths relative to its own folder: the CLI uploads sources to files/, wheels beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = f"{project['name'].replace('-', '_')}-{project['version']}-py3-none-any.whl"
    text = NOTEBOOK.read_text()
    commands = [line for line in text.splitlines() if "%pip" in line]
    assert commands == [
        "# MAGIC %pip install -r ../requirements/cpu.txt",
        f"# MAGIC %pip install ../../artifacts/.internal/{wheel}",
    ]
    assert text.index(commands[-1]) < text.index("from climb")
    assert (NOTEBOOK.parent / "../requirements/cpu.txt").is_file()


def test_the_notebook_is_in_databricks_source_format():
    text = NOTEBOOK.read_text()
    assert text.startswith("# Databricks notebook source\n")
    assert text.count("\n# COMMAND ----------\n") > 8
    for cell in text.split("# COMMAND ----------\n"):
        magic = [line.startswith("# MAGIC") for line in cell.strip().splitlines()]
        code = magic[1:] if cell.startswith("# Databricks") else magic
        assert all(code) or not any(code), "a cell is either all markdown or all code"
