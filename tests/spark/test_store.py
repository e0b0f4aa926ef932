"""Tables remember what they were made from, and a repeated write changes nothing."""

import pytest

from climb import tables
from climb.config import load
from climb.errors import PreflightError, TableError
from climb.spark.store import Store, unwritable


@pytest.fixture(params=["path", "uri", "catalog"])
def store(request, spark, tmp_path):
    """Tables below a folder, below a URI, and by name in a catalog: all tests hold for each."""
    settings = [f"storage.root={tmp_path}/out"]
    if request.param == "uri":
        settings = [f"storage.root=file://{tmp_path}/out", f"storage.files={tmp_path}/files"]
    if request.param == "catalog":
        name = f"climb_{abs(hash(str(tmp_path))):x}"
        spark.sql(f"CREATE SCHEMA {name} LOCATION '{tmp_path}/schema'")
        settings.append(f"storage.catalog=spark_catalog.{name}")
    return Store(spark, load(settings=settings).storage)


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
    store.append(token_rows(store, "a"), tables.TOKENS, once="first")
    version = store.version(tables.TOKENS)
    store.append(token_rows(store, "a"), tables.TOKENS, once="first")
    assert store.read(tables.TOKENS).count() == 1
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


def test_upkeep_is_no_change_of_the_rows(store):
    for i in range(3):
        store.append(token_rows(store, f"{i}"), tables.TOKENS)
    version, inputs = store.version(tables.TOKENS), store.inputs(tables.TOKENS)
    rows = [{"recipe": "bpe", "tokenizer": "{}"}]
    store.replace(store.frame(rows, tables.TOKENIZERS), tables.TOKENIZERS, inputs)
    for table in (tables.TOKENS, tables.TOKENIZERS):
        store.session.sql(f"OPTIMIZE {store.location(table)}")
        where = store.location(table)
        store.session.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('note' = 'tidied')")
    assert store.version(tables.TOKENS) == version
    assert store.is_current(tables.TOKENIZERS, store.inputs(tables.TOKENS))
    store.append(token_rows(store, "y"), tables.TOKENS)
    assert store.version(tables.TOKENS) > version


def test_a_table_that_was_made_anew_has_another_identity(store):
    store.append(token_rows(store, "a"), tables.TOKENS)
    first = store.identity(tables.TOKENS)
    assert store.identity(tables.TOKENS) == first
    store.replace(store.frame([], tables.TOKENIZERS), tables.TOKENIZERS, {})
    assert store.identity(tables.TOKENIZERS) != first


def test_small_rows_come_back_as_they_were_given(store):
    row = dict.fromkeys(tables.TRIALS.column_names) | {
        "trial_id": "t", "weights": {"a": 0.25, "b": 0.75}, "metrics": {}, "seconds": 1.5,
    }  # fmt: skip
    store.append(store.frame([row], tables.TRIALS), tables.TRIALS)
    assert store.rows(tables.TRIALS) == [row]


def test_a_place_that_takes_no_files_is_one_line(spark, tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/file/out"]).storage)
    with pytest.raises(PreflightError, match=r"table tokens: cannot write delta\.`.*/file/out"):
        store.append(token_rows(store, "a"), tables.TOKENS)
    assert unwritable(OSError("x\nNo space left on device\ny")) == "No space left on device"
    assert unwritable(ValueError("a bug")) is None
