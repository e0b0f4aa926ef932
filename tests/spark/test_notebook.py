"""The notebook runs as it stands against a run's tables, and changes nothing."""

import runpy
from pathlib import Path

from climb import tables

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_quick_start.py"


def run_notebook(store, cfg, **globals_):
    given = {"given": {"root": cfg.storage.root}, "spark": store.session}
    return runpy.run_path(str(NOTEBOOK), init_globals=given | globals_)


def test_the_notebook_shows_the_answer_of_a_run(small_run, tmp_path, monkeypatch, capsys):
    store, cfg = small_run
    monkeypatch.chdir(tmp_path)
    before = {table.name: store.version(table) for table in tables.TABLES}
    result = run_notebook(store, cfg)
    printed = capsys.readouterr().out
    assert "gain: +0.0600 over natural proportions" in printed
    assert result["mixture"].index[0] == "recipes"
    assert result["mixture"].loc["law", "natural"] == 0.6
    assert len(result["trials"]) == 14
    assert (tmp_path / "mixture.svg").read_text().startswith("<svg")
    assert {table.name: store.version(table) for table in tables.TABLES} == before


class Widgets:
    """Databricks' widgets: a text with a default, which the user may have changed."""

    def __init__(self, values):
        self.values = values

    @property
    def widgets(self):
        return self

    def text(self, name, default):
        self.values.setdefault(name, default)

    def get(self, name):
        return self.values[name]


def test_on_databricks_it_takes_widgets_and_draws_with_display(small_run):
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


def test_the_notebook_is_in_databricks_source_format():
    text = NOTEBOOK.read_text()
    assert text.startswith("# Databricks notebook source\n")
    assert text.count("\n# COMMAND ----------\n") > 8
    for cell in text.split("# COMMAND ----------\n"):
        magic = [line.startswith("# MAGIC") for line in cell.strip().splitlines()]
        code = magic[1:] if cell.startswith("# Databricks") else magic
        assert all(code) or not any(code), "a cell is either all markdown or all code"
