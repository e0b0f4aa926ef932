"""The search: plan a round, train the trials that no table records, fit, and write the result.

The plan is a function of the configuration, the domains, the reused runs and the recorded trials of
earlier rounds. So a search that was interrupted plans the same trials again, finds the finished
ones by their id, and trains the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from climb import tables
from climb.config import Config
from climb.errors import ConfigError
from climb.objective import Objective
from climb.progress import log
from climb.search import SearchResult, SearchState, Trials, compare, propose, recommend
from climb.search.baselines import count_replicates, needs_doremi
from climb.search.knowledge_gradient import estimate_gain_of_round
from climb.search.records import HalvingRecord, PlannedRecord
from climb.search.trials import PROPOSAL, RECOMMENDED
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.training.doremi import add_doremi
from climb.spark.training.fidelities import add_fidelities
from climb.spark.training.halving import Rungs, find_end
from climb.spark.training.round import train_round
from climb.spark.training.setup import TrainingSetup
from climb.spark.training.study import PlannedTrial, Study

EXTENDING = ("trials_per_round", "replicates", "min_expected_gain")
"""Settings of a search that determine how many trials it trains. They may change without a new
`search.name`."""


def plan_round(study: Study, round_: int, earlier: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Plan what the searcher proposes for a round; round 0 has the baselines too."""
    if round_ == 0:
        plan = plan_baselines(study)
        no_trials = Trials.from_rows([], study.space.domains, ())
        weights_MK = propose(no_trials, 0, study.problem)
    else:
        plan, trials = [], Rungs.read(study).read_trials(earlier)
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
    trials = Rungs.read(study).read_trials(earlier)
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
            f"round {round_ + 1} and later ones are skipped: the expected gain of round "
            f"{round_ + 1} is {gain:.2g}, below search.min_expected_gain {threshold:g}",
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
    cfg, study = study.cfg.search, add_fidelities(add_doremi(study))
    plan, n_rounds, n_trained = train_rounds(study, on_round)
    log("search", "fitting the recommendation")
    trials = Rungs.read(study).read_trials(plan)
    state = SearchState.from_trials(trials, study.score_by(trials))
    recommendation = recommend(state)
    replicates = [
        study.plan_trial(n_rounds, RECOMMENDED, recommendation.weights_K, seed)
        for seed in range(cfg.replicates)
    ]
    n_trained += train_round(study, plan + replicates, n_rounds).n_trained
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
        # MLflow's runs have the id of this table as a tag, so the table must exist.
        study.store.append(study.store.create_frame([], tables.TRIALS), tables.TRIALS)
    plan: list[PlannedTrial] = []
    n_rounds, n_trained = len(study.cfg.search.trials_per_round), 0
    for round_ in range(n_rounds):
        if round_ and not is_worth_training(study, round_, plan):
            return plan, round_, n_trained
        plan += plan_round(study, round_, plan)
        trained = train_round(study, plan, round_)
        n_trained += trained.n_trained
        log("search", f"round {round_ + 1} of {n_rounds}: {trained}")
        on_round()
    return plan, n_rounds, n_trained


def _describe_search(
    study: Study, plan: Sequence[PlannedTrial], objective: Objective
) -> dict[str, Any]:
    """Collect the fields of the result that `SearchResult.build` cannot compute from the state."""
    rungs = Rungs.read(study)
    stopped = rungs.find_stopped(plan)
    rows = study.read_recorded([p for p in plan if find_end(p, stopped) is None])
    trials = study.to_trials(rows)
    # Without replicates, the recommendation is not trained, and its gains are predictions.
    compared = study.problem.baselines if study.cfg.search.replicates else ()
    return {
        "search": study.cfg.search.name,
        "measured_gains": {
            baseline.name: compare(trials, objective, RECOMMENDED, baseline.name)
            for baseline in compared
        },
        "n_failed": len({row["trial_id"] for row in rows if row["status"] == "failed"}),
        "plan": tuple(
            PlannedRecord(**p.part, seed=p.seed, stopped_at=find_end(p, stopped)) for p in plan
        ),
        "halving": _count_halving(study, rows, stopped) if rungs.n_tokens else None,
        "reuse": study.reusable.summarize(trials),
        "read_versions": study.read_versions,
    }


def _count_halving(
    study: Study, rows: Sequence[Mapping[str, Any]], stopped: Mapping[str, int]
) -> HalvingRecord:
    """Count the stopped trials and the tokens of all trials."""
    tokens = {**stopped, **{row["trial_id"]: row["n_tokens"] for row in rows}}
    return HalvingRecord(
        n_stopped=len(stopped),
        n_tokens=sum(tokens.values()),
        n_tokens_in_full=study.setup.n_tokens * len(tokens),
    )


def describe_search(store: Store, cfg: Config, setup: TrainingSetup) -> tuple[Inputs, str]:
    """Return the inputs of a search, and the SQL condition for its rows in table `mixtures`."""
    settings = {"search": cfg.search, "proxy": setup.recipe}
    if needs_doremi(cfg.search.baselines):
        settings["doremi"] = cfg.doremi
    inputs = store.history.describe_inputs(tables.DOMAINS, tables.SHARDS, **settings)
    return inputs, f"search = '{cfg.search.name}'"


def refuse_other_settings(earlier: Inputs | None, now: Inputs) -> None:
    """Refuse to replace a result of the same name that has other settings in section `search`.

    A search may be extended: other values of the keys `EXTENDING` are accepted.

    Args:
        earlier: the inputs of the recorded result of this name; None if there is none.
        now: the inputs of the search that starts.

    Raises:
        ConfigError: a setting of section `search` that is not in EXTENDING has changed.
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


def make_mixture_rows(result: SearchResult) -> list[tables.Row]:
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
