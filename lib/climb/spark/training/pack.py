"""Pack a share of every domain's documents into token arrays that a proxy reads by path.

If a proxy trains on 1/r of the target run's tokens, it reads 1/r of each domain. So both repeat
scarce text equally often. Shards of trials and target runs have the documents with the lowest
hashes; shards of base checkpoints have those with the highest.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config import Config
from climb.files import is_complete, write_complete
from climb.spark.corpus.count import read_tokenizer_json
from climb.spark.corpus.domain_documents import read_domain_documents
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.failures import reraise_task_errors
from climb.spark.shared import check_shared
from climb.tokenizer import find_end_of_text, open_tokenizer

Kind = Literal["base", "trial", "target-base", "target"]

MARGIN = 1.5
"""Factor by which the hash range is wider than the mean length requires, because documents differ
in length."""

MARGIN_DOCUMENTS = 64
"""The range is wider by this many documents too, since small domains vary most."""


@dataclass(frozen=True)
class Shard:
    """The planned content of one shard."""

    kind: Kind
    domain: str
    n_tokens: int
    """Tokens of the shard; fewer if the domain has fewer."""

    hash_range: float
    """Share of the domain's documents in hash order that should contain these tokens."""

    @property
    def from_top(self) -> bool:
        """Whether the shard takes the highest hashes; trials take the lowest."""
        return self.kind.endswith("base")


def compute_domain_share(run_tokens: int, cfg: Config) -> float:
    """Return the share of every domain that a run of `run_tokens` tokens reads, from 0 to 1.

    It is the run's share of the target run, so that both repeat a domain equally often.
    """
    return min(1.0, run_tokens / cfg.search.target_tokens)


def plan_shards(domains: list[dict[str, Any]], cfg: Config) -> list[Shard]:
    """Plan the sizes of the shards of all four kinds.

    Args:
        domains: rows of table `domains`.
        cfg: `proxy` and `train` give the tokens of base checkpoints, trials and target runs.

    Returns:
        Per domain, shards of trials and of target runs with the share of `compute_domain_share`,
        and shards of base checkpoints with the domain's part of the base's tokens.
    """
    total = sum(row["n_tokens"] for row in domains)
    shares: dict[Kind, float] = {
        "base": min(1.0, cfg.proxy.base_tokens / total),
        "trial": compute_domain_share(cfg.proxy.trial_tokens, cfg),
        "target-base": min(1.0, cfg.train.base_tokens / total),
        "target": compute_domain_share(cfg.train.tokens, cfg),
    }
    return [
        Shard(
            kind,
            row["domain"],
            max(1, round(row["n_tokens"] * share)),
            min(1.0, share * MARGIN + MARGIN_DOCUMENTS / max(1, row["n_documents"])),
        )
        for kind, share in shares.items()
        for row in domains
    ]


def pack_shards(store: Store, cfg: Config, inputs: Inputs) -> list[dict[str, Any]]:
    """Write the shards whose files do not exist yet, and return the rows of all shards.

    Args:
        store: tables `documents`, `assignments`, `clusters`, `domains`, `tokens` are read.
        cfg: the configuration.
        inputs: what the shards are made from. It names their folder, so shards of other inputs
            stay.

    Raises:
        ConfigError: the tokenizer does not have the end-of-text token.
        PreflightError: an executor does not see the folder of files.
    """
    check_shared(store.session, store.cfg.files_folder)
    model = read_tokenizer_json(store, cfg)
    # Versions alone do not identify rows: a table that was created again starts at version 0, and
    # several runs may share one folder of files.
    ids = [store.history.read_table_id(table) for table in (tables.DOCUMENTS, tables.ASSIGNMENTS)]
    made_from = json.dumps([inputs, ids, hashlib.sha256(model.encode()).hexdigest()])
    folder = store.locate_file("shards") / hashlib.sha256(made_from.encode()).hexdigest()[:12]
    shards = plan_shards(store.read_rows(tables.DOMAINS), cfg)
    pack = _build_packer(shards, str(folder), model, cfg.count.end_of_text)
    chosen = _select_hash_ranges(read_domain_documents(store, cfg), shards)
    packed = chosen.groupBy("kind", "domain").applyInPandas(pack, tables.SHARDS.columns)
    with reraise_task_errors():
        rows = [row.asDict() for row in packed.collect()]
    return sorted(rows, key=lambda row: (row["kind"], row["domain"]))


