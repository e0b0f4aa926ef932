"""Clusters do not depend on partitions, and new documents are assigned to existing clusters."""

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
from climb.spark.corpus.cluster import assign_batches, ensure_centroids
from climb.spark.corpus.fit_sample import select_lowest_hashes
from climb.spark.delta.store import Store

WIDTH = 8


def config(root, *settings):
    fixed = [f"storage.root={root}", "cluster.k=6", "tracking.enabled=false"]
    return load(settings=[*fixed, *settings])


def describe_clusterer(use):
    return "{use: climb.spark.corpus." + use + ", max_iterations: 20, tolerance: 1.0e-4}"


@pytest.fixture
def cfg(store):
    return config(store.cfg.root)


@pytest.fixture(scope="module")
def clustered(spark, tmp_path_factory):
    """Cluster sixty documents around six directions, and one without a vector."""
    cfg = config(tmp_path_factory.mktemp("clustered") / "out")
    store = Store(spark, cfg.storage)
    write_embeddings(store, cfg, vectors(60) | {"none": None})
    return cfg.storage.root, cluster.run(store, cfg)


@pytest.fixture
def copied(clustered, spark, tmp_path):
    """A store with a copy of their tables."""
    shutil.copytree(clustered[0], tmp_path / "copied")
    return Store(spark, config(tmp_path / "copied").storage)


def recipe(cfg):
    return recipe_of(build(cfg.embed.embedder, Embedder))


def vectors(n, seed=0):
    """Draw unit vectors around six directions, by document id."""
    rng = np.random.default_rng(seed)
    directions = np.eye(6, WIDTH)
    rows_ND = directions[np.arange(n) % 6] + rng.normal(size=(n, WIDTH)) * 0.2
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return {f"{seed}-{i:03d}": row.astype(np.float32).tolist() for i, row in enumerate(rows_ND)}


def write_embeddings(store, cfg, rows, partitions=1):
    """Append documents and their embeddings, in this order and this number of files."""
    text = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}, "text": "t"}
    documents = store.create_frame([text | {"doc_id": i} for i in rows], tables.DOCUMENTS)
    store.append(documents, tables.DOCUMENTS)
    embeddings = [{"doc_id": i, "recipe": recipe(cfg), "embedding": v} for i, v in rows.items()]
    frame = store.create_frame(embeddings, tables.EMBEDDINGS).repartition(partitions)
    store.append(frame, tables.EMBEDDINGS)


def read_versions(store):
    return [store.history.read_version(table) for table in (tables.CENTROIDS, tables.ASSIGNMENTS)]


def read_assignments(store):
    return {row["doc_id"]: row["cluster"] for row in store.read_rows(tables.ASSIGNMENTS)}


