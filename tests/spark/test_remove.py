"""A source is removed from the tables, and ingest does not read it again.

`test_growth.py` does this slowly, with the tables of all jobs.
"""

import json

import pytest
from climb.jobs import ingest, remove

from climb import tables
from climb.config import load
from climb.spark.corpus import remove_source
from climb.spark.corpus.exclusions import read_exclusions

TEXT = "Text number {}, which is long enough for a document."
ROWS = [("web", i) for i in range(6)] + [("blog", i) for i in range(5, 9)]
"""Source and number of each text. Both sources have text 5, and it belongs to the first by name."""


def test_a_removed_source_is_in_no_table_and_ingest_does_not_bring_it_back(store, tmp_path):
    lines = [json.dumps({"text": TEXT.format(i), "site": site}) for site, i in ROWS]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    inputs = [f"ingest.inputs=[{tmp_path}/text.jsonl]", "ingest.source_column=site"]
    ingest.run(store, load(settings=inputs))
    documents = store.read_rows(tables.DOCUMENTS)
    assert sorted(row["source"] for row in documents) == ["blog"] * 4 + ["web"] * 5
    tokens = [{"doc_id": row["doc_id"], "recipe": "r", "n_tokens": 3} for row in documents]
    store.append(store.create_frame(tokens, tables.TOKENS), tables.TOKENS)

    settings = [*inputs, "remove.sources=[blog]", f"remove.out={tmp_path}/removal.json"]
    line = remove.run(store, load(settings=settings))
    assert line.startswith("removed 4 of 9 documents")
    report = json.loads((tmp_path / "removal.json").read_text())
    assert (report["removed_documents"], report["rows"]["tokens"]) == (4, 4)
    kept = {row["doc_id"] for row in documents if row["source"] == "web"}
    for table in (tables.DOCUMENTS, tables.TOKENS):
        assert {row["doc_id"] for row in store.read_rows(table)} == kept, table.name

    # Text 5 is now a document of the other source.
    assert ingest.run(store, load(settings=inputs)).startswith("1 new documents")
    rows = store.read_rows(tables.DOCUMENTS)
    assert sorted(row["text"] for row in rows) == [TEXT.format(i) for i in range(6)]
    assert {row["source"] for row in rows} == {"web"}


def test_a_source_that_was_readmitted_stays_if_the_rest_of_its_removal_goes_on(store, monkeypatch):
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"{source}{i}", "source": source}
        for source, n in (("blog", 3), ("forum", 5), ("web", 2))
        for i in range(n)
    ]
    store.append(store.create_frame(rows, tables.DOCUMENTS), tables.DOCUMENTS)

    def kill(store, ids):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remove_source, "delete_documents", kill)
        with pytest.raises(KeyboardInterrupt):
            remove.run(store, load(settings=["remove.sources=[blog,forum]"]))
    remove.run(store, load(settings=["remove.sources=[blog]", "remove.undo=true"]))
    line = remove.run(store, load(settings=["remove.sources=[forum]"]))
    assert line.startswith("removed 5 of 10 documents (all of 'forum')")
    assert read_sources(store) == ["blog"] * 3 + ["web"] * 2
    assert list(read_exclusions(store)) == ["forum"]
    line = remove.run(store, load(settings=["remove.sources=[blog,forum]"]))
    assert line.startswith("removed 3 of 5 documents (all of 'blog', 'forum')")
    assert read_sources(store) == ["web"] * 2
    assert list(read_exclusions(store)) == ["blog", "forum"]


def read_sources(store):
    return sorted(row["source"] for row in store.read_rows(tables.DOCUMENTS))
