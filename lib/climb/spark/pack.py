"""Pack a share of every domain's documents into token arrays that a proxy reads by path.

A proxy that trains on 1/r of the target run's tokens sees 1/r of each domain, so it repeats scarce
text as often as the target run will. A shard holds the documents with the lowest hash (a base's:
with the highest, so that a trial does not start by reading what its base has read).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables, tokenizer
from climb.config import Config
from climb.files import replacing
from climb.spark.failures import task_errors
from climb.spark.store import Store
from climb.spark.tokens import load_tokenizer, tokenizer_json
from climb.tokenizer import end_of_text_id

Kind = Literal["base", "trial", "target-base", "target"]

MARGIN = 1.5
"""Documents differ in length, so a hash range is taken this much wider than the tokens need."""

MARGIN_DOCUMENTS = 64
"""And this many documents wider, since few documents differ most."""


@dataclass(frozen=True)
class Shard:
    """What one shard shall hold."""

    kind: Kind
    domain: str
    wanted: int
    """Tokens."""

    limit: float
    """Share of the hash order that surely holds them."""

    @property
    def from_top(self) -> bool:
        """Bases take the end of the hash order that trials do not."""
        return self.kind.endswith("base")


def plan_shards(domains: list[dict[str, Any]], cfg: Config) -> list[Shard]:
    """Size the shards of all four kinds.

    Args:
        domains: rows of the table `domains`.
        cfg: trial shards hold n_tokens x trial_tokens / target_tokens of a domain, target shards
            the same with train.tokens; bases hold the domain's share of the base's tokens.
    """
    total = sum(row["n_tokens"] for row in domains)
    ratios: dict[Kind, float] = {
        "base": cfg.proxy.base_tokens / total,
        "trial": cfg.proxy.trial_tokens / cfg.search.target_tokens,
        "target-base": cfg.train.base_tokens / total,
        "target": cfg.train.tokens / cfg.search.target_tokens,
    }
    return [
        Shard(
            kind,
            row["domain"],
            max(1, round(row["n_tokens"] * min(1.0, ratio))),
            min(1.0, min(1.0, ratio) * MARGIN + MARGIN_DOCUMENTS / max(1, row["n_documents"])),
        )
        for kind, ratio in ratios.items()
        for row in domains
    ]


def pack_shards(store: Store, cfg: Config, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write the shards that are not there yet, and return the rows of all of them.

    Args:
        store: tables `documents`, `assignments`, `clusters`, `domains`, `tokens` are read.
        cfg: the configuration.
        inputs: what the shards are made from; names their folder, so shards of other inputs stay.

    Raises:
        ConfigError: the tokenizer has no token that ends a text.
    """
    model = tokenizer_json(store, cfg)
    # Versions alone do not name rows: a table that was made anew begins again at 0, and several
    # runs may keep their files in one folder.
    ids = [store.identity(table) for table in (tables.DOCUMENTS, tables.ASSIGNMENTS)]
    made_from = json.dumps([inputs, ids, hashlib.sha256(model.encode()).hexdigest()])
    folder = store.files("shards") / hashlib.sha256(made_from.encode()).hexdigest()[:12]
    shards = plan_shards(store.rows(tables.DOMAINS), cfg)
    pack = _packer(shards, str(folder), model)
    chosen = _hash_range(tagged_documents(store, cfg), shards)
    packed = chosen.groupBy("kind", "domain").applyInPandas(pack, tables.SHARDS.columns)
    with task_errors():
        rows = [row.asDict() for row in packed.collect()]
    return sorted(rows, key=lambda row: (row["kind"], row["domain"]))


def tagged_documents(store: Store, cfg: Config) -> DataFrame:
    """Documents of the kept clusters: (doc_id, domain, n_tokens, text)."""
    kept = store.read(tables.CLUSTERS).where("kept").select("cluster", "domain")
    counts = store.read(tables.TOKENS).where(F.col("recipe") == tokenizer.recipe(cfg.count))
    return (
        store.read(tables.ASSIGNMENTS)
        .join(F.broadcast(kept), on="cluster")
        .join(counts, on="doc_id")
        .join(store.read(tables.DOCUMENTS), on="doc_id")
        .select("doc_id", "domain", "n_tokens", "text")
    )


def _hash_range(tagged: DataFrame, shards: Sequence[Shard]) -> DataFrame:
    """Keep about the documents that each shard needs, by hash, before anything is sorted."""
    rows = [(s.kind, s.domain, s.limit, s.from_top) for s in shards]
    schema = "kind STRING, domain STRING, limit DOUBLE, from_top BOOLEAN"
    wanted = F.broadcast(tagged.sparkSession.createDataFrame(rows, schema))
    hashed = F.xxhash64("doc_id", F.lit("pack")) / F.lit(2.0**64) + 0.5
    position = F.when(F.col("from_top"), 1.0 - hashed).otherwise(hashed)
    joined = tagged.join(wanted, on="domain").withColumn("position", position)
    return joined.where("position <= limit").drop("limit", "from_top")


def _packer(
    shards: Sequence[Shard], folder: str, model: str
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function of one argument, as applyInPandas takes a second for the group's key."""
    wanted = {(str(s.kind), s.domain): s.wanted for s in shards}
    return lambda group: _pack_group(group, wanted, folder, model)


def _pack_group(
    group: pd.DataFrame, wanted: Mapping[tuple[str, str], int], folder: str, model: str
) -> pd.DataFrame:
    """Tokenise one shard's documents in hash order up to the wanted tokens; write the array."""
    kind, domain = str(group["kind"].iloc[0]), str(group["domain"].iloc[0])
    path = Path(folder) / f"{kind}-{domain}.npy"
    group = group.sort_values(["position", "doc_id"], kind="stable")
    n_tokens = wanted[kind, domain]
    enough = int(np.searchsorted(group["n_tokens"].cumsum().to_numpy(), n_tokens)) + 1
    texts = group["text"].iloc[:enough].tolist()
    if not path.exists():
        with replacing(path) as stream:
            np.save(stream, _token_ids(texts, model)[:n_tokens])
    ids = np.load(path, mmap_mode="r")
    row = {
        "kind": kind,
        "domain": domain,
        "path": str(path),
        "n_documents": len(texts),
        "n_tokens": len(ids),
        "sha256": hashlib.sha256(np.ascontiguousarray(ids).tobytes()).hexdigest(),
    }
    return pd.DataFrame([row])


def _token_ids(texts: list[str], model: str) -> np.ndarray:
    """Token ids of all texts, each followed by the end-of-text token; uint16 where they fit."""
    loaded = load_tokenizer(model)
    end = end_of_text_id(loaded)
    dtype = np.uint16 if loaded.get_vocab_size() <= 2**16 else np.uint32
    encoded = loaded.encode_batch_fast(texts, add_special_tokens=False)
    return np.concatenate([np.array([*encoding.ids, end], dtype=dtype) for encoding in encoded])