@pytest.mark.slow
def test_partitions_and_order_of_files_do_not_change_a_bit(store, cfg, spark, tmp_path):
    rows = vectors(240)
    write_embeddings(store, cfg, rows)
    cluster.run(store, config(store.cfg.root, "cluster.sample_per_cluster=20"))
    other_cfg = config(f"{tmp_path}/other", "cluster.sample_per_cluster=20")
    other = Store(spark, other_cfg.storage)
    before = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", 7)
        write_embeddings(other, other_cfg, dict(reversed(rows.items())), partitions=5)
        cluster.run(other, other_cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    for table in (tables.CENTROIDS, tables.ASSIGNMENTS):
        assert store.read_rows(table) == other.read_rows(table), table.name


def test_the_clusters_are_the_planted_ones_and_a_null_vector_gets_no_cluster(clustered, copied):
    assert clustered[1] == (
        "6 clusters fitted; 60 documents assigned, 0 already assigned, 1 without a vector"
    )
    found = read_assignments(copied)
    groups = [{found[f"0-{i:03d}"] for i in range(g, 60, 6)} for g in range(6)]
    assert [len(group) for group in groups] == [1] * 6
    assert len(set.union(*groups)) == 6
    assert "none" not in found


def test_a_rerun_writes_nothing_and_new_documents_are_assigned_to_existing_clusters(copied):
    cfg = config(copied.cfg.root)
    first, before = read_assignments(copied), read_versions(copied)
    assert cluster.run(copied, cfg) == (
        "6 clusters up to date; 0 documents assigned, 60 already assigned, 1 without a vector"
    )
    assert read_versions(copied) == before
    write_embeddings(copied, cfg, vectors(12, seed=1))
    assert "12 documents assigned, 60 already assigned" in cluster.run(copied, cfg)
    after = read_assignments(copied)
    assert read_versions(copied)[0] == before[0]
    assert {i: after[i] for i in first} == first
    assert len(after) == 72


def test_other_settings_replace_both_tables_even_after_a_crash_between_the_writes(copied):
    other = config(copied.cfg.root, "cluster.seed=5", "cluster.k=5")
    vectors_ = copied.read(tables.EMBEDDINGS).where("embedding IS NOT NULL")
    clustering = ensure_centroids(copied, other, vectors_, 60)  # then the process is killed
    assert clustering.fitted
    assert "5 clusters up to date; 60 documents assigned, 0 already assigned" in cluster.run(
        copied, other
    )
    for table in (tables.CENTROIDS, tables.ASSIGNMENTS):
        assert {row["clustering"] for row in copied.read_rows(table)} == {clustering.name}


@pytest.mark.slow
def test_k_is_clipped_to_the_number_of_documents_with_a_warning(store, cfg, capsys):
    write_embeddings(store, cfg, vectors(4))
    assert cluster.run(store, cfg).startswith("4 clusters fitted; 4 documents")
    assert "warning: cluster.k is 6, but there are 4 vectors" in capsys.readouterr().out
    write_embeddings(store, cfg, vectors(60, seed=1))
    assert cluster.run(store, cfg).startswith("6 clusters fitted; 64 documents")


@pytest.mark.slow
def test_one_document_is_one_cluster_and_twenty_equal_documents_are_one_too(store, cfg):
    write_embeddings(store, cfg, {"0": [0.0, 1.0]})
    assert cluster.run(store, cfg).startswith("1 clusters fitted; 1 documents assigned")
    write_embeddings(store, cfg, {f"{i}": [0.0, 1.0] for i in range(1, 20)})
    assert cluster.run(store, cfg).startswith("1 clusters fitted; 20 documents assigned")
    assert {row["distance"] for row in store.read_rows(tables.ASSIGNMENTS)} == {0.0}


def test_an_error_about_missing_vectors_names_the_job_that_computes_them(store, cfg):
    write_embeddings(store, cfg, {"none": None})
    with pytest.raises(TableError, match="run `climb embed` first"):
        cluster.run(store, cfg)


def test_documents_without_an_embedding_are_counted_and_nothing_is_fitted(store, cfg):
    write_embeddings(store, cfg, vectors(9))
    kept = store.read(tables.EMBEDDINGS).where("doc_id <= '0-006'")
    store.replace(kept, tables.EMBEDDINGS, {})
    with pytest.raises(
        TableError, match=r"table embeddings has no .* row for 2 documents; run `climb embed` first"
    ):
        cluster.run(store, cfg)
    assert not store.exists(tables.CENTROIDS)


def test_a_fit_to_vectors_of_several_widths_is_an_error_of_one_line(store, cfg):
    write_embeddings(store, cfg, vectors(20) | {"odd": [1.0, 0.0]})
    exact = config(store.cfg.root, f"cluster.clusterer={describe_clusterer('lloyd:ExactKMeans')}")
    with pytest.raises(ComponentError, match=r"have width 2, but the centroids have width 8"):
        cluster.run(store, exact)


@pytest.mark.parametrize(
    "use", ["lloyd:ExactKMeans", "kmeans:MLlibKMeans, partitions: 2"], ids=["exact", "mllib"]
)
def test_every_clusterer_finds_the_planted_groups_and_logs_how_it_ended(store, cfg, use, capsys):
    write_embeddings(store, cfg, vectors(60))
    spec = describe_clusterer(use)
    cluster.run(store, config(store.cfg.root, f"cluster.clusterer={spec}"))
    found = read_assignments(store)
    groups = [{found[f"0-{i:03d}"] for i in range(g, 60, 6)} for g in range(6)]
    assert [len(group) for group in groups] == [1] * 6
    out = capsys.readouterr().out
    assert "fits 60 vectors on CPU cores" in out
    assert "k-means ended after" in out
    assert "no centroid moved further" in out


def test_the_sample_has_the_lowest_hashes(store, cfg):
    write_embeddings(store, cfg, vectors(50), partitions=3)
    embeddings = store.read(tables.EMBEDDINGS)
    hashed = embeddings.select(
        "doc_id", F.xxhash64(F.lit("cluster"), F.lit(7), "doc_id").alias("h")
    )
    expected = sorted(hashed.collect(), key=lambda row: (row.h, row.doc_id))[:20]
    sample = {row.doc_id for row in select_lowest_hashes(embeddings, 20, 7).collect()}
    assert sample == {row.doc_id for row in expected}
    assert sample != {row.doc_id for row in select_lowest_hashes(embeddings, 20, 8).collect()}


def make_batch(rows):
    return pa.RecordBatch.from_pydict(
        {
            "doc_id": pa.array([str(i) for i in range(len(rows))]),
            "embedding": pa.array(rows, pa.list_(pa.float32())),
        }
    )


def test_sliced_and_empty_batches_are_read_from_their_own_start():
    whole = make_batch([[1.0, 0.0], [0.0, 1.0], [0.0, 0.9]])
    parts = [whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 2)]
    assigned = list(assign_batches(iter(parts), np.eye(2), "c"))
    assert [part.column("cluster").to_pylist() for part in assigned] == [[0], [], [1, 1]]


@pytest.mark.parametrize("rows", [[[1.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, None]], [[1.0], [1.0] * 3]])
def test_vectors_of_another_width_or_with_null_elements_are_errors(rows):
    with pytest.raises(ComponentError, match="but the centroids have width 2"):
        list(assign_batches(iter([make_batch(rows)]), np.eye(2), "c"))


def test_another_width_in_a_task_is_an_error_of_one_line(copied):
    cfg = config(copied.cfg.root)
    write_embeddings(copied, cfg, {"odd": [1.0, 0.0]})
    with pytest.raises(ComponentError, match="have width 2, but the centroids have width 8"):
        cluster.run(copied, cfg)
