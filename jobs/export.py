"""Export the mixture for a trainer: files in its format, weights in its unit, and a data card.

corpus, clusters, documents, rejected, mixtures, tokenizers -> files

Rerun it at any time: a killed export continues. A complete export is written again only if an input
has changed.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.export.job import export_mixture


def run(store: Store, cfg: Config) -> str:
    """Write the shards, the index files that list them, and the data card."""
    return export_mixture(store, cfg)


if __name__ == "__main__":
    main(run)
