"""The search over tables: plan a round, train what is not recorded, fit, and write the result.

The plan is a function of the configuration, the domains, the reused runs and the recorded trials of
earlier rounds. So a search that was interrupted plans the same trials again, finds the finished
ones by their id, and trains the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from climb import tables
from climb.config import Config
from climb.errors import ConfigError, InfrastructureError
from climb.objective import Objective
from climb.progress import log, show_progress
from climb.search import SearchResult, SearchState, Trials, compare, propose, recommend
from climb.search.baselines import count_replicates
from climb.search.knowledge_gradient import estimate_gain_of_round
from climb.search.records import PlannedRecord
from climb.search.trials import PROPOSAL, RECOMMENDED
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.slots import plan_slots
from climb.spark.training.setup import TrainingSetup, ensure_base_checkpoint
from climb.spark.training.study import PlannedTrial, Study
from climb.spark.training.trials import Outcome, train_runs

EXTENDING = ("trials_per_round", "replicates", "min_expected_gain")
"""Settings of a search that determine how many trials it trains. They may change without a new
name."""


def train_round(study: Study, plan: Sequence[PlannedTrial]) -> tuple[int, int]:
    """Train the trials of a plan that are not recorded; each row is committed when its trial ends.

    Returns:
        How many were trained now, and how many of those failed.

    Raises:
        InfrastructureError: workers were lost; their trials are not recorded, so the next start
            trains them again.
        ClimbError: a trial found a mistake that the user can fix.
        RuntimeError: a trial raised an unexpected exception; with the worker's traceback.
    """
    known = {row["trial_id"] for row in study.read_recorded(plan)}
    todo = {p.trial_id: p for p in plan if p.trial_id not in known}
    if not todo:
        return 0, 0
    session, cfg = study.store.session, study.cfg.spark
    slots = plan_slots(session, cfg, cfg.trials_per_gpu)
    ensure_base_checkpoint(study.store, study.setup, plan_slots(session, cfg))
    runs = [(name, study.setup.build_run(p.weights, p.seed)) for name, p in todo.items()]
    outcomes = train_runs(session, study.setup.proxy, runs, slots, study.watch_trials(todo))
    # Delta skips a second commit of the same name (`once`). The name contains the table version, so
    # rows that a user deleted can be written again.
    start = study.store.history.read_version(tables.TRIALS)
    failed, lost = 0, []
    for outcome in show_progress(outcomes, len(runs), "search", "trial"):
        if outcome.status == "lost":
            lost.append(outcome)
            continue
        row = _make_trial_row(study, todo[outcome.name], outcome)
        once = f"{outcome.name}:{start}"
        study.store.append(study.store.create_frame([row], tables.TRIALS), tables.TRIALS, once=once)
        failed += outcome.status == "failed"
    if lost:
        raise InfrastructureError(
            f"{len(lost)} of {len(runs)} trials are not recorded, because their workers were "
            f"lost; the first error: {lost[0].error}; run `climb search` again to train them"
        )
    return len(runs), failed


def _make_trial_row(study: Study, planned: PlannedTrial, outcome: Outcome) -> dict[str, Any]:
    """Build a row of `trials`."""
    return {
        "trial_id": planned.trial_id,
        "search": study.cfg.search.name,
        "round": planned.round_,
        "method": planned.method,
        "seed": planned.seed,
        "proxy": study.setup.recipe,
        "corpus_digest": study.setup.corpus_digest,
        "weights": planned.weights,
        "n_tokens": study.setup.n_tokens,
        "finished": datetime.now(UTC),
    } | {k: v for k, v in asdict(outcome).items() if k != "name"}


def plan_round(study: Study, round_: int, earlier: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Plan what the searcher proposes for a round; round 0 has the baselines too."""
    if round_ == 0:
        plan = plan_baselines(study)
        no_trials = Trials.from_rows([], study.space.domains, ())
        weights_MK = propose(no_trials, 0, study.problem)
    else:
        plan, trials = [], study.read_trials(earlier)
        weights_MK = propose(trials, round_, study.score_by(trials))
    return plan + [study.plan_trial(round_, PROPOSAL, weights_K, 0) for weights_K in weights_MK]


def plan_baselines(study: Study) -> list[PlannedTrial]:
    """Plan every configured baseline with its replicates."""
    mixtures_BK = study.problem.make_baselines()
    return [
        study.plan_trial(0, baseline.name, weights_K, seed)
        for baseline, weights_K in zip(study.problem.baselines, mixtures_BK, strict=True)
        for seed in range(count_replicates(baseline, study.cfg.search.replicates))
    ]


def is_worth_training(study: Study, round_: int, earlier: Sequence[PlannedTrial]) -> bool:
    """Whether the expected gain of a round reaches `search.min_expected_gain`."""
    threshold = study.cfg.search.min_expected_gain
    if threshold is None:
        return True
    trials = study.read_trials(earlier)
    gain = estimate_gain_of_round(trials, round_, study.score_by(trials))
    if gain is None:
        log(
            "search",
            f"search.min_expected_gain is {threshold:g}, but this predictor cannot estimate the "
            "gain of a round: all rounds are trained",
        )
        return True
    if gain < threshold:
        log(
            "search",
            f"round {round_ + 1} and later ones are skipped: its expected gain {gain:.2g} is below "
            f"search.min_expected_gain {threshold:g}",
        )
    return gain >= threshold


