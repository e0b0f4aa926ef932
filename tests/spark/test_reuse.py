"""A search reuses trials of earlier domains: after merges, pruning, new documents, new clusters."""

import json
import shutil

import numpy as np
import pytest
from climb.jobs import count, maintain, pack, prune, search
from killed import Killed, drop_times, kill_after

from climb import tables
from climb.config import load, recipe_of
from climb.search.reuse import Overlap, map_mixtures
from climb.spark.corpus.score import build_scorers
from climb.spark.delta.store import Store
from climb.spark.training.lineage import read_reusable_runs
from climb.spark.training.study import open_study

pytestmark = pytest.mark.slow  # a whole search runs before the first test

TOPICS = (
    *("court appeal judge verdict statute", "plaintiff counsel clause liability tribunal"),
    *("onion butter garlic soup simmer", "oven flour dough bake recipe"),
    *("orbit planet comet moon telescope", "striker midfield goal keeper league"),
    *("violin sonata opera choir tempo", "click winner casino prize bonus"),
)
SHARES = np.array([0.05, 0.1, 0.25, 0.1, 0.2, 0.2, 0.1, 0.0])
"""Weights of the topics in the best mixture; the last is junk."""

PER_TOPIC = 24
QUALITY = (4.0,) * 7 + (1.0,)
TRIALS = 2 * 2 + 6 + 3 + 2
"""Trials of one search: two baselines, two rounds, the recommendation."""

BEFORE = ("prune.thresholds={}", "prune.domains=7")
AFTER = ("prune.thresholds={rules: 3.0}", "prune.domains=4")


def config(root, prune_settings, best):
    target = {"name": "quiz", "kind": "text", "limit": None}
    target |= {part: f"{root}/{part}.jsonl" for part in ("search", "report")}
    proxy = {"use": "climb.testing.proxies:PlantedProxy", "best": best, "noise": 0.002}
    return load(
        settings=[
            f"storage.root={root}/out",
            "tracking.enabled=false",
            "count.vocab_size=400",
            "prune.merge_height=null",
            "prune.sample_documents=20",
            *prune_settings,
            f"proxy.model={json.dumps(proxy)}",
            f"proxy.targets={json.dumps([target])}",
            "proxy.base_tokens=2000",
            "proxy.trial_tokens=1000",
            "train.base_tokens=2000",
            "train.tokens=1000",
            "search.trials_per_round=[6, 3]",
            "search.halving=[]",
            "search.replicates=2",
            "search.candidates=300",
            "search.target_tokens=2000",
            "search.max_share_ratio=null",
        ]
    )


def write_world(spark, root):
    """Write the tables of the jobs before `prune`: eight topics, one cluster each."""
    cfg = config(root, BEFORE, {})
    for part in ("search", "report"):
        (root / f"{part}.jsonl").write_text(json.dumps({"text": part}) + "\n")
    store = Store(spark, cfg.storage)
    add_documents(store, cfg, range(PER_TOPIC))
    write_centroids(store, "made", range(len(TOPICS)))


def add_documents(store, cfg, numbers):
    [scorer] = build_scorers(cfg.score.scorers)
    documents, scores, assignments = [], [], []
    for c, topic in enumerate(TOPICS):
        for i in numbers:
            doc_id = f"{c}-{i:02d}"
            text = f"{topic} number {i} " * (1 + i % 3)
            fixed = {"source": "", "n_bytes": 1, "repairs": [], "metadata": {}}
            documents.append({"doc_id": doc_id, "text": text} | fixed)
            values = dict.fromkeys(scorer.names, QUALITY[c])
            scores.append({"doc_id": doc_id, "recipe": recipe_of(scorer), "scores": values})
            own = {"clustering": "made", "cluster": c, "distance": i / 100}
            assignments.append({"doc_id": doc_id} | own)
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.SCORES, scores),
        (tables.ASSIGNMENTS, assignments),
    ):
        store.append(store.create_frame(rows, table), table)
    count.run(store, cfg)


