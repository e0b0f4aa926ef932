"""One search over tables: its inputs, the names of its trials, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from climb import tables
from climb.config import Config
from climb.errors import ConfigError, SearchError
from climb.mixture import FeasibleSet, weights_to_dict
from climb.predictor import Array
from climb.proxy.heartbeat import RunProgress
from climb.search import Problem, Trials
from climb.search.reuse import ReusableRuns
from climb.search.signal_to_noise import build_objective
from climb.search.trials import NATURAL
from climb.spark.delta.store import Store
from climb.spark.training.lineage import read_reusable_runs
from climb.spark.training.setup import TrainingSetup, build_trial_setup
from climb.spark.training.watch import WatchSettings

PART = ("round", "method")
"""Columns of a trial that depend on the search. If two searches share a trial, these may differ."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to be trained: `method` is proposal, recommended, or the name of a baseline."""

    trial_id: str
    round_: int
    method: str
    weights: dict[str, float]
    seed: int

    @property
    def part(self) -> dict[str, Any]:
        """The trial's id, and its round and method in this search, as in a row of `trials`."""
        return {"trial_id": self.trial_id, "round": self.round_, "method": self.method}


OnProgress = Callable[[Sequence[tuple[PlannedTrial, RunProgress]]], None]


@dataclass(frozen=True)
class Study:
    """One search: its tables, configuration, training setup, problem and reusable runs."""

    store: Store
    cfg: Config
    setup: TrainingSetup
    problem: Problem
    """It has no objective yet, because only the first trials show the names of the metrics."""

    reusable: ReusableRuns
    """Finished runs on earlier domains. They do not change while the search runs."""

    read_versions: Mapping[str, int | None]
    """Table -> its version just before it was read."""

    on_progress: OnProgress | None = None
    """Gets the progress of the active trials; the MLflow mirror is connected here."""

    def watch_trials(self, plan: Mapping[str, PlannedTrial]) -> WatchSettings:
        """Return how trials are watched while they are trained; `plan` has them by id."""
        on_progress = self.on_progress
        if on_progress is None:
            return WatchSettings("search", self.setup.hung_minutes)

        def observe(running: Mapping[str, RunProgress]) -> None:
            on_progress([(plan[name], progress) for name, progress in running.items()])

        return WatchSettings("search", self.setup.hung_minutes, observe)

    @property
    def space(self) -> FeasibleSet:
        """The mixtures that the target run can be trained on."""
        return self.problem.space

    def plan_trial(self, round_: int, method: str, weights_K: Array, seed: int) -> PlannedTrial:
        """Plan a trial of this mixture."""
        weights = weights_to_dict(self.space.domains, weights_K)
        return PlannedTrial(self.setup.name_run(weights, seed), round_, method, weights, seed)

    def read_recorded(self, plan: Sequence[PlannedTrial]) -> list[tables.Row]:
        """Read the rows of the planned trials that have ended, with the plan's round and method.

        A trial that is in the plan several times has a row for each time; see `drop_repetitions`.
        """
        if not self.store.exists(tables.TRIALS):
            return []
        rows = {row["trial_id"]: row for row in self.store.read_rows(tables.TRIALS)}
        return [rows[p.trial_id] | p.part for p in plan if p.trial_id in rows]

    def to_trials(self, rows: Sequence[Mapping[str, Any]]) -> Trials:
        """Convert recorded rows to arrays, together with the reused runs.

        Raises:
            SearchError: no trial is recorded, or every trial failed.
        """
        if not rows:
            raise SearchError("no trial of this search is recorded; run `climb search`")
        finished = [row for row in rows if row["status"] == "finished"]
        if not finished:
            raise SearchError(f"all {len(rows)} trials failed; the first: {rows[0]['error']}")
        names = sorted(finished[0]["metrics"])
        return self.reusable.add_to(Trials.from_rows(finished, self.space.domains, names))

    def score_by(self, trials: Trials) -> Problem:
        """Return the problem with the configured objective over the metrics of the trials."""
        search = self.cfg.search
        return self.problem.with_objective(build_objective(search.objective, trials, search))


def drop_repetitions(plan: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Keep one entry for each trial: a run that is counted twice would understate the noise.

    Baselines with equal mixtures share their trials. If one of them is the natural mixture,
    the shared trial keeps the method `natural`, because `climb.search.reuse` looks for trials with
    this method. Every other trial keeps the method of its first entry.
    """
    kept: dict[str, PlannedTrial] = {}
    for planned in plan:
        if planned.trial_id not in kept or planned.method == NATURAL:
            kept[planned.trial_id] = planned
    return list(kept.values())


def open_study(store: Store, cfg: Config) -> Study:
    """Read domains and shards, and build the feasible set.

    Raises:
        MixtureError: no mixture satisfies the constraints, or a constraint names a domain that does
            not exist.
        ConfigError: no targets are configured.
    """
    if not cfg.proxy.targets:
        raise ConfigError(
            "proxy.targets is empty; name at least one file of items to measure proxies on"
        )
    inputs = (tables.DOMAINS, tables.SHARDS)
    read_versions = {table.name: store.history.read_version(table) for table in inputs}
    space = read_space(store, cfg)
    setup, problem = build_trial_setup(store, cfg), Problem.from_config(space, None, cfg.search)
    reusable = read_reusable_runs(store, cfg, setup)
    return Study(store, cfg, setup, problem, reusable, read_versions)


def read_space(store: Store, cfg: Config) -> FeasibleSet:
    """Read the domains, and build the feasible set of their mixtures.

    Raises:
        MixtureError: no mixture satisfies the constraints, or a constraint names a domain that does
            not exist.
    """
    tokens = {row["domain"]: row["n_tokens"] for row in store.read_rows(tables.DOMAINS)}
    names = tuple(sorted(tokens))
    return FeasibleSet.from_constraints(
        names, [tokens[name] for name in names], cfg.search.mixture_constraints
    )
