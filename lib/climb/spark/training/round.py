"""Train the trials of one round, rung by rung. Each row is committed when its run ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from climb import tables
from climb.errors import InfrastructureError
from climb.progress import log, show_progress
from climb.search.trials import PROPOSAL
from climb.spark.slots import plan_slots
from climb.spark.training.halving import Rungs
from climb.spark.training.setup import ensure_base_checkpoint
from climb.spark.training.sharing import train_trials
from climb.spark.training.study import PlannedTrial, Study
from climb.spark.training.task import Outcome
from climb.tables import Table


@dataclass(frozen=True)
class TrainedRound:
    """What one call of `train_round` did."""

    n_trained: int
    """Trials that were trained, whole or in part."""

    n_failed: int
    n_stopped: int
    """Trials of the round that successive halving stopped, now or earlier."""

    def __str__(self) -> str:
        """Return the numbers as text for the run log, such as `3 trained, 1 failed`."""
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        stopped = f", {self.n_stopped} stopped early" if self.n_stopped else ""
        return f"{self.n_trained} trained{failed}{stopped}"


def train_round(study: Study, plan: Sequence[PlannedTrial], round_: int) -> TrainedRound:
    """Train the trials of a round that are not recorded, and stop those that halving stops.

    All trials reach a rung before any goes on, so their order does not change which are stopped.

    Args:
        study: the search.
        plan: the trials of this round and of all earlier ones.
        round_: the round.

    Raises:
        InfrastructureError: workers were lost; their trials are not recorded, so the next start
            trains them again.
        ClimbError: a trial failed because of a mistake that the user can fix.
        RuntimeError: a trial raised an unexpected exception; the message has its traceback.
    """
    new = {p.trial_id: p for p in plan if p.round_ == round_}
    rungs, ended = Rungs.read(study), list[Outcome]()
    competes = any(p.method == PROPOSAL for p in new.values())
    for i, tokens in enumerate(rungs.n_tokens if competes else ()):
        stopped = rungs.find_stopped(plan, i)
        measured = {name for name, n in rungs.rows if n == tokens}
        going = [p for name, p in new.items() if name not in stopped.keys() | measured]
        failed = {
            row["trial_id"] for row in study.read_recorded(going) if row["status"] == "failed"
        }
        ended += _train(study, [p for p in going if p.trial_id not in failed], rungs, tokens)
        rungs = Rungs.read(study)
    stopped = rungs.find_stopped(plan) if competes else {}
    going = [p for name, p in new.items() if name not in stopped]
    known = {row["trial_id"] for row in study.read_recorded(going)}
    ended += _train(study, [p for p in going if p.trial_id not in known], rungs, None)
    for p in new.values():
        if p.trial_id in stopped:  # a later full run starts again from its first step
            shutil.rmtree(study.setup.build_run(p.weights, p.seed).checkpoints, ignore_errors=True)
    return TrainedRound(
        n_trained=len({outcome.name for outcome in ended}),
        n_failed=sum(outcome.status == "failed" for outcome in ended),
        n_stopped=len(stopped.keys() & new.keys()),
    )


def _train(
    study: Study, todo: Sequence[PlannedTrial], rungs: Rungs, tokens: int | None
) -> list[Outcome]:
    """Train trials up to a rung, or to the end if tokens is None, and commit their rows.

    Raises:
        InfrastructureError: workers were lost.
    """
    if not todo:
        return []
    session, cfg = study.store.session, study.cfg.spark
    ensure_base_checkpoint(study.store, study.setup, plan_slots(session, cfg))
    planned = {p.trial_id: p for p in todo}
    runs = [
        (name, replace(study.setup.build_run(p.weights, p.seed), stop_tokens=tokens))
        for name, p in planned.items()
    ]
    commits = TrialCommits(study, rungs, tokens)
    ended, lost = list[Outcome](), list[Outcome]()
    unit = "trial" if tokens is None else "rung"
    watch = study.watch_trials(planned)
    setup = study.setup
    batches = train_trials(study.store, cfg, setup.recipe, setup.proxy, runs, watch)
    outcomes = commits.write_all(planned, batches)
    for outcome in show_progress(outcomes, len(runs), "search", unit):
        (lost if outcome.status == "lost" else ended).append(outcome)
    if lost:
        raise InfrastructureError(
            f"{len(lost)} of {len(runs)} trials are not recorded, because their workers were "
            f"lost; the first error: {lost[0].error}; run `climb search` again to train them"
        )
    if tokens is not None:
        n_measured = sum(outcome.status == "finished" for outcome in ended)
        log("search", f"{n_measured} trials measured after {tokens:,} tokens")
    return ended


class TrialCommits:
    """Writes rows of whole and failed trials to `trials`, and of trials at a rung to `rungs`."""

    def __init__(self, study: Study, rungs: Rungs, tokens: int | None) -> None:
        self._study, self._rungs = study, rungs
        self._tokens, self._is_whole = tokens or study.setup.n_tokens, tokens is None

    def write_all(
        self, planned: Mapping[str, PlannedTrial], batches: Iterable[Sequence[Outcome]]
    ) -> Iterator[Outcome]:
        """Commit the rows of each batch, except those of lost runs, and yield its outcomes."""
        store = self._study.store
        for batch in batches:
            rows: dict[Table, list[tables.Row]] = {}
            for outcome in batch:
                if outcome.status != "lost":
                    row = self._make_row(planned[outcome.name], outcome)
                    rows.setdefault(self._choose_table(outcome), []).append(row)
            for table, new in rows.items():
                store.append(store.create_frame(new, table), table)
            yield from batch

    def _choose_table(self, outcome: Outcome) -> Table:
        is_rung = outcome.status == "finished" and not self._is_whole
        return tables.RUNGS if is_rung else tables.TRIALS

    def _make_row(self, planned: PlannedTrial, outcome: Outcome) -> tables.Row:
        """Build a row; its seconds include those of the earlier rungs."""
        earlier = self._rungs.sum_seconds(outcome.name, self._tokens)
        setup = self._study.setup
        return {
            **planned.part,
            "search": self._study.cfg.search.name,
            "seed": planned.seed,
            "proxy": setup.recipe,
            "corpus_digest": setup.corpus_digest,
            "weights": planned.weights,
            "n_tokens": self._tokens,
            "finished": datetime.now(UTC),
            **{k: v for k, v in asdict(outcome).items() if k != "name"},
            "seconds": earlier + outcome.seconds,
        }
