"""An export has the documents of the mixture once per wanted copy, whatever happens on the way."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import odd_formats
import pyarrow.dataset as ds
import pytest
from climb.jobs import export
from pyspark import cloudpickle
from pyspark.sql import functions as F
from tokenizers import Tokenizer

from climb import tables
from climb.config import load
from climb.errors import ConfigError, InputError, TableError
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.litdata import LitData
from climb.export.index import read_export
from climb.files import is_complete
from climb.spark.delta.store import Store
from climb.spark.export.prepare import build_contents
from climb.spark.export.rows import ShardKey, plan_shards, select_rows
from climb.spark.export.shards import DomainCounts, ShardRecord
from climb.tokenizer import open_tokenizer, train_json

WEIGHTS = {"code": 0.5, "law": 0.3, "soup/a=b": 0.2}
MEAN_WORDS = {"code": 200, "law": 10, "soup/a=b": 40}
N_DOCUMENTS = {"code": 60, "law": 400, "soup/a=b": 150}
TOKENS = 30_000


def list_documents():
    for d, (domain, n) in enumerate(N_DOCUMENTS.items()):
        random = np.random.default_rng(d)
        for i in range(n):
            n_words = int(random.integers(1, 2 * MEAN_WORDS[domain]))
            yield {
                "doc_id": f"{domain[:4]}-{i}",
                "domain": domain,
                "n_tokens": n_words,
                "text": " ".join(f"{domain[:4]}{w}" for w in random.integers(0, 50, n_words)),
            }


def list_corpus():
    """Repeat every domain until it has its tokens: whole copies, then some more documents."""
    documents = list(list_documents())
    for domain, weight in WEIGHTS.items():
        own = [row for row in documents if row["domain"] == domain]
        done, position = 0, 0
        while done < weight * TOKENS:
            row = own[position % len(own)]
            yield row | {"copy": position // len(own)}
            done, position = done + row["n_tokens"], position + 1


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Return the folder of tables, written once; tests copy it."""
    root = tmp_path_factory.mktemp("world") / "out"
    store = Store(spark, load(settings=[f"storage.root={root}"]).storage)
    fixed = {"n_bytes": 1, "repairs": []}
    documents = [
        {"doc_id": row["doc_id"], "text": row["text"], "source": f"{row['domain']}.jsonl"}
        | {"metadata": {"License": "mit"} if row["domain"] == "code" else {}}
        | fixed
        for row in list_documents()
    ]
    clusters = [
        {"cluster": c, "n_documents": n, "n_tokens": 1, "scores": {"rules": 2.0 + c}}
        | {"kept": True, "reason": None, "domain": domain}
        for c, (domain, n) in enumerate(N_DOCUMENTS.items())
    ]
    clusters.append(
        {"cluster": 9, "n_documents": 77, "n_tokens": 1234, "scores": {"rules": 1.0}}
        | {"kept": False, "reason": "rules 1 < 2", "domain": None}
    )
    clusters.append(
        {"cluster": 8, "n_documents": 5, "n_tokens": 6, "scores": {"rules": 4.0}}
        | {"kept": True, "reason": None, "domain": "unused"}
    )
    weights = WEIGHTS | {"none": 0.0}
    mixture = dict.fromkeys(tables.MIXTURES.column_names)
    mixture |= {"search": "default", "method": "recommended", "weights": weights}
    rejected = [{"reject_id": "1", "reason": "too short", "file": "a", "n_rows": 3, "detail": None}]
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.CLUSTERS, clusters),
        (tables.REJECTED, rejected),
        (tables.MIXTURES, [mixture]),
    ):
        store.append(store.create_frame(rows, table), table)
    inputs = store.history.describe_inputs(
        tables.DOCUMENTS, tables.CLUSTERS, search="default", weights=weights, tokens=TOKENS
    )
    rows = store.create_frame(list(list_corpus()), tables.CORPUS).repartition(3)
    store.replace(rows, tables.CORPUS, inputs)
    return root


def run_export(
    spark, world, folder, *settings, use="climb.export.formats.hf:HuggingFace", **fields
):
    """Export with settings, and return what the job printed and the folder."""
    values = {"use": use} | {"shard_bytes": 40_000} | fields
    cfg = load(
        settings=[
            f"storage.root={world}",
            f"export.path={folder}",
            f"export.format={json.dumps(values)}",
            "export.validation_share=0.1",
            f"mix.tokens={TOKENS}",
            *settings,
        ]
    )
    return export.run(Store(spark, cfg.storage), cfg), folder


