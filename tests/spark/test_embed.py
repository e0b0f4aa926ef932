"""Embedding in steps: what is missing is made once, a crash costs one step, zero is no vector."""

import json
import os

import numpy as np
import pytest
from climb.jobs.embed import run
from pyspark.sql import functions as F

from climb import tables
from climb.config import build, load, recipe_of
from climb.embed import Embedder
from climb.errors import ComponentError, PreflightError, TableError
from climb.spark.embed import embed_documents
from climb.spark.failures import climb_error
from climb.spark.steps import append_missing
from climb.testing.embedders import HashedWords

WORDS = ("law", "court", "judge", "recipe", "flour", "sugar", "river", "enzyme", "cell", "protein")


def documents(store, *texts):
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"d{i}", "text": text}
        for i, text in enumerate(texts)
    ]
    return store.frame(rows, tables.DOCUMENTS)


def some_texts(n):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=8)) for _ in range(n)]


def cfg(*settings, use="{use: climb.testing.embedders:HashedWords, dim: 8}"):
    return load(settings=[f"embed.embedder={use}", *settings])


def test_every_document_gets_the_vector_that_the_embedder_gives_it(store):
    texts = [*some_texts(30), "  "]
    store.append(documents(store, *texts), tables.DOCUMENTS)
    line = run(store, cfg())
    recipe = recipe_of(HashedWords(dim=8))
    assert line == f"31 documents embedded, 0 known, 1 without a vector ({recipe})"
    rows = store.rows(tables.EMBEDDINGS, recipe=recipe)
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
    store.append(documents(store, *some_texts(12)), tables.DOCUMENTS)
    run(store, cfg())
    version = store.version(tables.EMBEDDINGS)
    assert run(store, cfg()).startswith("0 documents embedded, 12 known")
    assert store.version(tables.EMBEDDINGS) == version
    store.append(
        documents(store, *some_texts(15)).where("doc_id IN ('d12', 'd13', 'd14')"),
        tables.DOCUMENTS,
    )
    assert run(store, cfg()).startswith("3 documents embedded, 12 known")


def test_another_embedder_embeds_everything_beside_the_first(store):
    store.append(documents(store, *some_texts(5)), tables.DOCUMENTS)
    run(store, cfg())
    wider = cfg(use="{use: climb.testing.embedders:HashedWords, dim: 9}")
    assert run(store, wider).startswith("5 documents embedded, 0 known")
    sizes = store.read(tables.EMBEDDINGS).select(F.size("embedding").alias("n")).collect()
    assert sorted(row.n for row in sizes) == [8] * 5 + [9] * 5


def test_a_crash_costs_one_step_and_the_rest_is_made_once(store):
    frame = documents(store, *some_texts(40))
    calls = []

    def make(chosen):
        calls.append(chosen)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed_documents(chosen, HashedWords(dim=4))

    recipe = recipe_of(HashedWords(dim=4))
    with pytest.raises(KeyboardInterrupt):
        append_missing(store, frame, tables.EMBEDDINGS, recipe, 10, make)
    done = {row["doc_id"] for row in store.rows(tables.EMBEDDINGS)}
    assert 0 < len(done) < 40
    new, known = append_missing(store, frame, tables.EMBEDDINGS, recipe, 10, make)
    assert (new, known) == (40 - len(done), len(done))
    ids = [row["doc_id"] for row in store.rows(tables.EMBEDDINGS)]
    assert sorted(ids) == sorted(f"d{i}" for i in range(40))


def test_the_step_of_a_document_is_a_matter_of_its_id(store):
    frame = documents(store, *some_texts(40))

    def steps(rows):
        found = []

        def make(chosen):
            found.append(frozenset(row.doc_id for row in chosen.collect()))
            return embed_documents(chosen.limit(0), HashedWords(dim=4))

        append_missing(store, rows, tables.EMBEDDINGS, "nobody", 10, make)
        return found

    first = steps(frame)
    assert len(first) == 4
    assert first == steps(frame.orderBy(F.desc("doc_id")).repartition(7))


def test_no_documents_are_an_error_that_says_where_to_look(store):
    store.append(documents(store), tables.DOCUMENTS)
    with pytest.raises(TableError, match=r"has no rows; check ingest\.inputs"):
        run(store, cfg())


def test_an_error_inside_a_task_arrives_as_the_same_error(store):
    store.append(documents(store, *some_texts(3)), tables.DOCUMENTS)
    spec = load().embed.embedder | {"dim": 77}
    wrong = cfg(use=json.dumps(spec))
    with pytest.raises(PreflightError, match=r"width 256; embed.embedder.dim is 77$"):
        run(store, wrong)


def test_other_errors_of_tasks_are_not_taken_for_ours():
    assert climb_error("ValueError: climb.errors.Nonsense happened") is None
    assert climb_error("climb.errors.ClimbErr: no such class") is None
    text = (
        "Traceback ...\nclimb.errors.InputError: its cause\n\nDuring handling of it ...\n"
        "climb.errors.ComponentError: it broke\n\n\tat org.apache"
    )
    assert type(climb_error(text)) is ComponentError
    assert str(climb_error(text)) == "it broke"


def test_a_task_uses_the_cores_that_spark_gave_it(spark):
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
    frame = documents(store, *some_texts(20))
    rows = embed_documents(frame.repartition(3), embedder).orderBy("doc_id").collect()
    vectors = np.array([row.embedding for row in rows], dtype=np.float32)
    by_id = {f"d{i}": text for i, text in enumerate(some_texts(20))}
    expected = embedder.load("cpu")([by_id[row.doc_id] for row in rows])
    np.testing.assert_array_equal(vectors, expected)
