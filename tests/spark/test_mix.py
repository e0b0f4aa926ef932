"""The dataset holds what the mixture wants, and its export says so."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from climb.jobs import mix

from climb import tables, tokenizer
from climb.config import load
from climb.errors import ConfigError, MixtureError, PreflightError, TableError
from climb.spark.export import exported_from
from climb.spark.store import Store

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
    """The folder of tables, mixed once, that tests take a copy of."""
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


def n_tokens(cluster, i):
    return int(np.random.default_rng([cluster, i]).integers(1, 90))


def held(domain):
    """Tokens of a domain: clusters 0 and 3 are code, 1 is law, 2 soup; 4 was pruned."""
    clusters = [c for c in range(4) if DOMAINS[c % 3] == domain]
    return sum(n_tokens(c, i) for c in clusters for i in range(PER_CLUSTER))


def write(store, table, rows, partitions):
    store.append(store.frame(rows, table).repartition(partitions), table)


def write_world(store, cfg, reverse=False, partitions=1):
    ids = [(c, i) for c in range(5) for i in range(PER_CLUSTER)]
    ids = ids[::-1] if reverse else ids
    fixed = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}}
    recipe = tokenizer.recipe(cfg.count)
    documents = [{"doc_id": f"{c}-{i}", "text": f"text {c} {i}"} | fixed for c, i in ids]
    tokens = [{"doc_id": f"{c}-{i}", "recipe": recipe, "n_tokens": n_tokens(c, i)} for c, i in ids]
    place = {"clustering": "made", "distance": 0.0}
    assignments = [{"doc_id": f"{c}-{i}", "cluster": c} | place for c, i in ids]
    clusters = [
        {
            "cluster": c,
            "n_documents": PER_CLUSTER,
            "n_tokens": sum(n_tokens(c, i) for i in range(PER_CLUSTER)),
            "scores": {},
            "kept": c < 4,
            "reason": None if c < 4 else "rules 1 < 3",
            "domain": DOMAINS[c % 3] if c < 4 else None,
        }
        for c in range(5)
    ]
    found = dict.fromkeys(tables.MIXTURES.column_names) | {
        "search": cfg.search.name,
        "method": "found",
        "weights": WEIGHTS,
    }
    mixtures = [found, found | {"method": "uniform", "weights": {"law": 1.0}}]
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.TOKENS, tokens),
        (tables.ASSIGNMENTS, assignments),
        (tables.CLUSTERS, clusters),
        (tables.MIXTURES, mixtures),
    ):
        write(store, table, rows, partitions)


def test_every_domain_has_its_tokens_whole_copies_first_and_the_export_the_same_rows(store, world):
    rows = store.rows(tables.CORPUS)
    for domain, weight in WEIGHTS.items():
        wanted = weight * 11_111
        mine = [row for row in rows if row["domain"] == domain]
        assert abs(sum(row["n_tokens"] for row in mine) - wanted) <= 90 / 2 + 1
        copies = Counter(row["doc_id"] for row in mine)
        whole = int(wanted // held(domain))
        assert set(copies.values()) <= {whole, whole + 1}
        if whole:
            assert len(copies) == PER_CLUSTER * (2 if domain == "code" else 1)
    assert {row["domain"] for row in rows} == {"code", "law"}
    assert all(row["text"] == f"text {row['doc_id'].replace('-', ' ')}" for row in rows)

    place = Path(store.folder("mixed"))
    assert world[1].endswith(f"rows of 2 domains; dataset in {world[0]}/mixed")
    exported = ds.dataset(place / "data", partitioning="hive").to_table().to_pylist()
    key = ("doc_id", "copy")
    assert sorted(exported, key=lambda r: [r[k] for k in key]) == [
        {k: row[k] for k in ("doc_id", "copy", "n_tokens", "text", "domain")} for row in rows
    ]
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["tokens"] == sum(row["n_tokens"] for row in rows)
    assert manifest["wanted_tokens"] == 11_111
    assert manifest["versions"]["corpus"] == store.version(tables.CORPUS)
    code = manifest["domains"]["code"]
    assert code["epochs"] == pytest.approx(code["tokens"] / held("code"))
    card = (place / "README.md").read_text()
    assert card.startswith("---\n")
    assert "data/domain=law/*.parquet" in card
    assert f"| code | 0.7000 | {code['tokens']:,} |" in card
    assert not list(place.parent.glob("mixed.*"))


def test_partitions_and_order_change_no_row(store, cfg, spark, tmp_path):
    other = Store(spark, config(f"{tmp_path}/other").storage)
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", 7)
        write_world(other, cfg, reverse=True, partitions=5)
        mix.run(other, cfg)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    assert store.rows(tables.CORPUS) == other.rows(tables.CORPUS)


def test_a_rerun_changes_nothing_and_a_lost_export_is_made_again(store, cfg):
    version, place = store.version(tables.CORPUS), Path(store.folder("mixed"))
    manifest = place / "manifest.json"
    stamp, text = manifest.stat().st_mtime_ns, manifest.read_text()
    assert "up to date" in mix.run(store, cfg)
    assert manifest.stat().st_mtime_ns == stamp

    place.rename(place.with_name("mixed.old"))  # killed between the two renames
    place.with_name("mixed.writing").mkdir()
    assert "dataset in" in mix.run(store, cfg)
    assert manifest.read_text() == text
    assert not list(place.parent.glob("mixed.*"))
    assert store.version(tables.CORPUS) == version

    more = config(store.cfg.root, "mix.tokens=2_000")
    mix.run(store, more)
    assert store.version(tables.CORPUS) == version + 1
    assert json.loads(manifest.read_text())["wanted_tokens"] == 2_000


def test_a_mixture_that_does_not_fit_is_an_error(store):
    with pytest.raises(TableError, match="no answer of the search 'other'"):
        mix.run(store, config(store.cfg.root, "search.name=other"))
    found = dict.fromkeys(tables.MIXTURES.column_names) | {"method": "found"}
    for search, weights in (("other", {"code": 0.5, "space": 0.5}), ("law", {"law": 1.0})):
        write(store, tables.MIXTURES, [found | {"search": search, "weights": weights}], 1)
    with pytest.raises(TableError, match=r"weighs space, but the domains .* code, law, soup"):
        mix.run(store, config(store.cfg.root, "search.name=other"))
    epochs = 11_111 / held("law")
    assert epochs > 6
    with pytest.raises(MixtureError, match=r"law 1, at most .* \(search\.max_epochs 6 of its"):
        mix.run(store, config(store.cfg.root, "search.name=law"))
    assert store.version(tables.CORPUS) == 0
    own = "search.limits=[{name: law, domains: [law], max_epochs: 9}]"
    mix.run(store, config(store.cfg.root, "search.name=law", own))
    copies = Counter(row["doc_id"] for row in store.rows(tables.CORPUS))
    assert set(copies.values()) <= {int(epochs), int(epochs) + 1}


def test_an_export_never_replaces_what_is_not_its_own(store, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert exported_from(store, str(home)) is None
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds files but no dataset of ours"):
        exported_from(store, str(home))
    (home / "manifest.json").write_text('{"format": "web app"}')
    with pytest.raises(ConfigError, match="is not of a dataset of ours"):
        exported_from(store, str(home))


def test_a_place_that_cannot_be_written_is_one_line(store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreflightError, match=r"mix\.export: cannot write .*file/mixed") as error:
        mix.run(store, config(store.cfg.root, f"mix.export={tmp_path}/file/mixed"))
    assert "\n" not in str(error.value)