def write_centroids(store, name, order):
    """Write one centroid per axis; both topics of law are near each other, and so on in pairs."""
    points_CD = np.eye(len(TOPICS))
    points_CD[1] = points_CD[0] + 0.2 * points_CD[1]
    points_CD[3] = points_CD[2] + 0.3 * points_CD[3]
    points_CD[5] = points_CD[4] + 0.6 * points_CD[5]
    rows = [
        {"cluster": c, "clustering": name, "centroid": points_CD[topic].tolist()}
        for c, topic in enumerate(order)
    ]
    store.replace(store.create_frame(rows, tables.CENTROIDS), tables.CENTROIDS, {})


def cluster_again(store, n_moved=0):
    """Renumber the clusters; the first n_moved documents of each topic move to the next topic."""
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    cluster_of = {topic: c for c, topic in enumerate(order)}
    rows = []
    for row in store.read_rows(tables.ASSIGNMENTS):
        topic, number = map(int, row["doc_id"].split("-"))
        topic = (topic + 1) % 7 if topic < 7 and number < n_moved else topic
        rows.append(row | {"clustering": "again", "cluster": cluster_of[topic]})
    write_centroids(store, "again", order)
    store.replace(store.create_frame(rows, tables.ASSIGNMENTS), tables.ASSIGNMENTS, {})


def find_best(store, cfg):
    """Return the best mixture of the domains of these settings, by name."""
    prune.run(store, cfg)
    topic_of = {}
    for row in store.read_rows(tables.ASSIGNMENTS):
        topic_of.setdefault(row["cluster"], int(row["doc_id"].split("-")[0]))
    return {
        row["domain"]: float(sum(SHARES[topic_of[c]] for c in row["clusters"]))
        for row in store.read_rows(tables.DOMAINS)
    }


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(spark, root)
    return root


@pytest.fixture(scope="module")
def best(spark, world):
    """Return the best mixture of both kinds of domains: one planted proxy serves both."""
    store = Store(spark, config(world, BEFORE, {}).storage)
    after, before = (find_best(store, config(world, s, {})) for s in (AFTER, BEFORE))
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert len(before.keys() - after.keys()) >= 3
    return before | after


def run(store, cfg):
    for job in (prune, pack, search):
        job.run(store, cfg)


def read_result(store):
    rows = {row["method"]: row for row in store.read_rows(tables.MIXTURES)}
    return json.loads(rows["recommended"]["result"])


@pytest.fixture(scope="module")
def first(spark, world, best):
    """Run a search in the first domains; every test continues a copy."""
    cfg = config(world, BEFORE, best)
    store = Store(spark, cfg.storage)
    run(store, cfg)
    assert len(store.read_rows(tables.TRIALS)) == TRIALS
    assert read_result(store)["reuse"]["n_reused"] == 0
    return world


@pytest.fixture(scope="module")
def second(spark, first, best, tmp_path_factory):
    """Copy the store and pack the second domains; no trial is trained in them yet."""
    root = tmp_path_factory.mktemp("second")
    store, cfg = copy_store(spark, first, root, best), config(root, AFTER, best)
    prune.run(store, cfg)
    pack.run(store, cfg)
    return root


@pytest.fixture
def searched(spark, first, tmp_path, best):
    return copy_store(spark, first, tmp_path, best)


def copy_store(spark, first, root, best):
    shutil.copytree(first, root, dirs_exist_ok=True)
    return Store(spark, config(root, BEFORE, best).storage)


def test_after_merging_and_pruning_earlier_trials_are_reused_and_counted(
    searched, tmp_path, best, capsys
):
    store, cfg = searched, config(tmp_path, AFTER, best)
    old = store.read_rows(tables.TRIALS)
    run(store, cfg)
    reuse = read_result(store)["reuse"]
    assert reuse["n_reused"] + reuse["n_dropped"] == TRIALS
    assert reuse["n_reused"] > TRIALS / 2
    assert 0.5 <= reuse["kept_min"] < reuse["kept_mean"] < 1.0
    lines = [line for line in capsys.readouterr().out.splitlines() if "earlier domains" in line]
    assert f"{TRIALS} finished runs of earlier domains, {reuse['n_reused']} reusable" in lines[-1]
    # Reused runs are not appended to the table again.
    rows = store.read_rows(tables.TRIALS)
    assert len(rows) == 2 * TRIALS
    assert [row for row in rows if row["corpus_digest"] == old[0]["corpus_digest"]] == old
    assert read_result(store)["n_failed"] == 0


