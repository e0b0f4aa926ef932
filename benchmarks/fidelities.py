"""Cheap fidelities on real text: their ranks of trained mixtures, and the trials that they save.

    python benchmarks/bench.py fidelities
    python benchmarks/fidelities.py --minutes 5    # train for five minutes, then stop; run it again

Every corpus file of shared/data is a domain, and five tasks of its items are the targets. A pool of
random mixtures is trained with the demo's proxy. Nothing is trained twice: the folder keeps shards,
checkpoints and a line per run, so an interrupted benchmark continues.

A replay draws n trials of the pool, fits the default predictor to them, and chooses the mixture with
the best prediction among the others. Its regret is the measured score of the best of these minus
that of the chosen one. The predictor with fidelities gets n/2 of the n trials: the first ones, or
the half that the fidelities rank highest. The recommendations of the search itself are trained too.

Axes: M mixtures, T trials, K domains.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_text import PROCESSES, Results, Size, ensure_base, prepare_setup
from scipy.stats import spearmanr
from section import Bar, Section, Table, run_section
from threadpoolctl import threadpool_limits

from climb.config import load
from climb.fidelity import Fidelity, FidelityInputs
from climb.fidelity.merged import MergedFidelity
from climb.fidelity.ngram import NGramFidelity
from climb.mixture import FeasibleSet, weights_to_dict
from climb.objective import Objective
from climb.proxy import ProxyRun
from climb.search import Problem, SearchState, Trials, recommend
from climb.search.fidelities import Fidelities, MeasuredFidelity
from climb.spark.training.fidelities import build_component
from climb.spark.training.setup import TrainingSetup

Array = NDArray[np.float64]

POOL, COUNTS, SEEDS, SPLITS = 48, (8, 16, 32), 3, 8
"""Mixtures of the pool; n of a replay; seeds, and splits of each seed."""

RECOMMENDED_TRIALS = 16
"""n of the searches whose recommendations are trained."""

REPLICATES = 2
"""Seeds that a recommendation is trained with."""

SIZE = Size(chars=2_000_000, base_tokens=3_000_000, trial_tokens=204_800, items=200)
QUICK_SIZE = Size(chars=40_000, base_tokens=8_192, trial_tokens=4_096, items=4)
QUICK_POOL, QUICK_COUNTS, QUICK_DOMAINS = 12, (8,), 3

FIDELITIES: Mapping[str, Fidelity] = {
    "n-gram counts": NGramFidelity(),
    "merged proxies": MergedFidelity(items=100),
}
NONE, ALL = "none", "both"


@dataclass(frozen=True)
class World:
    """The training setup, the search problem, and the files of a folder."""

    setup: TrainingSetup
    problem: Problem
    results: Results
    fidelities: Mapping[str, Fidelity]

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics of the objective."""
        return tuple(f"{target.name}.bpb" for target in self.setup.targets)

    @property
    def objective(self) -> Objective:
        """Mean bits per byte, minimized."""
        return Objective.parse("mean(*.bpb):min", self.names)

    def build_trials(self, weights_MK: Array, seeds: Sequence[int]) -> dict[str, ProxyRun]:
        """Build the runs of mixtures, by name."""
        domains = self.problem.space.domains
        mixtures = [weights_to_dict(domains, weights_K) for weights_K in weights_MK]
        return {
            self.setup.name_run(weights, seed): self.setup.build_run(weights, seed)
            for weights in mixtures
            for seed in seeds
        }

    def read_trials(self, runs: Mapping[str, ProxyRun]) -> Trials:
        """Read finished runs as trials."""
        rows = self.results.read()
        rounds = [rows[name] | {"round": 0, "method": "proposal"} for name in runs]
        return Trials.from_rows(rounds, self.problem.space.domains, self.names)


def open_world(folder: Path, quick: bool) -> World:
    size = QUICK_SIZE if quick else SIZE
    setup = prepare_setup(folder, size, QUICK_DOMAINS if quick else None)
    names = tuple(sorted(setup.natural))
    tokens = json.loads((folder / "domains.json").read_text())
    cfg = load(settings=["search.target_tokens=5_000_000", "search.candidates=2_000"]).search
    space = FeasibleSet.from_constraints(
        names, [tokens[name] for name in names], cfg.mixture_constraints
    )
    fidelities = dict(FIDELITIES)
    if quick:
        fidelities = {
            name: dataclasses.replace(one, mixtures=8) for name, one in fidelities.items()
        }
    problem = Problem.from_config(space, None, cfg)
    return World(setup, problem, Results(folder / "runs.jsonl"), fidelities)


def build_components(world: World, fidelity: Fidelity) -> dict[str, ProxyRun]:
    """Build the runs of the components, by name."""
    if not fidelity.component_tokens:
        return {}
    setup = dataclasses.replace(world.setup, n_tokens=fidelity.component_tokens, targets=())
    return dict(build_component(setup, domain) for domain in world.problem.space.domains)


