"""Cheap fidelities on real text: their ranks of trained mixtures, and the trials that they save.

    python benchmarks/bench.py fidelities
    python benchmarks/fidelities.py --minutes 5    # train for five minutes, then stop

Twelve corpus files of shared/data are the domains, and the demo's three tasks are the targets. A
pool of random mixtures is trained with the demo's proxy. Nothing is trained twice: the folder keeps
shards, checkpoints and a line per run, so an interrupted benchmark continues.

A replay draws n trials of the pool, fits the default predictor to them, and chooses the mixture of
the best prediction among the others. Its regret is the measured score of the best of these minus
that of the chosen one. With fidelities, the predictor gets n/2 of the n trials: the first ones, or
the half that the fidelities rank highest. Recommendations of the search itself are trained too.

Axes: M mixtures, T trials, K domains.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fidelity_replay import (
    COUNTS,
    MERGED,
    NONE,
    POOL,
    QUICK_COUNTS,
    QUICK_POOL,
    RECOMMENDED_TRIALS,
    REPLICATES,
    SEEDS,
    SPLITS,
    Array,
    Replayed,
    World,
    build_components,
    draw_design,
    measure_mixtures,
    open_world,
    plan_recommendations,
    read_pool,
    replay_seed,
    train,
)
from scipy.stats import spearmanr
from section import Bar, Section, Table, run_section


def measure(args: argparse.Namespace) -> Section:
    """Compute what is missing, step by step, and compare.

    Every step keeps its result in the folder. After `--minutes`, no further step starts.
    """
    deadline = time.monotonic() + 60.0 * args.minutes
    folder = args.folder or Path(tempfile.gettempdir()) / "climb-fidelities"
    folder = folder / "quick" if args.quick else folder
    world = open_world(folder, args.quick)

    def stop_if_late(is_complete: bool = True) -> None:
        if not is_complete or time.monotonic() > deadline:
            sys.exit("fidelities: the time is over; run it again to continue")

    stop_if_late(train(world, args.quick, deadline))
    pool_MK, design_MK = read_pool(world, args.quick).weights_TK, draw_design(world)
    for name in world.fidelities:
        for weights_MK in (pool_MK, design_MK[name]):
            measure_mixtures(world, name, weights_MK)
            stop_if_late()
    replayed: list[Replayed] = []
    for seed in range(SEEDS):
        path = folder / f"replay-{seed}.json"
        rows = keep(path, lambda seed=seed: replay_seed(world, args.quick, seed))
        replayed += [Replayed(**row) for row in rows]
        stop_if_late()
    planned = keep(folder / "recommended.json", lambda: plan_recommendations(world, args.quick))
    mixtures = {variant: np.array(weights) for variant, weights in planned.items()}
    runs = world.build_trials(np.vstack(list(mixtures.values())), range(REPLICATES))
    stop_if_late(world.results.train(world.setup.proxy, runs, deadline))
    return describe(world, args.quick, mixtures, replayed)


def keep(path: Path, compute: Callable[[], Any]) -> Any:
    """Return the JSON value of a file, which is computed and written if it is missing."""
    if not path.is_file():
        path.write_text(json.dumps(compute()))
    return json.loads(path.read_text())


def describe(
    world: World, quick: bool, planned: Mapping[str, Array], replayed: Sequence[Replayed]
) -> Section:
    """Make the section."""
    counts = QUICK_COUNTS if quick else COUNTS
    recommended, ratio = describe_recommended(world, quick, planned)
    replay_ratio, table = describe_replays(counts, replayed)
    n = QUICK_COUNTS[0] if quick else RECOMMENDED_TRIALS
    return Section(
        "fidelities",
        "Cheap fidelities: merged proxies and n-gram counts on real text",
        f"{len(world.problem.space.domains)} corpora as domains, {len(world.names)} tasks, mean "
        f"bits per byte of the right choice. Trials of {world.setup.n_tokens:,} tokens continue a "
        f"base checkpoint of {world.setup.base_tokens:,}. Pool of "
        f"{QUICK_POOL if quick else POOL} random mixtures, one seed each; {SEEDS} seeds of "
        f"{SPLITS} splits. Regret in bits per byte.",
        tables=(describe_ranks(world, quick), table, recommended),
        bars=(
            Bar(
                f"merged proxies: regret of the recommendation from {n // 2} trials with them / "
                f"from {n} without, {SEEDS} seeds",
                ratio[MERGED],
                at_most=1.0,
                form=".2f",
            ),
            Bar(
                "merged proxies: regret of the choice of replays from n/2 trials with them / from "
                f"n without, n = {', '.join(map(str, counts))}",
                replay_ratio[MERGED],
                at_most=1.0,
                form=".2f",
            ),
        ),
        notes=(describe_cost(world),),
    )


def describe_ranks(world: World, quick: bool) -> Table:
    """Correlate each fidelity with the trained pool."""
    trials, rows = read_pool(world, quick), []
    for name in world.fidelities:
        measured, seconds = measure_mixtures(world, name, trials.weights_TK)
        columns = [measured.metric_names.index(metric) for metric in world.names]
        own_TQ = measured.metrics_DQ[:, columns]
        ranks = [
            float(spearmanr(a, b).statistic)
            for a, b in zip(own_TQ.T, trials.metrics_TQ.T, strict=True)
        ]
        mean = float(spearmanr(own_TQ.mean(axis=1), trials.metrics_TQ.mean(axis=1)).statistic)
        rows.append((name, *(f"{r:.2f}" for r in (mean, *ranks)), f"{seconds:.3f}"))
    tasks = [name.removesuffix(".bpb") for name in world.names]
    columns = ("fidelity", "mean of the tasks", *tasks, "seconds a mixture")
    return Table(columns, tuple(rows), "Spearman correlation with the trained pool")


def describe_replays(
    counts: Sequence[int], replayed: Sequence[Replayed]
) -> tuple[dict[str, float], Table]:
    """Average the replays; return the ratio of regrets by fidelity, and the table."""

    def average(n: int, variant: str, choice: str, field: str) -> float:
        own = [r for r in replayed if (r.n, r.variant, r.choice) == (n, variant, choice)]
        return float(np.nanmean([getattr(r, field) for r in own]))

    pairs = sorted({(r.variant, r.choice) for r in replayed}, key=lambda p: (p[0] != NONE, p))
    rows = [
        (
            *pair,
            *(
                f"{average(n, *pair, 'regret'):.4f} / {average(n, *pair, 'rank'):.2f}"
                for n in counts
            ),
        )
        for pair in pairs
    ]
    without = sum(average(n, NONE, "n", "regret") for n in counts)
    ratios = {
        variant: sum(average(n, variant, "n/2", "regret") for n in counts) / max(without, 1e-12)
        for variant, _ in pairs
    }
    columns = ("fidelity", "trials", *(f"n = {n}" for n in counts))
    return ratios, Table(columns, tuple(rows), "Regret / rank correlation on the unseen mixtures")


def describe_recommended(
    world: World, quick: bool, planned: Mapping[str, Array]
) -> tuple[Table, dict[str, float]]:
    """Compare the trained recommendations; return the table and the ratio of regrets."""
    pool, scores = read_pool(world, quick), {}
    for variant, weights_MK in planned.items():
        found = []
        for weights_K in weights_MK:
            own = world.read_trials(world.build_trials(weights_K[None], range(REPLICATES)))
            found.append(float(world.objective.score(own.metrics_TQ).mean()))
        scores[variant] = np.array(found)
    best = max(float(world.objective.score(pool.metrics_TQ).max()), *map(np.max, scores.values()))
    regret = {variant: float(best - own.mean()) for variant, own in scores.items()}
    n = QUICK_COUNTS[0] if quick else RECOMMENDED_TRIALS
    rows = []
    for variant, own in scores.items():
        n_trials = n if variant == NONE else n // 2
        tokens = n_trials * world.setup.n_tokens + count_component_tokens(world, variant)
        by_seed = ", ".join(f"{-score:.4f}" for score in own)
        rows.append((variant, str(n_trials), f"{tokens:,}", by_seed, f"{regret[variant]:.4f}"))
    columns = (
        *("fidelity", "trials", "tokens of trials and components"),
        *("bits per byte, by seed", "regret"),
    )
    title = (
        f"Trained recommendations, trials with {REPLICATES} seed; best trained mixture {-best:.4f}"
    )
    none = max(regret[NONE], 1e-12)
    return Table(columns, tuple(rows), title), {v: r / none for v, r in regret.items()}


def count_component_tokens(world: World, variant: str) -> int:
    """Count the tokens of all components of a fidelity."""
    if variant == NONE:
        return 0
    return len(world.problem.space.domains) * world.fidelities[variant].component_tokens


def describe_cost(world: World) -> str:
    """State what the components cost."""
    merged = world.fidelities[MERGED]
    share = count_component_tokens(world, MERGED) / world.setup.n_tokens
    rows = world.results.read()
    seconds = sum(rows[name]["seconds"] for name in build_components(world, merged))
    return (
        f"The components of the merged proxies have {merged.component_tokens:,} tokens each: as "
        f"many as {share:.1f} trials together; their training took {seconds:.0f} s. The regrets "
        "do not count them as trials."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="for shards, checkpoints and runs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop training after this")
    run_section(measure, parser)