def test_reused_mixtures_agree_with_a_comparison_of_all_documents(spark, first, second, best):
    before = Store(spark, config(first, BEFORE, best).storage)
    cfg = config(second, AFTER, best)
    store = Store(spark, cfg.storage)
    study = open_study(store, cfg)
    overlap = compare_documents(store, read_domains(before), read_domains(store))
    [earlier] = study.reusable.by_domain_set
    assert earlier.trials.domains == overlap.new == study.space.domains
    rows = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}.values()
    weights_TJ = np.array([[row["weights"].get(j, 0.0) for j in overlap.old] for row in rows])
    expected = map_mixtures(weights_TJ, overlap)
    keep_T = expected.kept_T >= 0.5
    assert 0 < keep_T.sum() <= TRIALS
    found = np.column_stack(
        [earlier.trials.weights_TK, earlier.trials.tv_distance_T, earlier.kept_T]
    )
    columns = [expected.weights_TK, expected.tv_distance_T, expected.kept_T]
    right = np.column_stack(columns)[keep_T]
    by_row = [rows_[np.lexsort(np.round(rows_, 9).T)] for rows_ in (found, right)]
    np.testing.assert_allclose(*by_row, atol=1e-12)


def read_domains(store):
    domain_of = {row["cluster"]: row["domain"] for row in store.read_rows(tables.CLUSTERS)}
    return {row["doc_id"]: domain_of[row["cluster"]] for row in store.read_rows(tables.ASSIGNMENTS)}


def compare_documents(store, then, now):
    """Compute the overlap of two kinds of domains from every document, without clusters."""
    tokens = {}
    for row in store.read_rows(tables.TOKENS):
        pair = (then.get(row["doc_id"]), now.get(row["doc_id"]))
        tokens[pair] = tokens.get(pair, 0) + row["n_tokens"]
    return Overlap.from_tokens(tokens)


def test_added_documents_raise_the_tv_distance_of_earlier_trials_and_drop_none(
    searched, tmp_path, best
):
    store, cfg = searched, config(tmp_path, BEFORE, best)
    then = read_domains(store)
    add_documents(store, cfg, range(PER_TOPIC, PER_TOPIC + 6))
    prune.run(store, cfg)
    pack.run(store, cfg)
    [earlier] = open_study(store, cfg).reusable.by_domain_set
    assert len(earlier.trials) == TRIALS
    np.testing.assert_array_equal(earlier.kept_T, 1.0)
    overlap = compare_documents(store, then, read_domains(store))
    natural = earlier.trials.with_method("natural")
    expected = map_mixtures(overlap.old_J[None] / overlap.old_J.sum(), overlap)
    np.testing.assert_allclose(natural.tv_distance_T, expected.tv_distance_T[0])
    assert 0.1 < natural.tv_distance_T[0] < 0.25  # a fifth of the text is new


def test_new_clusters_are_compared_with_the_old_ones_by_document(searched, tmp_path, best):
    store, cfg = searched, config(tmp_path, AFTER, best)
    then = read_domains(store)
    cluster_again(store, n_moved=4)
    prune.run(store, cfg)
    pack.run(store, cfg)
    overlap = compare_documents(store, then, read_domains(store))
    [earlier] = read_reusable_runs(store, cfg, open_study(store, cfg).setup).by_domain_set
    natural = earlier.trials.with_method("natural")
    expected = map_mixtures(overlap.old_J[None] / overlap.old_J.sum(), overlap)
    np.testing.assert_allclose(natural.weights_TK, np.repeat(expected.weights_TK, 2, axis=0))
    np.testing.assert_allclose(natural.tv_distance_T, expected.tv_distance_T[0])
    version = store.history.read_version(tables.LINEAGE)
    pack.run(store, cfg)
    assert store.history.read_version(tables.LINEAGE) == version


