"""The search over tables: plan a round, train what is not recorded, fit, and write the answer.

The plan is a function of the configuration, the domains and the recorded trials of earlier rounds.
So a search that was cut short plans the same trials again, finds the finished ones by their id, and
trains the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from climb import tables
from climb.config import Config
from climb.errors import ConfigError, SearchError
from climb.limits import Limits
from climb.mixture import FeasibleSet, weights_by_name
from climb.objective import Objective
from climb.predictor import Array
from climb.progress import bar, say
from climb.search import Gain, Recommendation, Trials, anchors, compare, propose, recommend
from climb.search.carry import Past
from climb.search.evidence import evidence
from climb.search.further import worth_of_round
from climb.search.searcher import Problem
from climb.search.signal import weighed
from climb.spark.bench import Bench, ensure_base, trial_bench
from climb.spark.lineage import past
from climb.spark.session import parallel_slots
from climb.spark.store import Store
from climb.spark.trials import Outcome, train_all
from climb.tracking import mirror


@dataclass(frozen=True)
class Planned:
    """One trial to be trained: `method` is proposal, natural, uniform or found."""

    trial_id: str
    round_: int
    method: str
    weights: dict[str, float]
    seed: int


@dataclass(frozen=True)
class Study:
    """One search and what it stands on."""

    store: Store
    cfg: Config
    bench: Bench
    problem: Problem
    """Without an objective: which metrics there are, the first trials show."""

    past: Past
    """What was trained in other domains before: fixed when the search starts."""

    @property
    def space(self) -> FeasibleSet:
        """The mixtures that the target run can be trained on."""
        return self.problem.space

    def plan(self, round_: int, method: str, weights_K: Array, seed: int) -> Planned:
        """Name a trial of this mixture."""
        weights = weights_by_name(self.space.domains, weights_K)
        return Planned(self.bench.name(weights, seed), round_, method, weights, seed)

    def recorded(self, plan: Sequence[Planned]) -> list[dict[str, Any]]:
        """Rows of the planned trials that have ended, with the plan's round and method."""
        if not self.store.exists(tables.TRIALS):
            return []
        rows = {row["trial_id"]: row for row in self.store.rows(tables.TRIALS)}
        return [
            rows[p.trial_id] | {"round": p.round_, "method": p.method}
            for p in plan
            if p.trial_id in rows
        ]

    def trials(self, plan: Sequence[Planned]) -> Trials:
        """The finished trials of a plan as arrays, and beside them the carried ones.

        Raises:
            SearchError: every trial of the plan failed.
        """
        rows = self.recorded(plan)
        finished = [row for row in rows if row["status"] == "finished"]
        if not finished:
            error = next((row["error"] for row in rows), "none was trained")
            raise SearchError(f"all {len(rows)} trials failed; the first: {error}")
        names = sorted(finished[0]["metrics"])
        return self.past.joined(Trials.from_rows(finished, self.space.domains, names))

    def scored(self, trials: Trials) -> Problem:
        """The problem with the configured objective over the metrics that the trials have."""
        objective = Objective.parse(self.cfg.search.objective, trials.metric_names)
        return self.problem.scored_by(weighed(objective, trials, self.cfg.search))


def open_study(store: Store, cfg: Config) -> Study:
    """Read domains and shards, and set up the feasible set.

    Raises:
        MixtureError: the limits leave no mixture, or name domains that there are not.
        ConfigError: no targets are configured.
    """
    if not cfg.proxy.targets:
        raise ConfigError("proxy.targets is empty; name at least one file of items to measure on")
    domains = store.rows(tables.DOMAINS)
    names = tuple(sorted(row["domain"] for row in domains))
    tokens = {row["domain"]: row["n_tokens"] for row in domains}
    space = FeasibleSet.of(names, [tokens[name] for name in names], Limits.of(cfg.search))
    bench, problem = trial_bench(store, cfg), Problem.of(space, None, cfg.search)
    return Study(store, cfg, bench, problem, past(store, cfg, bench))


def train_round(study: Study, plan: Sequence[Planned]) -> tuple[int, int]:
    """Train the trials of a plan that are not recorded; each row is committed when its trial ends.

    Returns:
        How many were trained now, and how many of those failed.

    Raises:
        SearchError: workers were lost; what they trained is not recorded, so that the next start
            trains it again.
    """
    known = {row["trial_id"] for row in study.recorded(plan)}
    todo = {p.trial_id: p for p in plan if p.trial_id not in known}
    if not todo:
        return 0, 0
    slots = parallel_slots(study.store.session, study.cfg.spark.parallel_trials)
    ensure_base(study.store, study.bench)
    runs = [(name, study.bench.run(p.weights, p.seed)) for name, p in todo.items()]
    outcomes = train_all(study.store.session, study.bench.proxy, runs, slots)
    # The version tells this start from one before: a row that somebody deleted is written again.
    start = study.store.version(tables.TRIALS)
    failed, lost = 0, []
    for outcome in bar(outcomes, len(runs), "search", "trial"):
        if outcome.status == "lost":
            lost.append(outcome)
            continue
        row = _trial_row(study, todo[outcome.name], outcome)
        once = f"{outcome.name}:{start}"
        study.store.append(study.store.frame([row], tables.TRIALS), tables.TRIALS, once=once)
        failed += outcome.status == "failed"
    if lost:
        raise SearchError(
            f"{len(lost)} of {len(runs)} trials were lost with their workers, and are not "
            f"recorded; the first: {lost[0].error}; start again to train them"
        )
    return len(runs), failed


