"""Trials outlive their domains: merged, pruned, extended or made anew, a search still learns."""

import json
import shutil

import numpy as np
import pytest
from climb.jobs import count, pack, prune, search

from climb import tables
from climb.config import load, recipe_of
from climb.search.carry import Overlap, carried
from climb.spark.lineage import past
from climb.spark.score import build_scorers
from climb.spark.search import open_study
from climb.spark.store import Store

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
"""Of one search: anchors, two rounds, the answer."""

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
            "search.anchor_seeds=2",
            "search.candidates=300",
            "search.target_tokens=2000",
            "search.max_share_ratio=null",
        ]
    )


def write_world(spark, root):
    """What the jobs before `prune` leave: eight topics, a cluster each."""
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
            place = {"clustering": "made", "cluster": c, "distance": i / 100}
            assignments.append({"doc_id": doc_id} | place)
    for table, rows in (
        (tables.DOCUMENTS, documents),
        (tables.SCORES, scores),
        (tables.ASSIGNMENTS, assignments),
    ):
        store.append(store.frame(rows, table), table)
    count.run(store, cfg)


def write_centroids(store, name, order):
    """One axis a cluster; law and cooking lie near each other in pairs."""
    points_CD = np.eye(len(TOPICS))
    points_CD[1] = points_CD[0] + 0.2 * points_CD[1]
    points_CD[3] = points_CD[2] + 0.3 * points_CD[3]
    points_CD[5] = points_CD[4] + 0.6 * points_CD[5]
    rows = [
        {"cluster": c, "clustering": name, "centroid": points_CD[topic].tolist()}
        for c, topic in enumerate(order)
    ]
    store.replace(store.frame(rows, tables.CENTROIDS), tables.CENTROIDS, {})


def cluster_anew(store, stray=0):
    """The same topics under other numbers; the first documents of each stray to the next topic."""
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    place = {topic: c for c, topic in enumerate(order)}
    rows = []
    for row in store.rows(tables.ASSIGNMENTS):
        topic, number = map(int, row["doc_id"].split("-"))
        topic = (topic + 1) % 7 if topic < 7 and number < stray else topic
        rows.append(row | {"clustering": "anew", "cluster": place[topic]})
    write_centroids(store, "anew", order)
    store.replace(store.frame(rows, tables.ASSIGNMENTS), tables.ASSIGNMENTS, {})


def planted(store, cfg):
    """The best mixture in the domains of these settings, by name."""
    prune.run(store, cfg)
    topic_of = {}
    for row in store.rows(tables.ASSIGNMENTS):
        topic_of.setdefault(row["cluster"], int(row["doc_id"].split("-")[0]))
    return {
        row["domain"]: float(sum(SHARES[topic_of[c]] for c in row["clusters"]))
        for row in store.rows(tables.DOMAINS)
    }


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(spark, root)
    return root


@pytest.fixture(scope="module")
def best(spark, world):
    """One planted proxy knows the best mixture of both kinds of domains."""
    store = Store(spark, config(world, BEFORE, {}).storage)
    after, before = (planted(store, config(world, s, {})) for s in (AFTER, BEFORE))
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert len(before.keys() - after.keys()) >= 3
    return before | after


def run(store, cfg):
    for job in (prune, pack, search):
        said = job.run(store, cfg)
    return said


def evidence(store):
    found = {row["method"]: row for row in store.rows(tables.MIXTURES)}["found"]
    return json.loads(found["evidence"])


def plain(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "finished")} for row in rows]


@pytest.fixture(scope="module")
def first(spark, world, best):
    """A search in the first domains; every test goes on with a copy."""
    cfg = config(world, BEFORE, best)
    store = Store(spark, cfg.storage)
    run(store, cfg)
    assert len(store.rows(tables.TRIALS)) == TRIALS
    assert evidence(store)["carried"]["n"] == 0
    return world


@pytest.fixture(scope="module")
def second(spark, first, best, tmp_path_factory):
    """The same store with the second domains, packed; nothing is trained in them yet."""
    root = tmp_path_factory.mktemp("second")
    store, cfg = copied(spark, first, root, best), config(root, AFTER, best)
    prune.run(store, cfg)
    pack.run(store, cfg)
    return root


