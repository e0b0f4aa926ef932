"""Tables remember what they were made from, and a repeated write changes nothing."""

import pytest

from climb import tables
from climb.errors import TableError


def token_rows(store, *ids):
    rows = [{"doc_id": i, "recipe": "bpe", "n_tokens": len(i)} for i in ids]
    return store.frame(rows, tables.TOKENS)


def test_a_table_that_nobody_wrote_names_the_job_that_writes_it(store):
    with pytest.raises(TableError, match="run `climb count` first"):
        store.read(tables.TOKENS)


def test_missing_leaves_out_what_the_same_recipe_made_before(store):
    store.append(token_rows(store, "a", "bb"), tables.TOKENS)
    documents = token_rows(store, "a", "bb", "ccc").select("doc_id")
    left = store.missing(documents, tables.TOKENS, recipe="bpe").collect()
    assert [row.doc_id for row in left] == ["ccc"]
    assert store.missing(documents, tables.TOKENS, recipe="other").count() == 3


def test_a_commit_of_the_same_name_is_written_once(store):
    assert store.append(token_rows(store, "a"), tables.TOKENS, once="first") == 1
    version = store.version(tables.TOKENS)
    assert store.append(token_rows(store, "a"), tables.TOKENS, once="first") == 0
    assert store.version(tables.TOKENS) == version


def test_a_table_knows_the_versions_and_settings_it_was_made_from(store):
    store.append(token_rows(store, "a"), tables.TOKENS)
    inputs = store.inputs(tables.TOKENS, k=3)
    rows = store.frame(
        [{"trial_id": "t"} | dict.fromkeys(tables.TRIALS.column_names[1:])], tables.TRIALS
    )
    assert not store.is_current(tables.TRIALS, inputs)
    store.replace(rows, tables.TRIALS, inputs)
    assert store.is_current(tables.TRIALS, inputs)
    assert not store.is_current(tables.TRIALS, store.inputs(tables.TOKENS, k=4))
    store.append(token_rows(store, "b"), tables.TOKENS)
    assert not store.is_current(tables.TRIALS, store.inputs(tables.TOKENS, k=3))


def test_replacing_one_scope_leaves_the_others_and_their_origin(store):
    def mixture(search):
        row = dict.fromkeys(tables.MIXTURES.column_names) | {"search": search, "method": "found"}
        return store.frame([row], tables.MIXTURES)

    for search in ("one", "two"):
        store.replace(mixture(search), tables.MIXTURES, {"made": search}, f"search = '{search}'")
    assert [row["search"] for row in store.rows(tables.MIXTURES)] == ["one", "two"]
    assert store.is_current(tables.MIXTURES, {"made": "one"}, "search = 'one'")


def test_long_text_stays_out_of_the_file_statistics(store):
    row = {"doc_id": "a", "copy": 0, "domain": "d", "n_tokens": 1, "text": "x" * 100}
    store.append(store.frame([row], tables.CORPUS), tables.CORPUS)
    details = store.session.sql(f"DESCRIBE DETAIL {store.location(tables.CORPUS)}").collect()[0]
    assert "text" not in details["properties"]["delta.dataSkippingStatsColumns"].split(",")