def test_maintenance_keeps_the_assignments_that_the_next_pack_reads(searched, tmp_path, best):
    """Files are deleted at once here, not after Delta's week. The maintenance before the new
    clustering rewrites the version that the shards record; the one after it must not delete it."""
    store, cfg = searched, config(tmp_path, BEFORE, best)
    where = store.locate(tables.ASSIGNMENTS)
    store.session.sql(
        f"ALTER TABLE {where} SET TBLPROPERTIES "
        "('delta.deletedFileRetentionDuration' = 'interval 0 hours')"
    )
    before = store.read_rows(tables.ASSIGNMENTS)
    assert "files of old versions are kept" not in maintain.run(store, cfg)
    assert search.run(store, cfg) == "the recommendation is up to date"
    cluster_again(store)
    assert "assignments: " in (line := maintain.run(store, cfg))
    assert "files of old versions are kept: the next `climb pack` may read version 0" in line
    kept = store.read_at(tables.ASSIGNMENTS, 0).orderBy("doc_id").collect()
    assert [row.asDict() for row in kept] == before
    cfg = config(tmp_path, AFTER, best)
    prune.run(store, cfg)
    pack.run(store, cfg)
    found = open_study(store, cfg).reusable
    assert str(found).startswith(
        f"{TRIALS} finished runs of earlier domains, {TRIALS - 1} reusable"
    )
    assert "files of old versions are kept" not in maintain.run(store, cfg)


def test_without_the_vacuumed_assignments_no_trial_is_reused_and_a_warning_is_printed(
    searched, tmp_path, best, spark, capsys
):
    store, cfg = searched, config(tmp_path, AFTER, best)
    cluster_again(store)
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        spark.sql(f"VACUUM {store.locate(tables.ASSIGNMENTS)} RETAIN 0 HOURS")
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    prune.run(store, cfg)
    pack.run(store, cfg)
    out = capsys.readouterr().out
    assert "warning: VACUUM deleted version 0 of table assignments before it was compared" in out
    found = open_study(store, cfg).reusable
    assert str(found) == f"{TRIALS} finished runs of earlier domains, 0 reusable"


def test_a_killed_and_restarted_run_ends_with_the_rows_of_an_unbroken_run(
    spark, first, tmp_path, best, monkeypatch
):
    names = ("unbroken", "broken")
    stores = {name: copy_store(spark, first, tmp_path / name, best) for name in names}
    for store in stores.values():
        cluster_again(store, n_moved=3)
    run(stores["unbroken"], config(tmp_path / "unbroken", AFTER, best))
    broken, cfg = stores["broken"], config(tmp_path / "broken", AFTER, best)
    for method, table, times in (
        (
            "append",
            tables.LINEAGE,
            1,
        ),  # the lineage of the own corpus is written, of the others not
        ("replace", tables.SHARDS, 0),
        ("append", tables.TRIALS, 11),  # in the second round, after 10 in the first
        ("replace", tables.MIXTURES, 0),
    ):
        with monkeypatch.context() as patch:
            kill_after(patch, method, table, times)
            with pytest.raises(Killed):
                run(broken, cfg)
    run(broken, cfg)
    for table in (tables.LINEAGE, tables.MIXTURES):
        assert broken.read_rows(table) == stores["unbroken"].read_rows(table), table.name
    trials = [drop_times(s.read_rows(tables.TRIALS)) for s in (broken, stores["unbroken"])]
    assert trials[0] == trials[1]
    assert read_result(broken)["reuse"]["n_reused"] > TRIALS / 2


def test_no_run_of_another_recipe_or_repetition_is_reused_and_none_if_it_is_off(
    spark, second, tmp_path, best
):
    store, cfg = copy_store(spark, second, tmp_path, best), config(tmp_path, AFTER, best)
    setup = open_study(store, cfg).setup
    assert read_reusable_runs(store, cfg, setup).n_finished == TRIALS
    no_reuse = cfg.search.model_copy(update={"reuse_min_kept": None})
    off = cfg.model_copy(update={"search": no_reuse})
    assert read_reusable_runs(store, off, setup).n_finished == 0
    other = config(tmp_path, AFTER, best | {"more": 0.0})
    assert open_study(store, other).reusable.n_finished == 0
    longer = cfg.search.model_copy(update={"target_tokens": 4000})
    twice = cfg.model_copy(update={"search": longer})
    pack.run(store, twice)
    assert (found := open_study(store, twice).reusable).n_finished == TRIALS
    assert found.by_domain_set == ()
