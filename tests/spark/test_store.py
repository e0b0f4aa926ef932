"""Tables record what they were made from, and a repeated write changes nothing."""

import shutil
from datetime import UTC, datetime

import pytest

from climb import tables
from climb.config import load
from climb.errors import PreflightError, TableError
from climb.spark.delta.maintain import maintain_tables
from climb.spark.delta.store import Store, find_write_error


@pytest.fixture(params=["path", pytest.param("uri", marks=pytest.mark.slow), "catalog"])
def store(request, spark, tmp_path):
    """Tables below a folder, below a URI, and by name in a catalog: each runs all tests."""
    settings = [f"storage.root={tmp_path}/out"]
    if request.param == "uri":
        settings = [f"storage.root=file://{tmp_path}/out", f"storage.files={tmp_path}/files"]
    if request.param == "catalog":
        name = f"climb_{abs(hash(str(tmp_path))):x}"
        spark.sql(f"CREATE SCHEMA {name} LOCATION '{tmp_path}/schema'")
        settings.append(f"storage.catalog=spark_catalog.{name}")
    return Store(spark, load(settings=settings).storage)


def make_token_rows(store, *ids):
    rows = [{"doc_id": i, "recipe": "bpe", "n_tokens": len(i)} for i in ids]
    return store.create_frame(rows, tables.TOKENS)


def test_the_error_about_a_missing_table_names_the_job_that_writes_it(store):
    with pytest.raises(TableError, match="run `climb count` first"):
        store.read(tables.TOKENS)


def test_only_rows_without_a_row_of_the_same_recipe_are_selected_as_missing(store):
    store.append(make_token_rows(store, "a", "bb"), tables.TOKENS)
    documents = make_token_rows(store, "a", "bb", "ccc").select("doc_id")
    missing = store.select_missing(documents, tables.TOKENS, recipe="bpe").collect()
    assert [row.doc_id for row in missing] == ["ccc"]
    assert store.select_missing(documents, tables.TOKENS, recipe="other").count() == 3


def test_a_commit_of_the_same_name_is_written_once(store):
    store.append(make_token_rows(store, "a"), tables.TOKENS, once="first")
    version = store.history.read_version(tables.TOKENS)
    store.append(make_token_rows(store, "a"), tables.TOKENS, once="first")
    assert store.read(tables.TOKENS).count() == 1
    assert store.history.read_version(tables.TOKENS) == version


def test_a_row_that_two_drivers_have_written_is_read_once_as_the_first_wrote_it(store):
    def make_row(trial_id, is_first):
        finished = datetime(2026, 1, 1, 1 if is_first else 2, tzinfo=UTC)
        values = {"trial_id": trial_id, "finished": finished}
        values["status"] = "finished" if is_first else "failed"
        return dict.fromkeys(tables.TRIALS.column_names) | values

    names = "abcdefgh"
    for driver in (0, 1):  # each is the first for every second trial
        rows = [make_row(name, i % 2 == driver) for i, name in enumerate(names)]
        store.append(store.create_frame(rows, tables.TRIALS), tables.TRIALS)
    rows = store.read_rows(tables.TRIALS)
    assert [(r["trial_id"], r["status"]) for r in rows] == [(name, "finished") for name in names]


def test_a_table_has_the_versions_and_settings_that_it_was_made_from(store):
    store.append(make_token_rows(store, "a"), tables.TOKENS)
    inputs = store.history.describe_inputs(tables.TOKENS, k=3)
    rows = store.create_frame(
        [{"trial_id": "t"} | dict.fromkeys(tables.TRIALS.column_names[1:])], tables.TRIALS
    )
    assert not store.history.is_current(tables.TRIALS, inputs)
    store.replace(rows, tables.TRIALS, inputs)
    assert store.history.is_current(tables.TRIALS, inputs)
    assert not store.history.is_current(
        tables.TRIALS, store.history.describe_inputs(tables.TOKENS, k=4)
    )
    store.append(make_token_rows(store, "b"), tables.TOKENS)
    assert not store.history.is_current(
        tables.TRIALS, store.history.describe_inputs(tables.TOKENS, k=3)
    )


