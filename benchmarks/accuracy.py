"""How well predictors rank mixtures that they have not seen, and whether their intervals hold.

    python benchmarks/accuracy.py [SEEDS]

Fitted on n of RegMix's 512 training runs, scored on its 256 test runs. Nothing was chosen on the
test runs: settings come from the training runs (DECISIONS.md). The default's 90 % intervals of one
new run are calibrated as in `climb predict`, and also asked about the other training runs.

Axes: T runs, M test runs, Q losses.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from regmix import TARGETS, published
from scipy.stats import norm, spearmanr

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.calibration import Calibrated
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

SEEDS = 10
SIZES = (64, 112)
DEFAULT = load().search.predictor
LIGHTGBM = {"use": "climb.predictor.lightgbm:LightGBMPredictor", "members": 2}
NO_LIMITS = {"depth": -1, "leaf_rows": 20, "l1": 0.0, "l2": 0.0, "held_share": 0.128, "patience": 3}
REGMIX = LIGHTGBM | NO_LIMITS | {"patience_within_held": False}
PER_METRIC = {
    "default (stack)": DEFAULT,
    "process": {"use": "climb.predictor.gp:GPPredictor"},
    "power law": {"use": "climb.predictor.powerlaw:PowerLawPredictor"},
    "XGBoost": {"use": "climb.predictor.xgb:XGBoostPredictor", "members": 2},
    "ridge": {"use": "climb.predictor.ridge:RidgePredictor"},
    "log-linear law": {"use": "climb.predictor.loglinear:LogLinearPredictor"},
}
OF_SCORE = {"LightGBM of the score, recipe": LIGHTGBM, "LightGBM of the score, RegMix": REGMIX}
BARS = {("mean of 13", 64): 0.980, ("mean of 13", 112): 0.988}
BARS |= {("Pile-CC", 64): 0.985, ("Pile-CC", 112): 0.990}
COVERAGE = (0.86, 0.94)

Array = NDArray[np.float64]


def drawn(n: int, seed: int) -> tuple[Trials, Trials, Trials]:
    """n training runs, the other training runs, and all test runs."""
    train = published("train")
    rows = np.random.default_rng([seed, n]).permutation(len(train))[:n]
    drawn_T = np.isin(np.arange(len(train)), rows)
    return train.where(drawn_T), train.where(~drawn_T), published("test")


def ranked(n: int, seed: int) -> dict[tuple[str, str], float]:
    """Spearman on the test runs, by predictor and target."""
    train, _, test = drawn(n, seed)
    every = Objective.parse("mean(*):min", train.metric_names)
    found = {}
    for name, spec in PER_METRIC.items():
        surrogate = Surrogate.fit(train, every, build(spec, Predictor))
        means_MQ = surrogate.means(test.weights_TK)
        for target, text in TARGETS.items():
            view = Objective.parse(text, train.metric_names)
            found[name, target] = _rank(view.score(means_MQ), view.score(test.metrics_TQ))
    for name, spec in OF_SCORE.items():
        for target, text in TARGETS.items():
            view = Objective.parse(text, train.metric_names)
            predict = build(spec, Predictor).fit(
                train.weights_TK, view.score(train.metrics_TQ), np.zeros(n)
            )
            found[name, target] = _rank(predict(test.weights_TK)[0], view.score(test.metrics_TQ))
    return found


def covered(n: int, seed: int) -> dict[tuple[str, str], float]:
    """Share of runs inside the default's 90 % interval, of the score and of every loss."""
    train, rest, test = drawn(n, seed)
    every = Objective.parse("mean(*):min", train.metric_names)
    predictor: Predictor = build(DEFAULT, Predictor)
    surrogate = Surrogate.fit(train, every, predictor)
    held = surrogate.held_out(predictor, 0)
    unseen = {"other training runs": rest, "test runs": test}
    answers = {where: surrogate.metrics(runs.weights_TK) for where, runs in unseen.items()}
    inside = {}
    for name in ("mean of 13", *train.metric_names):
        view = every if name == "mean of 13" else Objective.single(name, train.metric_names)
        judged = Calibrated.of(surrogate, held, view, train)
        for where, answer in answers.items():
            mean_M, std_M = judged.new_run(*answer)
            off_M = np.abs(view.score(unseen[where].metrics_TQ) - mean_M)
            reach_M = norm.ppf(0.95) * std_M
            inside[where, name] = float(np.mean(off_M <= reach_M))
    return inside


def _rank(predicted_M: Array, measured_M: Array) -> float:
    return float(spearmanr(predicted_M, measured_M).statistic)


def every_seed(task: Callable[[int, int], dict], n: int, seeds: int) -> list[dict]:
    """Two seeds at a time: nothing here is a timing."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.starmap(task, [(n, seed) for seed in range(seeds)], chunksize=1)


def main() -> int:
    """Both tables; 1 when a bar is missed."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    tables = {n: every_seed(ranked, n, seeds) for n in SIZES}
    print(f"Spearman on 256 unseen runs, mean (standard deviation) of {seeds} draws of n runs.\n")
    columns = [(target, n) for target in TARGETS for n in SIZES]
    print("| predictor |" + "".join(f" {target}, n = {n} |" for target, n in columns))
    print("|---|" + "---|" * len(columns))
    missed = 0
    for name in (*PER_METRIC, *OF_SCORE):
        cells = []
        for target, n in columns:
            ranks = [found[name, target] for found in tables[n]]
            cells.append(f" {np.mean(ranks):.3f} ({np.std(ranks, ddof=1):.3f}) |")
            if name == "default (stack)":
                missed += float(np.mean(ranks)) < BARS[target, n]
        print(f"| {name} |" + "".join(cells))
    bars = ", ".join(f"{t} n = {n}: {bar:g}" for (t, n), bar in BARS.items())
    print(f"\nBars for the default: {bars}.\n")
    missed += sum(intervals(n, every_seed(covered, n, seeds)) for n in SIZES)
    return int(missed > 0)


def intervals(n: int, draws: list[dict[tuple[str, str], float]]) -> int:
    """Print how many runs the intervals held; the number of missed bars."""
    missed = 0
    if n == SIZES[0]:
        print("Share of unseen runs inside the default's 90 % interval (bar 86 to 94 %):\n")
        print("| runs | n | mean of 13 | single losses | one loss in one draw |")
        print("|---|---|---|---|---|")
    for where in dict.fromkeys(where for where, _ in draws[0]):
        score = np.array([inside[where, "mean of 13"] for inside in draws])
        names = [name for at, name in draws[0] if at == where and name != "mean of 13"]
        losses = np.array([[inside[where, name] for name in names] for inside in draws])
        print(
            f"| {where} | {n} | {score.mean():.1%} | {losses.mean():.1%} "
            f"| {losses.min():.0%} to {losses.max():.0%} |"
        )
        for share in (score.mean(), losses.mean()):
            missed += not COVERAGE[0] <= share <= COVERAGE[1]
    return missed


if __name__ == "__main__":
    sys.exit(main())
