"""How well predictors rank unseen mixtures, and the coverage of their intervals.

    python benchmarks/bench.py accuracy

Each predictor is fitted to n of RegMix's 512 training runs and scored on its 256 test runs. All
settings were chosen on the training runs (DECISIONS.md). The default predictor's 90 % intervals are
those of one new run, calibrated as in `climb predict`. Their coverage is measured on the test runs
and on the other training runs.

Axes: T runs, M test runs, Q losses.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable

import numpy as np
from entrants import LIGHTGBM, REGMIX
from numpy.typing import NDArray
from regmix import TARGETS, load_published
from scipy.stats import norm, spearmanr
from section import Bar, Section, Table, run_section

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Surrogate, Trials
from climb.search.calibration import CalibratedScore

SEEDS, QUICK_SEEDS = 10, 2
SIZES, QUICK_SIZES = (64, 112), (64,)
DEFAULT = load().search.predictor
DEFAULT_NAME = "default (a stack for few metrics)"
PER_METRIC = {
    DEFAULT_NAME: DEFAULT,
    "process": {"use": "climb.predictor.gp:GPPredictor"},
    "power law": {"use": "climb.predictor.powerlaw:PowerLawPredictor"},
    "XGBoost": {"use": "climb.predictor.xgboost:XGBoostPredictor", "members": 2},
    "ridge": {"use": "climb.predictor.ridge:RidgePredictor"},
    "log-linear law": {"use": "climb.predictor.loglinear:LogLinearPredictor"},
}
"""Predictors that are fitted to each metric."""

OF_SCORE = {"LightGBM of the score, recipe": LIGHTGBM, "LightGBM of the score, RegMix": REGMIX}
"""Predictors that are fitted to the score itself."""

SCORE = "mean of 13"
BARS = {(SCORE, 64): 0.986, (SCORE, 112): 0.990, ("Pile-CC", 64): 0.986, ("Pile-CC", 112): 0.991}
"""Minimum Spearman correlation of the default predictor, by target and number of runs."""

COVERAGE = (0.86, 0.94)
TEST_RUNS, OTHER_RUNS = "test runs", "other training runs"

Array = NDArray[np.float64]


def split_runs(n: int, seed: int) -> tuple[Trials, Trials, Trials]:
    """Return n training runs, the other training runs, and all test runs."""
    train = load_published("train")
    rows = np.random.default_rng([seed, n]).permutation(len(train))[:n]
    drawn_T = np.isin(np.arange(len(train)), rows)
    return train.select(drawn_T), train.select(~drawn_T), load_published("test")


def rank_test_runs(n: int, seed: int) -> dict[tuple[str, str], float]:
    """Spearman correlation on the test runs, by predictor and target."""
    train, _, test = split_runs(n, seed)
    all_metrics = Objective.parse("mean(*):min", train.metric_names)
    correlations = {}
    for name, spec in PER_METRIC.items():
        surrogate = Surrogate.fit(train, all_metrics, build(spec, Predictor))
        means_MQ = surrogate.predict_means(test.weights_TK)
        for target, text in TARGETS.items():
            view = Objective.parse(text, train.metric_names)
            correlations[name, target] = measure_ranks(
                view.score(means_MQ), view.score(test.metrics_TQ)
            )
    for name, spec in OF_SCORE.items():
        for target, text in TARGETS.items():
            view = Objective.parse(text, train.metric_names)
            predict = build(spec, Predictor).fit(
                train.weights_TK, view.score(train.metrics_TQ), np.zeros(n)
            )
            correlations[name, target] = measure_ranks(
                predict(test.weights_TK)[0], view.score(test.metrics_TQ)
            )
    return correlations


def measure_coverage(n: int, seed: int) -> dict[tuple[str, str], float]:
    """Share of runs inside the default's 90 % interval; keys are (set of runs, score or loss)."""
    train, rest, test = split_runs(n, seed)
    all_metrics = Objective.parse("mean(*):min", train.metric_names)
    predictor: Predictor = build(DEFAULT, Predictor)
    surrogate = Surrogate.fit(train, all_metrics, predictor)
    held_out = surrogate.predict_held_out(predictor, 0)
    unseen = {OTHER_RUNS: rest, TEST_RUNS: test}
    predictions = {
        name: surrogate.predict_metrics(runs.weights_TK) for name, runs in unseen.items()
    }
    coverage = {}
    for metric in (SCORE, *train.metric_names):
        view = all_metrics if metric == SCORE else Objective.from_metric(metric, train.metric_names)
        calibrated = CalibratedScore.fit(surrogate, held_out, view, train)
        for name, prediction in predictions.items():
            mean_M, std_M = calibrated.predict_new_run(unseen[name].weights_TK, *prediction)
            errors_M = np.abs(view.score(unseen[name].metrics_TQ) - mean_M)
            coverage[name, metric] = float(np.mean(errors_M <= norm.ppf(0.95) * std_M))
    return coverage


