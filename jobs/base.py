"""Train the base checkpoint that every proxy continues, on one device.

domains, shards, tokenizers -> base checkpoint

Rerun it at any time: an existing checkpoint stays, and an interrupted training continues.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.slots import plan_slots
from climb.spark.training.search import describe_search
from climb.spark.training.setup import build_trial_setup, ensure_base_checkpoint


def run(store: Store, cfg: Config) -> str:
    """Train the base checkpoint, unless it exists or is not needed.

    The proxies of job `search` need it. If the recommendation of job `search` is up to date, no
    proxy has to be trained.
    """
    setup = build_trial_setup(store, cfg)
    if store.history.is_current(tables.MIXTURES, *describe_search(store, cfg, setup)):
        return "not needed, the recommendation is up to date"
    trained = ensure_base_checkpoint(store, setup, plan_slots(store.session, cfg.spark))
    return (
        f"checkpoint of the proxies {'trained' if trained else 'up to date'}: {setup.base_folder}"
    )


if __name__ == "__main__":
    main(run)
