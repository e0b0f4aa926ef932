"""Test the recommended mixture with a larger model, on items that the search did not use.

domains, shards, tokenizers, mixtures, target base checkpoint -> evaluations,
learning_curves

Rerun it at any time: a recorded model is never trained again.
"""

from climb.cli.start import Unfinished, main
from climb.config import Config
from climb.errors import TrialError
from climb.spark.delta.store import Store
from climb.spark.training.setup import build_target_setup
from climb.spark.training.train import train_mixtures
from climb.tracking.models import mirror_models


def run(store: Store, cfg: Config) -> str:
    """Train and measure target models of the recommendation and the baselines, with each seed."""
    setup = build_target_setup(store, cfg)
    if not setup.targets:
        return "no target has a `report` file, so no target model is trained"
    n_trained, n_failed, n_recorded = train_mixtures(store, cfg, setup)
    if n_failed and not n_trained + n_recorded:
        raise TrialError(
            f"all {n_failed} target models failed (the run log has their errors); correct section "
            "train of the configuration, and start the job again"
        )
    mirror_models(store, cfg)
    failed = f", {n_failed} failed" if n_failed else ""
    line = f"{n_trained} models trained and measured{failed}, {n_recorded} already recorded"
    return Unfinished(line) if n_failed else line


if __name__ == "__main__":
    main(run)
