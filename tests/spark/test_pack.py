"""Shards hold the wanted share of every domain, in hash order, whatever the partitioning."""

from pathlib import Path

import numpy as np
import pytest
from climb.jobs import pack
from tokenizers import Tokenizer

from climb import tables
from climb.config import load
from climb.spark.store import Store
from climb.tokenizer import train_json

N = 120


@pytest.fixture(scope="module")
def store(spark, tmp_path_factory):
    return Store(spark, load(settings=[f"storage.root={tmp_path_factory.mktemp('pack')}"]).storage)


@pytest.fixture(scope="module")
def cfg(store):
    return load(
        settings=[
            f"storage.root={store.cfg.root}",
            "count.vocab_size=300",
            "proxy.base_tokens=1000",
            "proxy.trial_tokens=1000",
            "train.base_tokens=1000",
            "train.tokens=2000",
            "search.target_tokens=4000",
        ]
    )


@pytest.fixture(scope="module")
def packed(store, cfg):
    """Two domains of documents with known token counts, and a junk cluster that was pruned."""
    texts = {f"{i:03d}": f"{'alpha' if i % 2 else 'beta'} document {i} " * 5 for i in range(N)}
    json = train_json(texts.values(), 300)
    counts = {i: len(Tokenizer.from_str(json).encode(t).ids) for i, t in texts.items()}
    write(store, tables.TOKENIZERS, [{"recipe": "bpe-300-5000", "tokenizer": json}])
    write(
        store,
        tables.DOCUMENTS,
        [
            {"doc_id": i, "source": "", "n_bytes": 1, "repairs": [], "metadata": {}, "text": t}
            for i, t in texts.items()
        ],
    )
    write(
        store,
        tables.TOKENS,
        [{"doc_id": i, "recipe": "bpe-300-5000", "n_tokens": n} for i, n in counts.items()],
    )
    cluster = {i: 2 if int(i) >= 100 else int(i) % 2 for i in texts}
    write(
        store,
        tables.ASSIGNMENTS,
        [
            {"doc_id": i, "clustering": "c", "cluster": c, "distance": 0.0}
            for i, c in cluster.items()
        ],
    )
    names = ["beta", "alpha", None]
    empty = {"n_documents": 0, "n_tokens": 0, "scores": {}, "reason": None}
    write(
        store,
        tables.CLUSTERS,
        [empty | {"cluster": c, "kept": c < 2, "domain": names[c]} for c in range(3)],
    )
    sizes = [sum(n for i, n in counts.items() if cluster[i] == c) for c in range(2)]
    write(
        store,
        tables.DOMAINS,
        [
            {
                "domain": names[c],
                "clusters": [c],
                "n_documents": 50,
                "n_tokens": sizes[c],
                "token_share": sizes[c] / sum(sizes),
                "terms": [],
                "examples": [],
            }
            for c in range(2)
        ],
    )
    pack.run(store, cfg)
    return json, sizes


def write(store, table, rows):
    store.append(store.frame(rows, table), table)


def shards(store):
    return {(row["kind"], row["domain"]): row for row in store.rows(tables.SHARDS)}


def test_a_trial_shard_is_the_share_of_the_domain_that_the_trial_is_of_the_target(packed, store):
    _, sizes = packed
    found = shards(store)
    for kind, ratio in (("trial", 0.25), ("target", 0.5)):
        for domain, size in zip(("beta", "alpha"), sizes, strict=True):
            assert found[kind, domain]["n_tokens"] == round(size * ratio)


def test_a_shard_holds_whole_documents_of_its_domain_and_nothing_pruned(packed, store):
    json, _ = packed
    row = shards(store)["target", "alpha"]
    text = Tokenizer.from_str(json).decode(np.load(row["path"]).tolist())
    numbers = [int(part.split()[2]) for part in text.split("  ") if part.startswith("alpha doc")]
    assert numbers
    assert all(number % 2 and number < 100 for number in numbers)


def test_packing_again_writes_nothing_and_lost_files_are_not_needed_to_know_it(packed, store, cfg):
    version = store.version(tables.SHARDS)
    assert "up to date" in pack.run(store, cfg)
    assert store.version(tables.SHARDS) == version


def test_another_partitioning_gives_the_same_tokens(packed, store, cfg, spark):
    before = {key: row["sha256"] for key, row in shards(store).items()}
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        for row in shards(store).values():
            Path(row["path"]).unlink()
        store.session.sql(f"DELETE FROM {store.location(tables.SHARDS)}")
        pack.run(store, cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "2")
    assert {key: row["sha256"] for key, row in shards(store).items()} == before
