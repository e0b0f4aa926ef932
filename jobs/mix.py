"""Write the mixed dataset: the planned tokens of every domain, to within half a document.

mixtures, documents, tokens, assignments, clusters -> corpus

Rerun it at any time: rows and export are written again only if an input has changed.
"""

from climb import tables
from climb.cli.start import main
from climb.config import Config
from climb.dataset.card import build_manifest, list_deviations
from climb.progress import log
from climb.spark.corpus.export import export, read_export_inputs
from climb.spark.corpus.mix import (
    count_corpus,
    describe_mix_inputs,
    plan_quotas,
    read_recommendation,
    select_documents,
)
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Select documents by the recommended weights, and export the dataset."""
    weights, n_tokens = read_recommendation(store, cfg)
    inputs = describe_mix_inputs(store, cfg, weights, n_tokens)
    path = cfg.mix.export or store.locate_folder("mixed")
    is_exported = read_export_inputs(store, path) == inputs
    is_current = store.history.is_current(tables.CORPUS, inputs)
    if is_current and is_exported:
        return f"{n_tokens:,} tokens up to date in {path}"
    quotas = plan_quotas(store, weights, n_tokens, cfg.search.mixture_constraints)
    if not is_current:
        store.replace(select_documents(store, cfg, quotas), tables.CORPUS, inputs)
    versions = dict(inputs["read"])
    for table in (tables.MIXTURES, tables.CORPUS):
        versions[table.name] = store.history.read_version(table)
    manifest = build_manifest(cfg.search.name, quotas, count_corpus(store), inputs, versions)
    export(store, path, manifest)
    for warning in list_deviations(manifest):
        log("mix", f"warning: {warning}")
    return (
        f"{manifest['tokens']:,} of {n_tokens:,} planned tokens in {manifest['rows']:,} rows of "
        f"{len(quotas)} domains; dataset in {path}"
    )


if __name__ == "__main__":
    main(run)
