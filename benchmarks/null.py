"""How often a gain is claimed on null data, and how many proposals break a constraint.

    python benchmarks/bench.py null

Null data: 40 sets of 64 of RegMix's runs, with losses permuted over the mixtures. No mixture is
better than another, so at most 2 claimed gains are accepted. Constraints: 100,000 proposals; half
are draws, half are projections of other mixtures. They are from 20 random feasible sets of 5 to 200
domains, with epoch limits, bounds and groups.

Axes: T runs, M mixtures, K domains.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from functools import partial

import numpy as np
from regmix import build_feasible_set, load_published
from section import Bar, Section, run_section

from climb.config import load
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.search import Problem, SearchState, Trials, recommend
from climb.testing.spaces import draw_feasible_set

RUNS = 64
DATA_SETS, MAX_CLAIMED = 40, 2
SETS, DOMAINS, PROPOSALS = 20, (5, 200), 100_000
QUICK_DATA_SETS, QUICK_SETS, QUICK_PROPOSALS = 2, 4, 400


def claims_gain(runs: Trials, space: FeasibleSet, seed: int) -> bool:
    """Whether a gain over the natural mixture is claimed on a null data set."""
    random = np.random.default_rng(9000 + seed)
    trials = runs.select(np.isin(np.arange(len(runs)), random.permutation(len(runs))[:RUNS]))
    permuted_TQ = runs.metrics_TQ[random.permutation(len(runs))[:RUNS]]
    trials = dataclasses.replace(trials, metrics_TQ=permuted_TQ)
    objective = Objective.parse("mean(*):min", trials.metric_names)
    problem = Problem.from_config(space, objective, load().search)
    return recommend(SearchState.from_trials(trials, problem)).verdict == "gain"


def count_infeasible(sets: int, proposals: int) -> int:
    """Count the proposals outside their feasible set."""
    random = np.random.default_rng(0)
    n, outside = proposals // sets, 0
    for number, n_domains in enumerate(np.linspace(*DOMAINS, sets).round().astype(int)):
        space = draw_feasible_set(int(n_domains), number)
        drawn_MK = space.sample(random, n // 2, concentration=(0.1, 5.0), temperature=0.5)
        others_MK = space.project(random.dirichlet(np.full(n_domains, 0.3), size=n - n // 2))
        outside += int((~space.contains(np.vstack([drawn_MK, others_MK]))).sum())
    return outside


def measure(args: argparse.Namespace) -> Section:
    data_sets, sets, proposals = DATA_SETS, SETS, PROPOSALS
    if args.quick:
        data_sets, sets, proposals = QUICK_DATA_SETS, QUICK_SETS, QUICK_PROPOSALS
    train = load_published("train")
    task = partial(claims_gain, train, build_feasible_set(train.domains))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        n_claimed = sum(pool.map(task, range(data_sets), chunksize=1))
    outside = count_infeasible(sets, proposals)
    return Section(
        "null",
        "Search: gains claimed on null data; proposals that break a constraint",
        f"{data_sets} null data sets: {RUNS} of RegMix's runs with permuted losses. {proposals:,} "
        f"proposals over {sets} random feasible sets of {DOMAINS[0]} to {DOMAINS[1]} domains.",
        bars=(
            Bar("null data sets with a claimed gain", n_claimed, at_most=MAX_CLAIMED, form=".0f"),
            Bar("proposals that break a constraint", outside, at_most=0, form=".0f"),
        ),
    )


if __name__ == "__main__":
    run_section(measure)