def measure_mixtures(world: World, name: str, weights_MK: Array) -> tuple[MeasuredFidelity, float]:
    """Measure mixtures with a fidelity, or read what an earlier run has measured.

    Returns:
        The measurement, and the seconds of one mixture.
    """
    fidelity, setup = world.fidelities[name], world.setup
    path = setup.files / f"{type(fidelity).__name__}-{len(weights_MK)}.json"
    run = setup.build_run(setup.natural, 0)
    if not path.is_file():
        runs = build_components(world, fidelity).values()
        inputs = FidelityInputs(
            domains=world.problem.space.domains,
            run=run,
            base_tokens=setup.base_tokens,
            components={domain: str(r.save) for r in runs for domain in r.weights},
        )
        measure = fidelity.load(inputs, "cpu")
        with threadpool_limits(limits=1):
            start = time.monotonic()
            values = measure(weights_MK).tolist()
        seconds = (time.monotonic() - start) / len(weights_MK)
        path.write_text(json.dumps({"values": values, "seconds": seconds}))
    stored = json.loads(path.read_text())
    names = fidelity.list_metrics(run)
    return MeasuredFidelity(names, weights_MK, np.array(stored["values"])), stored["seconds"]


def select(fidelities: Mapping[str, MeasuredFidelity], variant: str) -> list[MeasuredFidelity]:
    """Return the measurements of a variant."""
    names = {NONE: [], ALL: list(fidelities)}.get(variant, [variant])
    return [fidelities[name] for name in names]


def add_fidelities(world: World, measured: Sequence[MeasuredFidelity]) -> Problem:
    """Return the problem with these fidelities, interpolated as in a search."""
    objective = dict.fromkeys(world.names, -1.0 / len(world.names))
    problem = world.problem.with_objective(world.objective)
    if not measured:
        return problem
    fidelities = Fidelities.fit(world.problem.space.domains, objective, measured)
    return dataclasses.replace(problem, fidelities=fidelities)


@dataclass(frozen=True)
class Replayed:
    """One replay: the regret of the choice, and its rank correlation on the unseen mixtures."""

    n: int
    variant: str
    choice: str
    """How the trials were chosen: all of them, the first half, or the half of the best rank."""

    regret: float
    rank: float


def replay_seed(folder: Path, quick: bool, seed: int) -> list[Replayed]:
    """Replay all splits of one seed; the body of a process."""
    world = open_world(folder, quick)
    pool_MK, design_MK = draw_pool(world, quick), draw_design(world)
    trials = world.read_trials(world.build_trials(pool_MK, (0,)))
    measured = {n: measure_mixtures(world, n, design_MK[n])[0] for n in world.fidelities}
    problems = {v: add_fidelities(world, select(measured, v)) for v in (NONE, *measured, ALL)}
    replayed = []
    with threadpool_limits(limits=1):
        for split in range(SPLITS):
            order_T = np.random.default_rng([seed, split]).permutation(len(trials))
            for n in QUICK_COUNTS if quick else COUNTS:
                replayed += replay_split(world, trials, problems, (order_T[:n], order_T[n:]))
    return replayed


def replay_split(
    world: World, trials: Trials, problems: Mapping[str, Problem], rows: tuple[Array, Array]
) -> list[Replayed]:
    """Choose among the unseen trials, with all n trials and with half of them."""
    drawn, unseen = rows
    n, half = len(drawn), drawn[: len(drawn) // 2]
    score_M = world.objective.score(trials.metrics_TQ[unseen])
    replayed = []
    for variant, problem in problems.items():
        chosen = {"n": drawn, "n/2": half}
        if problem.fidelities is not None:
            rank_T = problem.fidelities.rank(trials.weights_TK[drawn], trials.domains)
            chosen["best n/2"] = drawn[np.argsort(-rank_T, kind="stable")[: n // 2]]
        for choice, own in chosen.items():
            mask_T = np.isin(np.arange(len(trials)), own)
            surrogate = problem.fit(trials.select(mask_T))
            mean_M = surrogate.predict_mean(trials.weights_TK[unseen])
            regret = float(score_M.max() - score_M[mean_M.argmax()])
            rank = float(spearmanr(mean_M, score_M).statistic)
            replayed.append(Replayed(n, variant, choice, regret, rank))
    return replayed


def draw_pool(world: World, quick: bool) -> Array:
    """Draw the mixtures of the pool."""
    n = QUICK_POOL if quick else POOL
    return world.problem.sample(np.random.default_rng(0), n)


def draw_design(world: World) -> dict[str, Array]:
    """Draw the mixtures that each fidelity measures."""
    sample = world.problem.sample
    return {
        name: sample(np.random.default_rng([0, 6]), one.mixtures)
        for name, one in world.fidelities.items()
    }
