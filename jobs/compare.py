"""Compare methods: equal budgets and the same target models, in one table with intervals.

domains, shards, tokenizers -> comparisons, trials, rungs, mixtures, evaluations

Rerun it at any time: recorded searches and models stay, and only missing ones are trained.
"""

from climb import tables
from climb.cli.start import Unfinished, import_jobs, main
from climb.config import Config
from climb.search.comparison import plan_comparison
from climb.spark.delta.store import Store
from climb.spark.results.comparison import run_comparison
from climb.spark.results.vary import run_vary
from climb.spark.training.compare import Trainer
from climb.tracking.comparison import log_comparison


def run(store: Store, cfg: Config) -> str:
    """Search with every method, train target models with every seed, and write the table."""
    if cfg.compare.vary is not None:
        return run_vary(store, cfg, cfg.compare.vary)
    methods, name = plan_comparison(cfg), cfg.compare.name
    jobs = dict(import_jobs(("search",)))
    trainer = Trainer("compare", store, cfg, methods, cfg.compare.seeds, jobs)
    done = run_comparison(trainer, tables.COMPARISONS, name)
    is_complete = log_comparison(store, cfg, done) and not done.n_failed
    return done.text if is_complete else Unfinished(done.text)


if __name__ == "__main__":
    main(run)
