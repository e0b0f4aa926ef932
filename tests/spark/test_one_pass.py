"""A corpus that keeps only the vectors of the fit has the clusters of one that keeps all."""

import numpy as np
import pytest
from climb.jobs import cluster, embed
from pyspark.sql import functions as F

from climb import tables
from climb.config import load
from climb.errors import ConfigError, TableError
from climb.spark.corpus.prune import measure_clusters
from climb.spark.delta.store import Store

WORDS = ("law", "court", "judge", "recipe", "flour", "sugar", "river", "enzyme", "cell", "protein")
N, N_WITHOUT = 90, 12
SAMPLE = 5 * 4
"""Documents per cluster x K."""


def config(root, keep, *settings):
    return load(
        settings=[
            f"storage.root={root}",
            "embed.embedder={use: climb.testing.embedders:HashedWords, dim: 8}",
            "cluster.k=4",
            "cluster.sample_per_cluster=5",
            f"cluster.embeddings={keep}",
            "storage.commit_documents=20",
            *settings,
        ]
    )


def write_documents(store, start, end):
    """Texts of a few words; every eighth document has none, and so no vector."""
    rng = np.random.default_rng(start)
    texts = [" " if i % 8 == 7 else " ".join(rng.choice(WORDS, size=5)) for i in range(start, end)]
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"d{i:03d}", "text": text}
        for i, text in zip(range(start, end), texts, strict=True)
    ]
    store.append(store.create_frame(rows, tables.DOCUMENTS), tables.DOCUMENTS)


def run(store, cfg):
    """Both jobs, one after the other."""
    return embed.run(store, cfg), cluster.run(store, cfg)


def read_tables(store):
    return [store.read_rows(table) for table in (tables.CENTROIDS, tables.ASSIGNMENTS)]


def read_versions(store):
    written = (tables.EMBEDDINGS, tables.CENTROIDS, tables.ASSIGNMENTS)
    return [store.history.read_version(table) for table in written]


def count_vectors(store):
    rows = store.read(tables.EMBEDDINGS)
    return rows.where(F.col("embedding").isNotNull()).count(), rows.count()


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    """Both tables where all vectors are kept, for 90 documents and after 30 more."""
    cfg = config(tmp_path_factory.mktemp("kept") / "out", "all")
    store = Store(spark, cfg.storage)
    write_documents(store, 0, N)
    lines = run(store, cfg)
    first = read_tables(store)
    write_documents(store, N, N + 30)
    run(store, cfg)
    return lines, first, read_tables(store)


@pytest.fixture
def cfg(store):
    return config(store.cfg.root, "sample")


@pytest.mark.slow
def test_the_clusters_and_assignments_are_equal_and_only_the_sample_is_stored(
    store, cfg, kept, capsys
):
    write_documents(store, 0, N)
    lines = run(store, cfg)
    assert lines[1] == kept[0][1]
    assert "4 clusters fitted; 79 documents assigned, 0 already assigned, 11 without" in lines[1]
    assert read_tables(store) == kept[1]
    n_vectors, n_rows = count_vectors(store)
    assert (n_vectors, n_rows) == (SAMPLE, SAMPLE + 11)
    out = capsys.readouterr().out
    assert "HashedWords runs on CPU cores" in out
    assert "in the sample of 20," in out
    assert "in the other 59 documents: the fit is about" in out

    versions = read_versions(store)
    assert "no document embedded: the clusters are fitted" in embed.run(store, cfg)
    assert "0 documents assigned, 79 already assigned, 11 without" in cluster.run(store, cfg)
    assert read_versions(store) == versions

    write_documents(store, N, N + 30)
    lines = run(store, cfg)
    assert "26 documents assigned, 79 already assigned, 15 without a vector" in lines[1]
    assert read_tables(store) == kept[2]
    assert count_vectors(store)[0] == SAMPLE


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 3])
def test_a_killed_pass_goes_on_and_ends_with_the_same_rows(store, cfg, kept, monkeypatch, calls):
    write_documents(store, 0, N)
    embed.run(store, cfg)
    appended = []
    original = Store.append

    def append(self, rows, table, once=None):
        if table is tables.ASSIGNMENTS:
            appended.append(table)
            if len(appended) == calls:
                raise KeyboardInterrupt
        original(self, rows, table, once)

    monkeypatch.setattr(Store, "append", append)
    with pytest.raises(KeyboardInterrupt):
        cluster.run(store, cfg)
    monkeypatch.undo()
    n_done = store.read(tables.ASSIGNMENTS).count()
    assert SAMPLE <= n_done < 79
    waiting = rf"assignments has no row for \d+ of {N} documents; .* `climb cluster` first"
    with pytest.raises(TableError, match=waiting):
        measure_clusters(store, cfg)
    line = cluster.run(store, cfg)
    assert f"clusters up to date; {79 - n_done} documents assigned, {n_done} already" in line
    assert read_tables(store) == kept[1]


@pytest.mark.slow
def test_other_settings_embed_and_fit_another_sample(store, cfg, kept):
    write_documents(store, 0, N)
    run(store, cfg)
    other = config(store.cfg.root, "sample", "cluster.seed=9")
    with pytest.raises(TableError, match=r"no HashedWords-\w+ row for \d+ documents; run `climb e"):
        cluster.run(store, other)
    lines = run(store, other)
    assert "documents of the sample embedded" in lines[0]
    assert "4 clusters fitted; 79 documents assigned, 0 already" in lines[1]
    (name,) = {row["clustering"] for row in store.read_rows(tables.ASSIGNMENTS)}
    assert name not in {row["clustering"] for row in kept[1][1]}
    # Keeping all vectors later changes nothing but the vectors.
    before = read_tables(store)
    run(store, config(store.cfg.root, "all", "cluster.seed=9"))
    assert read_tables(store) == before
    assert count_vectors(store) == (79, N)


def test_fewer_documents_than_the_sample_are_all_embedded(store, cfg):
    write_documents(store, 0, 10)
    lines = run(store, cfg)
    assert lines[0].startswith("10 documents of the sample embedded, 0 already embedded, 1 without")
    assert "4 clusters fitted; 9 documents assigned, 0 already assigned, 1 without" in lines[1]


def test_a_fit_on_all_documents_needs_all_vectors():
    with pytest.raises(ConfigError, match=r"sample_per_cluster is null.*set sample_per_cluster"):
        config("out", "sample", "cluster.sample_per_cluster=null")
