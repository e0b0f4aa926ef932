"""Statistics over replicates: means, and gains over the baselines, with 90 % intervals.

Axes: S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from climb.objective import Array, Objective
from climb.report.data import Evaluation, Trial
from climb.search.gains import Gain, compute_half_width, is_constant, paired_gain
from climb.search.result import SearchResult
from climb.search.trials import RECOMMENDED


@dataclass(frozen=True)
class Run:
    """The metrics of one model."""

    method: str
    seed: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its interval; no interval for a single seed, or for equal values."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Measure:
    """One metric, or the score, of the compared mixtures."""

    name: str
    higher_is_better: bool
    used: bool
    """Whether the objective uses this metric; true for the score."""

    means: Mapping[str, Mean]
    """By method."""

    gains: Mapping[str, Gain]
    """By baseline: gain of the recommendation, paired by seed; above 0 is better."""

    def relative_gain(self, baseline: str) -> float | None:
        """Return the gain as a share of the baseline's mean; None if it is not defined."""
        gain, own = self.gains.get(baseline), self.means.get(baseline)
        if gain is None or own is None or own.mean == 0.0:
            return None
        return gain.mean / abs(own.mean)


@dataclass(frozen=True)
class Measured:
    """The score and every metric; metrics that the objective uses come first."""

    score: Measure | None
    metrics: tuple[Measure, ...]


def collect_trials(trials: Sequence[Trial], methods: Sequence[str]) -> list[Run]:
    """Collect the finished trials of these methods as runs."""
    finished = [trial for trial in trials if trial.status == "finished"]
    return [Run(t.method, t.seed, t.metrics) for t in finished if t.method in methods]


def collect_evaluations(evaluations: Sequence[Evaluation]) -> list[Run]:
    """Group rows, which have one metric each, into one run per model."""
    metrics: dict[tuple[str, int], dict[str, float]] = {}
    for row in evaluations:
        metrics.setdefault((row.method, row.seed), {})[row.metric] = row.value
    return [Run(method, seed, metrics[method, seed]) for method, seed in sorted(metrics)]


def objective_of(result: SearchResult, runs: Sequence[Run]) -> Objective | None:
    """Build the objective of the result for the metrics that all runs have.

    None if there are no runs, or if a run lacks a metric of the objective.
    """
    if not runs:
        return None
    names = sorted(set.intersection(*(set(run.metrics) for run in runs)))
    weights = result.metric_weights
    if not weights.keys() <= set(names):
        return None
    weights_Q = np.array([weights.get(name, 0.0) for name in names])
    return Objective(result.objective, tuple(names), weights_Q)


def measure(runs: Sequence[Run], result: SearchResult) -> Measured:
    """Compare the mixtures on the score and on every metric."""
    objective = objective_of(result, runs)
    weights = result.metric_weights if objective is not None else {}
    names = sorted({name for run in runs for name in run.metrics})
    metrics = []
    for name in sorted(names, key=lambda n: (weights.get(n, 0.0) == 0.0, n)):
        values = [(run.method, run.seed, run.metrics.get(name)) for run in runs]
        weight = weights.get(name, 0.0)
        higher = weight > 0.0 if weight else is_higher_better(name)
        metrics.append(_measure(name, values, result, higher, weight != 0.0))
    if objective is None:
        return Measured(None, tuple(metrics))
    scored = [(run.method, run.seed, objective.score_run(run.metrics)) for run in runs]
    return Measured(_measure("score", scored, result, True, True), tuple(metrics))


def is_higher_better(name: str) -> bool:
    """Guess from a metric's name whether higher is better; true for accuracies and probabilities.

    The guess is used only for metrics outside the objective.
    """
    metric = name.rsplit(".", 1)[-1]
    return metric.startswith(("accuracy", "prob"))


def _measure(
    name: str,
    values: Sequence[tuple[str, int, float | None]],
    result: SearchResult,
    higher: bool,
    used: bool,
) -> Measure:
    by_seed: dict[str, dict[int, float]] = {}
    for method, seed, value in values:
        if value is not None and np.isfinite(value):
            by_seed.setdefault(method, {})[seed] = value
    methods = (RECOMMENDED, *result.baselines)
    means = {m: mean_of(list(by_seed[m].values())) for m in methods if m in by_seed}
    gains = {}
    for baseline in result.baselines:
        sign = 1.0 if higher else -1.0
        gain = paired_gain(by_seed.get(RECOMMENDED, {}), by_seed.get(baseline, {}), sign)
        if gain is not None:
            gains[baseline] = gain
    return Measure(name, higher, used, means, gains)


def mean_of(values_S: Sequence[float]) -> Mean:
    """Return the mean over seeds with its Student t interval.

    A single seed has no interval, and neither have equal values: accuracies on few items are often
    equal by chance, so a standard deviation of 0 says nothing about their noise.
    """
    values: Array = np.asarray(values_S, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2 or is_constant(values):
        return Mean(mean, None, None, len(values))
    std_error = float(values.std(ddof=1)) / np.sqrt(len(values))
    half_width = compute_half_width(std_error, len(values) - 1)
    return Mean(mean, mean - half_width, mean + half_width, len(values))
