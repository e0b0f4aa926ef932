"""The job `probe` on one machine: its table has every area, and nothing is left behind."""

from climb.jobs.probe import run

from climb.config import load


def test_the_probe_reports_what_local_mode_supports_and_leaves_nothing(store, spark, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}/out"])
    before = {table.name for table in spark.catalog.listTables()}
    lines = run(store, cfg).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines[3:]]
    outcomes = {(area, question): outcome for area, question, outcome, *_ in cells}
    areas = ["session", "files, driver", "files, task", "tables", "tasks", "packages"]
    assert list(dict.fromkeys(area for area, _ in outcomes)) == areas
    errors = {key for key, outcome in outcomes.items() if outcome == "error"}
    # Open-source Delta 4.0.1 loses the option where saveAsTable creates the table.
    assert errors == {("tables", "userMetadata as option, saveAsTable")}, lines
    refused = {key for key, outcome in outcomes.items() if outcome == "refused"}
    # Local mode has no task profiles.
    assert refused == {("tasks", "profile on an RDD"), ("tasks", "profile on mapInPandas")}
    assert {table.name for table in spark.catalog.listTables()} == before
    assert not list((tmp_path / "out").glob("climb_probe*"))
