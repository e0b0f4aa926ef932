"""Clusters are measured exactly, and merged into domains with readable names."""

import shutil

import numpy as np
import pytest
from climb.jobs import prune
from pyspark.sql import functions as F

from climb import tables
from climb.config import load, recipe_of
from climb.errors import ConfigError, TableError
from climb.spark.corpus import count, samples
from climb.spark.corpus.score import build_scorers
from climb.spark.delta.store import Store

TOPICS = (
    *("court appeal judge verdict", "court appeal statute judge"),  # the two most similar
    *("onion butter garlic soup", "click winner casino prize", "orbit planet comet moon"),
)
CENTROIDS_CD = np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
QUALITY = (4.0, 4.0, 3.5, 1.0, 4.5)
PER_CLUSTER = 12


def config(root, *settings):
    return load(
        settings=[
            f"storage.root={root}",
            "prune.thresholds={rules: 3.0}",
            "prune.merge_height=0.5",
            "prune.sample_documents=6",
            *settings,
        ]
    )


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Return the folder of tables that every test copies."""
    cfg = config(tmp_path_factory.mktemp("world") / "out")
    write_world(Store(spark, cfg.storage), cfg)
    return cfg.storage.root


@pytest.fixture
def cfg(world, tmp_path):
    shutil.copytree(world, tmp_path / "out")
    return config(tmp_path / "out")


@pytest.fixture
def store(spark, cfg):
    return Store(spark, cfg.storage)


def write(store, table, rows, partitions):
    store.append(store.create_frame(rows, table).repartition(partitions), table)


def write_world(store, cfg, reverse=False, partitions=1):
    """Write five clusters of twelve documents, and a sixth centroid without documents."""
    [scorer] = build_scorers(cfg.score.scorers)
    ids = [(c, i) for c in range(5) for i in range(PER_CLUSTER)]
    ids = ids[::-1] if reverse else ids
    documents, tokens, scores, assignments = [], [], [], []
    for c, i in ids:
        doc_id = f"{c}-{i:02d}"
        text = f"the {TOPICS[c]} \n number {i}"
        fixed = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}}
        documents.append({"doc_id": doc_id, "text": text} | fixed)
        count = {"doc_id": doc_id, "recipe": cfg.count.recipe, "n_tokens": 100 * (c + 1)}
        tokens += [count, count | {"recipe": "another", "n_tokens": 7}]
        value = QUALITY[c] + (0.3 if i % 2 else -0.3)
        scores.append(
            {
                "doc_id": doc_id,
                "recipe": recipe_of(scorer),
                "scores": dict.fromkeys(scorer.names, value),
            }
        )
        distance = ((i * 5) % PER_CLUSTER) / 10
        own = {"clustering": "made", "cluster": c, "distance": distance}
        assignments.append({"doc_id": doc_id} | own)
    centroids = [
        {"cluster": c, "clustering": "made", "centroid": centroid_D}
        for c, centroid_D in enumerate([*CENTROIDS_CD.tolist(), [-1.0, 0.0, 0.0, 0.0]])
    ]
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.TOKENS, tokens),
        (tables.SCORES, scores),
        (tables.CENTROIDS, centroids),
        (tables.ASSIGNMENTS, assignments),
    ):
        write(store, table, rows, partitions)


def test_clusters_are_measured_pruned_merged_and_described(store, cfg):
    line = prune.run(store, cfg)
    assert line == "4 of 6 clusters kept (73.3% of the tokens), merged into 3 domains"
    clusters = store.read_rows(tables.CLUSTERS)
    assert [row["kept"] for row in clusters] == [True, True, True, False, True, False]
    assert [row["reason"] for row in clusters[3:]] == ["rules 1 < 3", None, "no documents"]
    assert [row["n_documents"] for row in clusters] == [12, 12, 12, 12, 12, 0]
    assert [row["n_tokens"] for row in clusters] == [1200, 2400, 3600, 4800, 6000, 0]
    for row, quality in zip(clusters, QUALITY, strict=False):
        assert row["scores"]["rules"] == pytest.approx(quality, abs=2**-20)
    assert clusters[5]["scores"] == {}

    domains = {row["domain"]: row for row in store.read_rows(tables.DOMAINS)}
    law = next(row for row in domains.values() if row["clusters"] == [0, 1])
    assert law["n_tokens"] == 3600
    assert law["token_share"] == pytest.approx(3600 / 13200)
    assert law["terms"][0] == "court appeal"
    assert law["domain"] == "court-appeal-judge"
    assert all(
        " \n " not in text and text.startswith("the court appeal") for text in law["examples"]
    )
    assert {row["domain"] for row in clusters if row["cluster"] in (0, 1)} == {law["domain"]}
    assert sum(row["token_share"] for row in domains.values()) == pytest.approx(1.0)


def test_examples_are_the_sampled_documents_that_are_nearest_to_the_centroid(store, cfg):
    prune.run(store, config(store.cfg.root, "prune.sample_documents=12"))
    [space] = [row for row in store.read_rows(tables.DOMAINS) if row["clusters"] == [4]]
    # Document i has distance (5 i mod 12) / 10.
    assert [text.rsplit(" ", 1)[1] for text in space["examples"]] == ["0", "5", "10"]


def test_the_driver_gets_a_bounded_number_of_documents_of_all_clusters(store, monkeypatch):
    clusters = list(range(4))
    all_of = samples.sample_documents(store, clusters, 6)
    monkeypatch.setattr(samples, "MAX_SAMPLED", 10)
    few_of = samples.sample_documents(store, clusters, 6)
    assert [len(rows) for rows in all_of] == [6] * 4
    assert [len(rows) for rows in few_of] == [2] * 4
    assert all(set(few) <= set(rows) for few, rows in zip(few_of, all_of, strict=True))


def test_the_tokenizer_learns_from_the_lowest_hashes_in_every_partitioning(store, cfg):
    documents = store.read(tables.DOCUMENTS)
    hashed = documents.selectExpr("doc_id", "text", "xxhash64(doc_id) AS hash").collect()
    lowest = sorted(hashed, key=lambda row: (row["hash"], row["doc_id"]))[:7]
    expected = [row["text"] for row in sorted(lowest, key=lambda row: row["doc_id"])]
    for n_partitions in (1, 7):
        other = documents.repartition(n_partitions)
        chosen = samples.select_lowest(other, F.xxhash64("doc_id"), 7)
        assert [row["text"] for row in chosen.orderBy("doc_id").collect()] == expected
    section = cfg.count.model_copy(update={"sample_documents": 7})
    assert list(count._read_sample(store, section)) == expected
    assert samples.select_lowest(documents, F.xxhash64("doc_id"), 10**6).count() == len(hashed)
    assert samples.select_lowest(documents.where("false"), F.xxhash64("doc_id"), 5).isEmpty()


def test_partitions_and_order_do_not_change_a_row_and_a_second_run_writes_nothing(
    store, cfg, spark, tmp_path
):
    prune.run(store, cfg)
    written = (tables.CLUSTERS, tables.DOMAINS)
    before = [store.history.read_version(table) for table in written]
    assert prune.run(store, cfg) == "3 domains up to date"
    assert [store.history.read_version(table) for table in written] == before

    other = Store(spark, config(f"{tmp_path}/other").storage)
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", 7)
        write_world(other, cfg, reverse=True, partitions=5)
        prune.run(other, cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    for table in written:
        assert store.read_rows(table) == other.read_rows(table), table.name


def test_errors_about_thresholds_show_the_scores_of_the_clusters(store, cfg, capsys):
    root = store.cfg.root
    with pytest.raises(ConfigError, match="prune all 5 clusters") as error:
        prune.run(store, config(root, "prune.thresholds={rules: 4.9}"))
    table = str(error.value).splitlines()
    assert "rules 4.9" in table[0]
    assert "rules" in table[1].split()
    assert [int(line.split()[0]) for line in table[2:]] == [4, 0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"'advert'.*the scores are .*rules"):
        prune.run(store, config(root, "prune.thresholds={advert: 2.0}"))
    with pytest.raises(ConfigError, match=r"prune\.merge_height 100 merges all 4"):
        prune.run(store, config(root, "prune.merge_height=100.0"))
    assert not store.exists(tables.CLUSTERS)

    many = config(root, "prune.merge_height=null", "prune.domains=9", "prune.weighted=true")
    assert "merged into 4 domains" in prune.run(store, many)
    assert "warning: prune.domains is 9, but only 4 clusters" in capsys.readouterr().out
    share = config(root, "prune.thresholds={}", "prune.keep_token_share=0.4")
    assert prune.run(store, share).startswith("2 of 6 clusters kept (40.0%")


def test_an_error_about_missing_rows_names_the_job_that_computes_them(store, cfg):
    new = {"doc_id": "new", "clustering": "made", "cluster": 0, "distance": 0.0}
    write(store, tables.ASSIGNMENTS, [new], 1)
    with pytest.raises(
        TableError, match=r"tokens has no row for 1 of 61 .* run `climb count` first"
    ):
        prune.run(store, cfg)
    count = {"doc_id": "new", "recipe": cfg.count.recipe, "n_tokens": 5}
    write(store, tables.TOKENS, [count], 1)
    with pytest.raises(TableError, match=r"no row for 1 of 61 .* run `climb score` first"):
        prune.run(store, cfg)
    write(store, tables.ASSIGNMENTS, [new | {"doc_id": "old", "clustering": "before"}], 1)
    with pytest.raises(TableError, match=r"with other centroids .* run `climb cluster` again"):
        prune.run(store, cfg)


def test_documents_that_are_embedded_but_not_assigned_stop_the_job(store, cfg):
    """A document with a NULL embedding has no vector, so it never gets an assignment."""
    texts = store.read_rows(tables.DOCUMENTS)[:1]
    write(store, tables.DOCUMENTS, [texts[0] | {"doc_id": name} for name in ("new", "void")], 1)
    rows = [
        {"doc_id": "new", "recipe": "made", "embedding": [0.0, 1.0, 0.0, 0.0]},
        {"doc_id": "void", "recipe": "made", "embedding": None},
    ]
    write(store, tables.EMBEDDINGS, rows, 1)
    message = r"assignments has no row for 1 of 62 documents; run `climb embed` and `climb cluster`"
    with pytest.raises(TableError, match=message):
        prune.run(store, cfg)
    store.delete(
        store.read(tables.DOCUMENTS).where("doc_id = 'new'").select("doc_id"), tables.DOCUMENTS
    )
    assert "merged into" in prune.run(store, cfg)


@pytest.mark.slow
def test_names_survive_other_clusters_and_follow_the_file_of_names(store, cfg, tmp_path):
    prune.run(store, cfg)
    before = {row["domain"]: row for row in store.read_rows(tables.DOMAINS)}
    law = next(name for name, row in before.items() if row["clusters"] == [0, 1])
    names = tmp_path / "domains.yaml"
    names.write_text(f"{law}: law\n")
    named = config(store.cfg.root, f"prune.names={names}")
    prune.run(store, named)
    renamed = {row["domain"] for row in store.read_rows(tables.DOMAINS)}
    assert renamed == before.keys() - {law} | {"law"}
    # The same documents in clusters of other numbers, with one document moved.
    assigned = store.read_rows(tables.ASSIGNMENTS)
    for row in assigned:
        row["cluster"] = {0: 4, 4: 0}.get(row["cluster"], row["cluster"])
    assigned[0]["cluster"] = 2
    centroids = store.read_rows(tables.CENTROIDS)
    centroids[0]["centroid"], centroids[4]["centroid"] = (
        centroids[4]["centroid"],
        centroids[0]["centroid"],
    )
    for table, rows in ((tables.ASSIGNMENTS, assigned), (tables.CENTROIDS, centroids)):
        store.replace(store.create_frame(rows, table), table, {"read": {}, "settings": {}})
    prune.run(store, named)
    after = {row["domain"]: row["clusters"] for row in store.read_rows(tables.DOMAINS)}
    assert after.keys() == renamed
    assert after["law"] == [1, 4]
    names.write_text(f"{law}: law\n{next(iter(renamed - {'law'}))}: law\n")
    with pytest.raises(ConfigError, match=r"with prune\.names, several .* the same name: law;"):
        prune.run(store, named)
    names.write_text("law: ../../etc\n")
    with pytest.raises(ConfigError, match=r"gives domain 'law' the name '\.\./\.\./etc'"):
        prune.run(store, named)


def test_no_domain_is_below_the_smallest_size(store, cfg):
    smallest = "prune.min_domain_documents=15"
    prune.run(store, config(store.cfg.root, "prune.merge_height=null", "prune.domains=2", smallest))
    assert min(row["n_documents"] for row in store.read_rows(tables.DOMAINS)) >= 15