@pytest.fixture
def run(spark, world, tmp_path):
    """Return a function that exports with settings to a folder of the test; tables are read."""

    def run_here(*settings, out="export", **fields):
        return run_export(spark, world, tmp_path / out, *settings, **fields)

    return run_here


@pytest.fixture(scope="module")
def recipe(spark, world, tmp_path_factory):
    """What the job printed, and the folder of an export that tests only read."""
    return run_export(spark, world, tmp_path_factory.mktemp("recipe") / "export")


def read_rows(folder, split="train"):
    return ds.dataset(folder / split, format="parquet").to_table().to_pylist()


def hash_files(folder):
    """Digests of all files but the two that have the path of the folder, or depend on it."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in ("export.json", "complete.json")
    }


def hash_shards(folder):
    """Leave out the files that name the format."""
    digests = hash_files(folder)
    return {name: digest for name, digest in digests.items() if name.endswith(".parquet")}


def test_a_recipe_has_every_document_once_and_the_weights_of_the_mixture(recipe):
    text, folder = recipe
    train, held_out = read_rows(folder), read_rows(folder, "validation")
    selected = {row["doc_id"] for row in list_corpus()}
    assert Counter(row["doc_id"] for row in train + held_out) == dict.fromkeys(selected, 1)
    assert 0.03 < len(held_out) / len(selected) < 0.2
    contents = read_export(folder).contents
    assert {d.name: round(d.weight, 9) for d in contents.domains} == WEIGHTS
    for domain in contents.domains:
        own = [row["n_tokens"] for row in train if row["domain"] == domain.name]
        assert (domain.documents, domain.tokens) == (len(own), sum(own))
        assert domain.squared_tokens == sum(n**2 for n in own)
        assert domain.epochs == pytest.approx(domain.weight * TOKENS / sum(own))
        assert domain.max_epochs == 4.0
    assert is_complete(folder)
    assert f"{len(train) + len(held_out):,} documents" in text


def test_a_mixed_export_has_every_copy_and_none_of_a_held_out_document(run):
    _, folder = run("export.kind=mixed")
    train, held_out = read_rows(folder), read_rows(folder, "validation")
    for domain in read_export(folder).contents.domains:  # epochs count documents, not copies
        lengths = {r["doc_id"]: r["n_tokens"] for r in train if r["domain"] == domain.name}
        assert domain.epochs == pytest.approx(domain.weight * TOKENS / sum(lengths.values()))
    copies = Counter(row["doc_id"] for row in train)
    validation = {row["doc_id"] for row in held_out}
    assert len(validation) == len(held_out)
    assert not validation & copies.keys()
    wanted = Counter(row["doc_id"] for row in list_corpus() if row["doc_id"] not in validation)
    assert copies == wanted


def test_the_order_of_a_mixed_export_mixes_the_domains(run):
    _, folder = run("export.kind=mixed", shard_bytes=10_000_000)
    domains = [row["domain"] for row in read_rows(folder)]
    third = len(domains) // 3
    for name in WEIGHTS:
        shares = [domains[i : i + third].count(name) / third for i in (0, third, 2 * third)]
        assert max(shares) - min(shares) < 0.1


def test_tokens_of_an_export_are_those_of_its_texts(run, tmp_path):
    """Every document ends with the end of the text, and none is lost."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json := train_json(list_texts(), 300))
    _, folder = run(f"export.tokenizer={tmp_path}", use="climb.export.formats.olmo_core:OlmoCore")
    opened = open_tokenizer(tokenizer_json)
    end = opened.token_to_id("<|endoftext|>")
    contents = read_export(folder).contents
    assert (folder / "tokenizer.json").read_text() == tokenizer_json
    found = []
    for shard in contents.shards:
        ids = np.fromfile(folder / shard.files[0], contents.tokenization.dtype)
        assert len(ids) == shard.tokens
        documents = np.split(ids, np.flatnonzero(ids == end) + 1)[:-1]
        assert len(documents) == shard.documents
        found += [opened.decode(document[:-1].tolist()) for document in documents]
    selected = {row["doc_id"]: row["text"] for row in list_corpus()}
    assert sorted(found) == sorted(selected.values())
    law = next(domain for domain in contents.domains if domain.name == "law")
    shards = contents.list_shards("train", "law")
    assert law.documents == sum(shard.documents for shard in shards)
    assert law.tokens == sum(shard.tokens for shard in shards)


