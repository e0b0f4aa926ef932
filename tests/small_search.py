"""One small real search in a planted world, made once per process for tests of its readers."""

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from climb.config import load
from climb.search import Problem, SearchResult, SearchState, compare, propose, recommend
from climb.search.records import PlannedRecord
from climb.search.reuse import ReuseSummary
from climb.search.trials import PROPOSAL, RECOMMENDED
from climb.testing.world import PlantedWorld

SEEDS = 3
FAILED = 8
"""Index of the trial that failed: one proposal of the first round."""


@dataclass(frozen=True, eq=False)
class SmallSearch:
    """A search over 4 domains and 2 metrics: baselines, 10 + 5 proposals, 3 replicates."""

    world: PlantedWorld
    rows: tuple[dict, ...]
    """Rows of table `trials`, in the order of the plan."""

    result: SearchResult

    def mixture(self, name):
        """Weights by domain of the recommendation or a baseline."""
        return next(m.weights for m in self.result.mixtures if m.name == name)

    def metrics(self, name, seed):
        """What a target model of this mixture would measure: the losses of the world."""
        row = next(r for r in self.rows if r["method"] == name and r["seed"] == seed)
        return dict(row["metrics"])


@functools.cache
def small_search(name="default", *more_settings):
    """Run the search, with more settings; equal arguments give the same object."""
    # With little noise, the gain over natural is clear whatever the noise of a seed.
    world = PlantedWorld.build(4, 2, noise=0.02, seed=0)
    settings = ["search.trials_per_round=[10, 5]", "search.candidates=200", f"search.name={name}"]
    settings.append("search.target_tokens=200_000_000")
    cfg = load(settings=[*settings, *more_settings]).search
    problem = Problem.from_config(world.space, world.objective, cfg)
    rows = []

    def train(weights_K, round_, method, seed):
        row = world.make_row(weights_K, round_, method, seed)
        failed = len(rows) == FAILED
        rows.append(
            row
            | {
                "trial_id": f"{len(rows):016x}",
                "search": name,
                "proxy": "LlamaProxy-1",
                "corpus_digest": "d1",
                "metrics": {} if failed else row["metrics"],
                "status": "failed" if failed else "finished",
                "error": "loss became NaN at step 7" if failed else None,
                "n_tokens": 200_000,
                "seconds": 9.5,
                "gpu_share": None,
                "finished": datetime(2025, 1, 2, tzinfo=UTC) + timedelta(seconds=len(rows)),
            }
        )

    def trials():
        return world.make_trials([row for row in rows if row["status"] == "finished"])

    for baseline in problem.baselines:
        for seed in range(SEEDS):
            train(baseline.make_mixture(world.space), 0, baseline.name, seed)
    for round_ in range(2):
        for weights_K in propose(trials(), round_, problem):
            train(weights_K, round_, PROPOSAL, 0)
    state = SearchState.from_trials(trials(), problem)
    recommendation = recommend(state)
    for seed in range(SEEDS):
        train(recommendation.weights_K, 2, RECOMMENDED, seed)
    result = SearchResult.build(
        state,
        recommendation,
        search=name,
        measured_gains={
            baseline.name: compare(trials(), world.objective, RECOMMENDED, baseline.name)
            for baseline in problem.baselines
        },
        n_failed=1,
        plan=tuple(
            PlannedRecord(
                trial_id=row["trial_id"],
                round=row["round"],
                method=row["method"],
                seed=row["seed"],
            )
            for row in rows
        ),
        reuse=ReuseSummary(
            n_reused=0, n_dropped=0, kept_mean=None, kept_min=None, tv_distance_mean=None
        ),
        read_versions={"domains": 0, "shards": 0},
    )
    return SmallSearch(world, tuple(rows), result)
