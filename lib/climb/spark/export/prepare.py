"""Derive the plan and the contents of an export from the tables and the configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from climb import tables
from climb.config import Config, build
from climb.errors import ConfigError, TableError
from climb.export import Contents, ExportedDomain, Format, Kind, Tokenization
from climb.export.folder import Target, follow_link
from climb.export.tokenization import check_tokenizer, describe_tokenizer, read_own_tokenizer
from climb.spark.corpus.count import read_tokenizer_json
from climb.spark.corpus.mix import find_other_origin
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.export.rows import ShardKey
from climb.spark.export.shards import DomainCounts, ShardRecord
from climb.spark.export.write import ShardSettings


@dataclass(frozen=True)
class Prepared:
    """The settings of an export, before anything is written."""

    target: Target
    settings: ShardSettings
    plan: dict[str, Any]
    """Everything that the files are made from, as JSON values."""

    weights: dict[str, float]
    target_tokens: int


def prepare(store: Store, cfg: Config) -> Prepared:
    """Read the mixture of table `corpus` and the tokenizer, and make the plan.

    Raises:
        TableError: the job `mix` has not run, or the tables that it reads have changed since then.
        ConfigError: the format does not support `export.kind`, or the tokenizer cannot be used.
    """
    format: Format = build(cfg.export.format, Format)
    kind = choose_kind(format, cfg.export.kind)
    inputs = store.history.read_inputs(tables.CORPUS)
    if inputs is None:
        raise TableError("table corpus has no mixture; run `climb mix` first")
    _check_current(store, cfg, inputs)
    check_tokenizer(format, cfg.export.tokenizer)
    json, tokenization = _read_tokenizer(store, cfg) if format.stores_tokens else (None, None)
    plan = {
        "inputs": _describe_inputs(store, inputs["settings"]),
        "format": dict(cfg.export.format),
        "kind": kind,
        "tokens": None if tokenization is None else asdict(tokenization),
        "tokenizer": None if json is None else hashlib.sha256(json.encode()).hexdigest(),
        "settings": {
            "sequence_length": cfg.export.sequence_length,
            "validation_share": cfg.export.validation_share,
            "seed": cfg.search.seed,
            "search": cfg.search.name,
            "constraints": cfg.search.model_dump(
                mode="json", include={"constraints", "max_epochs"}
            ),
        },
    }
    return Prepared(
        Target(follow_link(cfg.export_folder)),
        ShardSettings(format, kind, tokenization, json),
        plan,
        dict(inputs["settings"]["weights"]),
        int(inputs["settings"]["tokens"]),
    )


def _describe_inputs(store: Store, mixture: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what an export is made from, without the ids of tables.

    The inputs are part of the plan, and the plan is written into files of the export. The ids are
    random: with them, equal tables would give different files.
    """
    read = (tables.CORPUS, tables.CLUSTERS, tables.DOCUMENTS, tables.REJECTED)
    made_from = store.history.describe_inputs(*read, mixture=mixture)
    return {"read": made_from["read"], "settings": made_from["settings"]}


def _check_current(store: Store, cfg: Config, inputs: Inputs) -> None:
    """Check that table `corpus` was made from the present tables and recommendation.

    Raises:
        TableError: a table, the recommendation or a setting has changed since then.
    """
    named = {table.name: table for table in tables.TABLES}
    read = inputs["read"]
    now = store.history.describe_inputs(*(named[name] for name in read))
    ids = inputs.get("ids", now["ids"])
    changed = sorted(
        n for n in read if (now["read"][n], now["ids"].get(n)) != (read[n], ids.get(n))
    )
    origin = f"an earlier version of {', '.join(changed)}" if changed else ""
    if origin := origin or find_other_origin(store, cfg):
        raise TableError(f"table corpus was made from {origin}; run `climb mix` first")


def choose_kind(format: Format, kind: Kind | None) -> Kind:
    """Return the configured kind, or the default of the format.

    Raises:
        ConfigError: the format does not support the configured kind.
    """
    if kind is not None and kind not in format.kinds:
        raise ConfigError(
            f"export.kind is {kind!r}, but {type(format).__name__} supports only "
            f"{' and '.join(format.kinds)}"
        )
    return kind or format.kinds[0]


def build_contents(
    prepared: Prepared, written: Sequence[tuple[ShardKey, ShardRecord]], cfg: Config
) -> Contents:
    """Build the contents from the records of all shards.

    Raises:
        TableError: a domain has no document in the training split.
    """
    counts = _sum_training(written)
    missing = sorted({name for _, record in written for name in record.domains} - counts.keys())
    if missing or not counts:
        raise TableError(
            f"no document of {', '.join(missing) or 'any domain'} is in the training split; lower "
            "export.validation_share"
        )
    limits = cfg.search.mixture_constraints.find_epoch_limits(sorted(prepared.weights))
    total_weight = sum(prepared.weights[name] for name in counts)
    domains = [
        ExportedDomain(
            name=name,
            weight=(weight := prepared.weights[name] / total_weight),
            documents=own.documents,
            tokens=own.tokens,
            squared_tokens=float(own.squared_tokens),
            epochs=weight * prepared.target_tokens / own.first_tokens if own.tokens else 0.0,
            max_epochs=limits[name][0] if name in limits else None,
        )
        for name, own in sorted(counts.items())
    ]
    shards = [record.describe(key) for key, record in written]
    return Contents(
        kind=prepared.settings.kind,
        domains=tuple(domains),
        shards=tuple(sorted(shards, key=lambda s: (s.split, s.domain or "", s.files))),
        tokenization=prepared.settings.tokenization,
        target_tokens=prepared.target_tokens,
        sequence_length=cfg.export.sequence_length,
        seed=cfg.search.seed,
        folder=str(prepared.target.path.absolute()),
    )


def _sum_training(written: Sequence[tuple[ShardKey, ShardRecord]]) -> dict[str, DomainCounts]:
    """Sum what the shards of the training split contain of each domain."""
    counts: dict[str, DomainCounts] = {}
    for key, record in written:
        if key.split == "train":
            for name, own in record.domains.items():
                counts[name] = counts.get(name, DomainCounts()) + own
    return counts


def _read_tokenizer(store: Store, cfg: Config) -> tuple[str, Tokenization]:
    """Read `export.tokenizer`; if it is not set, read the tokenizer of the job `count`."""
    if cfg.export.tokenizer is not None:
        return read_own_tokenizer(cfg.export.tokenizer, cfg.export.end_of_text)
    json, end = read_tokenizer_json(store, cfg), cfg.export.end_of_text or cfg.count.end_of_text
    return json, describe_tokenizer(json, cfg.count.recipe, end)