@pytest.fixture
def searched(spark, first, tmp_path, best):
    return copied(spark, first, tmp_path, best)


def copied(spark, first, root, best):
    shutil.copytree(first, root, dirs_exist_ok=True)
    return Store(spark, config(root, BEFORE, best).storage)


def test_after_a_merge_and_a_prune_earlier_trials_are_carried_counted_and_said(
    searched, tmp_path, best, capsys
):
    store, cfg = searched, config(tmp_path, AFTER, best)
    old = store.rows(tables.TRIALS)
    run(store, cfg)
    carried_ = evidence(store)["carried"]
    assert carried_["n"] + carried_["dropped"] == TRIALS
    assert carried_["n"] > TRIALS / 2
    assert 0.5 <= carried_["kept_min"] < carried_["kept_mean"] < 1.0
    said = [line for line in capsys.readouterr().out.splitlines() if "earlier domains" in line]
    assert f"{TRIALS} runs of earlier domains known, {carried_['n']} carried" in said[-1]
    # They are no rows of the table: what is there, is there once.
    rows = store.rows(tables.TRIALS)
    assert len(rows) == 2 * TRIALS
    assert [row for row in rows if row["data"] == old[0]["data"]] == old
    assert evidence(store)["n_failed"] == 0


def test_what_is_carried_is_what_the_documents_say(spark, first, second, best):
    before = Store(spark, config(first, BEFORE, best).storage)
    cfg = config(second, AFTER, best)
    store = Store(spark, cfg.storage)
    study = open_study(store, cfg)
    overlap = overlap_of(store, domains_by_document(before), domains_by_document(store))
    [earlier] = study.past.earlier
    assert earlier.trials.domains == overlap.new == study.space.domains
    rows = {row["trial_id"]: row for row in store.rows(tables.TRIALS)}.values()
    weights_TJ = np.array([[row["weights"].get(j, 0.0) for j in overlap.old] for row in rows])
    expected = carried(weights_TJ, overlap)
    keep_T = expected.kept_T >= 0.5
    assert 0 < keep_T.sum() <= TRIALS
    found = np.column_stack([earlier.trials.weights_TK, earlier.trials.doubt_T, earlier.kept_T])
    right = np.column_stack([expected.weights_TK, expected.doubt_T, expected.kept_T])[keep_T]
    by_row = [rows_[np.lexsort(np.round(rows_, 9).T)] for rows_ in (found, right)]
    np.testing.assert_allclose(*by_row, atol=1e-12)


def domains_by_document(store):
    domain_of = {row["cluster"]: row["domain"] for row in store.rows(tables.CLUSTERS)}
    return {row["doc_id"]: domain_of[row["cluster"]] for row in store.rows(tables.ASSIGNMENTS)}


def overlap_of(store, then, now):
    """Document by document, without any cluster."""
    tokens = {}
    for row in store.rows(tables.TOKENS):
        pair = (then.get(row["doc_id"]), now.get(row["doc_id"]))
        tokens[pair] = tokens.get(pair, 0) + row["n_tokens"]
    return Overlap.of(tokens)


def test_documents_that_are_added_put_old_trials_in_doubt_and_lose_nothing(
    searched, tmp_path, best
):
    store, cfg = searched, config(tmp_path, BEFORE, best)
    then = domains_by_document(store)
    add_documents(store, cfg, range(PER_TOPIC, PER_TOPIC + 6))
    prune.run(store, cfg)
    pack.run(store, cfg)
    [earlier] = open_study(store, cfg).past.earlier
    assert len(earlier.trials) == TRIALS
    np.testing.assert_array_equal(earlier.kept_T, 1.0)
    overlap = overlap_of(store, then, domains_by_document(store))
    natural = earlier.trials.of("natural")
    expected = carried(overlap.old_J[None] / overlap.old_J.sum(), overlap)
    np.testing.assert_allclose(natural.doubt_T, expected.doubt_T[0])
    assert 0.1 < natural.doubt_T[0] < 0.25  # a fifth of the text is new


