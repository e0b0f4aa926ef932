"""Rows of the tables that a search reads, for tests of searches with `PlantedProxy`."""

from __future__ import annotations

from collections.abc import Mapping

from climb import tables
from climb.tables import Table
from climb.tokenizer import train_json

VOCABULARY = 300
"""Vocabulary size of the tokenizer; set `count.vocab_size` to this number."""

KINDS = ("base", "trial", "target-base", "target")
UNUSED = {"n_documents": 10, "terms": [], "examples": [], "sample": [], "generated_name": ""}
"""Columns of `domains` that a search does not read."""


def make_search_inputs(token_shares: Mapping[str, float]) -> dict[Table, list[tables.Row]]:
    """Make the rows of `domains`, `shards` and `tokenizers`; the files of the shards do not exist.

    Args:
        token_shares: domain -> share of a million tokens.
    """
    domains = [
        {**UNUSED, "domain": name, "clusters": [i]}
        | {"n_tokens": int(1e6 * share), "token_share": share}
        for i, (name, share) in enumerate(token_shares.items())
    ]
    shards = [
        {"kind": kind, "domain": name, "path": f"{kind}-{name}.npy"}
        | {"n_tokens": 1, "sha256": f"{kind} {name}"}
        for kind in KINDS
        for name in token_shares
    ]
    text = train_json(["a few words"] * 9, VOCABULARY)
    tokenizer = {"recipe": f"bpe-{VOCABULARY}-5000", "tokenizer": text}
    return {tables.DOMAINS: domains, tables.SHARDS: shards, tables.TOKENIZERS: [tokenizer]}
