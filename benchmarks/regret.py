"""How far every searcher's answer stays behind the best mixture, on surfaces that stand in for
training.

    python benchmarks/regret.py [SEEDS [SURFACE [TARGET]]]

A surface per loss is fitted to all 768 published runs of RegMix (`regmix.Surface`); a trial is the
surface and noise, 0.3 of the score's spread. Every searcher has the same caps and the same number
of trials; ours spends six of its own on natural and uniform proportions. Regret: the score of the
best feasible mixture, found on the surface itself, minus that of the answer, both without noise.

Axes: T trials, K domains, Q losses.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from dataclasses import dataclass

import numpy as np
from regmix import TARGETS, Surface

from climb.config import load
from climb.objective import Objective
from climb.search import Problem, Trials, anchors, propose
from climb.search.rounds import kept_inside
from climb.search.searcher import ordered

SEEDS = 20
KINDS = ("blend", "trees")
LIGHTGBM = {"use": "climb.predictor.lightgbm:LightGBMPredictor", "members": 2}
CLIMB = LIGHTGBM | {"patience_within_held": False}
REGMIX = CLIMB | {"depth": -1, "leaf_rows": 20, "l1": 0.0, "l2": 0.0}
REGMIX |= {"held_share": 0.128, "patience": 3}
"""As published, see `climb.predictor.lightgbm`. (`members` is only for a spread.)"""


@dataclass(frozen=True)
class Entrant:
    """A row of the table."""

    name: str
    rounds: tuple[int, ...]
    anchor_seeds: int = 0
    settings: tuple[str, ...] = ()

    @property
    def n_trials(self) -> int:
        """Trials in all."""
        return sum(self.rounds) + 2 * self.anchor_seeds


def peer(
    name: str, cls: str, rounds: tuple[int, ...], predictor: dict[str, object] | None = None
) -> Entrant:
    """A published searcher."""
    settings = [f"search.searcher={{use: climb.search.peers:{cls}}}", "search.candidates=100000"]
    if predictor:
        settings.append(f"search.predictor={json.dumps(predictor)}")
    return Entrant(name, rounds, 0, tuple(settings))


ENTRANTS = (
    peer("natural", "NaturalSearcher", (4,)),
    peer("uniform", "UniformSearcher", (4,)),
    peer("best single domain", "SingleDomainSearcher", (17,)),
    peer("best of random", "RandomSearcher", (112,)),
    peer("RegMix", "RegMixSearcher", (112,), REGMIX),
    peer("RegMix", "RegMixSearcher", (64,), REGMIX),
    peer("CLIMB as the paper says", "ClimbSearcher", (64, 32, 16), CLIMB),
    peer("NVIDIA's recipe", "NvidiaSearcher", (64, 32, 16), LIGHTGBM),
    Entrant("climb (default)", (90, 16), 3),
    Entrant("climb, one round", (106,), 3),
    Entrant("climb, CLIMB's rounds", (58, 32, 16), 3),
    Entrant("climb (default)", (50, 8), 3),
    Entrant("climb (default)", (19, 3), 3),
)
BARS = {
    ("mean of 13", 112): 0.20,
    ("mean of 13", 64): 0.35,
    ("mean of 13", 28): 1.0,
    ("Pile-CC", 112): 0.28,
    ("Pile-CC", 64): 0.50,
    ("Pile-CC", 28): 1.0,
}
"""Regret of the default over RegMix's at 112 trials."""

_WORLD: dict[str, object] = {}
"""What workers inherit: fitted surfaces hold functions, which cannot be sent."""


