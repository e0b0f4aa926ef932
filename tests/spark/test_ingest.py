"""Ingest with Spark: counts add up, rows do not depend on files, a rerun changes nothing."""

import gzip
import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed import Killed, kill_after

from climb import tables
from climb.config import load
from climb.errors import InputError, PreflightError
from jobs.ingest import run

GOOD = [f"Document number {i}: a text that is long enough." for i in range(12)]


@pytest.fixture
def ingest(store, tmp_path):
    """Return a function that runs the job on the folder `in` and returns its line."""
    (tmp_path / "in").mkdir()

    def job(*settings):
        return run(store, load(settings=[f"ingest.inputs=[{tmp_path}/in]", *settings]))

    return job


def read_documents(store):
    return store.read_rows(tables.DOCUMENTS)


def read_versions(store):
    return [store.history.read_version(table) for table in (tables.DOCUMENTS, tables.REJECTED)]


def write_parquet(path, texts, **options):
    pq.write_table(pa.table({"text": texts}), path, **options)


def write_hostile_folder(folder):
    """Write files with every kind of bad row; return reason -> number of rows."""
    write_parquet(folder / "good.parquet", [*GOOD[:6], None, GOOD[0], "  ", "x"])
    lines = [
        *(json.dumps({"text": text}) for text in GOOD[5:8]),
        *('{"text": null}', '{"id": 1}', '{"text": 7}', "[1]", "{broken", "[" * 20_000),
        '{"text": "' + "y" * 1_200_000 + '"}',
        json.dumps({"text": "z" * 1001}),
        r'{"text": "\ud800\ud800\ud800 and more of it"}',
    ]
    (folder / "lines.jsonl").write_text("\n".join(lines))
    with gzip.open(folder / "bomb.jsonl.gz", "wb") as file:
        file.write(json.dumps({"text": GOOD[8]}).encode() + b"\n" + b"0" * (20 << 20))
    packed = gzip.compress("\n".join(lines[:3] * 2000).encode())
    (folder / "cut.jsonl.gz").write_bytes(packed[:-10])
    (folder / "latin.txt").write_bytes(GOOD[9].encode() + b"\xe9\xe8" * 40)
    (folder / "wide.txt").write_text(GOOD[9], encoding="utf-16")
    (folder / "empty.md").touch()
    (folder / "cut.parquet").write_bytes((folder / "good.parquet").read_bytes()[:-9])
    (folder / "zero.parquet").touch()
    (folder / "folder.parquet").mkdir()
    (folder / "table.pdf").write_text("a,b\n")
    (folder / "none.jsonl").touch()
    return {
        "missing_text": 3,
        "empty": 2,
        "too_short": 1,
        "wrong_type": 2,
        "bad_json": 2,
        "line_too_long": 2,
        "too_long": 1,
        "invalid_utf8": 2,
        "truncated_file": 3,
        "unsupported_format": 2,
        "empty_file": 0,
    }


def test_the_counts_of_a_hostile_folder_add_up(store, tmp_path, ingest):
    expected = write_hostile_folder(tmp_path / "in")
    line = ingest("ingest.skip_corrupt=true", "ingest.max_chars=1000")
    rejected = store.read_rows(tables.REJECTED)
    counts = {}
    for row in rejected:
        counts[row["reason"]] = counts.get(row["reason"], 0) + row["n_rows"]
    n_repeated = counts.pop("duplicate")
    assert counts == expected
    kept = read_documents(store)
    assert sorted(row["text"] for row in kept) == sorted(GOOD[:10])
    assert {row["text"]: row["repairs"] for row in kept}[GOOD[9]] == ["utf16"]
    # The cut file has 6,000 rows, and all but a part of the last are read before it ends.
    assert 2 + 5990 <= n_repeated <= 2 + 6000
    n_rows = 10 + n_repeated + sum(expected.values())
    assert line.startswith("10 new documents, 0 already ingested; ")
    assert f"{n_repeated + sum(expected.values()):,} of {n_rows:,} rows rejected (dupl" in line
    assert line.endswith("; 1 files without rows")
    assert len({row["reject_id"] for row in rejected}) == len(rejected)
    assert all(row["file"] and row["detail"] for row in rejected)
    assert not (tmp_path / "out/ingest.staging").exists()


