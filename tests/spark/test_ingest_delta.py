"""A Delta table is read through its log: deleted rows stay deleted, new rows are read alone."""

import importlib.util
from pathlib import Path

import pytest
from killed import Killed, kill_after

from climb import tables
from climb.config import load
from climb.errors import InputError
from climb.spark.delta.store import Store

JOB = Path(__file__).resolve().parents[2] / "jobs" / "ingest.py"
TEXT = "Letter number {} about the garden and the price of bread."


@pytest.fixture(scope="module")
def job():
    spec = importlib.util.spec_from_file_location("ingest_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ingest(spark, tmp_path, job):
    """A function that ingests inputs with settings, and returns the line and the texts."""

    def run(*inputs, settings=()):
        cfg = load(
            settings=[
                f"storage.root={tmp_path}/out",
                f"ingest.inputs={list(map(str, inputs))}",
                *settings,
            ]
        )
        store = Store(spark, cfg.storage)
        line = job.run(store, cfg)
        return line, sorted(row["text"] for row in store.read_rows(tables.DOCUMENTS))

    return run


@pytest.fixture
def table(spark, tmp_path):
    """A function that creates a table of twenty rows with properties, and returns its path."""

    def create(properties=(), partitioned=False):
        path = tmp_path / "table"
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties)
        spark.sql(
            f"CREATE TABLE delta.`{path}` (id INT, text STRING, lang STRING) USING delta "
            + ("PARTITIONED BY (lang) " if partitioned else "")
            + (f"TBLPROPERTIES ({listed})" if listed else "")
        )
        append(spark, path, range(20))
        return path

    return create


def append(spark, path, numbers):
    rows = [(i, TEXT.format(i), "en" if i % 2 else "fr") for i in numbers]
    frame = spark.createDataFrame(rows, "id INT, text STRING, lang STRING").coalesce(1)
    frame.write.format("delta").mode("append").save(str(path))


def read_delta(spark, path):
    return sorted(row["text"] for row in spark.read.format("delta").load(str(path)).collect())


KINDS = {
    "rewritten files": [("delta.enableDeletionVectors", "false")],
    "deletion vectors": [("delta.enableDeletionVectors", "true")],
    "change data feed": [("delta.enableChangeDataFeed", "true")],
    "column mapping": [("delta.columnMapping.mode", "name")],
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("rewritten files", marks=pytest.mark.slow),
        "deletion vectors",
        pytest.param("change data feed", marks=pytest.mark.slow),
        pytest.param("column mapping", marks=pytest.mark.slow),
    ],
)
def test_deleted_rows_are_not_read_and_corrected_rows_are_read_once(spark, table, ingest, kind):
    path = table(KINDS[kind])
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 5")
    spark.sql(f"UPDATE delta.`{path}` SET text = concat(text, ' (corrected)') WHERE id < 8")
    line, texts = ingest(path, settings=["ingest.metadata_columns=[lang]"])
    assert line.startswith("15 new documents, 0 already ingested; 0 of 15 rows rejected")
    assert "all rows of version" in line
    assert texts == read_delta(spark, path)


@pytest.mark.slow
def test_a_partitioned_table_has_its_partition_columns(spark, table, ingest, tmp_path):
    path = table(partitioned=True)
    ingest(path, settings=["ingest.source_column=lang"])
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/out"]).storage)
    sources = [row["source"] for row in store.read_rows(tables.DOCUMENTS)]
    assert sorted(set(sources)) == ["en", "fr"]


def test_after_an_append_only_the_new_rows_are_read(spark, table, ingest):
    path = table()
    ingest(f"delta:{path}")
    again, _ = ingest(f"delta:{path}")
    assert again == "inputs unchanged, 20 documents up to date"
    append(spark, path, range(18, 25))
    line, texts = ingest(f"delta:{path}")
    assert line.startswith("5 new documents, 2 already ingested")
    assert "0 of 7 rows rejected" in line
    assert "rows added up to version 2" in line
    assert texts == sorted(set(read_delta(spark, path)))


def test_after_a_killed_ingest_of_other_tables_all_rows_are_read_again(
    spark, table, ingest, tmp_path, monkeypatch
):
    path = table()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text(TEXT.format(3))
    ingest(path)
    with monkeypatch.context() as patch:
        kill_after(patch, "replace", tables.REJECTED, 0)
        with pytest.raises(Killed):
            ingest(tmp_path / "in", settings=["ingest.remove_missing=true"])
    line, texts = ingest(path)
    assert line.startswith("19 new documents, 1 already ingested")
    assert texts == read_delta(spark, path)


@pytest.mark.slow
def test_rejected_rows_of_earlier_versions_stay_counted(spark, table, ingest, tmp_path):
    path = table()
    append(spark, path, [3])
    ingest(path)
    append(spark, path, [3, 4])
    ingest(path)
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/out"]).storage)
    rejected = {row["detail"]: row["n_rows"] for row in store.read_rows(tables.REJECTED)}
    assert sorted(rejected.values()) == [1]


@pytest.mark.slow
def test_after_optimize_all_rows_are_read_and_counted_once(spark, table, ingest):
    path = table()
    append(spark, path, [3, 50])
    ingest(path)
    spark.sql(f"OPTIMIZE delta.`{path}`")
    append(spark, path, [60])
    line, texts = ingest(path)
    assert line.startswith("1 new documents, 21 already ingested; 1 of 23 rows rejected")
    assert "all rows of version" in line
    assert "changed or removed" not in line
    assert texts == sorted(set(read_delta(spark, path)))