def searched(entrant: Entrant, seed: int) -> tuple[float, bool]:
    """Regret of one search, and whether its answer had to be moved inside the caps."""
    surface, objective = _WORLD["surface"], _WORLD["objective"]
    assert isinstance(surface, Surface)
    assert isinstance(objective, Objective)
    rounds = list(entrant.rounds)
    settings = [f"search.trials_per_round={rounds}", f"search.seed={seed}", *entrant.settings]
    problem = Problem.of(surface.space, objective, load(settings=settings).search)
    random = np.random.default_rng([seed, 1])
    noise_Q, rows = surface.noise(objective), []
    for round_ in range(len(rounds)):
        known = Trials.from_rows(rows, surface.space.domains, surface.metric_names)
        plan = [("proposal", w_K, 0) for w_K in propose(known, round_, problem)]
        if round_ == 0:
            plan += anchors(surface.space, entrant.anchor_seeds)
        true_TQ = surface.losses(np.stack([w_K for _, w_K, _ in plan]))
        measured_TQ = true_TQ + noise_Q * random.normal(size=true_TQ.shape)
        rows += [
            {
                "round": round_,
                "method": method,
                "seed": n,
                "weights": dict(zip(surface.space.domains, w_K.tolist(), strict=True)),
                "metrics": dict(zip(surface.metric_names, measured_Q.tolist(), strict=True)),
            }
            for n, ((method, w_K, _), measured_Q) in enumerate(zip(plan, measured_TQ, strict=True))
        ]
    trials = Trials.from_rows(rows, surface.space.domains, surface.metric_names)
    assert len(trials) == entrant.n_trials
    known, by_name, back_K = ordered(trials, problem)
    answer_K = by_name.searcher.answer(known, by_name)
    inside_K = kept_inside(answer_K, (len(back_K),), by_name)[back_K]
    both_2K = np.stack([np.asarray(_WORLD["best_K"]), inside_K])
    best, here = objective.score(surface.losses(both_2K))
    return float(best - here), not bool(by_name.space.contains(answer_K, 1e-3))


def measured(kind: str, target: str, seeds: int) -> dict[tuple[str, int], np.ndarray]:
    """Regrets of every entrant on one surface; prints the table."""
    surface = _WORLD["surface"]
    assert isinstance(surface, Surface)
    objective = Objective.parse(TARGETS[target], surface.metric_names)
    _WORLD.update(objective=objective, best_K=surface.best(objective))
    tasks = [(entrant, seed) for entrant in ENTRANTS for seed in range(seeds)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(searched, tasks, chunksize=1)
    regrets, moved = {}, {}
    for (entrant, _), (regret, outside) in zip(tasks, found, strict=True):
        key = (entrant.name, entrant.n_trials)
        regrets.setdefault(key, []).append(regret)
        moved.setdefault(key, []).append(outside)
    regmix = float(np.mean(regrets["RegMix", 112]))
    print(f"\n### {target}, surface: {kind}, {seeds} seeds\n")
    print(
        "| searcher | trials | regret, nats | (± standard error) | / RegMix's at 112 | over a cap |"
    )
    print("|---|---|---|---|---|---|")
    for (name, n), values in regrets.items():
        mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
        print(
            f"| {name} | {n} | {mean:.4f} | {error:.4f} | {mean / regmix:.2f} "
            f"| {np.mean(moved[name, n]):.0%} |",
            flush=True,
        )
    return {key: np.array(values) for key, values in regrets.items()}


def main() -> int:
    """Both surfaces, both targets; 1 when the default misses a bar on the blend."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    missed = 0
    for kind in sys.argv[2:3] or KINDS:
        _WORLD["surface"] = Surface(kind)
        for target in sys.argv[3:4] or TARGETS:
            regrets = measured(kind, target, seeds)
            regmix = float(regrets["RegMix", 112].mean())
            for (named, n), bar in BARS.items():
                if named != target:
                    continue
                ratio = float(regrets["climb (default)", n].mean()) / regmix
                held = ratio <= bar
                missed += kind == "blend" and not held
                print(
                    f"\n{target}, {n} trials: {ratio:.2f} of RegMix's regret at 112 trials "
                    f"(bar {bar:g} on the blend): {'held' if held else 'missed'}"
                )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
