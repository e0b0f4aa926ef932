"""Documents are embedded in steps: a crash costs one step, and a zero vector becomes NULL."""

import json
import os
import resource

import numpy as np
import pandas as pd
import pytest
from climb.jobs.embed import run
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from climb import tables
from climb.config import build, load, recipe_of
from climb.embed import Embedder
from climb.errors import PreflightError, TableError
from climb.spark.corpus.append import append_missing
from climb.spark.corpus.embed import embed_documents
from climb.spark.session import SMALL_MACHINE
from climb.spark.threads import keep_freed_memory
from climb.testing.embedders import HashedWords

WORDS = ("law", "court", "judge", "recipe", "flour", "sugar", "river", "enzyme", "cell", "protein")


def documents(store, *texts):
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"d{i}", "text": text}
        for i, text in enumerate(texts)
    ]
    return store.create_frame(rows, tables.DOCUMENTS)


def draw_texts(n):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=8)) for _ in range(n)]


def cfg(*settings, use="{use: climb.testing.embedders:HashedWords, dim: 8}"):
    return load(settings=[f"embed.embedder={use}", *settings])


def test_every_document_gets_the_vector_that_the_embedder_returns(store):
    texts = [*draw_texts(30), "  "]
    store.append(documents(store, *texts), tables.DOCUMENTS)
    line = run(store, cfg())
    recipe = recipe_of(HashedWords(dim=8))
    assert line == f"31 documents embedded, 0 already embedded, 1 without a vector ({recipe})"
    rows = store.read_rows(tables.EMBEDDINGS, recipe=recipe)
    expected = dict(
        zip([f"d{i}" for i in range(31)], HashedWords(dim=8).load("cpu")(texts), strict=True)
    )
    assert len(rows) == 31
    for row in rows:
        if row["doc_id"] == "d30":
            assert row["embedding"] is None
        else:
            np.testing.assert_array_equal(np.float32(row["embedding"]), expected[row["doc_id"]])


def test_a_second_run_commits_nothing_and_new_documents_are_added(store):
    store.append(documents(store, *draw_texts(12)), tables.DOCUMENTS)
    run(store, cfg())
    version = store.history.read_version(tables.EMBEDDINGS)
    assert run(store, cfg()).startswith("0 documents embedded, 12 already embedded")
    assert store.history.read_version(tables.EMBEDDINGS) == version
    store.append(
        documents(store, *draw_texts(15)).where("doc_id IN ('d12', 'd13', 'd14')"),
        tables.DOCUMENTS,
    )
    assert run(store, cfg()).startswith("3 documents embedded, 12 already embedded")


def test_rows_of_another_embedder_are_added_and_those_of_the_first_stay(store):
    store.append(documents(store, *draw_texts(5)), tables.DOCUMENTS)
    run(store, cfg())
    wider = cfg(use="{use: climb.testing.embedders:HashedWords, dim: 9}")
    assert run(store, wider).startswith("5 documents embedded, 0 already embedded")
    sizes = store.read(tables.EMBEDDINGS).select(F.size("embedding").alias("n")).collect()
    assert sorted(row.n for row in sizes) == [8] * 5 + [9] * 5


def test_a_crash_costs_one_step_and_the_next_run_embeds_the_rest_once(store):
    frame = documents(store, *draw_texts(40))
    calls = []

    def compute(chosen):
        calls.append(chosen)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed_documents(chosen, HashedWords(dim=4))

    recipe = recipe_of(HashedWords(dim=4))
    with pytest.raises(KeyboardInterrupt):
        append_missing(store, frame, tables.EMBEDDINGS, recipe, 10, compute)
    done = {row["doc_id"] for row in store.read_rows(tables.EMBEDDINGS)}
    assert 0 < len(done) < 40
    new, existing = append_missing(store, frame, tables.EMBEDDINGS, recipe, 10, compute)
    assert (new, existing) == (40 - len(done), len(done))
    ids = [row["doc_id"] for row in store.read_rows(tables.EMBEDDINGS)]
    assert sorted(ids) == sorted(f"d{i}" for i in range(40))


