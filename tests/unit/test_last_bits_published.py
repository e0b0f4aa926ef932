"""Published runs that differ in their last bits give the same recommendation."""

import csv
import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.runs.formats import read_olmix, read_regmix
from climb.runs.importer import import_runs
from climb.runs.table import read_runs
from climb.search import Problem, SearchState

pytestmark = pytest.mark.slow

RUNS, VARIANTS = 64, 2
SHIFT = 1e-14
"""Relative: some last bits of a double."""

ALLOWED = 1e-3
"""Standard deviations of the score over the runs."""


def read_published(name, folder, tmp_path):
    """Runs, and the token shares of their domains."""
    if name == "regmix":
        table = read_regmix(
            folder / "regmix" / "train_mixture_1m.csv", folder / "regmix" / "train_pile_loss_1m.csv"
        )
        prior = folder / "regmix" / "prior.csv"
    else:
        table = read_olmix(
            folder / "olmix" / "full_recomputation_ratios.csv",
            folder / "olmix" / "full_recomputation_metrics.csv",
        )
        prior = folder / "olmix" / "full_prior.csv"
    import_runs(table, tmp_path / "runs.csv")
    with prior.open() as file:
        rows = list(csv.DictReader(file))
    shares = {row["domain"]: float(row["token_share"]) for row in rows}
    return read_runs(tmp_path / "runs.csv")[0], shares


def shift(values, random):
    return values * (1.0 + random.uniform(-SHIFT, SHIFT, size=values.shape))


@pytest.mark.parametrize("name", ["regmix", "olmix"])
def test_the_recommendation_from_published_runs_does_not_depend_on_last_bits(
    name, shared_data, tmp_path
):
    runs, shares = read_published(name, shared_data, tmp_path)
    order_T = np.random.default_rng(0).permutation(len(runs))
    trials = runs.select(np.isin(np.arange(len(runs)), order_T[:RUNS]))
    constraints = Constraints(
        target_tokens=1.0, max_epochs=None, max_share_ratio=15.0, min_weight=2e-4
    )
    space = FeasibleSet.from_constraints(
        trials.domains, [shares[d] for d in trials.domains], constraints
    )
    objective = Objective.parse("mean(*):min", trials.metric_names)
    cfg = load(settings=["search.candidates=2000"]).search
    problem = Problem.from_config(space, objective, cfg)
    plain = SearchState.from_trials(trials, problem)
    mixtures = [problem.searcher.recommend(plain)]
    for seed in range(VARIANTS):
        random = np.random.default_rng(seed)
        other = dataclasses.replace(
            trials,
            weights_TK=shift(trials.weights_TK, random),
            metrics_TQ=shift(trials.metrics_TQ, random),
        )
        mixtures.append(problem.searcher.recommend(SearchState.from_trials(other, problem)))
    score_M = plain.penalized.surrogate.predict_mean(np.stack(mixtures))
    std = float(objective.score(trials.metrics_TQ).std())
    assert np.abs(score_M - score_M[0]).max() <= ALLOWED * std