def _trial_row(study: Study, planned: Planned, outcome: Outcome) -> dict[str, Any]:
    """A row of `trials`."""
    return {
        "trial_id": planned.trial_id,
        "search": study.cfg.search.name,
        "round": planned.round_,
        "method": planned.method,
        "seed": planned.seed,
        "proxy": study.bench.recipe,
        "data": study.bench.data,
        "weights": planned.weights,
        "n_tokens": study.bench.n_tokens,
        "finished": datetime.now(UTC),
    } | {k: v for k, v in asdict(outcome).items() if k != "name"}


def plan_round(study: Study, round_: int, earlier: Sequence[Planned]) -> list[Planned]:
    """Anchors and the first draw in round 0; after that what the predictor proposes."""
    cfg = study.cfg.search
    if round_ == 0:
        plan = [
            study.plan(0, method, weights_K, seed)
            for method, weights_K, seed in anchors(study.space, cfg.anchor_seeds)
        ]
        nothing = Trials.from_rows([], study.space.domains, ())
        weights_MK = propose(nothing, 0, study.problem)
    else:
        plan, trials = [], study.trials(earlier)
        weights_MK = propose(trials, round_, study.scored(trials))
    return plan + [study.plan(round_, "proposal", weights_K, 0) for weights_K in weights_MK]


def worthwhile(study: Study, round_: int, earlier: Sequence[Planned]) -> bool:
    """Whether a round is expected to raise the answer's score by `search.stop_below` or more."""
    least = study.cfg.search.stop_below
    if least is None:
        return True
    trials = study.trials(earlier)
    worth = worth_of_round(trials, round_, study.scored(trials))
    if worth is None:
        say("search", f"search.stop_below {least:g}: this predictor cannot say, so no round stops")
        return True
    if worth < least:
        say(
            "search",
            f"round {round_ + 1} is worth {worth:.2g}, under stop_below {least:g}: left out",
        )
    return worth >= least


def search(study: Study) -> tuple[list[Planned], Recommendation, int]:
    """All rounds, the answer, and the answer trained with several seeds.

    Returns:
        The whole plan, the recommendation, and how many trials were trained now.
    """
    cfg = study.cfg.search
    plan: list[Planned] = []
    n_trained = 0
    if study.past.n:
        say("search", str(study.past))
    rounds = len(cfg.trials_per_round)
    for round_ in range(rounds):
        if round_ and not worthwhile(study, round_, plan):
            rounds = round_
            break
        new = plan_round(study, round_, plan)
        n_new, n_failed = train_round(study, new)
        n_trained += n_new
        plan += new
        lost = f", {n_failed} failed" if n_failed else ""
        say("search", f"round {round_ + 1} of {len(cfg.trials_per_round)}: {n_new} trained{lost}")
        mirror(study.store, study.cfg)
    trials = study.trials(plan)
    say("search", "fitting the answer")
    answer = recommend(trials, study.scored(trials))
    confirm = [
        study.plan(rounds, "found", answer.weights_K, seed) for seed in range(cfg.anchor_seeds)
    ]
    n_trained += train_round(study, confirm)[0]
    return plan + confirm, answer, n_trained


def mixture_rows(
    study: Study, plan: Sequence[Planned], answer: Recommendation
) -> list[dict[str, Any]]:
    """Rows of the table `mixtures`: found, natural and uniform, with the evidence."""
    trials = study.trials(plan)
    problem = study.scored(trials)
    direct = {
        name: compare(trials, problem.wanted, "found", name) for name in ("natural", "uniform")
    }
    shown = evidence(trials, answer, problem) | {
        "objective": study.cfg.search.objective,
        "n_failed": sum(row["status"] == "failed" for row in study.recorded(plan)),
        "carried": study.past.summary(trials),
        "plan": [[p.trial_id, p.round_, p.method, p.seed] for p in plan],
        "direct": {name: vars(gain) for name, gain in direct.items()},
    }
    space = study.space
    expected = [
        ("found", answer.weights_K, answer.score_mean, answer.score_std),
        ("natural", space.project(space.natural_K), answer.natural_mean, answer.natural_std),
        ("uniform", space.uniform_K, answer.uniform_mean, answer.uniform_std),
    ]
    rows = [_mixture_row(study, *mixture) for mixture in expected]
    rows[0] |= _gain_columns(direct["natural"], shown)
    return rows


def _mixture_row(
    study: Study, method: str, weights_K: Array, score: float, score_std: float
) -> dict[str, Any]:
    """A mixture with what the predictor expects of it."""
    domains, target_tokens = study.space.domains, study.cfg.search.target_tokens
    epochs_K = study.space.epochs(weights_K, target_tokens)
    return dict.fromkeys(tables.MIXTURES.column_names) | {
        "search": study.cfg.search.name,
        "method": method,
        "weights": weights_by_name(domains, weights_K),
        "epochs": dict(zip(domains, map(float, epochs_K), strict=True)),
        "score": score,
        "score_std": score_std,
    }


def _gain_columns(gain: Gain, shown: dict[str, Any]) -> dict[str, Any]:
    """What was measured for the answer against natural proportions."""
    return {
        "gain_mean": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "p_better": gain.p_better,
        "verdict": gain.verdict,
        "evidence": json.dumps(shown, sort_keys=True),
    }