def test_clusters_made_anew_are_compared_document_by_document(searched, tmp_path, best):
    store, cfg = searched, config(tmp_path, AFTER, best)
    then = domains_by_document(store)
    cluster_anew(store, stray=4)
    prune.run(store, cfg)
    pack.run(store, cfg)
    overlap = overlap_of(store, then, domains_by_document(store))
    [earlier] = past(store, cfg, open_study(store, cfg).bench).earlier
    natural = earlier.trials.of("natural")
    expected = carried(overlap.old_J[None] / overlap.old_J.sum(), overlap)
    np.testing.assert_allclose(natural.weights_TK, np.repeat(expected.weights_TK, 2, axis=0))
    np.testing.assert_allclose(natural.doubt_T, expected.doubt_T[0])
    version = store.version(tables.LINEAGE)
    pack.run(store, cfg)
    assert store.version(tables.LINEAGE) == version


def test_old_assignments_that_were_vacuumed_cost_the_carried_trials_and_a_warning(
    searched, tmp_path, best, spark, capsys
):
    store, cfg = searched, config(tmp_path, AFTER, best)
    cluster_anew(store)
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        spark.sql(f"VACUUM {store.location(tables.ASSIGNMENTS)} RETAIN 0 HOURS")
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    prune.run(store, cfg)
    pack.run(store, cfg)
    said = capsys.readouterr().out
    assert "of table assignments was vacuumed before the clusters were made anew" in said
    found = open_study(store, cfg).past
    assert str(found) == f"{TRIALS} runs of earlier domains known, 0 carried"


class Killed(BaseException):
    """What no handler in the code under test catches."""


def killed_after(monkeypatch, method, table, times):
    """Writing to the table ends everything when it was written so often."""
    original, left = getattr(Store, method), [times]

    def dying(self, rows, to, *args, **kwargs):
        if to is table:
            if not left[0]:
                raise Killed
            left[0] -= 1
        return original(self, rows, to, *args, **kwargs)

    monkeypatch.setattr(Store, method, dying)


def test_killed_in_between_and_run_again_the_rows_are_those_of_an_unbroken_run(
    spark, first, tmp_path, best, monkeypatch
):
    names = ("unbroken", "broken")
    stores = {name: copied(spark, first, tmp_path / name, best) for name in names}
    for store in stores.values():
        cluster_anew(store, stray=3)
    run(stores["unbroken"], config(tmp_path / "unbroken", AFTER, best))
    broken, cfg = stores["broken"], config(tmp_path / "broken", AFTER, best)
    for method, table, times in (
        ("append", tables.LINEAGE, 1),  # its own lineage is written, the others' is not
        ("replace", tables.SHARDS, 0),
        ("append", tables.TRIALS, 11),  # in the second round, after 10 in the first
        ("replace", tables.MIXTURES, 0),
    ):
        with monkeypatch.context() as patch:
            killed_after(patch, method, table, times)
            with pytest.raises(Killed):
                run(broken, cfg)
    run(broken, cfg)
    for table in (tables.LINEAGE, tables.MIXTURES):
        assert broken.rows(table) == stores["unbroken"].rows(table), table.name
    assert plain(broken.rows(tables.TRIALS)) == plain(stores["unbroken"].rows(tables.TRIALS))
    assert evidence(broken)["carried"]["n"] > TRIALS / 2


def test_another_recipe_another_repetition_or_no_wish_carries_nothing(
    spark, second, tmp_path, best
):
    store, cfg = copied(spark, second, tmp_path, best), config(tmp_path, AFTER, best)
    bench = open_study(store, cfg).bench
    assert past(store, cfg, bench).n == TRIALS
    never = cfg.search.model_copy(update={"carry_min_kept": None})
    assert past(store, cfg.model_copy(update={"search": never}), bench).n == 0
    other = config(tmp_path, AFTER, best | {"more": 0.0})
    assert open_study(store, other).past.n == 0
    longer = cfg.search.model_copy(update={"target_tokens": 4000})
    twice = cfg.model_copy(update={"search": longer})
    pack.run(store, twice)
    assert (found := open_study(store, twice).past).n == TRIALS
    assert found.earlier == ()
