"""A corpus grows by a tenth and loses a source: only what must change does, and reports are exact.

One store goes through all steps; the tests look at copies of its rows between them.
"""

import importlib
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from climb import tables
from climb.config import load
from climb.errors import ConfigError, TableError
from climb.spark.corpus.drift import read_drift
from climb.spark.delta.store import Store

pytestmark = pytest.mark.slow  # the jobs run twice before the first test

WORDS = {
    "cooking": "simmer onion garlic butter oven flour sauce pepper stir bake recipe dough salt",
    "law": "court statute plaintiff appeal judge clause liability contract verdict counsel",
    "space": "orbit planet telescope galaxy comet asteroid rocket moon gravity star nebula",
}
REMOVED = "blog"
"""Sorts before the other sources, so it owns the texts that it shares with them."""

PER_SOURCE, SHARED, ADDED = 40, 3, 16
BY_DOCUMENT = (
    *(tables.DOCUMENTS, tables.TOKENS, tables.EMBEDDINGS, tables.SCORES, tables.ASSIGNMENTS),
)
JOBS = ("ingest", "count", "embed", "score", "cluster", "prune")


def sentences(rng, words):
    return " ".join(f"The {rng.choice(words)} of a {rng.choice(words)} is here." for _ in range(8))


def make_rows():
    """Rows of text and source; the removed source has all topics, and texts of cooking."""
    rng, rows = random.Random(0), []
    for source, words in WORDS.items():
        for _ in range(PER_SOURCE):
            rows.append({"text": sentences(rng, words.split()), "source": source})
            rows.append({"text": sentences(rng, words.split()), "source": REMOVED})
    shared = [row["text"] for row in rows if row["source"] == "cooking"][:SHARED]
    return rows + [{"text": text, "source": REMOVED} for text in shared]


