"""Test the found mixture with a larger model, on items that the search never saw.

domains, shards, tokenizers, mixtures -> evaluations

Rerun it at any time: a model that is recorded is never trained again.
"""

from climb.config import Config
from climb.run import main
from climb.spark.bench import target_bench
from climb.spark.store import Store
from climb.spark.train import train_mixtures


def run(store: Store, cfg: Config) -> str:
    """Train found, natural and uniform with several seeds, and measure them."""
    bench = target_bench(store, cfg)
    if not bench.targets:
        return "no target has a `report` file, so there is nothing that the search never saw"
    trained, failed, known = train_mixtures(store, cfg, bench)
    lost = f", {failed} failed" if failed else ""
    return f"{trained} models trained and measured{lost}, {known} known"


if __name__ == "__main__":
    main(run)
