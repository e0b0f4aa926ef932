"""The Parquet files of an export depend on the rows alone, and need little of a mount."""

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.mount import HostileMount

from climb.dataset.card import FORMAT
from climb.export.groups import escape_name
from climb.files import FileDigest, can_rename, is_complete, mark_complete, write
from climb.spark.corpus import export, export_files
from climb.spark.corpus.export_files import write_batches

ROWS = [
    {"domain": domain, "file": file, "doc_id": f"{i:03d}", "copy": 0}
    | {"n_tokens": i, "text": "é" * i}
    for domain, file in (("code", 0), ("code", 1), ("law", 0))
    for i in range(40)
]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    monkeypatch.setattr(export_files, "GROUP_BYTES", 500)
    monkeypatch.setattr(write, "_without_rename", set())


def write_rows(folder, *sizes):
    """Write the rows in batches of these sizes; return the files and the rows about them."""
    table = pa.Table.from_pylist(ROWS)
    batches, start = [], 0
    for size in sizes:
        batches += table.slice(start, size).combine_chunks().to_batches()
        start += size
    batches += table.slice(start).combine_chunks().to_batches()
    written = [row for batch in write_batches(batches, str(folder)) for row in batch.to_pylist()]
    return {row["name"]: (folder / row["name"]).read_bytes() for row in written}, written


def test_a_domain_is_a_folder_of_files_with_its_rows_in_order(tmp_path):
    files, written = write_rows(tmp_path)
    names = ["domain=code/part-00000", "domain=code/part-00001", "domain=law/part-00000"]
    assert list(files) == [f"data/{name}.zstd.parquet" for name in names]
    assert [row["n_rows"] for row in written] == [40, 40, 40]
    table = pq.read_table(tmp_path / "data")
    assert table.drop(["domain"]).to_pylist() == [
        {key: row[key] for key in ("doc_id", "copy", "n_tokens", "text")} for row in ROWS
    ]
    assert pq.ParquetFile(tmp_path / next(iter(files))).num_row_groups > 2


def test_batches_do_not_change_a_byte(tmp_path):
    whole, _ = write_rows(tmp_path / "whole")
    for sizes in ((1, 2, 3), (39, 1, 1), (80,), (1,) * 119):
        assert write_rows(tmp_path / f"{len(sizes)}-{sizes[0]}", *sizes)[0] == whole


def test_batches_do_not_change_a_byte_of_files_of_many_pages(tmp_path, monkeypatch):
    """A page has 1 MB; where it ends must not depend on the batches."""
    monkeypatch.setattr(export_files, "GROUP_BYTES", 5_000_000)
    text = np.random.default_rng(0).integers(97, 123, 4_000, dtype=np.uint8).tobytes().decode()
    row = {"domain": "law", "file": 0, "doc_id": "", "copy": 0, "n_tokens": 0}
    rows = [row | {"text": f"{i}{text[i % 1000 :]}"} for i in range(3_000)]
    monkeypatch.setattr(sys.modules[__name__], "ROWS", rows)
    whole, _ = write_rows(tmp_path / "whole")
    assert write_rows(tmp_path / "parts", 1, 700, 1_500, 33)[0] == whole


@pytest.mark.parametrize("call", ["fsync", "rename", "truncate", "append", "seek", "chmod", "all"])
def test_files_of_an_export_survive_each_refused_call(tmp_path, monkeypatch, call):
    whole, _ = write_rows(tmp_path / "disk")
    folder = tmp_path / "mount"
    folder.mkdir()
    mount = HostileMount(monkeypatch, folder, call, errno.ENOSYS)
    files, written = write_rows(folder)
    assert files == whole
    assert mount.bypassed == []
    mark_complete(folder, {row["name"]: FileDigest(row["sha256"], row["bytes"]) for row in written})
    assert is_complete(folder)
    assert can_rename(folder) == (call not in ("rename", "all"))
    assert len(list(folder.iterdir())) == 2


@pytest.fixture
def store(monkeypatch):
    """A store for exports of local folders that have one row."""

    def write_dataset(store, folder, manifest):
        folder.write("row", "text")
        folder.write("manifest.json", json.dumps(manifest))
        mark_complete(Path(folder.path))

    monkeypatch.setattr(export, "_write_dataset", write_dataset)
    return SimpleNamespace(session=None)


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("is_dangling", [True, False])
def test_an_export_folder_that_is_a_link_stays_one(
    store, tmp_path, monkeypatch, renames, is_dangling
):
    monkeypatch.setattr(export, "can_rename", lambda folder: renames)
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "dataset", tmp_path / "mixed"
    link.symlink_to("disk/dataset")
    if not is_dangling:
        target.mkdir()
    for version in (1, 2):
        manifest = {"format": FORMAT, "made_from": version}
        assert export.read_export_inputs(store, str(link)) != version
        export.export(store, f"{link}/", manifest)
        assert export.read_export_inputs(store, str(link)) == version
        assert link.is_symlink()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "mixed"]
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["dataset"]
    Path(f"{target}{export.WRITING}").mkdir()  # killed
    assert export.read_export_inputs(store, str(link)) is None


def test_folders_beside_an_export_that_a_user_may_have_stay(store, tmp_path):
    names = ["mixed.old", "mixed.writing", "mixed.bak"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    path = str(tmp_path / "mixed")
    for version in (1, 2):
        export.export(store, path, {"format": FORMAT, "made_from": version})
        assert export.read_export_inputs(store, path) == version
    assert {path.name for path in tmp_path.iterdir()} == {"mixed", *names}
    assert all((tmp_path / name / "mine").exists() for name in names)


def test_the_name_of_a_domain_is_escaped_as_in_spark():
    assert escape_name("court-appeal") == "court-appeal"
    assert escape_name("C#: a/b=é") == "C%23%3A a%2Fb%3Dé"
