"""A run skips a job only where the job itself, in Spark, would find nothing to do."""

import shutil
from pathlib import Path

import pytest
import world
from keys_read import KeysRead, check_keys

from climb import tables
from climb.cli.finished.plan import describe_plan
from climb.cli.finished.records import check_job
from climb.cli.finished.state import read_changes
from climb.cli.start import PIPELINE, _run_one, import_jobs, run_jobs
from climb.config import load
from climb.spark.delta.store import Store

pytestmark = pytest.mark.slow

JOBS = dict(import_jobs(PIPELINE))
UNTIL_MIX = PIPELINE[: PIPELINE.index("mix") + 1]
"""The jobs before those that train the larger model, which these tests do not need."""


@pytest.fixture(scope="module")
def finished(spark, tmp_path_factory):
    """A run in the session of the tests, and the keys that each of its jobs has read."""
    folder = tmp_path_factory.mktemp("finished")
    conf = world.write_world(folder)
    settings = ("tracking.enabled=false",)
    cfg, read = load(conf, settings), {}
    store = Store(spark, cfg.storage)
    with pytest.MonkeyPatch.context() as patch:
        recorder = KeysRead(patch)
        for name in UNTIL_MIX:
            recorder.read.clear()
            JOBS[name](store, cfg)
            read[name] = set(recorder.read)
    for name in UNTIL_MIX:
        _run_one(name, JOBS[name], store, cfg)
    return folder, conf, settings, read


def test_the_state_of_a_job_has_every_key_that_the_job_reads(finished):
    _, conf, settings, read = finished
    cfg = load(conf, settings)
    for name in UNTIL_MIX:
        assert read[name]
        check_keys(name, cfg, read[name])


class Pair:
    """The two ways to find out whether a job has something to do."""

    def __init__(self, spark, conf, settings):
        self.cfg = load(conf, settings)
        self.store = Store(spark, self.cfg.storage)

    def is_skipped(self, name):
        return check_job(name, self.cfg).is_done

    def does_nothing(self, name):
        """Run the job in Spark: whether it left all tables and files as they were."""
        before = self.list_everything()
        _run_one(name, JOBS[name], self.store, self.cfg)
        return self.list_everything() == before

    def list_everything(self):
        root = Path(self.cfg.storage.root)
        files = {
            str(path): path.stat().st_mtime_ns
            for folder in ("shards", "mixed", "models")
            for path in (root / folder).rglob("*")
            if path.is_file()
        }
        return files, read_changes(self.cfg, [table.name for table in tables.TABLES])


def test_a_run_with_nothing_to_do_starts_no_spark(finished, monkeypatch, capsys):
    _, conf, settings, _ = finished
    monkeypatch.setattr("climb.cli.start._open_store", None)  # a call would fail
    jobs = [(name, JOBS[name]) for name in UNTIL_MIX]
    run_jobs(jobs, [str(conf)], settings, skip=True)
    out = capsys.readouterr().out
    assert "session on" not in out
    assert [line.split()[0] for line in out.splitlines()] == [*UNTIL_MIX, "trainer"]
    assert describe_plan(UNTIL_MIX, load(conf, settings)).splitlines()[-1] == "nothing to do"
    monkeypatch.undo()


def test_both_ways_agree_that_nothing_is_to_do(finished, spark):
    _, conf, settings, _ = finished
    pair = Pair(spark, conf, settings)
    for name in UNTIL_MIX:
        assert pair.is_skipped(name)
        assert pair.does_nothing(name), name


def test_both_ways_agree_on_a_changed_key(finished, spark):
    _, conf, settings, _ = finished
    pair = Pair(spark, conf, (*settings, "prune.terms=9"))
    assert [name for name in UNTIL_MIX if not pair.is_skipped(name)] == ["prune"]
    assert not pair.does_nothing("prune")
    assert pair.is_skipped("prune")
    assert not pair.is_skipped("pack")  # it reads the domains, which are new
    Pair(spark, conf, settings).does_nothing("prune")  # as before


def test_both_ways_agree_on_a_rewritten_table(finished, spark):
    _, conf, settings, _ = finished
    pair = Pair(spark, conf, settings)
    for name in ("prune", "pack", "base", "search", "mix"):
        pair.does_nothing(name)
    scores = pair.store.locate(tables.SCORES)
    spark.sql(f"OPTIMIZE {scores}")
    assert all(map(pair.is_skipped, UNTIL_MIX))
    assert pair.does_nothing("prune")
    spark.sql(f"UPDATE {scores} SET recipe = recipe")
    assert [name for name in UNTIL_MIX if not pair.is_skipped(name)] == ["score", "prune"]
    assert not pair.does_nothing("prune")


def test_both_ways_agree_on_a_removed_shard(finished, spark):
    folder, conf, settings, _ = finished
    pair = Pair(spark, conf, settings)
    pair.does_nothing("pack")
    assert pair.is_skipped("pack")
    path = Path(pair.store.read_rows(tables.SHARDS)[0]["path"])
    assert path.is_relative_to(folder)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not pair.is_skipped("pack")
    assert not pair.does_nothing("pack")
    assert pair.is_skipped("pack")


def test_both_ways_agree_on_a_search_that_is_half_done(finished, spark):
    _, conf, settings, _ = finished
    pair = Pair(spark, conf, settings)
    pair.does_nothing("search")
    assert pair.is_skipped("search")
    trials = pair.store.locate(tables.TRIALS)
    shutil.rmtree(Path(pair.cfg.storage.root) / "tables" / "mixtures")
    spark.sql(f"DELETE FROM {trials} WHERE method = 'recommended'")
    assert not pair.is_skipped("search")
    assert not pair.does_nothing("search")
    assert pair.is_skipped("search")


def test_both_ways_agree_on_a_new_input_file(finished, spark):
    folder, conf, settings, _ = finished
    pair = Pair(spark, conf, settings)
    assert pair.is_skipped("ingest")
    new = "A text that is long enough to become a document of its own."
    (folder / "text" / "new.jsonl").write_text(f'{{"text": "{new}", "kind": "new"}}\n')
    assert not pair.is_skipped("ingest")
    assert not pair.does_nothing("ingest")
    assert not pair.is_skipped("count")
    assert not pair.does_nothing("count")
    assert pair.is_skipped("count")
