"""A search with rungs over tables: who is trained how far, what is recorded, after a kill too."""

import pytest
from climb.jobs import report, search
from killed import Killed, drop_times, kill_after
from planted_search import BEST, open_store, read_mixtures, settings

from climb import tables
from climb.config.sections import RungConfig
from climb.spark.results.report import read_report, read_result
from climb.testing.proxies import PlantedProxy

pytestmark = pytest.mark.slow  # unit/test_rungs.py and test_halving.py test the choices

RUNG = 50_000
"""A quarter of a trial's tokens."""


def configure(root, parallel=None, **proxy):
    cfg = settings(root, **proxy)
    rungs = (RungConfig(share=0.25, keep=0.4),)
    changed = {"halving": rungs, "trials_per_round": (5, 3)}
    return cfg.model_copy(
        update={
            "search": cfg.search.model_copy(update=changed),
            "spark": cfg.spark.model_copy(update={"parallel_trials": parallel}),
        }
    )


@pytest.fixture(scope="module")
def searched(spark, tmp_path_factory):
    root = tmp_path_factory.mktemp("halved")
    cfg = configure(root)
    store = open_store(spark, root, cfg)
    return store, cfg, search.run(store, cfg)


def test_the_worst_proposals_of_each_round_stop_at_the_rung_and_nothing_else_does(searched):
    store, _, said = searched
    result = read_result(store, "default")
    rungs = {row["trial_id"]: row for row in store.read_rows(tables.RUNGS)}
    whole = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
    for round_, n_kept in ((0, 2), (1, 2)):
        proposals = [p for p in result.plan if (p.round, p.method) == (round_, "proposal")]
        order = sorted(proposals, key=lambda p: rungs[p.trial_id]["metrics"]["quiz.bpb"])
        assert [p.stopped_at for p in order] == [None] * n_kept + [RUNG] * (len(order) - n_kept)
        assert {p.trial_id for p in order[:n_kept]} <= whole.keys()
        assert not {p.trial_id for p in order[n_kept:]} & whole.keys()
    others = [p for p in result.plan if p.method != "proposal"]
    assert all(p.stopped_at is None and p.trial_id in whole for p in others)
    assert {row["n_tokens"] for row in rungs.values()} == {RUNG}
    assert sorted(row["method"] for row in rungs.values()) == sorted(
        ["natural", "uniform"] * 2 + ["proposal"] * 8
    )
    assert "(4 trials stopped early, so 2,200,000 of 2,800,000 tokens were trained (79%))" in said


def test_stopped_trials_inform_the_recommendation_and_are_counted_in_the_report(searched, tmp_path):
    store, cfg, _ = searched
    result = read_result(store, "default")
    assert result.n_trials == 4 + 8  # the replicates of the recommendation do not change it
    proxy = PlantedProxy(best=BEST)
    left, lost = (
        proxy.predict_bpb(read_mixtures(store)[m]["weights"]) - 1.0
        for m in ("recommended", "natural")
    )
    assert left < lost / 5
    data = read_report(store, cfg)
    stopped = [trial for trial in data.trials if trial.status == "stopped"]
    assert [trial.n_tokens for trial in stopped] == [RUNG] * 4
    path = tmp_path / "report.html"
    report.run(
        store, cfg.model_copy(update={"report": cfg.report.model_copy(update={"path": str(path)})})
    )
    assert "4 trials stopped early" in path.read_text()


def test_a_killed_search_with_rungs_ends_with_the_rows_of_an_unbroken_one_at_any_parallelism(
    spark, tmp_path, monkeypatch
):
    stores, faults = {}, {"nan_when_above": {"code": 0.6}}
    for name, parallel in (("unbroken", 1), ("broken", 3)):
        root = tmp_path / name
        root.mkdir()
        cfg = configure(root, parallel, **faults)
        stores[name] = open_store(spark, root, cfg)
    search.run(stores["unbroken"], configure(tmp_path / "unbroken", 1, **faults))
    broken, cfg = stores["broken"], configure(tmp_path / "broken", 3, **faults)
    for method, table, times in (
        ("append", tables.RUNGS, 3),  # before all are measured at the rung
        ("append", tables.TRIALS, 2),  # after the choice
        ("append", tables.RUNGS, 1),  # in the second round
        ("replace", tables.MIXTURES, 0),
    ):
        with monkeypatch.context() as patch:
            kill_after(patch, method, table, times)
            with pytest.raises(Killed):
                search.run(broken, cfg)
    search.run(broken, cfg)
    for table in (tables.RUNGS, tables.TRIALS):
        rows = [drop_times(store.read_rows(table)) for store in stores.values()]
        assert rows[0] == rows[1], table.name
    assert read_mixtures(broken) == read_mixtures(stores["unbroken"])
    rows = broken.read_rows(tables.TRIALS)
    failed = {row["trial_id"] for row in rows if row["status"] == "failed"}
    assert failed
    assert not failed & {row["trial_id"] for row in broken.read_rows(tables.RUNGS)}
    assert read_result(broken, "default").n_failed == len(failed)
