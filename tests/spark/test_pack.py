"""Shards have the planned share of every domain, in hash order, for every partitioning."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from climb.jobs import pack
from tokenizers import Tokenizer

from climb import tables
from climb.config import load
from climb.files import is_complete, read_digest
from climb.proxy import shards
from climb.proxy.shards import JoinedShard, open_shard
from climb.spark.delta.store import Store
from climb.spark.training import pack as packing
from climb.spark.training.pack import compute_domain_share, pack_shards, plan_shards
from climb.spark.training.pack_files import PackTask, ShardFile
from climb.tokenizer import END_OF_TEXT, train_json

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
    domain = {"domain": "a", "n_tokens": 100_000}
    planned = {shard.kind: shard for shard in plan_shards([domain], cfg)}
    assert {kind: shard.n_tokens for kind, shard in planned.items()} == {
        "base": 1000, "trial": 25_000, "target-base": 1000, "target": 50_000,
    }  # fmt: skip
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


def test_a_copy_of_a_root_has_shards_of_its_own(packed, store, cfg, spark, tmp_path):
    shutil.copytree(store.cfg.root, tmp_path / "copy")
    copied = cfg.model_copy(
        update={"storage": cfg.storage.model_copy(update={"root": str(tmp_path / "copy")})}
    )
    copy = Store(spark, copied.storage)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "copy").rglob("*.npy")}
    assert "shards packed" in pack.run(copy, copied)
    paths = [Path(row["path"]) for row in copy.read_rows(tables.SHARDS)]
    assert paths
    assert all(path.is_relative_to(tmp_path / "copy") for path in paths)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "copy").rglob("*.npy")}
    assert "up to date" in pack.run(copy, copied)


def test_roots_with_one_folder_of_files_share_no_shards_of_different_documents(
    packed, store, cfg, spark, tmp_path
):
    """The second root is a copy, whose tables keep their ids and go on with the same versions."""
    shutil.copytree(Path(store.cfg.root) / "tables", tmp_path / "copy" / "tables")
    settings = [f"storage.root={tmp_path}/copy", f"storage.files={store.cfg.root}"]
    copy = Store(spark, load(settings=settings).storage)
    inputs = {"read": {}, "settings": {"run": "one folder of files"}}
    mine = pack_shards(store, cfg, inputs)
    assert pack_shards(copy, cfg, inputs) == mine
    swapped = "CASE domain WHEN 'alpha' THEN 'beta' WHEN 'beta' THEN 'alpha' END"
    spark.sql(f"UPDATE {copy.locate(tables.CLUSTERS)} SET domain = {swapped}")
    other = pack_shards(copy, cfg, inputs)
    assert {row["path"] for row in mine}.isdisjoint(row["path"] for row in other)


@pytest.mark.slow
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


def pack_at_once(store, json, domain, n_tokens, from_top):
    """Encode a whole domain in one list, as the code before shards had files did."""
    documents = store.read(tables.DOCUMENTS).selectExpr(
        "doc_id", "text", "xxhash64(doc_id, 'pack') AS hash"
    )
    ordered = []
    for doc_id, text, hashed in documents.collect():
        if int(doc_id) < 100 and ("alpha" if int(doc_id) % 2 else "beta") == domain:
            position = hashed / 2.0**64 + 0.5
            ordered.append((1.0 - position if from_top else position, doc_id, text))
    tokenizer = Tokenizer.from_str(json)
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = [i for *_, text in sorted(ordered) for i in [*tokenizer.encode(text).ids, end]]
    return ids[:n_tokens]


@pytest.fixture
def small_files(monkeypatch):
    """Files of about 100 tokens, in buckets of about 30."""
    monkeypatch.setattr(shards, "PART_TOKENS", 100)
    monkeypatch.setattr(shards, "BUCKET_TOKENS", 30)


def open_row(row):
    return open_shard(row["path"], row["domain"])


def read_tokens(row):
    return open_row(row)[:].tolist()


@pytest.mark.parametrize("partitions", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_many_files_have_the_tokens_of_the_whole_domain_encoded_at_once(
    packed, store, cfg, spark, small_files, partitions
):
    json, _ = packed
    partitions_before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", partitions)
    try:
        rows = pack_shards(store, cfg, {"read": {}, "settings": {"partitions": partitions}})
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions_before)
    planned = {(shard.kind, shard.domain): shard for shard in read_plan(store, cfg)}
    assert {(row["kind"], row["domain"]) for row in rows} == planned.keys()
    for row in rows:
        shard = planned[row["kind"], row["domain"]]
        expected = pack_at_once(store, json, row["domain"], shard.n_tokens, shard.from_top)
        assert read_tokens(row) == expected
        assert row["n_tokens"] == len(expected)
        assert row["sha256"] == read_digest(Path(row["path"]))
    many = [shard for shard in map(open_row, rows) if isinstance(shard, JoinedShard)]
    assert len(many) >= 4
    for shard in many:
        assert all(100 <= len(part) < 300 for part in shard.parts[:-1])
    assert max(len(shard.parts) for shard in many) > 2


def read_plan(store, cfg):
    return plan_shards(store.read_rows(tables.DOMAINS), cfg)


def test_a_shard_of_the_whole_domain_has_every_document(packed, store, cfg):
    json, sizes = packed
    whole = cfg.model_copy(
        update={"search": cfg.search.model_copy(update={"target_tokens": 1_000})}
    )
    rows = pack_shards(store, whole, {"read": {}, "settings": {"whole": True}})
    for domain, size in zip(("beta", "alpha"), sizes, strict=True):
        row = next(row for row in rows if (row["kind"], row["domain"]) == ("trial", domain))
        assert read_tokens(row) == pack_at_once(store, json, domain, size, False)
        assert row["n_tokens"] == size  # the ends of documents count as tokens of the shard


def test_packing_that_was_killed_goes_on_with_the_missing_files(
    packed, store, cfg, small_files, monkeypatch
):
    unbroken, broken = ({"read": {}, "settings": {"run": name}} for name in ("whole", "killed"))
    expected = pack_shards(store, cfg, unbroken)
    other = Path(expected[0]["path"]).parent
    before = set(other.parent.iterdir())

    class KilledTask(PackTask):
        def write(self, batches):
            for n, written in enumerate(super().write(batches)):
                if n == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield written

    with monkeypatch.context() as patch:
        patch.setattr(packing, "PackTask", KilledTask)
        with pytest.raises(Exception, match=r"worker exited unexpectedly|crashed|EOF"):
            pack_shards(store, cfg, broken)
    (folder,) = set(other.parent.iterdir()) - before
    kept = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npy") if is_complete(p)}
    assert len(kept) >= 2
    rows = pack_shards(store, cfg, broken)
    files = sorted(folder.rglob("*.npy"))
    assert len(kept) < len(files)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [file.relative_to(folder) for file in files] == [
        file.relative_to(other) for file in sorted(other.rglob("*.npy"))
    ]
    for file in files:
        assert file.read_bytes() == (other / file.relative_to(folder)).read_bytes()
    keys = ("kind", "domain", "n_tokens", "sha256")
    assert [[row[k] for k in keys] for row in rows] == [[row[k] for k in keys] for row in expected]


def test_the_texts_that_no_shard_needs_are_filtered_before_the_join(packed, store, cfg):
    part = ShardFile(0, "trial", "alpha", Path("x"), shards.Part(0, 99, 1))
    only = packing._select_ends([part], {"alpha": 1000})
    documents = packing.read_domain_documents(store, cfg, only)
    assert 0 < documents.count() < 30  # about 10 of 100
    plan = documents._jdf.queryExecution().optimizedPlan().toString()
    assert plan.count("xxhash64") == 2 * 3  # two comparisons for each of three tables
