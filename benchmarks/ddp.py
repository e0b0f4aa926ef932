"""Two processes that train one model (DDP) against one process, on two cores with equal tokens.

    python benchmarks/bench.py ddp
    python benchmarks/ddp.py --minutes 5    # train for five minutes, then stop; it continues later

Every run is a Spark job, as in job `train`: `train_runs` with one process, or TorchDistributor with
two. Steps are timed inside of the run. So the ratio does not contain the start of processes, which
hardly matters for a target model that trains for hours. The table has the seconds of whole jobs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pyspark.sql import SparkSession
from real_text import Size, prepare_setup
from section import Bar, Section, Table, describe_commit, run_section

from climb.config import load
from climb.proxy import ProxyRun
from climb.proxy.llama import LlamaProxy
from climb.proxy.metrics import TRAIN_LOSS
from climb.proxy.training import run_training
from climb.spark.session import start_session
from climb.spark.slots import Slots
from climb.spark.training.setup import TrainingSetup
from climb.spark.training.trials import train_runs

TARGET = LlamaProxy(
    hidden=160, layers=3, heads=4, sequence=128, batch=16, learning_rate=6e-3
)  # the target model of conf/default.yaml
SIZE = Size(
    domains=6,
    chars=1_000_000,
    base_tokens=1,
    trial_tokens=30 * 2_048,
    items=100,
    tasks=("arc_easy",),
)
QUICK_SIZE = Size(
    domains=2, chars=40_000, base_tokens=1, trial_tokens=4 * 2_048, items=4, tasks=("arc_easy",)
)
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "ddp"
SEEDS, QUICK_SEEDS = 3, 2
WARM_UP = 2
"""Steps of a run that are not timed."""

BAR = 1.3
SECONDS = "seconds"


@dataclasses.dataclass(frozen=True)
class TimedProxy:
    """A proxy that also reports the seconds of a step."""

    recipe: LlamaProxy
    threads: int = 1

    supports_processes = True

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train; `seconds` is the mean time of a step."""
        times: list[float] = []

        def note(loop: Any) -> None:
            torch.set_num_threads(self.threads)  # climb trains with one thread
            times.append(time.monotonic())

        metrics = run_training(self.recipe, run, device, note)
        return metrics | {SECONDS: (times[-1] - times[WARM_UP]) / (len(times) - 1 - WARM_UP)}


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to train models on two cores."""

    name: str
    processes: int = 1
    threads: int = 1
    at_once: int = 1
    """Models that are trained at the same time."""


ONE = Way("one process, 1 thread (climb's setting)")
TWO = Way("two processes, 1 thread each (DDP)", processes=2)
WAYS = (
    ONE,
    Way("one process, 2 threads", threads=2),
    TWO,
    Way("two models at once, one process each", at_once=2),
)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run of one way found."""

    step: float
    """Seconds of a step of each model."""

    total: float
    """Seconds of the Spark jobs, with the start of processes and the evaluation."""

    metrics: Mapping[str, float]


def measure(args: argparse.Namespace) -> Section:
    """Train with every way and seed, interleaved; without the runs of an earlier start."""
    if not args.quick:
        return measure_in(CACHE / describe_commit().replace(" ", "-"), args)
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(Path(folder), args)


def measure_in(folder: Path, args: argparse.Namespace) -> Section:
    """Measure with the runs that a folder has as lines of a file; exit when the time is over."""
    deadline = time.monotonic() + 60.0 * args.minutes
    setup = prepare_setup(folder, QUICK_SIZE if args.quick else SIZE)
    file = folder / "runs.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    runs = {(row[0], row[1]): Trained(*row[2:]) for row in map(json.loads, lines)}
    session = start_session(load().spark)
    for seed in range(QUICK_SEEDS if args.quick else SEEDS):
        for number, way in enumerate(WAYS):
            if (number, seed) in runs:
                continue
            if time.monotonic() > deadline:
                print(f"stopped after {len(runs)} runs; start it again to continue")
                sys.exit(0)
            trained = runs[number, seed] = train(session, setup, way, seed)
            row = [number, seed, trained.step, trained.total, dict(trained.metrics)]
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    session.stop()
    found = {
        way: [runs[key] for key in sorted(runs) if key[0] == number]
        for number, way in enumerate(WAYS)
    }
    return describe(setup, found)


