"""Compare the values of one key of section `search` on the trials of a finished search."""

from __future__ import annotations

from climb.config import Config
from climb.files import write_if_changed
from climb.search.vary import format_fits, format_fits_csv, vary_fits
from climb.spark.delta.store import Store
from climb.spark.results.report import read_result
from climb.spark.training.fidelities import add_fidelities
from climb.spark.training.study import PlannedTrial, open_study


def run_vary(store: Store, cfg: Config, key: str) -> str:
    """Fit a surrogate to the same trials with every value, and write a CSV file; train nothing.

    Raises:
        TableError: the search `search.name` has not finished.
        ConfigError: the key is no key of section `search`, or a value is wrong.
    """
    study = add_fidelities(open_study(store, cfg))
    plan = [
        PlannedTrial(part.trial_id, part.round, part.method, {}, part.seed)
        for part in read_result(store, cfg.search.name).plan
        if part.stopped_at is None
    ]
    trials = study.to_trials(study.read_recorded(plan))
    fits = vary_fits(trials, study.score_by(trials), cfg, key)
    path = store.locate_file("comparisons") / f"vary-{key}-{cfg.search.name}.csv"
    write_if_changed(path, format_fits_csv(fits).encode())
    line = f"{len(fits)} values of {key} fitted to {len(trials)} trials of search "
    return f"{line}{cfg.search.name!r}; {path}\n\n{format_fits(fits)}"
