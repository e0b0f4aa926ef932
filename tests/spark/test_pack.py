"""Shards have the planned share of every domain, in hash order, for every partitioning."""

from pathlib import Path

import numpy as np
import pytest
from climb.jobs import pack
from tokenizers import Tokenizer

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.spark.training.pack import MARGIN_DOCUMENTS, compute_domain_share, plan_shards
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
    """Pack two domains of documents with counted tokens; a third cluster is pruned."""
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
                "sample": [],
                "generated_name": "",
            }
            for c in range(2)
        ],
    )
    pack.run(store, cfg)
    return json, sizes


def write(store, table, rows):
    store.append(store.create_frame(rows, table), table)


def read_shards(store):
    return {(row["kind"], row["domain"]): row for row in store.read_rows(tables.SHARDS)}


def test_no_run_reads_more_than_the_whole_domain(cfg):
    assert compute_domain_share(1000, cfg) == 0.25
    assert compute_domain_share(9000, cfg) == 1.0


def test_shards_of_all_kinds_are_planned_from_the_sizes_of_the_runs(cfg):
    domain = {"domain": "a", "n_tokens": 100_000, "n_documents": MARGIN_DOCUMENTS * 10}
    planned = {shard.kind: shard for shard in plan_shards([domain], cfg)}
    assert {kind: shard.n_tokens for kind, shard in planned.items()} == {
        "base": 1000, "trial": 25_000, "target-base": 1000, "target": 50_000,
    }  # fmt: skip
    assert planned["trial"].hash_range == pytest.approx(0.25 * 1.5 + 0.1)
    assert [kind for kind, shard in planned.items() if shard.from_top] == ["base", "target-base"]


def test_a_shard_has_the_share_of_the_domain_that_its_run_has_of_the_target_run(packed, store):
    _, sizes = packed
    found = read_shards(store)
    for kind, ratio in (("trial", 0.25), ("target", 0.5)):
        for domain, size in zip(("beta", "alpha"), sizes, strict=True):
            assert found[kind, domain]["n_tokens"] == round(size * ratio)


def test_a_shard_has_whole_documents_of_its_domain_and_no_pruned_ones(packed, store):
    json, _ = packed
    row = read_shards(store)["target", "alpha"]
    text = Tokenizer.from_str(json).decode(np.load(row["path"]).tolist())
    numbers = [int(part.split()[2]) for part in text.split("  ") if part.startswith("alpha doc")]
    assert numbers
    assert all(number % 2 and number < 100 for number in numbers)


def test_packing_again_writes_nothing(packed, store, cfg):
    version = store.history.read_version(tables.SHARDS)
    assert "up to date" in pack.run(store, cfg)
    assert store.history.read_version(tables.SHARDS) == version


def test_partitioning_does_not_change_the_tokens(packed, store, cfg, spark):
    before = {key: row["sha256"] for key, row in read_shards(store).items()}
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        for row in read_shards(store).values():
            Path(row["path"]).unlink()
        store.session.sql(f"DELETE FROM {store.locate(tables.SHARDS)}")
        pack.run(store, cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "2")
    assert {key: row["sha256"] for key, row in read_shards(store).items()} == before
