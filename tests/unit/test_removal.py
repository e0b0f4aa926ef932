"""The report of a removal, and the commands for a corpus that changes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from climb.cli import start
from climb.cli.commands import climb
from climb.cli.start import PIPELINE
from climb.config import load
from climb.dataset.removal import Counted, Removal, find_report
from climb.errors import PreflightError, TableError


def make_removal(**changes):
    values = {
        "sources": ("forum", "it's"),
        "documents": 1000,
        "removed_documents": 100,
        "rows": {"documents": 100, "tokens": 100, "corpus": 30},
        "domains": {"law": Counted(600, 6000, 0, 0), "cooking-oven": Counted(300, 4000, 90, 2000)},
        "pruned": Counted(100, 500, 10, 50),
        "repeated_rows": 3,
        "stale": ("ingest", "prune", "mix"),
        "remaining": {"/out/shards": "token ids", "tables documents": "earlier versions"},
    }
    return Removal(**values | changes)


def test_the_json_is_read_back_and_has_the_shares_before_and_after():
    removal = make_removal()
    text = removal.to_json()
    assert Removal.from_json(text) == removal
    domains = json.loads(text)["domains"]
    assert domains["law"]["share_before"] == pytest.approx(0.6)
    assert domains["law"]["share_after"] == pytest.approx(6000 / 8000)
    assert domains["cooking-oven"]["share_after"] == pytest.approx(2000 / 8000)


def test_the_lines_name_rows_shares_jobs_and_places():
    text = str(make_removal())
    assert text.startswith(
        "100 of 1,000 documents (all of 'forum', \"it's\"): documents 100 rows, tokens 100 rows"
    )
    [law] = [line for line in text.splitlines() if line.startswith("law")]
    assert law.split() == ["law", "600", "0", "6,000", "0", "60.0%", "75.0%"]
    [pruned] = [line for line in text.splitlines() if line.startswith("(pruned)")]
    assert pruned.split() == ["(pruned)", "100", "10", "500", "50"]
    assert "3 rejected rows repeat a removed text" in text
    assert "out of date: ingest, prune, mix; `climb run` brings them up to date" in text
    assert "  /out/shards       token ids" in text


def test_a_domain_that_loses_everything_has_no_share_and_without_domains_there_is_no_table():
    gone = make_removal(domains={"law": Counted(1, 5, 1, 5)})
    assert gone.shares() == {"law": (1.0, 0.0)}
    early = str(make_removal(domains={}, pruned=Counted(0, 0, 0, 0), repeated_rows=0))
    assert "share before" not in early
    assert "repeat" not in early


def test_a_report_of_another_format_is_an_error_of_one_line():
    with pytest.raises(TableError, match="another format than climb-removal-1"):
        Removal.from_json('{"format": "climb-removal-0"}')


def test_a_removal_that_was_killed_goes_on_with_all_of_its_sources():
    report = make_removal(sources=("a", "b"))
    removals = {"a": report, "b": report}
    for names in (["a"], ["b"], ["a", "b"]):
        assert find_report(removals, names, is_complete=False) == report
    assert find_report(removals, ["a", "c"], is_complete=False) is None
    assert find_report({}, ["a"], is_complete=False) is None


def test_a_killed_removal_is_measured_again_once_one_of_its_sources_is_back():
    report, later = make_removal(sources=("a", "b")), make_removal(sources=("a",))
    for removals in ({"b": report}, {"a": later, "b": report}):
        assert find_report(removals, ["b"], is_complete=False) is None
        assert find_report(removals, ["b"], is_complete=True) == report


def test_a_source_that_is_no_longer_removed_is_in_no_earlier_report():
    report = make_removal(sources=("a", "b"))
    for is_complete in (False, True):
        assert find_report({"b": report}, ["a", "b"], is_complete=is_complete) is None


@pytest.fixture
def started(monkeypatch):
    """What the commands would run: names of jobs, and the configuration."""
    calls = []

    def run_jobs(jobs, conf, settings):
        calls.append(([name for name, _ in jobs], load(conf, settings)))

    monkeypatch.setattr("climb.cli.upkeep.run_jobs", run_jobs)
    return calls


def test_the_options_of_the_commands_are_settings(started, tmp_path):
    odd = ("null: [1, 'x']", "12", "\U0001d54f \u2028", "...", " a, b]\n")
    named = [word for source in odd for word in ("--source", source)]
    for command in (
        ["cluster"],
        ["cluster", "--refit"],
        ["remove", *named, "--dry-run", "--out", f"{tmp_path}/r.json"],
        ["remove", "--source", "a", "--undo"],
        ["maintain"],
        ["maintain", "--dry-run"],
    ):
        done = CliRunner().invoke(climb, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    names, configs = zip(*started, strict=True)
    assert names == (
        ["cluster"],
        ["embed", "cluster"],
        ["remove"],
        ["remove"],
        ["maintain"],
        ["maintain"],
    )
    assert [cfg.cluster.refit for cfg in configs[:2]] == [False, True]
    removals = [cfg.remove for cfg in configs[2:4]]
    assert removals[0].sources == odd
    assert [(r.dry_run, r.undo) for r in removals] == [(True, False), (False, True)]
    assert removals[0].out == f"{tmp_path}/r.json"
    assert [cfg.maintain.dry_run for cfg in configs[4:]] == [False, True]


def test_a_removal_needs_a_source(tmp_path):
    done = CliRunner().invoke(climb, ["remove", "--set", f"storage.root={tmp_path}"])
    assert done.exit_code == 2
    assert "Missing option '--source'" in done.output
    with pytest.raises(PreflightError, match="sources is empty; run `climb remove --source"):
        start.run_jobs([("remove", None)], (), [f"storage.root={tmp_path}"])


@pytest.mark.parametrize("job", ["remove", "maintain", "contamination"])
def test_no_other_job_runs_while_tables_of_all_jobs_are_written(job, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(start, "run_preflight", lambda *args: None)
    monkeypatch.setattr(
        start, "_run_all", lambda *args: held.extend(Path(tmp_path, "locks").glob("*.lock"))
    )
    start.run_jobs([(job, None)], (), [f"storage.root={tmp_path}"])
    assert {path.stem for path in held} == {*PIPELINE, "remove", "maintain", "contamination"}