def list_texts():
    return [row["text"] for row in list_documents()]


def read_over(partitions):
    """Return a method of Store that reads a table over so many partitions."""
    return lambda store, table: store.session.table(store.locate(table)).repartition(partitions)


def test_exports_are_equal_to_the_byte_over_1_and_7_partitions(recipe, run, monkeypatch, tmp_path):
    """Also with tokens, and kind mixed."""
    (tmp_path / "tokenizer.json").write_text(train_json(list_texts(), 300))
    tokens = {"use": "climb.export.formats.litdata:LitData"}
    found = {}
    for partitions in (1, 7):
        monkeypatch.setattr(Store, "read", read_over(partitions))
        _, folder = run(out=f"over-{partitions}")
        assert hash_files(folder) == hash_files(recipe[1])
        settings = [f"export.tokenizer={tmp_path}", "export.kind=mixed"]
        _, folder = run(*settings, out=f"tokens-{partitions}", **tokens)
        found[partitions] = hash_files(folder)
    assert found[1] == found[7]


def test_an_export_of_a_table_without_texts_reads_them_from_the_documents(
    spark, world, recipe, run, tmp_path
):
    shutil.copytree(world, tmp_path / "tables")
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/tables"]).storage)
    inputs = store.history.read_inputs(tables.CORPUS)
    rows = store.read(tables.CORPUS).withColumn("text", F.lit(None))
    store.replace(rows, tables.CORPUS, inputs)
    _, folder = run_export(spark, tmp_path / "tables", tmp_path / "recipe")
    assert hash_shards(folder) == hash_shards(recipe[1])
    _, mixed = run("export.kind=mixed")
    _, folder = run_export(spark, tmp_path / "tables", tmp_path / "mixed", "export.kind=mixed")
    assert hash_shards(folder) == hash_shards(mixed)


@pytest.mark.slow
def test_another_end_of_text_is_another_export(run, tmp_path):
    tokenizer = Tokenizer.from_str(train_json(list_texts(), 300))
    tokenizer.add_special_tokens(["<|other|>"])
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    use = {"use": "climb.export.formats.litdata:LitData"}
    tokens = f"export.tokenizer={tmp_path}"
    _, folder = run(tokens, **use)
    before = hash_files(folder)
    assert "up to date" in run(tokens, "export.end_of_text=<|endoftext|>", **use)[0]
    assert "up to date" not in run(tokens, "export.end_of_text=<|other|>", **use)[0]
    assert hash_files(folder) != before


def test_an_export_that_was_killed_goes_on_with_what_is_missing(recipe, run, tmp_path):
    cloudpickle.register_pickle_by_value(odd_formats)  # executors lack the folder of the tests
    mark = tmp_path / "fail"
    mark.touch()
    folder, writing = tmp_path / "export", tmp_path / ".export.climb-export" / "data"
    fields = {"use": "odd_formats:Failing", "mark": str(mark), "writing": str(writing)}
    with pytest.raises(Exception, match="the machine died"):
        run(**fields)
    assert not folder.exists()
    finished = {path: path.stat().st_mtime_ns for path in writing.rglob("*.parquet")}
    assert len(finished) >= 2
    mark.unlink()
    text, _ = run(**fields)
    assert "(resumed)" in text
    for path, written in finished.items():
        moved = folder / path.relative_to(writing)
        assert moved.stat().st_mtime_ns == written
    assert not writing.parent.exists()
    cloudpickle.unregister_pickle_by_value(odd_formats)
    assert hash_shards(folder) == hash_shards(recipe[1])


def test_an_export_killed_before_its_last_rename_is_finished(recipe, run, tmp_path, monkeypatch):
    real = Path.rename

    def die(self, target):
        if str(target) == str(tmp_path / "export"):
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    _, folder = run()
    assert hash_files(folder) == hash_files(recipe[1])


def test_an_export_stays_unless_an_input_changed(run):
    _, folder = run()
    before = hash_files(folder)
    assert "up to date" in run()[0]
    assert "up to date" not in run("export.validation_share=0.2")[0]
    assert hash_files(folder) != before


