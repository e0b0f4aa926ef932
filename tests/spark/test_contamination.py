"""Documents with evaluation items are found once, counted, dropped on request, and kept out."""

import dataclasses
import importlib
import json

import pytest

from climb import tables
from climb.config import load
from climb.proxy.contamination import find_overlaps
from climb.proxy.overlap_index import build_index, list_groups
from climb.spark.delta.store import Store

QUESTION = (
    "Which of these large animals lives in the cold water near the southern pole of our earth"
)
SEARCHED = {"id": "s1", "context": f"Question: {QUESTION}?\nAnswer:", "label": 0}
SEARCHED |= {"choices": [" penguin", " bear"]}
REPORTED = {"id": "r1", "context": "Question: What is blue?\nAnswer:", "label": 0}
REPORTED |= {"choices": [" the sky", " grass"]}


def write_rows(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(name, store, cfg):
    return importlib.import_module(f"climb.jobs.{name}").run(store, cfg)


def read_overlaps(store):
    """The overlaps of each document, by text."""
    rows = store.read_rows(tables.CONTAMINATION)
    text_of = {row["doc_id"]: row["text"] for row in store.read_rows(tables.DOCUMENTS)}
    assert len(text_of) == len(rows) == len({row["doc_id"] for row in rows})
    return {text_of[row["doc_id"]]: row["overlaps"] for row in rows}


def expect_overlaps(store, cfg):
    """The same without Spark."""
    texts = [row["text"] for row in store.read_rows(tables.DOCUMENTS)]
    found = find_overlaps(texts, build_index(list_groups(cfg.proxy)))
    return {
        text: [dataclasses.asdict(overlap) for overlap in overlaps]
        for text, overlaps in zip(texts, found, strict=True)
    }


CLEAN = [{"text": f"Document {i} is about nothing in particular.", "source": "a"} for i in range(6)]
QUOTING = [
    {"text": f"Quiz of the week. {QUESTION}? Send us a postcard.", "source": "a"},
    {"text": "Children ask: what is blue? The sky. And what is green?", "source": "b"},
    {"text": "Children ask: what is blue? The sky. And what is green?", "source": "c"},
]
LATER = {"text": f"As asked: {QUESTION}", "source": "d"}


@pytest.fixture
def settings(tmp_path):
    write_rows(tmp_path / "items" / "search.jsonl", [SEARCHED])
    write_rows(tmp_path / "items" / "report.jsonl", [REPORTED])
    return [
        f"storage.root={tmp_path}/out",
        "storage.commit_documents=3",
        f"ingest.inputs=[{tmp_path}/text]",
        "ingest.source_column=source",
        f"proxy.target_folder={tmp_path}/items",
        "proxy.targets=[{name: quiz, kind: choices, search: search.jsonl, report: report.jsonl, "
        "limit: null}]",
    ]


def append_documents(store, rows):
    """Write documents without an ingest, which would take most of the time."""
    fixed = {"n_bytes": 1, "repairs": [], "metadata": {}}
    named = [fixed | row | {"doc_id": f"{row['source']}:{row['text']}"} for row in rows]
    store.append(store.create_frame(named, tables.DOCUMENTS), tables.DOCUMENTS)


def test_a_killed_check_continues_and_finds_what_the_function_finds(spark, settings, monkeypatch):
    cfg = load(settings=settings)
    store = Store(spark, cfg.storage)
    append_documents(store, CLEAN + QUOTING[:2])
    append, n_commits = Store.append, 0

    def append_once(self, *arguments, **options):
        nonlocal n_commits
        n_commits += 1
        if n_commits == 2:
            raise KeyboardInterrupt
        append(self, *arguments, **options)

    monkeypatch.setattr(Store, "append", append_once)
    with pytest.raises(KeyboardInterrupt):
        run("contamination", store, cfg)
    monkeypatch.undo()
    n_before = store.read(tables.CONTAMINATION).count()
    assert 0 < n_before < 8
    append_documents(store, [LATER])
    first, *lines = run("contamination", store, cfg).splitlines()
    assert first.startswith(f"{9 - n_before} documents checked, {n_before} already checked (13-w")
    assert first.endswith("; 3 contain items of targets")
    assert [line.split() for line in lines] == [
        ["1", "documents", "of", f"'{source}'", "contain", "1", "items", "of", "quiz", f"({split})"]
        for source, split in (("a", "search"), ("b", "report"), ("d", "search"))
    ]
    assert read_overlaps(store) == expect_overlaps(store, cfg)


@pytest.mark.slow
def test_dropped_documents_leave_every_table_and_stay_out_until_undo(spark, tmp_path, settings):
    write_rows(tmp_path / "text" / "1.jsonl", [*CLEAN, *QUOTING, LATER])
    cfg = load(settings=settings)
    store = Store(spark, cfg.storage)
    run("ingest", store, cfg)
    dropping = load(settings=[*settings, "contamination.drop=report"])
    line = run("contamination", store, dropping).splitlines()[0]
    assert line.startswith("9 documents checked, 0 already checked")
    assert line.endswith("3 contain items of targets; 1 dropped")
    assert {row["source"] for row in store.read_rows(tables.DOCUMENTS)} == {"a", "d"}
    assert read_overlaps(store) == expect_overlaps(store, cfg)

    # The text is rejected from every source, and the rows are counted.
    again = run("ingest", store, cfg)
    assert again.startswith("0 new documents, 8 already ingested")
    assert "2 of 10 rows rejected (contaminated 2)" in again
    (rejected,) = store.read_rows(tables.REJECTED)
    assert rejected["detail"] == "contains words of item r1 of quiz"
    assert run("ingest", store, cfg).startswith("inputs unchanged")
    line = run("contamination", store, dropping).splitlines()[0]
    assert line.endswith("2 contain items of targets; 0 dropped")
    everything = load(settings=[*settings, "contamination.drop=all"])
    line = run("contamination", store, everything).splitlines()[0]
    assert line.endswith("2 contain items of targets; 2 dropped")
    assert store.read(tables.DROPPED).count() == 3

    undo = load(settings=[*settings, "contamination.drop=undo"])
    line = run("contamination", store, undo)
    assert line == "the next `climb ingest` reads 3 dropped documents again"
    assert run("ingest", store, cfg).startswith("3 new documents, 6 already ingested")
    line = run("contamination", store, cfg).splitlines()[0]
    assert line.startswith("3 documents checked, 6 already checked")
    assert read_overlaps(store) == expect_overlaps(store, cfg)