def test_a_table_that_was_deleted_and_made_again_is_another_input(spark, tmp_path):
    store = Store(spark, load(settings=[f"storage.root={tmp_path}"]).storage)
    store.append(make_token_rows(store, "a"), tables.TOKENS)
    inputs = store.history.describe_inputs(tables.TOKENS)
    rows = store.create_frame([{"recipe": "bpe", "tokenizer": "{}"}], tables.TOKENIZERS)
    store.replace(rows, tables.TOKENIZERS, inputs)
    shutil.rmtree(tmp_path / "tables" / "tokens")
    store.append(make_token_rows(store, "b"), tables.TOKENS)
    again = store.history.describe_inputs(tables.TOKENS)
    assert again["read"] == inputs["read"]
    assert not store.history.is_current(tables.TOKENIZERS, again)
    # An earlier version of climb recorded no ids.
    store.replace(rows, tables.TOKENIZERS, {"read": again["read"], "settings": {}})
    assert store.history.is_current(tables.TOKENIZERS, again)


def test_replacing_one_scope_keeps_the_rows_and_inputs_of_the_others(store):
    def make_row(search):
        row = dict.fromkeys(tables.MIXTURES.column_names) | {
            "search": search,
            "method": "recommended",
        }
        return store.create_frame([row], tables.MIXTURES)

    for search in ("one", "two"):
        store.replace(make_row(search), tables.MIXTURES, {"made": search}, f"search = '{search}'")
    assert [row["search"] for row in store.read_rows(tables.MIXTURES)] == ["one", "two"]
    assert store.history.is_current(tables.MIXTURES, {"made": "one"}, "search = 'one'")


def test_columns_of_long_text_have_no_file_statistics(store):
    row = {"doc_id": "a", "copy": 0, "domain": "d", "n_tokens": 1, "text": "x" * 100}
    store.append(store.create_frame([row], tables.CORPUS), tables.CORPUS)
    details = store.session.sql(f"DESCRIBE DETAIL {store.locate(tables.CORPUS)}").collect()[0]
    assert "text" not in details["properties"]["delta.dataSkippingStatsColumns"].split(",")


def test_maintenance_is_not_a_change_of_the_rows(store):
    for i in range(3):
        store.append(make_token_rows(store, f"{i}"), tables.TOKENS)
    version = store.history.read_version(tables.TOKENS)
    inputs = store.history.describe_inputs(tables.TOKENS)
    rows = [{"recipe": "bpe", "tokenizer": "{}"}]
    store.replace(store.create_frame(rows, tables.TOKENIZERS), tables.TOKENIZERS, inputs)
    for table in (tables.TOKENS, tables.TOKENIZERS):
        store.session.sql(f"OPTIMIZE {store.locate(table)}")
        where = store.locate(table)
        store.session.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('note' = 'tidied')")
    assert store.history.read_version(tables.TOKENS) == version
    assert store.history.is_current(tables.TOKENIZERS, store.history.describe_inputs(tables.TOKENS))
    store.append(make_token_rows(store, "y"), tables.TOKENS)
    assert store.history.read_version(tables.TOKENS) > version


