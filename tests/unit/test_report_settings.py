"""A report shows the settings of its result, whatever the configuration says now."""

import pytest
from small_search import small_search
from tracked_rows import Rows, finished, trial

from climb import tables
from climb.config import load
from climb.report import render
from climb.report.settings import restore_settings
from climb.spark.results.report import read_report


@pytest.fixture
def store(tmp_path):
    store = Rows(tmp_path)
    store.put(tables.TRIALS, [trial(0)])
    store.put(tables.MIXTURES, [finished()])
    return store


def test_a_report_shows_the_settings_of_the_result_and_names_those_that_differ_now(store, capsys):
    domain = small_search().result.domains[0]
    limit = f"search.constraints=[{{name: a, domains: [{domain}], max_epochs: 3}}]"
    made_with = load(settings=["search.max_epochs=2.5", limit]).search
    store.settings = {"search": made_with.model_dump(mode="json")}
    data = read_report(store, load(settings=["search.max_epochs=0.001", "mix.tokens=12345"]))
    assert data.max_epochs == 2.5
    assert data.domain_max_epochs == {domain: 3.0}
    assert "max_epochs: 2.5" in data.configuration
    assert "tokens: 12345" in data.configuration
    note = "The configuration now has other values of search.max_epochs, search.constraints;"
    assert note in capsys.readouterr().out
    page = render(data)
    assert "the limit is 2.5" in page
    assert f"<p>{note} the values that the result was made with are shown.</p>" in page


def test_a_report_with_the_settings_of_the_result_has_no_note(store, capsys):
    cfg = load(settings=["search.max_epochs=2.5"])
    store.settings = {"search": cfg.search.model_dump(mode="json")}
    data = read_report(store, cfg)
    assert (data.max_epochs, data.settings_note) == (2.5, "")
    assert capsys.readouterr().out == ""


def test_settings_of_another_version_are_named_and_the_configured_ones_are_shown():
    cfg = load()
    later = cfg.search.model_dump(mode="json") | {"max_epochs": "many", "unheard_of": 1}
    shown, note = restore_settings(cfg, later)
    assert shown == cfg
    assert note.startswith("The result was made with other values of search.max_epochs, which")
    without = {key: value for key, value in later.items() if key == "candidates"}
    assert restore_settings(cfg, without) == (cfg, "")
    assert restore_settings(cfg, None) == (cfg, "")
