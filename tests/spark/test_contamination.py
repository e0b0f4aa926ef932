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


def test_documents_with_items_are_found_dropped_and_kept_out(spark, tmp_path, monkeypatch):
    write_rows(tmp_path / "items" / "search.jsonl", [SEARCHED])
    write_rows(tmp_path / "items" / "report.jsonl", [REPORTED])
    clean = [
        {"text": f"Document {i} is about nothing in particular.", "source": "a"} for i in range(6)
    ]
    quoting = [
        {"text": f"Quiz of the week. {QUESTION}? Send us a postcard.", "source": "a"},
        {"text": "Children ask: what is blue? The sky. And what is green?", "source": "b"},
        {"text": "Children ask: what is blue? The sky. And what is green?", "source": "c"},
    ]
    write_rows(tmp_path / "text" / "1.jsonl", clean + quoting)
    settings = [
        f"storage.root={tmp_path}/out",
        "storage.commit_documents=3",
        f"ingest.inputs=[{tmp_path}/text]",
        "ingest.source_column=source",
        f"proxy.target_folder={tmp_path}/items",
        "proxy.targets=[{name: quiz, kind: choices, search: search.jsonl, report: report.jsonl, "
        "limit: null}]",
    ]
    cfg = load(settings=settings)
    store = Store(spark, cfg.storage)
    run("ingest", store, cfg)

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
    first, *lines = run("contamination", store, cfg).splitlines()
    assert first.startswith(f"{8 - n_before} documents checked, {n_before} already checked (13-w")
    assert first.endswith("; 2 contain items of targets")
    assert [line.split() for line in lines] == [
        ["1", "documents", "of", "'a'", "contain", "1", "items", "of", "quiz", "(search)"],
        ["1", "documents", "of", "'b'", "contain", "1", "items", "of", "quiz", "(report)"],
    ]
    assert read_overlaps(store) == expect_overlaps(store, cfg)

    write_rows(tmp_path / "text" / "2.jsonl", [{"text": f"As asked: {QUESTION}", "source": "d"}])
    run("ingest", store, cfg)
    dropping = load(settings=[*settings, "contamination.drop=report"])
    line = run("contamination", store, dropping).splitlines()[0]
    assert line.startswith("1 documents checked, 8 already checked")
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
    assert (
        run("contamination", store, dropping)
        .splitlines()[0]
        .endswith("2 contain items of targets; 0 dropped")
    )

    undo = load(settings=[*settings, "contamination.drop=undo"])
    assert (
        run("contamination", store, undo)
        == "the next `climb ingest` reads 1 dropped documents again"
    )
    assert run("ingest", store, cfg).startswith("1 new documents, 8 already ingested")
    assert run("contamination", store, cfg).startswith("1 documents checked, 8 already checked")