def test_the_step_of_a_document_depends_on_its_id_only(store):
    frame = documents(store, *draw_texts(40))

    def collect_steps(rows):
        found = []

        def compute(chosen):
            found.append(frozenset(row.doc_id for row in chosen.collect()))
            return embed_documents(chosen.limit(0), HashedWords(dim=4))

        append_missing(store, rows, tables.EMBEDDINGS, "another recipe", 10, compute)
        return found

    first = collect_steps(frame)
    assert len(first) == 4
    assert first == collect_steps(frame.orderBy(F.desc("doc_id")).repartition(7))


def test_an_error_about_missing_documents_names_the_key_to_check(store):
    store.append(documents(store), tables.DOCUMENTS)
    with pytest.raises(TableError, match=r"has no rows; check ingest\.inputs"):
        run(store, cfg())


def test_an_error_of_a_task_is_raised_in_the_driver(store):
    store.append(documents(store, *draw_texts(3)), tables.DOCUMENTS)
    spec = load().embed.embedder | {"dim": 77}
    wrong = cfg(use=json.dumps(spec))
    with pytest.raises(PreflightError, match=r"width 256; embed.embedder.dim is 77$"):
        run(store, wrong)


def test_a_task_uses_as_many_threads_as_spark_reserved_cores(spark):
    def threads(batches):
        import torch

        from climb.spark.threads import limit_threads

        torch.set_num_threads(7)
        limit_threads()
        for batch in batches:
            n = f"{torch.get_num_threads()} {os.environ['TOKENIZERS_PARALLELISM']}"
            yield batch.assign(found=n)

    rows = spark.range(3).mapInPandas(threads, "id LONG, found STRING").collect()
    assert {row.found for row in rows} == {"1 false"}


def test_the_default_embedder_runs_in_tasks_and_gives_unit_vectors(store):
    embedder = build(load().embed.embedder, Embedder)
    frame = documents(store, *draw_texts(20))
    rows = embed_documents(frame.repartition(3), embedder).orderBy("doc_id").collect()
    vectors = np.array([row.embedding for row in rows], dtype=np.float32)
    by_id = {f"d{i}": text for i, text in enumerate(draw_texts(20))}
    expected = embedder.load("cpu")([by_id[row.doc_id] for row in rows])
    np.testing.assert_array_equal(vectors, expected)


def test_an_arrow_batch_of_long_documents_is_bounded_in_bytes(spark):
    @pandas_udf("int")
    def count_batch(texts: pd.Series) -> pd.Series:
        return pd.Series([len(texts)] * len(texts))

    key = "spark.sql.execution.arrow.maxBytesPerBatch"
    configured = spark.conf.get(key)
    assert configured == SMALL_MACHINE[key]
    frame = spark.range(100).repartition(1).select(F.repeat(F.lit("x"), 10_000).alias("text"))
    try:
        spark.conf.set(key, "50000")
        sizes = {row.n for row in frame.select(count_batch("text").alias("n")).collect()}
    finally:
        spark.conf.set(key, configured)
    assert max(sizes) <= 6  # 5 x 10,000 bytes, and the document that exceeds the limit


N_BYTES = 40_000_000


def count_new_pages():
    """Pages of memory that the process touches for the first time in ten allocations of 40 MB."""
    b"x" * N_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"x" * N_BYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_task_keeps_the_memory_that_a_forward_pass_frees_and_the_driver_does_not(spark):
    def count(batches):
        from climb.spark.threads import keep_freed_memory

        keep_freed_memory()
        for batch in batches:
            yield batch.assign(found=count_new_pages())

    pages = N_BYTES // resource.getpagesize()
    frame = spark.range(1).repartition(1)
    (row,) = frame.mapInPandas(count, "id LONG, found LONG").collect()
    assert row.found < pages
    keep_freed_memory()  # no task: fastText in this process relies on cleared memory
    assert count_new_pages() >= 10 * pages
