"""Successive halving: read metrics at rungs from tables, and choose which trials are stopped.

Table `rungs` has a row for each trial and rung. Like a row of `trials`, this row depends on the
trial alone and not on `search.halving`, so searches with different rungs share rows. At every
start, the choice of the trials that go on is computed again from these rows. The choice at a rung
in a round depends only on the rows that this round and earlier rounds have at this rung.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from climb import tables
from climb.objective import Objective
from climb.search import Trials
from climb.search.halving import find_stopped, predict_final_metrics
from climb.search.signal_to_noise import build_objective
from climb.search.trials import PROPOSAL, RECOMMENDED
from climb.spark.training.study import PART, PlannedTrial, Study, drop_repetitions


@dataclass(frozen=True)
class Rungs:
    """The rungs of a search, and what is recorded of them."""

    study: Study
    n_tokens: tuple[int, ...]
    """Tokens of each rung, rising; empty: all trials are trained in full."""

    rows: Mapping[tuple[str, int], tables.Row]
    """(trial id, tokens) -> row of table `rungs`."""

    @classmethod
    def read(cls, study: Study) -> Rungs:
        """Read table `rungs`, if the search has rungs."""
        n_tokens = tuple(
            round(rung.share * study.setup.n_tokens) for rung in study.cfg.search.halving
        )
        return cls(study, n_tokens, _read_rows(study) if n_tokens else {})

    def find_stopped(
        self, plan: Sequence[PlannedTrial], n_rungs: int | None = None
    ) -> dict[str, int]:
        """Find the stopped trials: trial id -> tokens of the rung that stopped it.

        Args:
            plan: the trials of all rounds so far.
            n_rungs: number of rungs to apply, from the first; None: all. Every trial that reached
                one of these rungs must have a row there, or have failed.
        """
        stopped: dict[str, int] = {}
        keep = [rung.keep for rung in self.study.cfg.search.halving][:n_rungs]
        for round_ in sorted({p.round_ for p in plan}) if keep else ():
            stopped |= self._find_stopped_in(round_, plan, stopped, keep)
        return stopped

    def _find_stopped_in(
        self,
        round_: int,
        plan: Sequence[PlannedTrial],
        earlier: Mapping[str, int],
        keep: Sequence[float],
    ) -> dict[str, int]:
        """Find the trials that one round stops; `earlier` has those that earlier rounds stopped."""
        others = [p for p in plan if p.round_ <= round_ and not _competes(p, round_)]
        settled = {p.trial_id for p in others}
        here = [p for p in plan if _competes(p, round_) and p.trial_id not in settled]

        def score(rung: int, active: frozenset[str]) -> dict[str, float]:
            tokens = self.n_tokens[rung]
            reached = [p for p in others if earlier.get(p.trial_id, tokens) >= tokens]
            return self._score([p for p in here if p.trial_id in active], reached, tokens)

        found = find_stopped([p.trial_id for p in here], keep, score)
        return {name: self.n_tokens[rung] for name, rung in found.items()}

    def sum_seconds(self, trial_id: str, tokens: int) -> float:
        """Return the training seconds of a trial up to its last recorded rung below `tokens`."""
        rows = (row for (name, n), row in self.rows.items() if name == trial_id and n < tokens)
        return max((row["seconds"] for row in rows), default=0.0)

    def read_trials(self, plan: Sequence[PlannedTrial]) -> Trials:
        """Read the finished trials of a plan, and the stopped ones with predicted final metrics.

        A trial that several baselines share is read once.

        Raises:
            SearchError: see `_combine`.
        """
        return self._combine(plan, self.find_stopped(plan))

    @classmethod
    def read_finished(
        cls, study: Study, plan: Sequence[PlannedTrial], stopped: Mapping[str, int]
    ) -> Trials:
        """Read the trials of a finished search, and combine them as `read_trials` does.

        `read_trials` finds the stopped trials by the setting `search.halving`. Here, the caller
        passes them as an argument, because the setting may have changed since the search.

        Args:
            study: its setting `search.halving` is not used.
            plan: of the finished search.
            stopped: the stopped trials of that search, in the form of `find_stopped`.

        Raises:
            SearchError: see `_combine`.
        """
        return cls(study, (), _read_rows(study) if stopped else {})._combine(plan, stopped)

    def _combine(self, plan: Sequence[PlannedTrial], stopped: Mapping[str, int]) -> Trials:
        """Combine whole trials and stopped ones.

        Raises:
            SearchError: every trial failed, or a trial was stopped at a rung where no finished
                trial has metrics.
        """
        plan = drop_repetitions(plan)
        recorded = self.study.read_recorded([p for p in plan if p.trial_id not in stopped])
        trials = self.study.to_trials(recorded)
        if not stopped:
            return trials
        objective = Objective.parse(self.study.cfg.search.objective, trials.metric_names)
        whole = [
            row for row in recorded if row["status"] == "finished" and row["method"] != RECOMMENDED
        ]
        parts = []
        for tokens in sorted(set(stopped.values())):
            final = [row for row in whole if (row["trial_id"], tokens) in self.rows]
            here = [p.part for p in plan if stopped.get(p.trial_id) == tokens]
            at_rung, partial = (self._read_rung(group, tokens) for group in (here, final))
            stopped_here, before, after = (
                Trials.from_rows(rows, trials.domains, trials.metric_names)
                for rows in (at_rung, partial, final)
            )
            columns = objective.weighted_columns
            parts.append(predict_final_metrics(stopped_here, before, after, columns))
        return trials.concatenate(parts)

    def _read_rung(self, parts: Sequence[tables.Row], tokens: int) -> list[tables.Row]:
        """Return the rows of trials at a rung, with their round and method in this search."""
        return [
            {**self.rows[part["trial_id"], tokens]} | {key: part[key] for key in PART}
            for part in parts
            if (part["trial_id"], tokens) in self.rows
        ]

    def _score(
        self, here: Sequence[PlannedTrial], others: Sequence[PlannedTrial], tokens: int
    ) -> dict[str, float]:
        """Score the trials of `here` that were measured at a rung.

        Args:
            here: trials that reached the rung in this round and may be stopped.
            others: all other trials that reached the rung. The weights of the metrics may depend
                on them (`search.scale`, `search.down_weight`).
            tokens: of the rung.
        """
        reached = drop_repetitions([*here, *others])
        rows = self._read_rung([p.part for p in reached], tokens)
        if not rows:
            return {}
        cfg, names = self.study.cfg.search, sorted(rows[0]["metrics"])
        trials = Trials.from_rows(rows, self.study.space.domains, names)
        objective = build_objective(cfg.objective, trials, cfg)
        ids = {p.trial_id for p in here}
        found = {row["trial_id"]: objective.score_run(row["metrics"]) for row in rows}
        return {name: score for name, score in found.items() if name in ids and score is not None}


def _read_rows(study: Study) -> dict[tuple[str, int], tables.Row]:
    """Read table `rungs`, if it exists."""
    rows = study.store.read_rows(tables.RUNGS) if study.store.exists(tables.RUNGS) else []
    return {(row["trial_id"], row["n_tokens"]): row for row in rows}


def find_end(planned: PlannedTrial, stopped: Mapping[str, int]) -> int | None:
    """Return the tokens after which a planned trial was stopped; None if it was not stopped.

    A replicate of the recommendation may be the same run as a stopped proposal. The replicate is
    trained in full nevertheless.

    Args:
        planned: the trial.
        stopped: what `Rungs.find_stopped` returned.
    """
    return stopped.get(planned.trial_id) if planned.method == PROPOSAL else None


def _competes(planned: PlannedTrial, round_: int) -> bool:
    """Whether a trial may be stopped in a round: true only for proposals of this round."""
    return planned.round_ == round_ and planned.method == PROPOSAL