def test_a_rerun_writes_nothing_and_a_flipped_byte_adds_one_document(store, tmp_path, ingest):
    path = tmp_path / "in/a.txt"
    path.write_text(GOOD[0])
    assert ingest() == "1 new documents, 0 already ingested; 0 of 1 rows rejected"
    before = read_versions(store)
    assert ingest() == "inputs unchanged, 1 documents up to date"
    assert read_versions(store) == before
    write_parquet(tmp_path / "in/b.parquet", GOOD[:1])
    assert ingest() == (
        "0 new documents, 0 already ingested; 1 of 1 rows rejected (duplicate 1); 1 new files read"
    )
    assert read_versions(store) == [before[0], before[1] + 1]
    (tmp_path / "in/b.parquet").unlink()
    path.write_text(GOOD[0].replace("long", "song"))
    assert ingest() == (
        "1 new documents, 0 already ingested; 1 no longer in the inputs, kept; 0 of 1 rows rejected"
    )
    assert len(read_documents(store)) == 2


@pytest.mark.parametrize("is_shorter", [True, False])
def test_after_a_killed_ingest_the_earlier_inputs_are_read_again_and_only_their_documents_stay(
    store, tmp_path, ingest, monkeypatch, is_shorter
):
    """The killed ingest has removed the documents of a file, or added those of a new one."""
    settings = ("ingest.remove_missing=true",)
    write_parquet(tmp_path / "in/a.parquet", GOOD[:4])
    write_parquet(tmp_path / "in/b.parquet", GOOD[4:6])
    ingest(*settings)
    before = read_documents(store)
    if is_shorter:
        (tmp_path / "in/b.parquet").rename(tmp_path / "away.parquet")
    else:
        write_parquet(tmp_path / "in/c.parquet", GOOD[6:9])
    with monkeypatch.context() as patch:
        kill_after(patch, "replace", tables.REJECTED, 0)
        with pytest.raises(Killed):
            ingest(*settings)
    assert len(read_documents(store)) == (4 if is_shorter else 9)
    if is_shorter:
        (tmp_path / "away.parquet").rename(tmp_path / "in/b.parquet")
    else:
        (tmp_path / "in/c.parquet").unlink()
    line = ingest(*settings)
    assert "2 new documents, 4 already" in line if is_shorter else "3 removed" in line
    assert read_documents(store) == before
    store.session.sql(f"OPTIMIZE {store.locate(tables.DOCUMENTS)}")
    assert ingest(*settings) == "inputs unchanged, 6 documents up to date"


def write_sited(path, texts, site):
    path.write_text("".join(json.dumps({"text": t, "site": site}) + "\n" for t in texts))


def drop_files(rows):
    """A row of `rejected` names one of the files with the text, of those that were read."""
    return [{k: v for k, v in row.items() if k != "file"} for row in rows]


def test_new_files_alone_are_read_with_the_result_of_all_files(
    store, tmp_path, ingest, monkeypatch
):
    settings = ("ingest.source_column=site",)
    write_sited(tmp_path / "in/a.jsonl", [*GOOD[:5], GOOD[0], "x"], "a")
    ingest(*settings)
    write_sited(tmp_path / "in/b.jsonl", [*GOOD[3:8], GOOD[7], "x"], "b")
    write_sited(tmp_path / "in/c.jsonl", [GOOD[1]], "a")

    replace = type(store).replace

    def kill(self, rows, table, *args):
        if table in killed:
            raise KeyboardInterrupt
        replace(self, rows, table, *args)

    monkeypatch.setattr(type(store), "replace", kill)
    killed = [tables.REJECTED]  # its documents are written: all files are read again
    with pytest.raises(KeyboardInterrupt):
        ingest(*settings)
    killed = []
    assert ingest(*settings) == (
        "0 new documents, 8 already ingested; 7 of 15 rows rejected (duplicate 5, too_short 2)"
    )
    write_sited(tmp_path / "in/d.jsonl", [GOOD[8], GOOD[2], GOOD[9], GOOD[9]], "a")
    killed = [tables.READ_FILES]  # the next run writes it
    with pytest.raises(KeyboardInterrupt):
        ingest(*settings)
    killed = []
    assert ingest(*settings) == "inputs unchanged, 10 documents up to date"
    write_sited(tmp_path / "in/e.jsonl", [GOOD[10], GOOD[9]], "c")
    assert ingest(*settings) == (
        "1 new documents, 0 already ingested; 1 of 2 rows rejected (duplicate 1); 1 new files read"
    )
    other = type(store)(store.session, load(settings=[f"storage.root={tmp_path}/new"]).storage)
    run(other, load(settings=[f"ingest.inputs=[{tmp_path}/in]", *settings]))
    assert read_documents(store) == read_documents(other)
    rejected = [drop_files(s.read_rows(tables.REJECTED)) for s in (store, other)]
    assert rejected[0] == rejected[1]
    (tmp_path / "in/c.jsonl").unlink()
    write_sited(tmp_path / "in/f.jsonl", [GOOD[11]], "a")
    assert "new files read" not in ingest(*settings)  # a file has gone: its rows count no more