def train(session: SparkSession, setup: TrainingSetup, way: Way, seed: int) -> Trained:
    """Train the model of a seed from random weights; and others beside it, if the way does."""
    proxy = TimedProxy(TARGET, way.threads)
    runs = []
    for i in range(way.at_once):
        run = setup.build_run(setup.natural, seed + 100 * i)
        name = f"{WAYS.index(way)}-{seed}-{i}"
        folder = str(setup.files / "checkpoints" / name)
        run = dataclasses.replace(run, start=None, checkpoints=folder, processes=way.processes)
        runs.append((name, run))
    began = time.monotonic()
    slots = Slots(way.at_once, processes=way.processes)
    outcomes = {o.name: o for o in train_runs(session, proxy, runs, slots)}
    total = time.monotonic() - began
    assert all(o.status == "finished" for o in outcomes.values()), outcomes
    step = statistics.mean(o.metrics[SECONDS] for o in outcomes.values())
    return Trained(step, total, outcomes[runs[0][0]].metrics)


def describe(setup: TrainingSetup, found: Mapping[Way, Sequence[Trained]]) -> Section:
    """Compare the ways: speed against one process, and losses against the noise over seeds."""
    tokens = TARGET.batch * TARGET.sequence
    rows = []
    for way, runs in found.items():
        # Tokens of all models, so that models trained at once count together.
        rates = [way.at_once * tokens / run.step for run in runs]
        ratios = [rate * base.step / tokens for rate, base in zip(rates, found[ONE], strict=True)]
        rows.append(
            (
                way.name,
                f"{statistics.median(rates):,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{statistics.median(run.total for run in runs):.1f}",
            )
        )
    speedups = [one.step / two.step for one, two in zip(found[ONE], found[TWO], strict=True)]
    losses, noise, table = compare_losses(found)
    return Section(
        "ddp",
        "Target models: two processes of DDP against one process",
        f"{TARGET.batch} x {TARGET.sequence} tokens a step, {setup.n_tokens:,} tokens on real text "
        f"from random weights, {len(found[ONE])} seeds, ways interleaved, medians. Tokens/s of all "
        "models together, of steps alone; seconds of a whole job with its start and evaluation.",
        (
            Table(("way", "tokens/s", "ratio", "range", "seconds of a job"), tuple(rows)),
            table,
        ),
        (
            Bar("speed of two processes / one process", statistics.median(speedups), at_least=BAR,
                form=".2f"),
            Bar("largest difference of final losses / noise over seeds", max(losses) / noise,
                at_most=1.0),
        ),
    )  # fmt: skip


def compare_losses(found: Mapping[Way, Sequence[Trained]]) -> tuple[list[float], float, Table]:
    """Compare the final losses of one and of two processes, with equal seeds."""
    pairs = [
        (one.metrics[TRAIN_LOSS], two.metrics[TRAIN_LOSS])
        for one, two in zip(found[ONE], found[TWO], strict=True)
    ]
    noise = statistics.stdev(one for one, _ in pairs)
    rows = [
        (str(seed), f"{one:.6f}", f"{two:.6f}", f"{two - one:+.1e}")
        for seed, (one, two) in enumerate(pairs)
    ]
    rows.append(("standard deviation", f"{noise:.6f}", "", ""))
    columns = ("seed", "one process", "two processes", "difference")
    title = "Final training loss in nats"
    return [abs(two - one) for one, two in pairs], noise, Table(columns, tuple(rows), title)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after this time; it continues"
    )
    run_section(measure, parser)
