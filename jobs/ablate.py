"""Ablation: run the method with several values of configuration keys, and write one table.

documents, embeddings, scores, domains, shards, tokenizers -> ablations, trials, rungs, mixtures,
evaluations, embeddings (the last one only with `cluster.embeddings: sample`)

Rerun it at any time: recorded searches and models stay, and only missing ones are trained.
"""

from climb import tables
from climb.cli.start import Unfinished, import_jobs, main
from climb.config import Config
from climb.search.comparison import plan_ablation
from climb.spark.delta.store import Store
from climb.spark.results.comparison import run_comparison
from climb.spark.training.compare import OWN_JOBS, Trainer
from climb.tracking.comparison import log_comparison


def run(store: Store, cfg: Config) -> str:
    """Run searches and target models with every value and every seed, and write the table."""
    methods, name = plan_ablation(cfg), cfg.ablate.name
    jobs = dict(import_jobs(("embed", *OWN_JOBS, "search")))
    trainer = Trainer("ablate", store, cfg, methods, cfg.ablate.seeds, jobs)
    done = run_comparison(trainer, tables.ABLATIONS, name)
    is_complete = log_comparison(store, cfg, done) and not done.n_failed
    return done.text if is_complete else Unfinished(done.text)


if __name__ == "__main__":
    main(run)