def measure_ranks(predicted_M: Array, measured_M: Array) -> float:
    """Spearman correlation."""
    return float(spearmanr(predicted_M, measured_M).statistic)


def rank_all(objective: Objective, means_MQ: Array, metrics_MQ: Array) -> tuple[float, float]:
    """Spearman correlation of the score, and the mean over metrics; constant ones are left out."""
    score = measure_ranks(objective.score(means_MQ), objective.score(metrics_MQ))
    pairs = zip(means_MQ.T, metrics_MQ.T, strict=True)
    return score, float(np.nanmean([measure_ranks(mean_M, true_M) for mean_M, true_M in pairs]))


def repeat(task: Callable[[int, int], dict], n: int, seeds: int) -> list[dict]:
    """Run a task for every seed, two at a time; this is possible because no time is measured."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.starmap(task, [(n, seed) for seed in range(seeds)], chunksize=1)


def tabulate_ranks(draws: dict[int, list[dict]]) -> tuple[Table, list[Bar]]:
    """The table of correlations, and the bars of the default."""
    columns = [(target, n) for target in TARGETS for n in draws]
    rows, bars = [], []
    for name in (*PER_METRIC, *OF_SCORE):
        cells = [name]
        for target, n in columns:
            values = np.array([draw[name, target] for draw in draws[n]])
            cells.append(f"{values.mean():.4f} ({values.std(ddof=1):.4f})")
            if name == DEFAULT_NAME:
                title = f"Spearman of the default, {target}, n = {n}"
                bar = BARS[target, n]
                bars.append(Bar(title, float(values.mean()), at_least=bar, form=".4f"))
        rows.append(tuple(cells))
    headings = ("predictor", *(f"{target}, n = {n}" for target, n in columns))
    title = "Spearman correlation on the test runs, mean (standard deviation over draws)"
    return Table(headings, tuple(rows), title), bars


def tabulate_coverage(draws: dict[int, list[dict]]) -> tuple[Table, list[Bar]]:
    """The table of coverages of the default's intervals, and their bars."""
    rows, bars = [], []
    for n, of_seeds in draws.items():
        for name in (OTHER_RUNS, TEST_RUNS):
            score = np.array([draw[name, SCORE] for draw in of_seeds])
            metrics = [metric for runs, metric in of_seeds[0] if runs == name and metric != SCORE]
            losses = np.array([[draw[name, metric] for metric in metrics] for draw in of_seeds])
            extremes = f"{losses.min():.0%} to {losses.max():.0%}"
            rows.append((name, str(n), f"{score.mean():.1%}", f"{losses.mean():.1%}", extremes))
            for metric, values in ((SCORE, score), ("single losses", losses)):
                title = f"coverage of the 90 % interval, {metric}, {name}, n = {n}"
                lower, upper = COVERAGE
                bars.append(Bar(title, float(values.mean()), lower, upper, form=".1%"))
    columns = ("runs", "n", SCORE, "single losses", "one loss in one draw, range")
    return Table(columns, tuple(rows), "Coverage of the default's 90 % intervals"), bars


def measure(args: argparse.Namespace) -> Section:
    seeds, sizes = (QUICK_SEEDS, QUICK_SIZES) if args.quick else (SEEDS, SIZES)
    ranks, rank_bars = tabulate_ranks({n: repeat(rank_test_runs, n, seeds) for n in sizes})
    coverage, coverage_bars = tabulate_coverage(
        {n: repeat(measure_coverage, n, seeds) for n in sizes}
    )
    return Section(
        "accuracy",
        "Search: ranks of unseen published runs, and coverage of intervals",
        f"Fits to n of RegMix's 512 training runs, {seeds} draws; 256 test runs.",
        (ranks, coverage),
        (*rank_bars, *coverage_bars),
    )


if __name__ == "__main__":
    run_section(measure)
