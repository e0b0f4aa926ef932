"""Search the mixture: propose, train proxies, fit, again, and say how sure the answer is.

domains, shards, lineage, tokenizers -> trials, mixtures

Rerun it at any time: a trial that is recorded is never trained again.
"""

from climb import tables
from climb.config import Config
from climb.run import main
from climb.spark.search import mixture_rows, open_study, search
from climb.spark.store import Store
from climb.tracking import mirror


def run(store: Store, cfg: Config) -> str:
    """Run all rounds, and write the found mixture beside natural and uniform."""
    study = open_study(store, cfg)
    inputs = store.inputs(
        tables.DOMAINS, tables.SHARDS, search=cfg.search, proxy=study.bench.recipe
    )
    scope = f"search = '{cfg.search.name}'"
    if store.is_current(tables.MIXTURES, inputs, scope):
        mirror(store, cfg)
        return "the answer is up to date"
    plan, answer, n_trained = search(study)
    rows = mixture_rows(study, plan, answer)
    store.replace(store.frame(rows, tables.MIXTURES), tables.MIXTURES, inputs, scope)
    mirror(store, cfg)
    found = rows[0]
    return (
        f"{n_trained} trials trained, {len(plan) - n_trained} known; {found['verdict']}: "
        f"{found['gain_mean']:+.4f} [{found['gain_low']:+.4f}, {found['gain_high']:+.4f}] "
        "over natural proportions, 90 % interval"
    )


if __name__ == "__main__":
    main(run)