def test_files_whose_names_are_not_utf8_are_read_once(store, tmp_path, ingest):
    names = [os.fsdecode(name) for name in (b"caf\xe9.jsonl", b"caf\xe8.jsonl")]
    for i, name in enumerate(names):
        write_sited(tmp_path / "in" / name, [GOOD[i]], "a")
        os.utime(tmp_path / "in" / name, ns=(1, 1))
        line = ingest()
        assert line.startswith("1 new documents, 0 already ingested")
        assert line.endswith("; 1 new files read") == (i > 0)
        assert ingest() == f"inputs unchanged, {i + 1} documents up to date"


def test_names_order_row_groups_and_partitions_do_not_change_a_row(store, tmp_path, ingest):
    rng = np.random.default_rng(0)
    texts = [f"Document number {i % 70} of a small corpus" for i in range(100)]
    rows = [{"text": t, "site": f"s{i % 3}", "url": f"u{i}"} for i, t in enumerate(texts)]
    settings = ("ingest.source_column=site", "ingest.metadata_columns=[url]")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/a.parquet")
    first = ingest(*settings)
    expected = read_documents(store)
    assert first == ("70 new documents, 0 already ingested; 30 of 100 rows rejected (duplicate 30)")
    (tmp_path / "in/a.parquet").unlink()
    mixed = [rows[i] for i in rng.permutation(100)]
    pq.write_table(pa.Table.from_pylist(mixed[:40]), tmp_path / "in/z.parquet", row_group_size=7)
    (tmp_path / "in/b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed[40:]))
    store.session.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        other = type(store)(store.session, load(settings=[f"storage.root={tmp_path}/new"]).storage)
        run(other, load(settings=[f"ingest.inputs=[{tmp_path}/in]", *settings]))
    finally:
        store.session.conf.set("spark.sql.shuffle.partitions", "2")
    assert read_documents(other) == expected


def test_of_equal_texts_the_one_with_the_smallest_source_and_metadata_is_kept(
    store, tmp_path, ingest
):
    rows = [
        {"text": GOOD[0], "site": "b", "url": "1"},
        {"text": GOOD[0], "site": "a", "url": "3"},
        {"text": GOOD[0], "site": "a", "url": "2"},
    ]
    path = tmp_path / "in/a.jsonl"
    settings = ("ingest.source_column=site", "ingest.metadata_columns=[url]")
    path.write_text("\n".join(map(json.dumps, rows)))
    ingest(*settings)
    (kept,) = read_documents(store)
    assert (kept["source"], kept["metadata"]) == ("a", {"url": "2"})
    assert kept["doc_id"] == hashlib.sha256(f"a\0{GOOD[0]}".encode()).hexdigest()[:32]
    (repeated,) = store.read_rows(tables.REJECTED)
    assert (repeated["reason"], repeated["n_rows"]) == ("duplicate", 2)
    assert repeated["detail"] == f"same text as {kept['doc_id']}"
    # A text exists already, whatever its source: a smaller source does not add it again.
    path.write_text(json.dumps(rows[0] | {"site": "A"}))
    assert ingest(*settings).startswith(
        "0 new documents, 0 already ingested; 1 with an earlier source, kept; 1 of 1"
    )
    assert read_documents(store) == [kept]


def test_a_file_that_is_damaged_in_a_task_is_named_and_nothing_is_written(store, tmp_path, ingest):
    write_parquet(tmp_path / "in/good.parquet", GOOD)
    lines = [
        json.dumps({"text": f"{i} {hashlib.sha256(bytes(i)).hexdigest()}"}) for i in range(999)
    ]
    (tmp_path / "in/cut.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode())[:-9])
    with pytest.raises(InputError, match=r"1 of the input files .*/cut.jsonl.gz \(Compressed file"):
        ingest()
    assert read_versions(store) == [None, None]
    assert not (tmp_path / "out/ingest.staging").exists()


def test_input_without_a_document_is_an_error_with_the_counts(store, tmp_path, ingest):
    with pytest.raises(InputError, match="no documents: there are no files in"):
        ingest()
    write_parquet(tmp_path / "in/a.parquet", ["x", "y", " "])
    with pytest.raises(InputError, match=r"no valid document: .*3 of 3 rows .*short 2, empty 1"):
        ingest()
    assert read_versions(store) == [None, None]


def test_storage_that_cannot_be_written_is_an_error_of_one_line(store, tmp_path, ingest):
    (tmp_path / "in/a.txt").write_text(GOOD[0])
    (tmp_path / "file").touch()
    cfg = load(settings=[f"ingest.inputs=[{tmp_path}/in]", f"storage.root={tmp_path}/file/out"])
    with pytest.raises(
        PreflightError, match=r"cannot write below storage.root .*/file/out"
    ) as error:
        run(type(store)(store.session, cfg.storage), cfg)
    assert "\n" not in str(error.value)
