"""Search for the best mixture, and recommend one with an interval of its gain over a baseline.

domains, shards, lineage, tokenizers, base checkpoint -> trials, rungs,
mixtures

Rerun it at any time: a recorded trial is never trained again.

In each round, mixtures are proposed, and proxies are trained on them. Predictors are fitted to all
trials, for the proposals of the next round and for the recommendation.
"""

from dataclasses import replace

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.training.search import (
    describe_search,
    make_mixture_rows,
    refuse_other_settings,
    search,
)
from climb.spark.training.study import open_study
from climb.tracking.client import mirror
from climb.tracking.live import LiveRuns


def run(store: Store, cfg: Config) -> str:
    """Run all rounds, and write the recommended mixture with the baselines."""
    study = open_study(store, cfg)
    inputs, scope = describe_search(store, cfg, study.setup)
    if store.history.is_current(tables.MIXTURES, inputs, scope):
        mirror(store, cfg)
        return "the recommendation is up to date"
    refuse_other_settings(store.history.read_inputs(tables.MIXTURES, scope), inputs)
    with LiveRuns(store, cfg, study.setup) as live:

        def on_round() -> None:
            live.finish()
            mirror(store, cfg)

        study = replace(study, on_progress=live.update if cfg.tracking.enabled else None)
        result, n_trained = search(study, on_round)
    rows = store.create_frame(make_mixture_rows(result), tables.MIXTURES)
    store.replace(rows, tables.MIXTURES, inputs, scope)
    mirror(store, cfg)
    reference = result.baselines[0]
    gain = result.gains[reference]
    halving = f" ({result.halving})" if result.halving else ""
    return (
        f"{n_trained} trials trained, {len(result.plan) - n_trained} already recorded{halving}; "
        f"{gain.verdict}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] over the "
        f"{reference} mixture, 90 % interval, {gain.test}"
    )


if __name__ == "__main__":
    main(run)
