"""What a large proposal costs, and what fits cost: seconds on this machine, one thread.

    python benchmarks/speed.py

Bars: `propose` for 100 domains, 20 metrics and 200 runs in 120 s; a fit of RegMix's 13 metrics on
112 runs of 17 domains in 60 s for the default, and in 5 s for XGBoost.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from regmix import published

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Problem, Trials, propose
from climb.search.surrogate import Surrogate
from climb.testing.world import PlantedWorld

FITS = {
    "default": (load().search.predictor, 60.0),
    "XGBoost": ({"use": "climb.predictor.xgb:XGBoostPredictor"}, 5.0),
}


def seconds(task: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def proposal() -> Callable[[], object]:
    """A proposal of 16 mixtures from 200 runs, ready to be timed."""
    world = PlantedWorld.of(100, 20, 0.3, 0)
    settings = ["search.trials_per_round=[200, 16]"]
    problem = Problem.of(world.space, world.objective, load(settings=settings).search)
    nothing = Trials.from_rows([], world.space.domains, ())
    asked_MK = propose(nothing, 0, problem)
    trials = world.trials([world.trial(w_K, 0, "proposal", 0) for w_K in asked_MK])
    return lambda: propose(trials, 1, problem)


def main() -> int:
    """Print the seconds; 1 when a bar is missed."""
    train = published("train")
    rows = np.random.default_rng(0).permutation(len(train))[:112]
    some = train.where(np.isin(np.arange(len(train)), rows))
    every = Objective.parse("mean(*):min", some.metric_names)
    missed = 0
    for name, (spec, bar) in FITS.items():
        predictor: Predictor = build(spec, Predictor)
        spent = seconds(lambda predictor=predictor: Surrogate.fit(some, every, predictor))
        missed += spent > bar
        print(f"* {name}: 13 metrics on 112 runs fitted in {spent:.1f} s (bar {bar:g} s)")
    spent = seconds(proposal())
    missed += spent > 120.0
    print(f"* propose, 100 domains, 20 metrics, 200 runs: {spent:.1f} s (bar 120 s)")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