@pytest.mark.slow
def test_nothing_is_removed_while_a_file_cannot_be_read(spark, ingest, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(TEXT.format(1))
    (tmp_path / "in" / "b.txt").write_text(TEXT.format(2))
    ingest(tmp_path / "in")
    (tmp_path / "in" / "b.txt").unlink()
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 and no more")
    remove = ["ingest.remove_missing=true", "ingest.skip_corrupt=true"]
    with pytest.raises(InputError, match=r"inputs could not be used \(truncated_file"):
        ingest(tmp_path / "in", settings=remove)
    (tmp_path / "in" / "b.parquet").unlink()
    with pytest.raises(InputError, match="no row is a document"):
        ingest(tmp_path / "in", settings=[*remove, "ingest.min_chars=1000"])
    assert "1 removed" in ingest(tmp_path / "in", settings=remove)[0]


def test_after_a_delete_the_rows_stay_until_the_named_command_removes_them(spark, table, ingest):
    path = table()
    ingest(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 4")
    line, texts = ingest(path)
    assert len(texts) == 20
    assert "4 no longer in the inputs, kept" in line
    assert "changed or removed rows in version 2" in line
    assert "`climb ingest` with `--set ingest.remove_missing=true` removes documents" in line
    line, texts = ingest(path, settings=["ingest.remove_missing=true"])
    assert "; 4 removed; " in line
    assert texts == read_delta(spark, path)


@pytest.mark.slow
def test_a_removed_document_is_removed_from_every_table(spark, table, ingest, tmp_path):
    path = table()
    ingest(path)
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/out"]).storage)
    ids = [row["doc_id"] for row in store.read_rows(tables.DOCUMENTS)]
    counts = [{"doc_id": doc_id, "recipe": "r", "n_tokens": 3} for doc_id in ids]
    store.append(store.create_frame(counts, tables.TOKENS), tables.TOKENS)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 4")
    ingest(path, settings=["ingest.remove_missing=true"])
    kept = {row["doc_id"] for row in store.read_rows(tables.DOCUMENTS)}
    assert len(kept) == 16
    assert {row["doc_id"] for row in store.read_rows(tables.TOKENS)} == kept


def test_a_part_of_a_table_is_refused_with_the_name_of_the_table(table, ingest):
    path = table(partitioned=True)
    file = next(path.glob("lang=en/*.parquet"))
    for part in (file, path / "lang=en", f"{path}/*/*.parquet", f"{path}/lang=*"):
        with pytest.raises(InputError, match=f"is a part of the Delta table .*delta:{path}$"):
            ingest(part)


def test_a_folder_of_tables_and_files_gives_the_rows_of_both(spark, table, ingest, tmp_path):
    path = table()
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 10")
    (tmp_path / "in").mkdir()
    path.rename(tmp_path / "in" / "table")
    (tmp_path / "in" / "more.txt").write_text("A text in a file beside the table.")
    line, texts = ingest(tmp_path / "in")
    assert line.startswith("11 new documents")
    assert len(texts) == 11


def test_a_table_of_a_catalog_is_read_by_its_name(spark, table, ingest, tmp_path):
    path = table()
    spark.sql("CREATE DATABASE IF NOT EXISTS letters")
    spark.sql(f"CREATE TABLE letters.all USING delta LOCATION '{path}'")
    try:
        line, texts = ingest("delta:letters.all")
    finally:
        spark.sql("DROP TABLE letters.all")
        spark.sql("DROP DATABASE letters")
    assert "delta:letters.all: all rows of version 1" in line
    assert len(texts) == 20


@pytest.mark.parametrize("name", ["delta:/nowhere/table", "delta:no.such.table"])
def test_what_is_no_delta_table_is_refused_in_one_line(ingest, name):
    with pytest.raises(InputError, match=f"{name} cannot be read as a Delta table") as error:
        ingest(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("Iceberg", ["metadata/v1.metadata.json", "data/a.parquet"]),
        ("Hudi", [".hoodie/hoodie.properties", "a.parquet"]),
    ],
)
def test_tables_of_other_kinds_are_refused_by_name(ingest, tmp_path, kind, files):
    for name in files:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("{}")
    with pytest.raises(InputError, match=f"{tmp_path}/in is a table of {kind}.*with Spark first"):
        ingest(tmp_path / "in")
    if kind == "Iceberg":
        with pytest.raises(InputError, match="is a table of Iceberg"):
            ingest(tmp_path / "in" / "data")


def test_a_missing_column_of_a_table_is_named(table, ingest):
    path = table()
    with pytest.raises(InputError, match=f"delta:{path}: no column 'body' among"):
        ingest(path, settings=["ingest.text_column=body"])


@pytest.mark.parametrize("name", ["a [1] {b} `tick` #c per%20cent", "x*y?:z"])
def test_a_root_with_any_characters_reads_only_its_own_rows(spark, job, tmp_path, name):
    """In the first name, a neighbour of the same pattern has rows in its own folders."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("A text that is long enough to be a document.")
    neighbour = [tmp_path / "a 1 b `tick` #c per%20cent"] if name.startswith("a") else []
    for root in [*neighbour, tmp_path / name]:
        cfg = load(settings=[f"ingest.inputs=['{tmp_path}/in']", f"storage.root={root}"])
        store = Store(spark, cfg.storage)
        assert job.run(store, cfg).startswith("1 new documents, 0 already ingested")
        assert store.read(tables.DOCUMENTS).count() == 1
        assert not (root / "ingest.staging").exists()
