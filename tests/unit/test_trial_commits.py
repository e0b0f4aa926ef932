"""What is committed of trials that have ended, and in how many commits."""

from types import SimpleNamespace

from climb import tables
from climb.search.trials import PROPOSAL
from climb.spark.training.round import TrialCommits
from climb.spark.training.study import PlannedTrial
from climb.spark.training.task import Outcome

PLANNED = {name: PlannedTrial(name, 0, PROPOSAL, {"code": 1.0}, 0) for name in "abcd"}


class RecordedStore:
    """Keeps the table and the trials of each commit."""

    def __init__(self):
        self.commits = []

    def create_frame(self, rows, table):
        return [{name: row[name] for name in table.column_names} for row in rows]

    def append(self, rows, table):
        self.commits.append((table, [(row["trial_id"], row["seconds"]) for row in rows]))


def write_all(batches, tokens):
    store = RecordedStore()
    setup = SimpleNamespace(n_tokens=100, recipe="proxy-1", corpus_digest="corpus-1")
    cfg = SimpleNamespace(search=SimpleNamespace(name="default"))
    rungs = SimpleNamespace(sum_seconds=lambda name, tokens: 5.0 if tokens == 100 else 0.0)
    commits = TrialCommits(SimpleNamespace(store=store, cfg=cfg, setup=setup), rungs, tokens)
    seen = []
    for outcome in commits.write_all(PLANNED, iter(batches)):
        seen.append((outcome.name, len(store.commits)))
    return store.commits, seen


def make_outcome(name, status="finished"):
    return Outcome(name, status, 2.0, {"a.bpb": 1.0} if status == "finished" else {})


def test_trials_that_ended_together_are_one_commit_before_the_next_batch_is_asked_for():
    batches = [[make_outcome("a"), make_outcome("b")], [make_outcome("c")]]
    commits, seen = write_all(batches, None)
    assert commits == [(tables.TRIALS, [("a", 7.0), ("b", 7.0)]), (tables.TRIALS, [("c", 7.0)])]
    assert seen == [("a", 1), ("b", 1), ("c", 2)]


def test_lost_trials_have_no_row_and_at_a_rung_failed_ones_are_rows_of_trials():
    batch = [make_outcome("a"), make_outcome("b", "failed"), make_outcome("c", "lost")]
    commits, seen = write_all([batch, [make_outcome("d", "lost")]], 25)
    assert commits == [(tables.RUNGS, [("a", 2.0)]), (tables.TRIALS, [("b", 2.0)])]
    assert [name for name, _ in seen] == ["a", "b", "c", "d"]