def test_maintain_compacts_orders_and_lists_unused_files_wherever_tables_are(store):
    row = {"clustering": "c", "distance": 0.5}
    for i in range(3):
        rows = [row | {"doc_id": f"{i}-{c}", "cluster": c} for c in range(4)]
        store.append(store.create_frame(rows, tables.ASSIGNMENTS), tables.ASSIGNMENTS)
    where = store.locate(tables.ASSIGNMENTS)
    for key, value in (
        ("delta.dataSkippingStatsColumns", "doc_id"),  # as an earlier version of climb wrote it
        ("delta.deletedFileRetentionDuration", "interval 0 hours"),
    ):
        store.session.sql(f"ALTER TABLE {where} SET TBLPROPERTIES ('{key}' = '{value}')")
    version = store.history.read_version(tables.ASSIGNMENTS)
    rows = store.read_rows(tables.ASSIGNMENTS)
    files = set(store.read(tables.ASSIGNMENTS).inputFiles())

    [planned] = maintain_tables(store, {}, dry_run=True)
    assert (planned.table, planned.compacted, planned.unused) == ("assignments", 0, ())
    [done] = maintain_tables(store, {"assignments": "it is needed"}, dry_run=False)
    assert (done.files, done.compacted, done.added) == (len(files), len(files), 1)
    assert str(done).endswith("files became 1; files of old versions are kept: it is needed")
    [planned] = maintain_tables(store, {}, dry_run=True)
    names = [{file.rsplit("/", 1)[-1] for file in found} for found in (planned.unused, files)]
    assert names[0] >= names[1]
    maintain_tables(store, {}, dry_run=False)
    [planned] = maintain_tables(store, {}, dry_run=True)
    assert (planned.files, planned.unused) == (1, ())

    detail = store.session.sql(f"DESCRIBE DETAIL {where}").collect()[0]
    assert detail["clusteringColumns"] == ["cluster"]
    assert detail["properties"]["delta.dataSkippingStatsColumns"] == "clustering,cluster,distance"
    assert store.history.read_version(tables.ASSIGNMENTS) == version
    assert store.read_rows(tables.ASSIGNMENTS) == rows
    assert store.read_at(tables.ASSIGNMENTS, version).count() == len(rows)
    # A replaced table loses its order; the next upkeep sets it again.
    store.replace(store.read(tables.ASSIGNMENTS).where("cluster = 1"), tables.ASSIGNMENTS, {})
    maintain_tables(store, {}, dry_run=False)
    detail = store.session.sql(f"DESCRIBE DETAIL {where}").collect()[0]
    assert detail["clusteringColumns"] == ["cluster"]
    with pytest.raises(TableError, match="has no version 99"):
        store.read_at(tables.ASSIGNMENTS, 99)


def test_a_table_that_was_created_again_has_another_id(store):
    store.append(make_token_rows(store, "a"), tables.TOKENS)
    first = store.history.read_table_id(tables.TOKENS)
    assert store.history.read_table_id(tables.TOKENS) == first
    store.replace(store.create_frame([], tables.TOKENIZERS), tables.TOKENIZERS, {})
    assert store.history.read_table_id(tables.TOKENIZERS) != first


