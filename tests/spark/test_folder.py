"""Local paths, mounts of Databricks included, never go through Hadoop; URIs always do."""

import pytest
from py4j.java_gateway import JavaMember

from climb import tables
from climb.spark.corpus.export import export, read_export_inputs
from climb.spark.corpus.mix import count_corpus
from climb.spark.corpus.stage import _create_temporary_folder
from climb.spark.delta.store import Store
from climb.spark.folder import open_folder


@pytest.fixture
def opened(monkeypatch):
    """The paths for which Hadoop's getFileSystem was called."""
    paths, call = [], JavaMember.__call__

    def record(member, *args):
        if member.name == "getFileSystem":
            paths.append(member.target_id)
        return call(member, *args)

    monkeypatch.setattr(JavaMember, "__call__", record)
    return paths


def make_manifest(store):
    counts = count_corpus(store)
    domain = {"weight": 0.5, "wanted_tokens": 1, "epochs": 1.0}
    domains = {
        name: domain | {"tokens": n.tokens, "rows": n.rows, "documents": n.documents}
        for name, n in counts.items()
    }
    return {
        "format": "climb-mixture-1",
        "search": "default",
        "tokens": sum(n.tokens for n in counts.values()),
        "rows": sum(n.rows for n in counts.values()),
        "domains": domains,
        "made_from": {"settings": {"tokenizer": "bpe"}},
    }


def use_folders(store, path):
    """What jobs do with folders: stage rows of an ingest, and export a dataset."""
    own = Store(store.session, store.cfg.model_copy(update={"root": path}))
    with _create_temporary_folder(own) as folder:
        assert open_folder(store.session, folder).exists()
    assert not open_folder(store.session, f"{path}/ingest.staging").exists()
    manifest = make_manifest(store)
    assert read_export_inputs(store, f"{path}/mixed") is None
    for _ in range(2):  # the second replaces the first
        export(store, f"{path}/mixed", manifest)
    assert read_export_inputs(store, f"{path}/mixed") == manifest["made_from"]
    mixed = open_folder(store.session, f"{path}/mixed")
    assert {"README.md", "data", "manifest.json"} <= set(mixed.list_names())
    n_rows = store.session.read.parquet(f"{path}/mixed/data").count()
    assert n_rows == store.read(tables.CORPUS).count() == manifest["rows"]


def test_a_local_path_never_goes_through_hadoop(small_run, tmp_path, opened):
    use_folders(small_run[0], f"{tmp_path}/Volumes/main/climb/files")
    assert opened == []


def test_a_uri_always_goes_through_hadoop(small_run, tmp_path, opened):
    use_folders(small_run[0], f"file://{tmp_path}/bucket")
    assert len(opened) > 3
