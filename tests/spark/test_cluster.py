"""Clusters are the same rows whatever the partitions, and new documents only join them."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from climb.jobs import cluster
from pyspark.sql import functions as F

from climb import tables
from climb.config import build, load, recipe_of
from climb.embed import Embedder
from climb.errors import ComponentError, TableError
from climb.spark.kmeans import assign_batches, ensure_centroids, lowest_hash
from climb.spark.store import Store

WIDTH = 8


def config(root, *settings):
    return load(settings=[f"storage.root={root}", "cluster.k=6", *settings])


@pytest.fixture
def cfg(store):
    return config(store.cfg.root)


@pytest.fixture(scope="module")
def clustered(spark, tmp_path_factory):
    """Sixty documents around six directions and one without a vector, clustered once."""
    cfg = config(tmp_path_factory.mktemp("clustered") / "out")
    store = Store(spark, cfg.storage)
    embedded(store, cfg, vectors(60) | {"none": None})
    return cfg.storage.root, cluster.run(store, cfg)


@pytest.fixture
def known(clustered, spark, tmp_path):
    """A store that holds a copy of them."""
    shutil.copytree(clustered[0], tmp_path / "known")
    return Store(spark, config(tmp_path / "known").storage)


def recipe(cfg):
    return recipe_of(build(cfg.embed.embedder, Embedder))


def vectors(n, seed=0):
    """Unit vectors around six directions, by document id."""
    rng = np.random.default_rng(seed)
    centres = np.eye(6, WIDTH)
    rows_ND = centres[np.arange(n) % 6] + rng.normal(size=(n, WIDTH)) * 0.2
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return {f"{seed}-{i:03d}": row.astype(np.float32).tolist() for i, row in enumerate(rows_ND)}


def embedded(store, cfg, rows, partitions=1):
    """Append documents and their embeddings, in as many files and in the order given."""
    text = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}, "text": "t"}
    documents = store.frame([text | {"doc_id": i} for i in rows], tables.DOCUMENTS)
    store.append(documents, tables.DOCUMENTS)
    data = [{"doc_id": i, "recipe": recipe(cfg), "embedding": v} for i, v in rows.items()]
    frame = store.frame(data, tables.EMBEDDINGS).repartition(partitions)
    store.append(frame, tables.EMBEDDINGS)


def versions(store):
    return [store.version(table) for table in (tables.CENTROIDS, tables.ASSIGNMENTS)]


def assignments(store):
    return {row["doc_id"]: row["cluster"] for row in store.rows(tables.ASSIGNMENTS)}


def test_partitions_and_order_change_no_bit(store, cfg, spark, tmp_path):
    rows = vectors(240)
    embedded(store, cfg, rows)
    cluster.run(store, config(store.cfg.root, "cluster.sample_per_cluster=20"))
    other_cfg = config(f"{tmp_path}/other", "cluster.sample_per_cluster=20")
    other = Store(spark, other_cfg.storage)
    before = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", 7)
        embedded(other, other_cfg, dict(reversed(rows.items())), partitions=5)
        cluster.run(other, other_cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    for table in (tables.CENTROIDS, tables.ASSIGNMENTS):
        assert store.rows(table) == other.rows(table), table.name


def test_the_clusters_are_the_planted_ones_and_no_vector_means_no_cluster(clustered, known):
    assert clustered[1] == "6 clusters fitted; 60 documents assigned, 0 known, 1 without a vector"
    found = assignments(known)
    groups = [{found[f"0-{i:03d}"] for i in range(g, 60, 6)} for g in range(6)]
    assert [len(group) for group in groups] == [1] * 6
    assert len(set.union(*groups)) == 6
    assert "none" not in found


def test_a_rerun_writes_nothing_and_new_documents_are_assigned_to_the_clusters_there_are(known):
    cfg, first, before = config(known.cfg.root), assignments(known), versions(known)
    said = cluster.run(known, cfg)
    assert said == "6 clusters known; 0 documents assigned, 60 known, 1 without a vector"
    assert versions(known) == before
    embedded(known, cfg, vectors(12, seed=1))
    assert "12 documents assigned, 60 known" in cluster.run(known, cfg)
    after = assignments(known)
    assert versions(known)[0] == before[0]
    assert {i: after[i] for i in first} == first
    assert len(after) == 72


def test_other_settings_replace_both_tables_even_if_the_run_died_between_them(known):
    other = config(known.cfg.root, "cluster.seed=5", "cluster.k=5")
    made = known.read(tables.EMBEDDINGS).where("embedding IS NOT NULL")
    clustering = ensure_centroids(known, other, made, 60)  # and then the process is killed
    assert clustering.fitted
    assert "5 clusters known; 60 documents assigned, 0 known" in cluster.run(known, other)
    for table in (tables.CENTROIDS, tables.ASSIGNMENTS):
        assert {row["clustering"] for row in known.rows(table)} == {clustering.name}


def test_more_clusters_than_documents_are_clipped_with_a_warning(store, cfg, capsys):
    embedded(store, cfg, vectors(4))
    assert cluster.run(store, cfg).startswith("4 clusters fitted; 4 documents")
    assert "warning: cluster.k is 6, but there are 4 vectors" in capsys.readouterr().out
    embedded(store, cfg, vectors(60, seed=1))
    assert cluster.run(store, cfg).startswith("6 clusters fitted; 64 documents")


def test_one_document_is_one_cluster_and_so_are_twenty_equal_ones(store, cfg):
    embedded(store, cfg, {"0": [0.0, 1.0]})
    assert cluster.run(store, cfg).startswith("1 clusters fitted; 1 documents assigned")
    embedded(store, cfg, {f"{i}": [0.0, 1.0] for i in range(1, 20)})
    assert cluster.run(store, cfg).startswith("1 clusters fitted; 20 documents assigned")
    assert {row["distance"] for row in store.rows(tables.ASSIGNMENTS)} == {0.0}


def test_no_vectors_name_the_job_that_makes_them(store, cfg):
    embedded(store, cfg, {"none": None})
    with pytest.raises(TableError, match="run `climb embed` first"):
        cluster.run(store, cfg)


def test_documents_that_are_not_embedded_yet_are_counted_and_nothing_is_fitted(store, cfg):
    embedded(store, cfg, vectors(9))
    lost = store.read(tables.EMBEDDINGS).where("doc_id > '0-006'")
    store.replace(
        store.read(tables.EMBEDDINGS).join(lost, "doc_id", "left_anti"), tables.EMBEDDINGS, {}
    )
    with pytest.raises(
        TableError, match=r"table embeddings lacks 2 documents .* `climb embed` first"
    ):
        cluster.run(store, cfg)
    assert not store.exists(tables.CENTROIDS)


def test_the_sample_is_the_lowest_hashes(store, cfg):
    embedded(store, cfg, vectors(50), partitions=3)
    made = store.read(tables.EMBEDDINGS)
    hashed = made.select("doc_id", F.xxhash64(F.lit("cluster"), F.lit(7), "doc_id").alias("h"))
    expected = sorted(hashed.collect(), key=lambda row: (row.h, row.doc_id))[:20]
    sample = {row.doc_id for row in lowest_hash(made, 20, 7).collect()}
    assert sample == {row.doc_id for row in expected}
    assert sample != {row.doc_id for row in lowest_hash(made, 20, 8).collect()}


def batch(rows):
    return pa.RecordBatch.from_pydict(
        {
            "doc_id": pa.array([str(i) for i in range(len(rows))]),
            "embedding": pa.array(rows, pa.list_(pa.float32())),
        }
    )


def test_sliced_and_empty_batches_are_read_where_they_start():
    whole = batch([[1.0, 0.0], [0.0, 1.0], [0.0, 0.9]])
    parts = [whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 2)]
    made = list(assign_batches(iter(parts), np.eye(2), "c"))
    assert [part.column("cluster").to_pylist() for part in made] == [[0], [], [1, 1]]


@pytest.mark.parametrize("rows", [[[1.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, None]], [[1.0], [1.0] * 3]])
def test_vectors_of_another_width_or_with_gaps_are_refused(rows):
    with pytest.raises(ComponentError, match="do not fit centroids of width 2"):
        list(assign_batches(iter([batch(rows)]), np.eye(2), "c"))


def test_a_task_that_meets_another_width_ends_in_one_line(known):
    cfg = config(known.cfg.root)
    embedded(known, cfg, {"odd": [1.0, 0.0]})
    with pytest.raises(ComponentError, match="width 2 do not fit centroids of width 8"):
        cluster.run(known, cfg)