def make_added_rows():
    """The tenth: half of it about a topic that the corpus does not have."""
    rng = random.Random(1)
    known, new = WORDS["law"].split(), ["violin", "sonata", "opera", "choir", "tempo", "melody"]
    return [
        {"text": sentences(rng, known if i % 2 else new), "source": "law"} for i in range(ADDED)
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(root, *settings):
    return load(
        settings=[
            f"storage.root={root}/out",
            "tracking.enabled=false",
            f"ingest.inputs=[{root}/text]",
            "ingest.source_column=source",
            "count.vocab_size=400",
            "cluster.k=8",
            "cluster.sample_per_cluster=null",
            "prune.merge_height=null",
            "prune.domains=3",
            "prune.min_domain_documents=1",
            "prune.thresholds={}",
            "search.target_tokens=4000",
            "search.max_share_ratio=null",
            *settings,
        ]
    )


def run(store, cfg, *jobs):
    return {name: importlib.import_module(f"climb.jobs.{name}").run(store, cfg) for name in jobs}


def recommend(store, share_of_law=0.5):
    """Write a recommendation: half law, the rest equal. A search would take minutes."""
    law = find_domain(store, "law")
    names = [row["domain"] for row in store.read_rows(tables.DOMAINS)]
    other = (1 - share_of_law) / (len(names) - 1)
    weights = {name: share_of_law if name == law else other for name in names}
    row = dict.fromkeys(tables.MIXTURES.column_names)
    row |= {"search": "default", "method": "recommended", "weights": weights}
    store.replace(store.create_frame([row], tables.MIXTURES), tables.MIXTURES, {"made": 1})


def find_domain(store, source):
    """The domain with the most documents of a source."""
    ids = {r["doc_id"] for r in store.read_rows(tables.DOCUMENTS) if r["source"] == source}
    domain_of = {row["cluster"]: row["domain"] for row in store.read_rows(tables.CLUSTERS)}
    assigned = store.read_rows(tables.ASSIGNMENTS)
    found = Counter(domain_of[row["cluster"]] for row in assigned if row["doc_id"] in ids)
    return found.most_common(1)[0][0]


@dataclass
class Step:
    """The rows and files after one step."""

    lines: dict
    rows: dict
    files: dict


def look(store, lines):
    existing = [table for table in tables.TABLES if store.exists(table)]
    return Step(
        lines,
        {table.name: store.read_rows(table) for table in existing},
        {table.name: set(store.read(table).inputFiles()) for table in BY_DOCUMENT},
    )


@dataclass
class World:
    root: Path
    store: Store
    first: Step
    grown: Step
    drift: object


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Run the jobs from ingest to mix, then on a tenth more documents."""
    root = tmp_path_factory.mktemp("growth")
    (root / "text").mkdir()
    write_rows(root / "text" / "old.jsonl", make_rows())
    cfg = config(root)
    store = Store(spark, cfg.storage)
    lines = run(store, cfg, *JOBS)
    recommend(store)
    lines |= run(store, cfg, "mix")
    first = look(store, lines)
    write_rows(root / "text" / "new.jsonl", make_added_rows())
    lines = run(store, cfg, *JOBS[:5])
    drift = read_drift(store)
    lines |= run(store, cfg, "prune")
    recommend(store)
    lines |= run(store, cfg, "mix")
    return World(root, store, first, look(store, lines), drift)


@dataclass
class Removed:
    """A store that has lost a source, and the report; the other jobs have not run yet."""

    root: Path
    store: Store
    dry: str
    line: str
    report: dict
    before: Step
    after: Step


@pytest.fixture(scope="module")
def removed(world, spark):
    root = world.root.with_name("removed")
    shutil.copytree(world.root, root)
    cfg = config(root, f"remove.sources=[{REMOVED}]", f"remove.out={root}/removal.json")
    store = Store(spark, cfg.storage)
    dry = run(store, cfg.model_copy(update={"remove": dry_run(cfg)}), "remove")["remove"]
    before = look(store, {})
    line = run(store, cfg, "remove")["remove"]
    report = json.loads((root / "removal.json").read_text())
    return Removed(root, store, dry, line, report, before, look(store, {}))


@dataclass
class Updated:
    """The same store after all jobs."""

    root: Path
    store: Store
    step: Step


@pytest.fixture(scope="module")
def updated(removed, spark):
    root = removed.root.with_name("updated")
    shutil.copytree(removed.root, root)
    cfg = config(root)
    store = Store(spark, cfg.storage)
    lines = run(store, cfg, *JOBS)
    recommend(store)
    lines |= run(store, cfg, "mix")
    return Updated(root, store, look(store, lines))


def dry_run(cfg):
    return cfg.remove.model_copy(update={"dry_run": True, "out": None})


def test_growth_only_adds_files_and_keeps_every_row(world):
    assert world.grown.lines["ingest"] == (
        f"{ADDED} new documents, 0 already ingested; 0 of {ADDED} rows rejected; 1 new files read"
    )
    for table in BY_DOCUMENT:
        before, after = world.first.files[table.name], world.grown.files[table.name]
        assert before < after, table.name
        old = {row["doc_id"]: row for row in world.first.rows[table.name]}
        new = {row["doc_id"]: row for row in world.grown.rows[table.name]}
        assert {i: new[i] for i in old} == old, table.name
        assert len(new) == len(old) + ADDED, table.name
    assert world.grown.rows["centroids"] == world.first.rows["centroids"]
    assert world.grown.rows["tokenizers"] == world.first.rows["tokenizers"]


def test_the_drift_is_that_of_the_rows_and_new_text_makes_clustering_again_pay(world):
    first, grown = (step.rows["assignments"] for step in (world.first, world.grown))
    drift = world.drift
    [far_from] = {row["far_distance"] for row in world.first.rows["fits"]}
    assert (drift.n_fit, drift.n_now) == (len(first), len(grown))
    old = {row["doc_id"] for row in first}
    added = [row["distance"] for row in grown if row["doc_id"] not in old]
    assert drift.far_share_new == pytest.approx(sum(d >= far_from for d in added) / ADDED)
    assert drift.far_share_new >= 0.4
    assert drift.far_share_fit <= 0.01
    squares = [sum(r["distance"] ** 2 for r in rows) / len(rows) for rows in (first, grown)]
    assert drift.distance_growth == pytest.approx(squares[1] / squares[0] - 1, abs=1e-5)
    assert drift.pays
    domain_of = {row["cluster"]: row["domain"] for row in world.first.rows["clusters"]}
    shares = [Counter(domain_of[row["cluster"]] for row in rows) for rows in (first, grown)]
    unique = set(domain_of.values())
    shift = sum(abs(shares[0][d] / len(first) - shares[1][d] / len(grown)) for d in unique) / 2
    assert drift.domain_shift == pytest.approx(shift)


def count_by_hand(step):
    """Documents and tokens by domain, in all documents and in those of the removed source."""
    tokens = {row["doc_id"]: row["n_tokens"] for row in step.rows["tokens"]}
    source = {row["doc_id"]: row["source"] for row in step.rows["documents"]}
    domain_of = {row["cluster"]: row["domain"] for row in step.rows["clusters"]}
    counted = {}
    for row in step.rows["assignments"]:
        n = counted.setdefault(domain_of[row["cluster"]], [0, 0, 0, 0])
        is_removed = source[row["doc_id"]] == REMOVED
        own = 1, tokens[row["doc_id"]]
        for i, value in enumerate((*own, is_removed * own[0], is_removed * own[1])):
            n[i] += value
    return counted


def test_the_report_has_the_numbers_that_are_counted_by_hand(world, removed):
    counted = count_by_hand(world.grown)
    names = ("documents", "tokens", "removed_documents", "removed_tokens")
    for domain, numbers in counted.items():
        assert [removed.report["domains"][domain][name] for name in names] == numbers, domain
    before = sum(n[1] for n in counted.values())
    after = before - sum(n[3] for n in counted.values())
    for domain, numbers in counted.items():
        own = removed.report["domains"][domain]
        assert own["share_before"] == pytest.approx(numbers[1] / before)
        assert own["share_after"] == pytest.approx((numbers[1] - numbers[3]) / after)
    gone = {r["doc_id"] for r in world.grown.rows["documents"] if r["source"] == REMOVED}
    assert removed.report["removed_documents"] == len(gone) == 3 * PER_SOURCE + SHARED
    for table, n in removed.report["rows"].items():
        assert n == sum(row["doc_id"] in gone for row in world.grown.rows[table]), table
        assert n == len(removed.before.rows[table]) - len(removed.after.rows[table])
    assert removed.report["rows"]["corpus"] > 0
    assert removed.report["repeated_rows"] == SHARED
    assert removed.report["stale"] == ["ingest", "prune", "search", "mix", "report"]
    assert f"(all of '{REMOVED}'): documents {len(gone)} rows" in removed.line


def test_the_report_names_the_places_that_still_have_the_text(removed):
    places, store = removed.report["remaining"], removed.store
    assert set(places) == {
        "tables documents, tokens, embeddings, scores, assignments, corpus",
        *("table domains", "table tokenizers", "table centroids"),
        f"{store.cfg.root}/mixed",
    }
    assert "until the next `climb mix`" in places[f"{store.cfg.root}/mixed"]


def test_a_dry_run_reports_the_same_and_changes_nothing(world, removed):
    assert removed.before.rows == world.grown.rows
    assert removed.dry == removed.line.replace("removed ", "would remove ", 1)


def test_no_table_has_a_row_of_the_source(world, removed):
    gone = {r["doc_id"] for r in world.grown.rows["documents"] if r["source"] == REMOVED}
    for table in (*BY_DOCUMENT, tables.CORPUS):
        left = [row for row in world.grown.rows[table.name] if row["doc_id"] not in gone]
        assert removed.after.rows[table.name] == left, table.name
    [row] = removed.after.rows["exclusions"]
    assert (row["source"], json.loads(row["report"])) == (REMOVED, removed.report)


def test_ingest_does_not_bring_the_source_back_and_counts_its_rows(world, updated):
    gone = {r["doc_id"] for r in world.grown.rows["documents"] if r["source"] == REMOVED}
    for table in (*BY_DOCUMENT, tables.CORPUS):
        assert not gone & {row["doc_id"] for row in updated.step.rows[table.name]}, table.name
    assert not gone & {i for row in updated.step.rows["domains"] for i in row["sample"]}
    [row] = [r for r in updated.step.rows["rejected"] if r["reason"] == "removed_source"]
    assert row["n_rows"] == 3 * PER_SOURCE + SHARED
    assert row["detail"] == f"source {REMOVED} was removed by `climb remove`"


def test_the_tables_are_those_of_a_fresh_run_on_the_other_sources(updated, spark, tmp_path):
    """With the same tokenizer and centroids, which the removal keeps. Texts that the source shared
    with another one are documents of that one. Names of domains come from the earlier ones, so they
    are compared by their clusters."""
    store, after = updated.store, updated.step
    (tmp_path / "text").mkdir()
    rows = [row for row in make_rows() if row["source"] != REMOVED]
    write_rows(tmp_path / "text" / "old.jsonl", rows)
    write_rows(tmp_path / "text" / "new.jsonl", make_added_rows())
    cfg = config(tmp_path)
    fresh = Store(spark, cfg.storage)
    for table in (tables.TOKENIZERS, tables.CENTROIDS):
        folder = Path(cfg.storage.root) / "tables" / table.name
        shutil.copytree(Path(store.cfg.root) / "tables" / table.name, folder)
    run(fresh, cfg, *JOBS)
    recommend(fresh)
    run(fresh, cfg, "mix")
    expected = look(fresh, {}).rows
    assert len(expected["documents"]) == 3 * PER_SOURCE + ADDED
    for table in BY_DOCUMENT:
        assert after.rows[table.name] == expected[table.name], table.name
    own = [row for row in after.rows["rejected"] if row["reason"] != "removed_source"]
    assert own == expected["rejected"]
    names = [
        {tuple(row["clusters"]): row["domain"] for row in rows["domains"]}
        for rows in (after.rows, expected)
    ]
    renamed = {names[1][clusters]: names[0][clusters] for clusters in names[1]} | {None: None}
    for table in ("clusters", "corpus"):
        mapped = [row | {"domain": renamed[row["domain"]]} for row in expected[table]]
        assert after.rows[table] == mapped, table


@pytest.fixture
def copied(world, spark, tmp_path):
    """A store of its own: the grown corpus."""
    shutil.copytree(world.root, tmp_path, dirs_exist_ok=True)
    return Store(spark, config(tmp_path).storage)


def test_a_killed_removal_stops_ingest_until_it_is_complete_and_keeps_its_report(
    copied, tmp_path, monkeypatch
):
    cfg = config(tmp_path, f"remove.sources=[{REMOVED}]", f"remove.out={tmp_path}/removal.json")

    def kill(store, ids):
        store.delete(ids, tables.TOKENS)
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("climb.spark.corpus.remove_source.delete_documents", kill)
        with pytest.raises(KeyboardInterrupt):
            run(copied, cfg, "remove")
    with pytest.raises(TableError, match=r"interrupted.*run `climb remove --source 'blog'` again"):
        run(copied, cfg, "ingest")
    line = run(copied, cfg, "remove")["remove"]
    n = 3 * PER_SOURCE + SHARED
    assert line.startswith(f"removed {n} of {n + 2 * PER_SOURCE + 37 + ADDED} documents")
    report = json.loads((tmp_path / "removal.json").read_text())
    assert report["rows"]["tokens"] == n
    assert {row["source"] for row in copied.read_rows(tables.DOCUMENTS)} == set(WORDS)
    again = run(copied, cfg, "remove")["remove"]
    assert again == line.replace("removed ", "already removed ", 1)


def test_an_undone_removal_brings_the_same_documents_back_with_the_next_ingest(copied, tmp_path):
    before = copied.read_rows(tables.DOCUMENTS)
    cfg = config(tmp_path)
    run(copied, cfg, "ingest")  # the paths of the copy are other ones
    run(copied, config(tmp_path, f"remove.sources=[{REMOVED}]"), "remove")
    undo = config(tmp_path, f"remove.sources=[{REMOVED}]", "remove.undo=true")
    line = run(copied, undo, "remove")["remove"]
    assert line == f"'{REMOVED}' is read again by the next `climb ingest`"
    n = 3 * PER_SOURCE + SHARED
    assert run(copied, cfg, "ingest")["ingest"].startswith(f"{n} new documents")
    assert copied.read_rows(tables.DOCUMENTS) == before
    assert run(copied, cfg, "ingest")["ingest"].startswith("inputs unchanged")
    with pytest.raises(ConfigError, match=r"was not removed before.*removed sources: none"):
        run(copied, undo, "remove")


def test_an_unknown_source_and_the_removal_of_everything_are_errors_of_one_line(world):
    cfg = config(world.root, "remove.sources=[blok]", "remove.dry_run=true")
    with pytest.raises(ConfigError, match=r"has the source 'blok'; the largest .* 'blog' \(123\)"):
        run(world.store, cfg, "remove")
    every = json.dumps([REMOVED, *WORDS])
    with pytest.raises(TableError, match=r"removing 'blog', 'cooking'.* none of 256 documents"):
        run(world.store, config(world.root, f"remove.sources={every}"), "remove")
    assert not world.store.exists(tables.EXCLUSIONS)


def test_a_refit_follows_the_corpus_and_a_second_one_finds_nothing_to_do(
    copied, tmp_path, monkeypatch
):
    def kill(store, clustering):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("climb.jobs.cluster.record_fit", kill)
        with pytest.raises(KeyboardInterrupt):
            run(copied, config(tmp_path, "cluster.refit=true"), "cluster")
    assert "8 clusters up to date" in run(copied, config(tmp_path), "cluster")["cluster"]
    assert read_drift(copied) is None
    [clustering] = {row["clustering"] for row in copied.read_rows(tables.CENTROIDS)}
    fits = copied.read_rows(tables.FITS)
    assert {row["clustering"] for row in fits} == {clustering}
    assert sum(row["n_documents"] for row in fits) == copied.read(tables.ASSIGNMENTS).count()
    written = (tables.CENTROIDS, tables.ASSIGNMENTS, tables.FITS)
    versions = [copied.history.read_version(table) for table in written]
    again = run(copied, config(tmp_path, "cluster.refit=true"), "cluster")["cluster"]
    assert "8 clusters up to date; 0 documents assigned" in again
    assert [copied.history.read_version(table) for table in written] == versions


def list_texts(folder):
    """All texts in the Parquet files of a table's folder, whatever its log says."""
    return {
        text
        for path in folder.glob("*.parquet")
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist()
    }


def test_after_maintain_no_file_has_the_text_of_a_removed_source(updated, tmp_path, spark):
    after, root = updated.step, tmp_path / "copy"
    shutil.copytree(updated.root, root)
    cfg = config(root)
    copied = Store(spark, cfg.storage)
    gone = {row["text"] for row in make_rows() if row["source"] == REMOVED}
    gone -= {row["text"] for row in make_rows() if row["source"] != REMOVED}
    folder = root / "out" / "tables" / "documents"
    assert gone <= list_texts(folder)
    for table in (tables.DOCUMENTS, tables.CORPUS):
        spark.sql(
            f"ALTER TABLE {copied.locate(table)} SET TBLPROPERTIES "
            "('delta.deletedFileRetentionDuration' = 'interval 0 hours')"
        )
    listed = run(copied, config(root, "maintain.dry_run=true"), "maintain")["maintain"]
    assert any(f"file:{folder}/" in line for line in listed.splitlines())
    assert gone <= list_texts(folder)
    line = run(copied, cfg, "maintain")["maintain"].splitlines()[0]
    assert "files became" in line
    assert not gone & list_texts(folder)
    assert not gone & list_texts(root / "out" / "tables" / "corpus")
    for table in (*BY_DOCUMENT, tables.CORPUS):
        assert copied.read_rows(table) == after.rows[table.name], table.name
        assert len(copied.read(table).inputFiles()) == 1
    lines = run(copied, cfg, "cluster", "prune", "mix")
    assert " 0 documents assigned" in lines["cluster"]
    assert lines["prune"] == "3 domains up to date"
    assert "up to date in" in lines["mix"]
