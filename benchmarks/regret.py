"""Regret of the recommendation of every searcher, in simulated training.

    python benchmarks/bench.py regret               # all five sections
    python benchmarks/bench.py regret_trees_pile    # one: SURFACE_TARGET
    python benchmarks/regret.py trees pile --seeds 5

Surfaces `blend` and `trees` are fitted to all 768 published runs of RegMix (17 domains, 13 losses).
Surface `olmix` is fitted to Olmix's swarm (64 domains, 110 metrics; see `surface.Surface`). A trial
is the value of the surface plus noise: 0.3 of the score's standard deviation over mixtures. All
searchers have the same upper bounds of weights. They draw random mixtures with
`search.concentration`, which the library raises for more than 21 domains. The table has the number
of trials; the default uses six of them for replicates of the natural and the uniform mixture.
Regret is the score of the best feasible mixture, which is searched on the surface itself, minus the
score of the recommendation; both without noise.

Axes: T trials, K domains, Q metrics.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from dataclasses import dataclass

import numpy as np
import olmix
import regmix
from entrants import ENTRANTS, OLMIX, OURS, PEER, PEER_TRIALS, Entrant
from numpy.typing import NDArray
from regmix import TARGETS
from section import Bar, Section, Table, run_section
from surface import Noise, Surface

from climb.config import load
from climb.objective import Objective
from climb.search import Problem, SearchState, Trials, propose
from climb.search.rounds import project_proposals

Array = NDArray[np.float64]

SEEDS = {"blend": 20, "trees": 5, "olmix": 10}
NOISE_CORRELATION = {"blend": 0.0, "trees": 0.0, "olmix": 0.5}
"""Correlation of the noise of two metrics of a run. Many metrics average out independent noise."""

TARGET_NAMES = {"mean": "mean of 13", "pile": "Pile-CC"}
QUICK_SEEDS, QUICK_STEP, QUICK_CANDIDATES = 2, 8, 2_000
QUICK_NAMES = (PEER, OLMIX, OURS)

BARS = {
    ("blend", "mean", 112): 0.20,
    ("blend", "mean", 64): 0.22,
    ("blend", "mean", 28): 0.30,
    ("blend", "pile", 112): 0.28,
    ("blend", "pile", 64): 0.50,
    ("blend", "pile", 28): 1.0,
    ("trees", "mean", 112): 0.45,
    ("olmix", "mean", 128): 0.30,
}
"""Regret of the default / regret of the peer, by surface, target and trials. The peer is RegMix at
112 trials; on `olmix` it is the better of RegMix and Olmix."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """The surface, objective and noise of all searches of one section."""

    surface: Surface
    objective: Objective
    best_K: Array
    noise: Noise
    extra_settings: tuple[str, ...]

    @classmethod
    def build(cls, kind: str, target: str, quick: bool) -> Simulation:
        """Fit the surface, and find its best mixture."""
        step = QUICK_STEP if quick else 1
        surface = olmix.fit_surface(step) if kind == "olmix" else regmix.fit_surface(kind, step)
        objective = Objective.parse(TARGETS[TARGET_NAMES[target]], surface.metric_names)
        extra = (f"search.candidates={QUICK_CANDIDATES}",) if quick else ()
        best_K = surface.find_best(objective, 1 if quick else 4)
        noise = surface.build_noise(objective, NOISE_CORRELATION[kind])
        return cls(surface, objective, best_K, noise, extra)

    def build_problem(self, entrant: Entrant, seed: int) -> Problem:
        """Build the search of one entrant."""
        settings = [f"search.trials_per_round={list(entrant.rounds)}", f"search.seed={seed}"]
        settings += [*entrant.settings, *self.extra_settings]
        return Problem.from_config(
            self.surface.space, self.objective, load(settings=settings).search
        )

    def search(self, entrant: Entrant, seed: int) -> Trials:
        """Run one search, and return its trials; the first round also has the baselines."""
        surface, problem = self.surface, self.build_problem(entrant, seed)
        random = np.random.default_rng([seed, 1])
        trials = Trials.from_rows([], surface.space.domains, surface.metric_names)
        rows: list[dict[str, object]] = []
        for round_ in range(len(entrant.rounds)):
            mixtures = [("proposal", w_K) for w_K in propose(trials, round_, problem)]
            if round_ == 0:
                mixtures += [
                    (baseline.name, baseline.make_mixture(surface.space))
                    for baseline in problem.baselines
                    for _ in range(entrant.replicates)
                ]
            measured_TQ = surface.measure(np.stack([w_K for _, w_K in mixtures]))
            measured_TQ += self.noise.draw(len(mixtures), random)
            rows += [
                {
                    "round": round_,
                    "method": method,
                    "seed": n,
                    "weights": dict(zip(surface.space.domains, w_K.tolist(), strict=True)),
                    "metrics": dict(zip(surface.metric_names, metrics_Q.tolist(), strict=True)),
                }
                for n, ((method, w_K), metrics_Q) in enumerate(
                    zip(mixtures, measured_TQ, strict=True)
                )
            ]
            trials = Trials.from_rows(rows, surface.space.domains, surface.metric_names)
        assert len(trials) == entrant.n_trials
        return trials

    def compute_regret(self, entrant: Entrant, seed: int) -> tuple[float, bool]:
        """Regret of one search, and whether its recommendation was outside the feasible set."""
        trials, problem = self.search(entrant, seed), self.build_problem(entrant, seed)
        state = SearchState.from_trials(trials, problem)
        mixture_K = state.problem.searcher.recommend(state)
        feasible_K = project_proposals(mixture_K, (len(mixture_K),), state.problem)
        pair_2K = np.stack([self.best_K, feasible_K[state.restore_K]])
        best, recommended = self.objective.score(self.surface.measure(pair_2K))
        is_outside = not bool(state.problem.space.contains(mixture_K, 1e-3))
        return float(best - recommended), is_outside


_SIMULATION: list[Simulation] = []
"""Forked workers inherit it, because surfaces contain functions, which cannot be pickled."""


def _run_task(entrant: Entrant, seed: int) -> tuple[float, bool]:
    return _SIMULATION[0].compute_regret(entrant, seed)


@dataclass(frozen=True)
class Regret:
    """Mean regret in nats, its standard error, and the share of infeasible recommendations."""

    mean: float
    std_error: float
    infeasible: float

    def divide_by(self, other: Regret) -> tuple[float, float]:
        """Return the ratio of two means, and its standard error by the delta method."""
        ratio = self.mean / other.mean
        relative = np.hypot(self.std_error / self.mean, other.std_error / other.mean)
        return ratio, float(ratio * relative)


def run_searches(entrants: tuple[Entrant, ...], seeds: int) -> dict[tuple[str, int], Regret]:
    """Run all searches, two at a time; return the regret by name and number of trials."""
    tasks = [(entrant, seed) for entrant in entrants for seed in range(seeds)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        outcomes = pool.starmap(_run_task, tasks, chunksize=1)
    regrets = {}
    for i, entrant in enumerate(entrants):
        values, infeasible = np.array(outcomes[i * seeds : (i + 1) * seeds]).T
        std_error = float(np.std(values, ddof=1) / np.sqrt(seeds))
        key = (entrant.name, entrant.n_trials)
        regrets[key] = Regret(float(values.mean()), std_error, float(infeasible.mean()))
    return regrets


def tabulate(regrets: dict[tuple[str, int], Regret], peer_trials: int) -> Table:
    """One row for each entrant."""
    peer = regrets[PEER, peer_trials]
    rows = []
    for (name, n), regret in regrets.items():
        figures = (f"{regret.mean:.4f}", f"{regret.std_error:.4f}")
        ratio = f"{regret.divide_by(peer)[0]:.2f}"
        rows.append((name, str(n), *figures, ratio, f"{regret.infeasible:.0%}"))
    columns = ("searcher", "trials", "regret", "standard error")
    return Table((*columns, f"/ RegMix's at {peer_trials}", "over a cap"), tuple(rows))


def compare_with_peers(
    surface: str, target: str, regrets: dict[tuple[str, int], Regret]
) -> tuple[tuple[Bar, ...], tuple[str, ...]]:
    """Divide the regret of the default by that of a peer: bars where there are any, else notes."""
    bars, notes = [], []
    peer, peer_trials = PEER, PEER_TRIALS[surface]
    if surface == "olmix":
        peer = min((PEER, OLMIX), key=lambda name: regrets[name, peer_trials].mean)
    for (name, n), regret in regrets.items():
        if name != OURS:
            continue
        ratio, std_error = regret.divide_by(regrets[peer, peer_trials])
        title = f"regret of climb at {n} trials / {peer}'s at {peer_trials}"
        if bar := BARS.get((surface, target, n)):
            bars.append(Bar(title, ratio, at_most=bar, std_error=std_error))
        else:
            notes.append(f"{title}: {ratio:.3f} (standard error {std_error:.3f}).")
    return tuple(bars), tuple(notes)


def measure(args: argparse.Namespace) -> Section:
    if (args.surface, args.target) == ("olmix", "pile"):
        sys.exit("regret: the surface olmix has the target mean only")
    target, seeds = TARGET_NAMES[args.target], args.seeds or SEEDS[args.surface]
    entrants = ENTRANTS[args.surface]
    if args.quick:
        # The first entrant of each name: the others are compared with the first of RegMix.
        first = {entrant.name: entrant for entrant in reversed(entrants)}
        seeds, entrants = QUICK_SEEDS, tuple(first[name] for name in QUICK_NAMES if name in first)
    _SIMULATION[:] = [Simulation.build(args.surface, args.target, args.quick)]
    regrets = run_searches(entrants, seeds)
    bars, notes = compare_with_peers(args.surface, args.target, regrets)
    title = "mean of 110" if args.surface == "olmix" else target
    return Section(
        f"regret_{args.surface}_{args.target}",
        f"Search: simulated regret of every searcher, {title}, surface: {args.surface}",
        f"Mean over {seeds} seeds. Over a cap: share of searches whose recommendation was outside "
        "the feasible set before its projection.",
        (tabulate(regrets, PEER_TRIALS[args.surface]),),
        bars,
        notes,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("surface", choices=list(SEEDS))
    parser.add_argument("target", choices=list(TARGET_NAMES))
    parser.add_argument("--seeds", type=int, help="default: 20 on blend, 5 on trees, 10 on olmix")
    run_section(measure, parser)
