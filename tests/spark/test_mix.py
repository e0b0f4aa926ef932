"""The dataset has the planned tokens of every domain, and its export has the same rows."""

import errno
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from climb.jobs import mix
from pyspark.sql import Row

from climb import tables
from climb.config import load
from climb.errors import ConfigError, MixtureError, PreflightError, TableError
from climb.files import is_complete
from climb.spark.corpus import domain_documents, export
from climb.spark.corpus.export import read_export_inputs
from climb.spark.corpus.mix import find_other_origin, read_corpus
from climb.spark.delta.store import Store

DOMAINS = ("code", "law", "soup")
WEIGHTS = {"code": 0.7, "law": 0.3, "soup": 0.0}
PER_CLUSTER = 40


def config(root, *settings):
    return load(
        settings=[
            f"storage.root={root}",
            "search.target_tokens=11_111",
            "search.max_epochs=6",
            *settings,
        ]
    )


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Return the folder of tables, mixed once; tests copy it."""
    cfg = config(tmp_path_factory.mktemp("world") / "out")
    store = Store(spark, cfg.storage)
    write_world(store, cfg)
    return cfg.storage.root, mix.run(store, cfg)


@pytest.fixture
def cfg(world, tmp_path):
    shutil.copytree(world[0], tmp_path / "out")
    return config(tmp_path / "out")


@pytest.fixture
def store(spark, cfg):
    return Store(spark, cfg.storage)


def count_tokens(cluster, i):
    return int(np.random.default_rng([cluster, i]).integers(1, 90))


def count_domain(domain):
    """Count the tokens of a domain: clusters 0 and 3 are code, 1 is law, 2 soup; 4 is pruned."""
    clusters = [c for c in range(4) if DOMAINS[c % 3] == domain]
    return sum(count_tokens(c, i) for c in clusters for i in range(PER_CLUSTER))


def write(store, table, rows, partitions):
    store.append(store.create_frame(rows, table).repartition(partitions), table)


def write_world(store, cfg, reverse=False, partitions=1):
    ids = [(c, i) for c in range(5) for i in range(PER_CLUSTER)]
    ids = ids[::-1] if reverse else ids
    fixed = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}}
    recipe = cfg.count.recipe
    documents = [{"doc_id": f"{c}-{i}", "text": f"text {c} {i}"} | fixed for c, i in ids]
    tokens = [
        {"doc_id": f"{c}-{i}", "recipe": recipe, "n_tokens": count_tokens(c, i)} for c, i in ids
    ]
    fields = {"clustering": "made", "distance": 0.0}
    assignments = [{"doc_id": f"{c}-{i}", "cluster": c} | fields for c, i in ids]
    clusters = [
        {
            "cluster": c,
            "n_documents": PER_CLUSTER,
            "n_tokens": sum(count_tokens(c, i) for i in range(PER_CLUSTER)),
            "scores": {},
            "kept": c < 4,
            "reason": None if c < 4 else "rules 1 < 3",
            "domain": DOMAINS[c % 3] if c < 4 else None,
        }
        for c in range(5)
    ]
    recommended = dict.fromkeys(tables.MIXTURES.column_names) | {
        "search": cfg.search.name,
        "method": "recommended",
        "weights": WEIGHTS,
    }
    mixtures = [recommended, recommended | {"method": "uniform", "weights": {"law": 1.0}}]
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.TOKENS, tokens),
        (tables.ASSIGNMENTS, assignments),
        (tables.CLUSTERS, clusters),
        (tables.MIXTURES, mixtures),
    ):
        write(store, table, rows, partitions)


def test_every_domain_has_its_tokens_in_whole_copies_and_the_export_has_the_same_rows(store, world):
    rows = store.read_rows(tables.CORPUS)
    for domain, weight in WEIGHTS.items():
        wanted = weight * 11_111
        own = [row for row in rows if row["domain"] == domain]
        assert abs(sum(row["n_tokens"] for row in own) - wanted) <= 90 / 2 + 1
        copies = Counter(row["doc_id"] for row in own)
        whole = int(wanted // count_domain(domain))
        assert set(copies.values()) <= {whole, whole + 1}
        if whole:
            assert len(copies) == PER_CLUSTER * (2 if domain == "code" else 1)
    assert {row["domain"] for row in rows} == {"code", "law"}
    assert all(row["text"] == f"text {row['doc_id'].replace('-', ' ')}" for row in rows)

    folder = Path(store.locate_folder("mixed"))
    assert world[1].endswith(f"rows of 2 domains; dataset in {world[0]}/mixed")
    exported = ds.dataset(folder / "data", partitioning="hive").to_table().to_pylist()
    key = ("doc_id", "copy")
    assert sorted(exported, key=lambda r: [r[k] for k in key]) == [
        {k: row[k] for k in ("doc_id", "copy", "n_tokens", "text", "domain")} for row in rows
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["tokens"] == sum(row["n_tokens"] for row in rows)
    assert manifest["wanted_tokens"] == 11_111
    assert manifest["versions"]["corpus"] == store.history.read_version(tables.CORPUS)
    code = manifest["domains"]["code"]
    assert code["epochs"] == pytest.approx(code["tokens"] / count_domain("code"))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "data/domain=law/*.parquet" in card
    assert f"| code | 0.7000 | {code['tokens']:,} |" in card
    assert not list(folder.parent.glob("mixed.*"))


def test_partitions_and_order_of_files_do_not_change_a_row(store, cfg, spark, tmp_path):
    other = Store(spark, config(f"{tmp_path}/other").storage)
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", 7)
        write_world(other, cfg, reverse=True, partitions=5)
        mix.run(other, cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    assert store.read_rows(tables.CORPUS) == other.read_rows(tables.CORPUS)


@pytest.mark.parametrize(
    ("limit", "join"), [(4 * PER_CLUSTER, "BroadcastHashJoin"), (4 * PER_CLUSTER - 1, "SortMerge")]
)
def test_texts_are_shuffled_only_if_there_are_more_kept_documents_than_a_limit(
    store, spark, monkeypatch, limit, join
):
    monkeypatch.setattr(domain_documents, "MAX_BROADCAST_DOCUMENTS", limit)
    own = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    # Spark itself would broadcast tables as small as these.
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", -1)
    try:
        ids = store.read(tables.TOKENS).select("doc_id", "n_tokens")
        joined = domain_documents.join_texts(store, ids)
        assert join in joined._jdf.queryExecution().executedPlan().toString()
        rows = joined.collect()
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", own)
    assert joined.columns == ["doc_id", "n_tokens", "text"]
    assert len(rows) == 5 * PER_CLUSTER
    assert all(row.text == f"text {row.doc_id.replace('-', ' ')}" for row in rows)


def test_a_rerun_changes_nothing_and_a_deleted_export_is_written_again(store, cfg):
    version = store.history.read_version(tables.CORPUS)
    folder = Path(store.locate_folder("mixed"))
    manifest = folder / "manifest.json"
    stamp, text = manifest.stat().st_mtime_ns, manifest.read_text()
    assert "up to date" in mix.run(store, cfg)
    assert manifest.stat().st_mtime_ns == stamp

    folder.rename(f"{folder}{export.OLD}")  # killed between the two renames
    Path(f"{folder}{export.WRITING}").mkdir()
    assert "dataset in" in mix.run(store, cfg)
    assert manifest.read_text() == text
    assert not list(folder.parent.glob("mixed.*"))
    assert store.history.read_version(tables.CORPUS) == version

    more = config(store.cfg.root, "mix.tokens=2_000")
    mix.run(store, more)
    assert store.history.read_version(tables.CORPUS) == version + 1
    assert json.loads(manifest.read_text())["wanted_tokens"] == 2_000

    assert find_other_origin(store, more) == ""
    assert find_other_origin(store, cfg).startswith("2,000 tokens, but mix.tokens")
    other = config(store.cfg.root, "mix.tokens=2_000", "search.name=other")
    assert find_other_origin(store, other) == (
        f"the search {cfg.search.name!r}, but search.name is 'other'"
    )


@pytest.mark.slow
def test_a_dataset_without_texts_in_its_table_has_the_same_files(store, cfg, tmp_path):
    folder = Path(store.locate_folder("mixed"))
    files = read_files(folder)
    rows = store.read_rows(tables.CORPUS)
    without = config(store.cfg.root, "mix.text=false")
    mix.run(store, without)
    assert store.read_rows(tables.CORPUS) == [row | {"text": None} for row in rows]
    again = read_files(folder)
    data = {name for name in files if name.endswith(".parquet")}
    assert {name: again[name] for name in data} == {name: files[name] for name in data}
    assert read_corpus(store).orderBy("doc_id", "copy").collect() == [
        Row(**{name: row[name] for name in tables.CORPUS.column_names}) for row in rows
    ]
    assert "up to date" in mix.run(store, without)
    mix.run(store, cfg)
    assert store.read_rows(tables.CORPUS) == rows


def test_a_mixture_of_other_domains_or_beyond_a_constraint_is_an_error(store):
    with pytest.raises(TableError, match="no recommendation of the search 'other'"):
        mix.run(store, config(store.cfg.root, "search.name=other"))
    empty = dict.fromkeys(tables.MIXTURES.column_names) | {"method": "recommended"}
    for search, weights in (("other", {"code": 0.5, "space": 0.5}), ("law", {"law": 1.0})):
        write(store, tables.MIXTURES, [empty | {"search": search, "weights": weights}], 1)
    with pytest.raises(TableError, match=r"unknown domains space; the domains .* code, law, soup"):
        mix.run(store, config(store.cfg.root, "search.name=other"))
    epochs = 11_111 / count_domain("law")
    assert epochs > 6
    with pytest.raises(MixtureError, match=r"law: weight 1 is above .*max_epochs 6 \* "):
        mix.run(store, config(store.cfg.root, "search.name=law"))
    assert store.history.read_version(tables.CORPUS) == 0
    own = "search.constraints=[{name: law, domains: [law], max_epochs: 9}]"
    mix.run(store, config(store.cfg.root, "search.name=law", own))
    copies = Counter(row["doc_id"] for row in store.read_rows(tables.CORPUS))
    assert set(copies.values()) <= {int(epochs), int(epochs) + 1}


def test_an_export_never_replaces_a_folder_of_other_files(store, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert read_export_inputs(store, str(home)) is None
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="contains files that are not a dataset of climb"):
        read_export_inputs(store, str(home))
    (home / "manifest.json").write_text('{"format": "web app"}')
    with pytest.raises(ConfigError, match="is not the manifest of a climb dataset"):
        read_export_inputs(store, str(home))


def test_an_export_folder_that_cannot_be_written_is_an_error_of_one_line(store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreflightError, match=r"mix\.export: cannot write .*file/mixed") as error:
        mix.run(store, config(store.cfg.root, f"mix.export={tmp_path}/file/mixed"))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_export_on_a_mount_without_renames_is_written_in_place(store, tmp_path, monkeypatch):
    def refuse(path, target):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path))

    def kill(rows, folder):
        raise KeyboardInterrupt

    path = tmp_path / "mount" / "mixed"
    monkeypatch.setattr("climb.files.write._without_rename", set())
    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    settings = config(store.cfg.root, f"mix.export={path}")
    with monkeypatch.context() as patch:
        patch.setattr(export, "write_parts", kill)
        with pytest.raises(KeyboardInterrupt):
            mix.run(store, settings)
    assert Path(f"{path}{export.WRITING}").is_dir()
    assert read_export_inputs(store, str(path)) is None
    mix.run(store, settings)
    assert [child.name for child in path.parent.iterdir()] == ["mixed"]
    assert is_complete(path)
    files = read_files(path)
    manifest = json.loads(files.pop("manifest.json"))

    with monkeypatch.context() as patch:  # it would replace the older one
        patch.setattr(export, "write_parts", kill)
        with pytest.raises(KeyboardInterrupt):
            export.export(store, str(path), manifest)
    assert read_export_inputs(store, str(path)) is None
    mix.run(store, settings)
    again = read_files(path)
    assert json.loads(again.pop("manifest.json")) == manifest
    assert again == files
    next(path.rglob("*.parquet")).write_bytes(b"cut off")
    assert read_export_inputs(store, str(path)) is None


def read_files(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
