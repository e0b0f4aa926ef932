"""The default predictor on Olmix's swarm (64 domains, 110 metrics): ranks, intervals, null data.

    python benchmarks/bench.py swarm

The default is fitted to n of the 512 runs, five times, and predicts the others. The figures may be
optimistic, because results on these runs were known when its settings were chosen (see "Sharing
over metrics" in benchmarks/measurements.md). Null data: 64 runs, metrics permuted over mixtures.

Axes: M test runs, Q metrics.
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import partial

import numpy as np
import olmix
from accuracy import COVERAGE, DEFAULT, rank_all
from null import MAX_CLAIMED, claims_gain
from scipy.stats import norm
from section import Bar, Section, Table, run_section

from climb.config import build
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Surrogate, Trials
from climb.search.calibration import CalibratedScore

SPLITS, QUICK_SPLITS = 5, 2
NULL_SETS, QUICK_NULL_SETS = 40, 2
BARS = {64: (0.945, 0.745, 0.33), 128: (0.962, 0.795, 0.26), 256: (0.970, 0.818, 0.22)}
"""Number of runs -> bars of the figures in `TITLES`. The error of the score is in its standard
deviations over mixtures."""

TITLES = ("Spearman of the score", "mean Spearman of single metrics", "error of the score, std")
INTERVALS = ("the score", "single metrics")


def measure_split(runs: Trials, n: int, seed: int) -> tuple[list[float], list[float]]:
    """Return figures of `TITLES`, and coverage of the intervals of `INTERVALS`, on other runs."""
    order_T = np.random.default_rng(seed).permutation(len(runs))
    in_fit_T = np.isin(np.arange(len(runs)), order_T[:n])
    fitted, rest = runs.select(in_fit_T), runs.select(~in_fit_T)
    objective = Objective.parse("mean(*):min", runs.metric_names)
    predictor: Predictor = build(DEFAULT, Predictor)
    surrogate = Surrogate.fit(fitted, objective, predictor)
    held_out = surrogate.predict_held_out(predictor, 0)
    means_MQ, stds_MQ = surrogate.predict_metrics(rest.weights_TK)
    score_M, true_M = objective.score(means_MQ), objective.score(rest.metrics_TQ)
    error = float(np.sqrt(np.square(score_M - true_M).mean()) / true_M.std())
    views = [objective, *(Objective.from_metric(m, runs.metric_names) for m in runs.metric_names)]
    covered = []
    for view in views:
        calibrated = CalibratedScore.fit(surrogate, held_out, view, fitted)
        mean_M, std_M = calibrated.predict_new_run(rest.weights_TK, means_MQ, stds_MQ)
        inside_M = np.abs(view.score(rest.metrics_TQ) - mean_M) <= norm.ppf(0.95) * std_M
        covered.append(float(inside_M.mean()))
    figures = [*rank_all(objective, means_MQ, rest.metrics_TQ), error]
    return figures, [covered[0], float(np.mean(covered[1:]))]


def tabulate(runs: Trials, sizes: tuple[int, ...], splits: int) -> tuple[Table, list[Bar]]:
    """The table of ranks and coverage, and their bars."""
    rows, bars = [], []
    for n in sizes:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            draws = pool.map(partial(measure_split, runs, n), range(splits), chunksize=1)
        figures = np.mean([figures for figures, _ in draws], axis=0)
        covered = np.mean([covered for _, covered in draws], axis=0)
        for title, value, bar in zip(TITLES, figures, BARS[n], strict=True):
            limit = {"at_most": bar} if title == TITLES[-1] else {"at_least": bar}
            bars.append(Bar(f"{title}, n = {n}", float(value), form=".4f", **limit))
        for title, value in zip(INTERVALS, covered, strict=True):
            name = f"coverage of the 90 % interval of {title}, n = {n}"
            bars.append(Bar(name, float(value), *COVERAGE, form=".1%"))
        rows.append((str(n), *(f"{v:.4f}" for v in figures), *(f"{v:.1%}" for v in covered)))
    columns = ("runs", *TITLES, *(f"coverage, {name}" for name in INTERVALS))
    return Table(columns, tuple(rows)), bars


def measure(args: argparse.Namespace) -> Section:
    runs = olmix.load_swarm()
    sizes, splits, null_sets = tuple(BARS), SPLITS, NULL_SETS
    if args.quick:
        sizes, splits, null_sets = (64,), QUICK_SPLITS, QUICK_NULL_SETS
    table, bars = tabulate(runs, sizes, splits)
    space = olmix.build_feasible_set(runs.domains)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        n_claimed = sum(pool.map(partial(claims_gain, runs, space), range(null_sets), chunksize=1))
    title = f"null data sets with a claimed gain, of {null_sets}"
    bars.append(Bar(title, n_claimed, at_most=MAX_CLAIMED, form=".0f"))
    return Section(
        "swarm",
        "Search: the default on a swarm of 64 domains and 110 metrics",
        f"Olmix's 512 runs; fits to n of them, {splits} splits; the others are predicted.",
        (table,),
        tuple(bars),
    )


if __name__ == "__main__":
    run_section(measure)
