"""What was measured over seeds: means, and differences to the baselines, with 90 % intervals.

Axes: S seeds, T runs, Q metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from climb.errors import ConfigError
from climb.objective import Array, Objective
from climb.report.data import METHODS, Evaluation, Trial
from climb.search.compare import LEVEL, Gain

BASELINES = ("natural", "uniform")


@dataclass(frozen=True)
class Run:
    """The metrics of one model."""

    method: str
    seed: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds; without a second seed there is no interval."""

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
    """Whether the objective uses it."""

    spreads: Mapping[str, Spread]
    """By method."""

    gains: Mapping[str, Gain]
    """found against a baseline, paired by seed, turned so that above 0 is better."""

    def relative(self, baseline: str) -> float | None:
        """The gain as a share of the baseline's value."""
        gain, spread = self.gains.get(baseline), self.spreads.get(baseline)
        if gain is None or spread is None or spread.mean == 0.0:
            return None
        return gain.mean / abs(spread.mean)


@dataclass(frozen=True)
class Measured:
    """The score, and every metric below it; those that the objective uses first."""

    score: Measure | None
    metrics: tuple[Measure, ...]


def runs_of_trials(trials: Sequence[Trial]) -> list[Run]:
    """The finished runs of found, natural and uniform."""
    return [Run(t.method, t.seed, t.metrics) for t in trials if t.finished and t.method in METHODS]


def runs_of_evaluations(evaluations: Sequence[Evaluation]) -> list[Run]:
    """Rows of one metric each, put together by model."""
    metrics: dict[tuple[str, int], dict[str, float]] = {}
    for row in evaluations:
        metrics.setdefault((row.method, row.seed), {})[row.metric] = row.value
    return [Run(method, seed, metrics[method, seed]) for method, seed in sorted(metrics)]


def objective_of(
    text: str, metrics: Sequence[Mapping[str, float]], weights: Mapping[str, float] | None = None
) -> Objective | None:
    """The objective over the metrics that all rows have; None where it names others.

    With `weights`, what one unit more of each metric adds to the score, those are what counts:
    `search.scale` and `search.down_weight` make them differ from those of the text.
    """
    if not metrics:
        return None
    names = sorted(set.intersection(*(set(row) for row in metrics)))
    if weights:
        if not weights.keys() <= set(names):
            return None
        return Objective(text, tuple(names), np.array([weights.get(name, 0.0) for name in names]))
    try:
        return Objective.parse(text, names)
    except ConfigError:
        return None


def score_of(objective: Objective | None, metrics: Mapping[str, float]) -> float | None:
    """The score of one run; None where it lacks a metric, or one is not finite."""
    if objective is None:
        return None
    row_1Q = np.array([[metrics.get(name, np.nan) for name in objective.metric_names]])
    score = float(objective.score(row_1Q)[0])
    return score if np.isfinite(score) else None


def measure(
    runs: Sequence[Run], objective_text: str, weighed: Mapping[str, float] | None = None
) -> Measured:
    """Compare the mixtures on the score and on every metric; see `objective_of`."""
    objective = objective_of(objective_text, [run.metrics for run in runs], weighed)
    weights = {}
    if objective is not None:
        weights = dict(zip(objective.metric_names, objective.weights_Q.tolist(), strict=True))
    names = sorted({name for run in runs for name in run.metrics})
    metrics = []
    for name in sorted(names, key=lambda n: (weights.get(n, 0.0) == 0.0, n)):
        values = [(run.method, run.seed, run.metrics.get(name)) for run in runs]
        weight = weights.get(name, 0.0)
        higher = weight > 0.0 if weight else _higher_is_better(name)
        metrics.append(_measure(name, values, higher, weight != 0.0))
    scored = [(run.method, run.seed, score_of(objective, run.metrics)) for run in runs]
    score = None if objective is None else _measure("score", scored, True, True)
    return Measured(score, tuple(metrics))


def _higher_is_better(name: str) -> bool:
    """For metrics that the objective leaves out: bits per byte and losses are better when low."""
    metric = name.rsplit(".", 1)[-1]
    return metric.startswith(("accuracy", "prob"))


def _measure(
    name: str, values: Sequence[tuple[str, int, float | None]], higher: bool, used: bool
) -> Measure:
    by_seed: dict[str, dict[int, float]] = {}
    for method, seed, value in values:
        if value is not None and np.isfinite(value):
            by_seed.setdefault(method, {})[seed] = value
    spreads = {m: spread(list(by_seed[m].values())) for m in METHODS if m in by_seed}
    gains = {}
    for baseline in BASELINES:
        gain = paired_gain(by_seed.get("found", {}), by_seed.get(baseline, {}), higher)
        if gain is not None:
            gains[baseline] = gain
    return Measure(name, higher, used, spreads, gains)


def spread(values_S: Sequence[float]) -> Spread:
    """Mean over seeds with Student's t interval; without one for a single seed."""
    mean, low, high = _interval(np.asarray(values_S, dtype=np.float64))
    return Spread(mean, low, high, len(values_S))


def paired_gain(
    found: Mapping[int, float], baseline: Mapping[int, float], higher_is_better: bool
) -> Gain | None:
    """found minus baseline over the seeds that both have; None for fewer than two seeds.

    Both continue the same base and read the same order of documents under one seed, so the
    difference within a seed is free of what that seed does to both.
    """
    seeds = sorted(found.keys() & baseline.keys())
    if len(seeds) < 2:
        return None
    sign = 1.0 if higher_is_better else -1.0
    gains_S = sign * np.array([found[seed] - baseline[seed] for seed in seeds])
    error = float(gains_S.std(ddof=1)) / np.sqrt(len(seeds))
    return Gain.of(float(gains_S.mean()), error, len(seeds) - 1)


def _interval(values_S: Array) -> tuple[float, float | None, float | None]:
    mean = float(values_S.mean())
    if len(values_S) < 2:
        return mean, None, None
    error = float(values_S.std(ddof=1)) / np.sqrt(len(values_S))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values_S) - 1)) * error
    return mean, mean - half, mean + half
