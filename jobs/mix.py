"""Write the mixed dataset: the wanted tokens of every domain, to within one document.

mixtures, documents, tokens, assignments, clusters -> corpus

Rerun it at any time: rows and export stay while what they are made from stays.
"""

from climb import tables
from climb.config import Config
from climb.datacard import manifest
from climb.limits import Limits
from climb.run import main
from climb.spark.export import export, exported_from
from climb.spark.mix import mix_inputs, mixed, mixture, plan, written
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Mix by the weights that the search found, and export the result."""
    weights, total = mixture(store, cfg)
    inputs = mix_inputs(store, cfg, weights, total)
    place = cfg.mix.export or store.folder("mixed")
    exported = exported_from(store, place) == inputs
    current = store.is_current(tables.CORPUS, inputs)
    if current and exported:
        return f"{total:,} tokens up to date in {place}"
    shares = plan(store, weights, total, Limits.of(cfg.search))
    if not current:
        store.replace(mixed(store, cfg, shares), tables.CORPUS, inputs)
    versions = inputs["read"] | {t.name: store.version(t) for t in (tables.MIXTURES, tables.CORPUS)}
    made = manifest(cfg.search.name, shares, written(store), inputs, versions)
    export(store, place, made)
    return (
        f"{made['tokens']:,} of {total:,} wanted tokens in {made['rows']:,} rows of "
        f"{len(shares)} domains; dataset in {place}"
    )


if __name__ == "__main__":
    main(run)