def search(study: Study, on_round: Callable[[], object]) -> tuple[SearchResult, int]:
    """Train all rounds, recommend a mixture, and train its replicates.

    Args:
        study: the search.
        on_round: called after every round; the MLflow mirror is connected here.

    Returns:
        The result, and how many trials were trained now.
    """
    cfg = study.cfg.search
    plan, n_rounds, n_trained = train_rounds(study, on_round)
    log("search", "fitting the recommendation")
    trials = study.read_trials(plan)
    state = SearchState.from_trials(trials, study.score_by(trials))
    recommendation = recommend(state)
    replicates = [
        study.plan_trial(n_rounds, RECOMMENDED, recommendation.weights_K, seed)
        for seed in range(cfg.replicates)
    ]
    n_trained += train_round(study, replicates)[0]
    fields = _describe_search(study, plan + replicates, state.problem.required_objective)
    return SearchResult.build(state, recommendation, **fields), n_trained


def train_rounds(
    study: Study, on_round: Callable[[], object]
) -> tuple[list[PlannedTrial], int, int]:
    """Train the rounds one after the other, while their expected gain is large enough.

    Returns:
        The plan of all rounds, how many rounds it has, and how many trials were trained now.
    """
    if study.reusable.n_finished:
        log("search", str(study.reusable))
    if study.on_progress is not None and not study.store.exists(tables.TRIALS):
        # MLflow's runs of a store are found by the id of this table.
        study.store.append(study.store.create_frame([], tables.TRIALS), tables.TRIALS)
    plan: list[PlannedTrial] = []
    n_rounds, n_trained = len(study.cfg.search.trials_per_round), 0
    for round_ in range(n_rounds):
        if round_ and not is_worth_training(study, round_, plan):
            return plan, round_, n_trained
        new = plan_round(study, round_, plan)
        n_new, n_failed = train_round(study, new)
        n_trained += n_new
        plan += new
        failed = f", {n_failed} failed" if n_failed else ""
        log("search", f"round {round_ + 1} of {n_rounds}: {n_new} trained{failed}")
        on_round()
    return plan, n_rounds, n_trained


def _describe_search(
    study: Study, plan: Sequence[PlannedTrial], objective: Objective
) -> dict[str, Any]:
    """Collect the fields of a result that only a search over tables has."""
    rows = study.read_recorded(plan)
    trials = study.to_trials(rows)
    return {
        "search": study.cfg.search.name,
        "measured_gains": {
            baseline.name: compare(trials, objective, RECOMMENDED, baseline.name)
            for baseline in study.problem.baselines
        },
        "n_failed": sum(row["status"] == "failed" for row in rows),
        "plan": tuple(
            PlannedRecord(trial_id=p.trial_id, round=p.round_, method=p.method, seed=p.seed)
            for p in plan
        ),
        "reuse": study.reusable.summarize(trials),
        "read_versions": study.read_versions,
    }


def describe_search(store: Store, cfg: Config, setup: TrainingSetup) -> tuple[Inputs, str]:
    """Return what a search is made from, and the condition of its rows in table `mixtures`."""
    inputs = store.history.describe_inputs(
        tables.DOMAINS, tables.SHARDS, search=cfg.search, proxy=setup.recipe
    )
    return inputs, f"search = '{cfg.search.name}'"


def refuse_other_settings(earlier: Inputs | None, now: Inputs) -> None:
    """Refuse to replace the result of a search of the same name with another section `search`.

    A search may be extended: other values of the keys `EXTENDING` are accepted.

    Args:
        earlier: the inputs of the recorded result of this name; None if there is none.
        now: the inputs of the search that starts.

    Raises:
        ConfigError: another setting of section `search` has changed.
    """
    before = earlier["settings"].get("search", {}) if earlier else {}
    after = now["settings"]["search"]
    changed = [key for key in before if key not in EXTENDING and before[key] != after.get(key)]
    if changed:
        key = changed[0]
        others = f" (other settings differ too: {', '.join(changed[1:])})" if changed[1:] else ""
        raise ConfigError(
            f"search.name: table mixtures has the result of search {before['name']!r} with "
            f"search.{key} {json.dumps(before[key])}, and the configuration says "
            f"{json.dumps(after.get(key))}{others}; give this search another "
            "search.name; finished trials of the same mixtures are reused"
        )


def make_mixture_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Build the rows of table `mixtures`: the recommendation with the result, and the baselines."""
    empty: Mapping[str, Any] = dict.fromkeys(tables.MIXTURES.column_names)
    rows = [
        {
            **empty,
            "search": result.search,
            "method": mixture.name,
            "weights": mixture.weights,
            "epochs": mixture.epochs,
            "score": mixture.score,
            "score_std": mixture.score_std,
        }
        for mixture in result.mixtures
    ]
    rows[0] |= {
        "gains": {name: asdict(gain) for name, gain in result.gains.items()},
        "verdict": result.verdict,
        "result": result.model_dump_json(),
    }
    return rows
