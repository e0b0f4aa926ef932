"""How often a gain is claimed where there is none, and whether any proposal breaks a limit.

    python benchmarks/null.py

Null data: 64 of RegMix's runs whose losses were dealt anew over the mixtures, 40 times; nothing can
be learned, so a gain is rarely claimed. Limits: 100,000 proposals (draws and projections of other
mixtures) over 20 random feasible sets of 5 to 200 domains with caps, floors and groups.

Axes: T runs, M mixtures, K domains.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys

import numpy as np
from regmix import feasible, published

from climb.config import load
from climb.objective import Objective
from climb.search import Problem, recommend
from climb.testing.spaces import random_space

TIMES, RUNS, MOST = 40, 64, 2
SETS, DOMAINS, PROPOSALS = 20, (5, 200), 100_000


def claimed(seed: int) -> bool:
    """Whether a gain over natural proportions is claimed on dealt data."""
    random = np.random.default_rng(9000 + seed)
    train = published("train")
    trials = train.where(np.isin(np.arange(len(train)), random.permutation(len(train))[:RUNS]))
    dealt_TQ = train.metrics_TQ[random.permutation(len(train))[:RUNS]]
    trials = dataclasses.replace(trials, metrics_TQ=dealt_TQ)
    wanted = Objective.parse("mean(*):min", trials.metric_names)
    problem = Problem.of(feasible(trials.domains), wanted, load().search)
    return recommend(trials, problem).verdict == "gain"


def broken() -> int:
    """Proposals outside their set."""
    random = np.random.default_rng(0)
    n, outside = PROPOSALS // SETS, 0
    for number, n_domains in enumerate(np.linspace(*DOMAINS, SETS).round().astype(int)):
        space = random_space(int(n_domains), number)
        drawn_MK = space.sample(random, n // 2, concentration=(0.1, 5.0), temperature=0.5)
        others_MK = space.project(random.dirichlet(np.full(n_domains, 0.3), size=n - n // 2))
        outside += int((~space.contains(np.vstack([drawn_MK, others_MK]))).sum())
    return outside


def main() -> int:
    """Both counts; 1 when a bar is missed."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        n_claimed = sum(pool.map(claimed, range(TIMES), chunksize=1))
    print(f"A gain was claimed on {n_claimed} of {TIMES} null data sets (bar: at most {MOST}).\n")
    outside = broken()
    print(
        f"{outside} of {PROPOSALS:,} proposals over {SETS} random sets of {DOMAINS[0]} to "
        f"{DOMAINS[1]} domains broke a limit (bar: 0)."
    )
    return int(n_claimed > MOST or outside > 0)


if __name__ == "__main__":
    sys.exit(main())