def test_an_export_replaces_no_files_of_others(run, tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="are not an export of climb"):
        run()
    assert (tmp_path / "export" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_a_domain_whose_training_documents_have_no_tokens_is_refused_before_shards_are_written(
    spark, kind
):
    rows = [("a", 0, "law", 5, "text"), ("b", 0, "tiny", 0, ""), ("c", 0, "tiny", 0, "")]
    frame = spark.createDataFrame(
        rows, "doc_id string, copy int, domain string, n_tokens int, text string"
    )
    selected = select_rows(frame, kind, 0.0, 7)
    with pytest.raises(TableError, match="no document of tiny in the training split has tokens"):
        plan_shards(selected, JsonLines())
    assert plan_shards(selected, LitData())[1] == 3  # every document has its end-of-text token


def test_a_kind_that_the_format_lacks_is_refused(run):
    with pytest.raises(ConfigError, match="supports only mixed"):
        run("export.kind=recipe", use="climb.export.formats.nanochat:Nanochat")


def test_without_a_mixture_the_message_names_the_job(run, spark, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path / 'empty'}"])
    with pytest.raises(TableError, match="run `climb mix` first"):
        export.run(Store(spark, cfg.storage), cfg)


def test_a_dataset_of_earlier_tables_or_of_an_earlier_search_is_refused(spark, world, tmp_path):
    """Upkeep changes versions, but no rows; a refused export writes nothing."""
    shutil.copytree(world, tmp_path / "tables")
    store = Store(spark, load(settings=[f"storage.root={tmp_path}/tables"]).storage)

    def run_here(*settings):
        return run_export(spark, tmp_path / "tables", tmp_path / "export", *settings)[0]

    properties = "SET TBLPROPERTIES ('delta.logRetentionDuration' = 'interval 9 days')"
    spark.sql(f"ALTER TABLE {store.locate(tables.CLUSTERS)} {properties}")
    assert "documents with" in run_here()
    before = hash_files(tmp_path / "export")
    with pytest.raises(TableError, match=r"the search 'default', but search.name is 'x'; run"):
        run_here("search.name=x")
    with pytest.raises(TableError, match=r"from 30,000 tokens, but mix.tokens .* is 40,000; run"):
        run_here("mix.tokens=40000")
    mixture = store.read_rows(tables.MIXTURES)[0]
    other = mixture | {"weights": {"code": 1.0}}
    inputs = store.history.describe_inputs()
    store.replace(store.create_frame([other], tables.MIXTURES), tables.MIXTURES, inputs)
    with pytest.raises(TableError, match=r"an earlier recommendation of the search 'default'"):
        run_here()
    store.replace(store.create_frame([mixture], tables.MIXTURES), tables.MIXTURES, inputs)
    assert "up to date" in run_here()
    rows = [row for row in store.read_rows(tables.CLUSTERS) if row["domain"] != "law"]
    store.replace(store.create_frame(rows, tables.CLUSTERS), tables.CLUSTERS, inputs)
    message = r"corpus was made from an earlier version of clusters; run `climb mix` first"
    with pytest.raises(TableError, match=message):
        run_here("export.kind=mixed")
    assert hash_files(tmp_path / "export") == before


def test_a_domain_that_is_all_in_the_validation_split_is_refused():
    prepared = SimpleNamespace(weights={"code": 0.5, "law": 0.5})
    written = [
        (ShardKey(i, split, None, "", 0, 1), ShardRecord({}, {name: DomainCounts(1, 2, 4)}))
        for i, (split, name) in enumerate([("train", "code"), ("validation", "law")])
    ]
    with pytest.raises(TableError, match=r"no document of law .* lower export.validation_share"):
        build_contents(prepared, written, load())


def test_the_card_says_where_the_text_is_from_and_what_was_dropped(recipe):
    _, folder = recipe
    card = (folder / "README.md").read_text()
    for line in (
        "| code.jsonl | ",
        "| mit | ",
        "| unknown | ",
        "| ingest: too short | 3 | not counted |",
        "| prune: 1 clusters of low quality | 77 | 1,234 |",
        "| mix: no document of 1 domains (unused) | 5 | 6 |",
        "| law | 3.000 |",
    ):
        assert line in card, line


def test_an_export_of_another_folder_is_not_verified(tmp_path):
    with pytest.raises(InputError, match="is not an export of climb"):
        read_export(tmp_path)
