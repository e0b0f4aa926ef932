"""Seconds of a large proposal, of fits, and of whole commands on runs with 110 metrics.

    python benchmarks/bench.py speed

Bars: `propose` for 100 domains, 20 metrics and 200 runs takes at most 120 s. A fit of RegMix's 13
metrics on 112 runs of 17 domains takes at most 60 s with the default, and 5 s with XGBoost. On 128
of Olmix's runs (64 domains, 110 metrics), a fit takes at most 10 s, `climb predict` 25 s, and
`climb recommend` 60 s. Proposals and fits have one thread. Commands include their start, and use
all cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import olmix
from regmix import load_published
from section import Bar, Section, run_section

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.runs.importer import Prior, import_runs
from climb.search import Problem, Surrogate, Trials, propose
from climb.testing.world import PlantedWorld

FITS = {
    "default": (load().search.predictor, 60.0),
    "XGBoost": ({"use": "climb.predictor.xgboost:XGBoostPredictor"}, 5.0),
}
"""Specification and bar in seconds."""

FIT_RUNS, QUICK_FIT_RUNS = 112, 24
SIZE, QUICK_SIZE = (100, 20, 200), (8, 2, 24)
"""Domains, metrics and runs of the proposal."""

PROPOSAL_BAR = 120.0
SWARM_RUNS, QUICK_SWARM_RUNS = 128, 12
SWARM_FIT_BAR = 10.0
COMMANDS = {"predict": ("--mixtures", "other.csv", 25.0), "recommend": ("--prior", "p.csv", 60.0)}
"""Command -> its second input, and its bar in seconds."""

CLI = "from climb.cli.commands import main; main()"


def measure_seconds(task: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def prepare_proposal(n_domains: int, n_metrics: int, n_runs: int) -> Callable[[], object]:
    """Return a function that proposes 16 mixtures from n_runs runs, for timing."""
    world = PlantedWorld.build(n_domains, n_metrics, 0.3, 0)
    settings = [f"search.trials_per_round=[{n_runs}, 16]"]
    problem = Problem.from_config(world.space, world.objective, load(settings=settings).search)
    no_trials = Trials.from_rows([], world.space.domains, ())
    first_MK = propose(no_trials, 0, problem)
    trials = world.make_trials([world.make_row(w_K, 0, "proposal", 0) for w_K in first_MK])
    return lambda: propose(trials, 1, problem)


def measure_swarm(n_runs: int) -> list[Bar]:
    """Time a fit and whole commands on runs of Olmix's swarm."""
    predictor: Predictor = build(load().search.predictor, Predictor)
    swarm = olmix.load_swarm()
    trials = swarm.select(np.arange(len(swarm)) < n_runs)
    size = f"{len(trials.domains)} domains, {len(trials.metric_names)} metrics, {n_runs} runs"
    objective = Objective.parse("mean(*):min", trials.metric_names)
    seconds = measure_seconds(lambda: Surrogate.fit(trials, objective, predictor))
    bars = [Bar(f"default: fit, {size}", seconds, at_most=SWARM_FIT_BAR, form=".1f")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_swarm(folder, n_runs)
        for command, (option, file, bar) in COMMANDS.items():
            files = ["--runs", "runs.csv", option, file, "--out", f"{command}.csv"]
            argv = [sys.executable, "-c", CLI, command, *files]
            seconds = measure_seconds(
                lambda argv=argv: subprocess.run(
                    argv, cwd=folder, check=True, stdout=subprocess.DEVNULL
                )
            )
            bars.append(Bar(f"climb {command}: {size}", seconds, at_most=bar, form=".1f"))
    return bars


def write_swarm(folder: Path, n_runs: int) -> None:
    """Write RUNS.csv and PRIOR.csv as `climb import` does, and the other mixtures."""
    table = olmix.read_swarm()
    prior = Prior(olmix.read_token_shares(), folder / "shares.csv", folder / "p.csv")
    first, rest = (
        dataclasses.replace(table, rows=rows) for rows in (table.rows[:n_runs], table.rows[n_runs:])
    )
    import_runs(first, folder / "runs.csv", prior)
    import_runs(rest, folder / "other.csv")


def measure(args: argparse.Namespace) -> Section:
    n_fit = QUICK_FIT_RUNS if args.quick else FIT_RUNS
    n_domains, n_metrics, n_runs = QUICK_SIZE if args.quick else SIZE
    train = load_published("train")
    rows = np.random.default_rng(0).permutation(len(train))[:n_fit]
    trials = train.select(np.isin(np.arange(len(train)), rows))
    objective = Objective.parse("mean(*):min", trials.metric_names)
    bars = []
    for name, (spec, bar) in FITS.items():
        predictor: Predictor = build(spec, Predictor)
        seconds = measure_seconds(
            lambda predictor=predictor: Surrogate.fit(trials, objective, predictor)
        )
        title = f"{name}: fit of {len(trials.metric_names)} metrics on {n_fit} runs"
        bars.append(Bar(title, seconds, at_most=bar, form=".1f"))
    seconds = measure_seconds(prepare_proposal(n_domains, n_metrics, n_runs))
    title = f"propose: {n_domains} domains, {n_metrics} metrics, {n_runs} runs"
    bars.append(Bar(title, seconds, at_most=PROPOSAL_BAR, form=".1f"))
    bars += measure_swarm(QUICK_SWARM_RUNS if args.quick else SWARM_RUNS)
    return Section(
        "speed",
        "Search: seconds of a large proposal, of fits, and of whole commands",
        "Wall time in seconds. Proposals and fits: one thread; commands: with their start, all "
        "cores.",
        bars=tuple(bars),
    )


if __name__ == "__main__":
    run_section(measure)