def _select_hash_ranges(documents: DataFrame, shards: Sequence[Shard]) -> DataFrame:
    """Select by hash slightly more documents than each shard needs, so that only these are sorted.

    Args:
        documents: (doc_id, domain, ...).
        shards: the planned shards.

    Returns:
        The documents of every shard with its `kind` and their `position` in its order, 0 to 1.
    """
    rows = [(s.kind, s.domain, s.hash_range, s.from_top) for s in shards]
    schema = "kind STRING, domain STRING, hash_range DOUBLE, from_top BOOLEAN"
    ranges = F.broadcast(documents.sparkSession.createDataFrame(rows, schema))
    hashed = F.xxhash64("doc_id", F.lit("pack")) / F.lit(2.0**64) + 0.5
    position = F.when(F.col("from_top"), 1.0 - hashed).otherwise(hashed)
    joined = documents.join(ranges, on="domain").withColumn("position", position)
    return joined.where("position <= hash_range").drop("hash_range", "from_top")


def _build_packer(
    shards: Sequence[Shard], folder: str, model: str, end_of_text: str | None
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Bind all arguments but the group: applyInPandas passes the key to a function of two."""
    n_tokens = {(str(s.kind), s.domain): s.n_tokens for s in shards}
    end = find_end_of_text(open_tokenizer(model), end_of_text)
    return lambda group: _pack_group(group, n_tokens, folder, model, end)


def _pack_group(
    group: pd.DataFrame,
    n_tokens: Mapping[tuple[str, str], int],
    folder: str,
    model: str,
    end_of_text: str,
) -> pd.DataFrame:
    """Tokenize one shard's documents in hash order, write the array, and return its row."""
    kind, domain = str(group["kind"].iloc[0]), str(group["domain"].iloc[0])
    path = Path(folder) / f"{kind}-{domain}.npy"
    group = group.sort_values(["position", "doc_id"], kind="stable")
    size = n_tokens[kind, domain]
    n_documents = int(np.searchsorted(group["n_tokens"].cumsum().to_numpy(), size)) + 1
    texts = group["text"].iloc[:n_documents].tolist()
    if is_complete(path):
        ids = np.load(path, allow_pickle=False)
    else:
        ids = _tokenize(texts, model, end_of_text)[:size]
        write_array(path, ids)
    row = {
        "kind": kind,
        "domain": domain,
        "path": str(path),
        "n_documents": len(texts),
        "n_tokens": len(ids),
        "sha256": hashlib.sha256(ids.data).hexdigest(),
    }
    return pd.DataFrame([row])


def write_array(path: Path, ids: NDArray[np.unsignedinteger]) -> None:
    """Write a one-dimensional array as an .npy file, from its start to its end."""
    header, npy = io.BytesIO(), cast(Any, np.lib.format)
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(ids))
    write_complete(path, lambda: [header.getvalue(), ids.data])


def _tokenize(texts: list[str], model: str, end_of_text: str) -> NDArray[np.unsignedinteger]:
    """Return the token ids of all texts, each followed by the end-of-text token.

    The ids are uint16 if all of the vocabulary fit, else uint32.
    """
    loaded = open_tokenizer(model)
    end = loaded.token_to_id(end_of_text)
    dtype = np.uint16 if max(loaded.get_vocab().values()) < 2**16 else np.uint32
    encoded = loaded.encode_batch_fast(texts, add_special_tokens=False)
    return np.concatenate([np.array([*encoding.ids, end], dtype=dtype) for encoding in encoded])
