"""How proxies rank mixtures: two seeds of one size, and a small size against a large one.

Axes: M mixtures.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_text import PROXY, Results, Size, ensure_base, prepare_setup
from scipy.stats import spearmanr
from section import Bar, Section, Table

from climb.config import load
from climb.mixture import FeasibleSet, weights_to_dict
from climb.proxy.llama import LlamaProxy
from climb.search import Problem
from climb.spark.training.setup import TrainingSetup

Array = NDArray[np.float64]
Runs = Sequence[Mapping[str, float]]
"""Metrics of the run of each mixture."""

MIXTURES, QUICK_MIXTURES = 16, 4
TASKS = ("arc_challenge", "arc_easy", "hellaswag", "piqa", "siqa")

SMALL_TOKENS, SHORT_TOKENS = 204_800, 51_200
"""Tokens of a trial of about 12 and of 3 core-seconds."""

LARGE = LlamaProxy(hidden=224, layers=6, heads=7, sequence=128, batch=16, learning_rate=4e-3)
"""4.1 M parameters, ten times those of PROXY."""

SIZE = Size(
    domains=12,
    chars=2_000_000,
    base_tokens=3_000_000,
    trial_tokens=SMALL_TOKENS,
    items=300,
    tasks=TASKS,
)
QUICK_SIZE = Size(
    domains=3, chars=40_000, base_tokens=8_192, trial_tokens=4_096, items=4, tasks=TASKS
)

METRICS = ("bpb", "prob", "accuracy_norm", "accuracy")


def open_setup(folder: Path, quick: bool, proxy: LlamaProxy, tokens: int) -> TrainingSetup:
    """Return the setup of trials with this model and these tokens."""
    setup = prepare_setup(folder, QUICK_SIZE if quick else SIZE)
    # A fiftieth keeps the differences between the tokens of trials in a quick run.
    return dataclasses.replace(setup, proxy=proxy, n_tokens=tokens // 50 if quick else tokens)


def draw_mixtures(folder: Path, n: int) -> list[dict[str, float]]:
    """Draw mixtures as the first round of a search does."""
    tokens = json.loads((folder / "domains.json").read_text())
    names = tuple(sorted(tokens))
    cfg = load(settings=["search.target_tokens=5_000_000"]).search
    space = FeasibleSet.from_constraints(names, [tokens[k] for k in names], cfg.mixture_constraints)
    problem = Problem.from_config(space, None, cfg)
    weights_MK = problem.sample(np.random.default_rng(0), n)
    return [weights_to_dict(names, weights_K) for weights_K in weights_MK]


@dataclasses.dataclass(frozen=True)
class Bench:
    """The folder, the mixtures and the time of one part."""

    folder: Path
    quick: bool
    deadline: float

    def train(self, setup: TrainingSetup, seeds: Sequence[int]) -> dict[int, Runs]:
        """Train all mixtures with all seeds; return the metrics by seed, in order of mixtures.

        Exits with status 0 at the deadline; the next start continues.
        """
        mixtures = draw_mixtures(self.folder, QUICK_MIXTURES if self.quick else MIXTURES)
        ensure_base(setup)
        names = {
            (seed, i): setup.name_run(w, seed) for seed in seeds for i, w in enumerate(mixtures)
        }
        runs = {name: setup.build_run(mixtures[i], seed) for (seed, i), name in names.items()}
        results = Results(self.folder / "runs.jsonl")
        if not results.train(setup.proxy, runs, self.deadline):
            done = len(results.read().keys() & runs.keys())
            print(f"stopped: {done} of {len(runs)} runs are trained; start it again to continue")
            sys.exit(0)
        rows = results.read()
        print(f"{len(runs)} runs, {_mean_seconds(rows, runs):.1f} core-seconds each", flush=True)
        return {
            seed: [rows[names[seed, i]]["metrics"] for i in range(len(mixtures))] for seed in seeds
        }


def _mean_seconds(rows: Mapping[str, dict[str, object]], names: Sequence[str]) -> float:
    return statistics.fmean(float(str(rows[name]["seconds"])) for name in names)


def collect(runs: Runs, target: str, metric: str) -> Array:
    """Return a metric of all mixtures; for `mean`, the mean over targets. Shape (M,)."""
    suffix = f".{metric}"
    names = [name for name in runs[0] if name.endswith(suffix)]
    names = names if target == "mean" else [f"{target}{suffix}"]
    return np.array([[run[name] for name in names] for run in runs]).mean(axis=1)


def rank(one: Runs, other: Runs, target: str, metric: str, other_metric: str = "") -> float:
    """Spearman's correlation between metrics of the same mixtures in two lists of runs."""
    one_M, other_M = collect(one, target, metric), collect(other, target, other_metric or metric)
    return float(spearmanr(one_M, other_M).statistic)


def tabulate(one: Runs, other: Runs, title: str) -> Table:
    """Rank correlations per target and metric."""
    targets = sorted({name.rpartition(".")[0] for name in one[0] if name.endswith(".bpb")})
    rows = [
        (target, *(f"{rank(one, other, target, metric):.2f}" for metric in METRICS))
        for target in [*targets, "mean"]
    ]
    return Table(("target", *METRICS), tuple(rows), title)


def measure_seeds(bench: Bench) -> Section:
    tables, bars = [], []
    for tokens, seconds, bar in ((SMALL_TOKENS, 12, 0.95), (SHORT_TOKENS, 3, 0.90)):
        runs = bench.train(open_setup(bench.folder, bench.quick, PROXY, tokens), (0, 1))
        title = f"{tokens:,} tokens, about {seconds} core-seconds"
        tables.append(tabulate(runs[0], runs[1], title))
        found = rank(runs[0], runs[1], "mean", "bpb")
        bars.append(Bar(f"Spearman, mean bits per byte, {title}", found, bar, form=".3f"))
    return Section(
        "proxy_seeds",
        "Proxies: agreement of two seeds",
        f"Rank correlation between two seeds over {MIXTURES} mixtures of {SIZE.domains} corpora. "
        "The proxy has 0.42 M parameters and continues a base checkpoint of 3 M tokens; targets "
        "have 300 items.",
        tuple(tables),
        tuple(bars),
    )


def measure_sizes(bench: Bench) -> Section:
    # With SMALL_TOKENS, each of the large runs takes about ten minutes of a core.
    n = SHORT_TOKENS
    small = bench.train(open_setup(bench.folder, bench.quick, PROXY, n), (0,))[0]
    large = bench.train(open_setup(bench.folder, bench.quick, LARGE, 4 * n), (0,))[0]
    found = rank(small, large, "mean", "bpb")
    mixed = [
        (metric, f"{rank(small, large, 'mean', metric, 'accuracy_norm'):.2f}") for metric in METRICS
    ]
    return Section(
        "proxy_sizes",
        "Proxies: small ones against one of ten times the size",
        f"Rank correlation over {MIXTURES} mixtures of {SIZE.domains} corpora, one seed: 0.42 M "
        f"parameters and {n:,} tokens against 4.1 M and {4 * n:,}. Each size continues its own "
        "base checkpoint of 3 M tokens; targets have 300 items.",
        (
            tabulate(small, large, "The same metric of both"),
            Table(("metric of the small proxy", "Spearman"), tuple(mixed),
                  "Against the mean length-normalized accuracy of the large proxy"),
        ),
        (Bar("Spearman, mean bits per byte", found, at_least=0.85, form=".3f"),),
    )  # fmt: skip