def test_rows_are_read_as_they_were_written(store):
    row = dict.fromkeys(tables.TRIALS.column_names) | {
        "trial_id": "t", "weights": {"a": 0.25, "b": 0.75}, "metrics": {}, "seconds": 1.5,
    }  # fmt: skip
    store.append(store.create_frame([row], tables.TRIALS), tables.TRIALS)
    assert store.read_rows(tables.TRIALS) == [row]


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(spark, tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/file/out"]).storage)
    with pytest.raises(PreflightError, match=r"table tokens: cannot write delta\.`.*/file/out"):
        store.append(make_token_rows(store, "a"), tables.TOKENS)
    assert find_write_error(OSError("x\nNo space left on device\ny")) == "No space left on device"
    assert find_write_error(ValueError("a bug")) is None


def test_an_error_that_quotes_a_document_is_not_a_refused_write():
    quoted = "climb.errors.ComponentError: a score is NaN for the text 'the quota of fish'"
    assert find_write_error(RuntimeError(f"Traceback\n  File x\n{quoted}")) is None
    remote = "org.apache.spark.api.python.PythonException: Traceback\nKeyError: 'Not a directory'"
    assert find_write_error(RuntimeError(remote)) is None


class LossyWriter:
    """A writer that drops the option `userMetadata`, as `saveAsTable` does on some catalogs."""

    def __init__(self, writer):
        self._writer = writer

    def option(self, key, value):
        if key != "userMetadata":
            self._writer = self._writer.option(key, value)
        return self

    def mode(self, mode):
        self._writer = self._writer.mode(mode)
        return self

    def __getattr__(self, name):
        return getattr(self._writer, name)


def test_inputs_are_recorded_by_a_writer_that_drops_their_option(store, monkeypatch):
    create = store._create_writer
    monkeypatch.setattr(store, "_create_writer", lambda *args: LossyWriter(create(*args)))
    rows = store.create_frame([{"recipe": "bpe", "tokenizer": "{}"}], tables.TOKENIZERS)
    inputs = store.history.describe_inputs(k=3)
    store.replace(rows, tables.TOKENIZERS, inputs)
    assert store.history.is_current(tables.TOKENIZERS, inputs)
    setting = "spark.databricks.delta.commitInfo.userMetadata"
    assert store.session.conf.get(setting, None) is None

    monkeypatch.setattr("climb.spark.delta.store.COMMIT_METADATA", "spark.climb.ignored")
    with pytest.raises(
        TableError, match=r"table tokenizers .* lacks the record of the job's inputs .* 'None'"
    ):
        store.replace(rows, tables.TOKENIZERS, store.history.describe_inputs(k=3))


def test_upkeep_and_metadata_of_others_leave_the_inputs_unchanged(store):
    """The operations of platforms that this version of Delta does not have are added to the log."""
    inputs = store.history.describe_inputs(k=3)
    rows = store.create_frame([{"recipe": "bpe", "tokenizer": "{}"}], tables.TOKENIZERS)
    store.replace(rows, tables.TOKENIZERS, inputs)
    version, where = store.history.read_version(tables.TOKENIZERS), store.locate(tables.TOKENIZERS)
    setting = "spark.databricks.delta.commitInfo.userMetadata"
    for metadata, command in (
        ("nightly upkeep", f"OPTIMIZE {where}"),
        ('["a", "list"]', f"ALTER TABLE {where} SET TBLPROPERTIES ('note' = 'tidied')"),
        ('{"scope": null}', f"ALTER TABLE {where} ADD CONSTRAINT named CHECK (recipe <> '')"),
        ("", f"ALTER TABLE {where} SET TBLPROPERTIES ('delta.enableRowTracking' = 'true')"),
        ("{", f"ALTER TABLE {where} DROP CONSTRAINT named"),
    ):
        store.session.conf.set(setting, metadata)
        try:
            store.session.sql(command)
        finally:
            store.session.conf.unset(setting)
    history = store.session.sql(f"DESCRIBE HISTORY {where}").collect()
    assert {"ADD CONSTRAINT", "ROW TRACKING BACKFILL"} <= {row["operation"] for row in history}
    assert store.history.read_version(tables.TOKENIZERS) == version
    assert store.history.is_current(tables.TOKENIZERS, inputs)

    # Rows that somebody else wrote have unknown inputs, whatever their metadata are.
    for metadata in ("nightly copy", '["a", "list"]', '{"inputs": 3}'):
        frame = store.create_frame([{"recipe": metadata, "tokenizer": ""}], tables.TOKENIZERS)
        store.session.conf.set(setting, metadata)
        try:
            store.append(frame, tables.TOKENIZERS)
        finally:
            store.session.conf.unset(setting)
        assert store.history.read_inputs(tables.TOKENIZERS) is None
        assert store.history.read_inputs(tables.TOKENIZERS, "search = 'x'") is None


def test_the_log_keeps_its_commits_for_years_and_gets_few_checkpoints(store):
    store.append(make_token_rows(store, "a"), tables.TOKENS)
    [row] = store.session.sql(f"DESCRIBE DETAIL {store.locate(tables.TOKENS)}").collect()
    assert row["properties"]["delta.logRetentionDuration"] == "interval 3650 days"
    assert row["properties"]["delta.checkpointInterval"] == "50"


def test_an_empty_table_that_stays_empty_has_its_new_inputs(store):
    for k in (3, 4):
        inputs = store.history.describe_inputs(k=k)
        store.replace(store.create_frame([], tables.TOKENIZERS), tables.TOKENIZERS, inputs)
        assert store.history.is_current(tables.TOKENIZERS, inputs)
