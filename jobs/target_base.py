"""Train the base checkpoint that every target model continues.

domains, shards, tokenizers -> target base checkpoint

Rerun it at any time: an existing checkpoint stays, and an interrupted training continues.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.slots import plan_process_slots
from climb.spark.training.setup import build_target_setup, ensure_base_checkpoint
from climb.spark.training.train import has_all_models


def run(store: Store, cfg: Config) -> str:
    """Train the base checkpoint, unless it exists or all target models are recorded."""
    setup = build_target_setup(store, cfg)
    if not setup.targets:
        return "no target has a `report` file, so no target model is trained"
    if has_all_models(store, cfg, setup):
        return "not needed, all target models are recorded"
    slots = plan_process_slots(store.session, cfg.spark, setup.processes)
    trained = ensure_base_checkpoint(store, setup, slots)
    state = "trained" if trained else "up to date"
    return f"checkpoint of the target models {state}: {setup.base_folder}"


if __name__ == "__main__":
    main(run)
