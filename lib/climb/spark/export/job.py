"""The steps of the job `export`."""

from __future__ import annotations

import shlex

from climb.config import Config
from climb.export.contents import Contents
from climb.export.render import FinishedExport, render_files
from climb.files import FileDigest
from climb.spark.corpus.mix import read_corpus
from climb.spark.delta.store import Store
from climb.spark.export.facts import read_facts
from climb.spark.export.prepare import Prepared, build_contents, prepare
from climb.spark.export.rows import select_rows
from climb.spark.export.write import collect_digests, write_shards

TOKENIZER = "tokenizer.json"


def export_mixture(store: Store, cfg: Config) -> str:
    """Write the export, unless it is complete and current; return a message about it."""
    prepared = prepare(store, cfg)
    target = prepared.target
    if target.is_current(prepared.plan):
        return f"up to date in {target.path}"
    resumed = target.start(prepared.plan)
    rows = select_rows(
        read_corpus(store),
        prepared.settings.kind,
        cfg.export.validation_share,
        cfg.search.seed,
    )
    written = write_shards(rows, target, prepared.settings)
    contents = build_contents(prepared, written, cfg)
    digests = collect_digests(written)
    target.finish(_render_files(store, cfg, prepared, contents, digests), digests)
    documents = sum(shard.documents for shard in contents.shards)
    tokens = sum(shard.tokens for shard in contents.shards)
    command = f"climb export --verify --out {shlex.quote(str(target.path))}"
    return (
        f"{documents:,} documents with {tokens:,} tokens in {len(contents.shards):,} shards of "
        f"{len(contents.domains)} domains{' (resumed)' if resumed else ''}; {contents.kind} "
        f"export in {target.path}\nTo check with the trainer's own loader: {command}"
    )


def _render_files(
    store: Store,
    cfg: Config,
    prepared: Prepared,
    contents: Contents,
    digests: dict[str, FileDigest],
) -> dict[str, str]:
    """Render all files besides the shards: path in the folder -> text."""
    settings, versions = prepared.settings, prepared.plan["inputs"]["read"]
    export = FinishedExport(
        cfg.export.format, settings.format, contents, prepared.plan, cfg.search.name, versions
    )
    facts = read_facts(store, [domain.name for domain in contents.domains])
    files = render_files(export, facts, digests)
    if settings.tokenizer_json is not None:
        files[TOKENIZER] = settings.tokenizer_json
    return files
