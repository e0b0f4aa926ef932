"""Compare the values of one key of section `search` on the trials of a finished search."""

from __future__ import annotations

from dataclasses import replace

from climb.config import Config
from climb.files import write_if_changed
from climb.search import SearchResult
from climb.search.baselines import DoremiMixture
from climb.search.trials import RECOMMENDED
from climb.search.vary import format_fits, format_fits_csv, vary_fits
from climb.spark.delta.store import Store
from climb.spark.results.report import read_result
from climb.spark.training.fidelities import add_fidelities
from climb.spark.training.halving import Rungs
from climb.spark.training.study import PlannedTrial, Study, open_study


def run_vary(store: Store, cfg: Config, key: str) -> str:
    """Fit a surrogate with each value of the key, all to the same trials, and write a CSV file.

    The trials are those from which the search computed its recommendation. They include trials that
    were stopped early, but not the replicates of the recommendation. No model is trained.

    Raises:
        TableError: the search `search.name` has not finished.
        ConfigError: the key cannot be varied, or a value is wrong.
    """
    result = read_result(store, cfg.search.name)
    study = add_fidelities(_fix_doremi(open_study(store, cfg), result))
    parts = [part for part in result.plan if part.method != RECOMMENDED]
    plan = [PlannedTrial(p.trial_id, p.round, p.method, {}, p.seed) for p in parts]
    stopped = {p.trial_id: p.stopped_at for p in parts if p.stopped_at is not None}
    trials = Rungs.read_finished(study, plan, stopped)
    fits = vary_fits(trials, study.score_by(trials), cfg, key)
    path = store.locate_file("comparisons") / f"vary-{key}-{cfg.search.name}.csv"
    write_if_changed(path, format_fits_csv(fits).encode())
    line = f"{len(fits)} values of {key} fitted to {len(trials)} trials of search "
    return f"{line}{cfg.search.name!r}; {path}\n\n{format_fits(fits)}"


def _fix_doremi(study: Study, result: SearchResult) -> Study:
    """Take the mixture of DoReMi from the result, so that its models are not trained here."""
    weights = {mixture.name: mixture.weights for mixture in result.mixtures}
    baselines = tuple(
        baseline.fix(weights[baseline.name])
        if isinstance(baseline, DoremiMixture) and baseline.name in weights
        else baseline
        for baseline in study.problem.baselines
    )
    return replace(study, problem=replace(study.problem, baselines=baselines))
