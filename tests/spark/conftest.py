"""The tables of a finished small run, written once for the tests that only read them."""

from datetime import UTC, datetime

import pytest
from small_search import small_search

from climb.spark.training.search import make_mixture_rows

DOMAINS = small_search().result.domains


def evaluation_rows():
    """Metrics of target models: what the proxies of the same mixture and seed measured."""
    search = small_search()
    return [
        {
            "model": f"{mixture.name}-{seed}",
            "method": mixture.name,
            "seed": seed,
            "recipe": "target-1",
            "corpus_digest": "corpus-1",
            "weights": mixture.weights,
            "metric": metric,
            "value": value,
            "n_tokens": 1_000_000,
            "seconds": 60.0,
            "finished": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for mixture in search.result.mixtures
        for seed in range(3)
        for metric, value in search.metrics(mixture.name, seed).items()
    ]


def corpus_tables(tables):
    """Rows of the tables about documents, clusters and domains."""
    document = {"source": "s", "n_bytes": 10, "repairs": [], "metadata": {}, "text": "t"}
    yield tables.DOCUMENTS, [{"doc_id": f"d{i}"} | document for i in range(8)]
    rejected = [("duplicate", 5, "same as d1"), ("duplicate", 1, None), ("too short", 2, "3 chars")]
    yield (
        tables.REJECTED,
        [
            {"reject_id": str(i), "reason": reason, "file": "a.jsonl", "n_rows": n}
            | {"detail": detail}
            for i, (reason, n, detail) in enumerate(rejected)
        ],
    )
    yield (
        tables.CLUSTERS,
        [
            {
                "cluster": i,
                "n_documents": 10,
                "n_tokens": 1000 * (i + 1),
                "scores": {"rules": 4.0 - i},
                "kept": i < 4,
                "reason": None if i < 4 else "rules 0.00 < 3.0",
                "domain": DOMAINS[i] if i < 4 else None,
            }
            for i in range(5)
        ],
    )
    natural = small_search().mixture("natural")
    yield (
        tables.DOMAINS,
        [
            {
                "domain": name,
                "clusters": [i],
                "n_documents": int(1000 * natural[name]),
                "n_tokens": int(400_000 * natural[name]),
                "token_share": natural[name],
                "terms": [f"{name}-{word}" for word in ("one", "two", "three")],
                "examples": [f"An example of {name} with <b>markup</b>."],
                "sample": [],
                "generated_name": "",
            }
            for i, name in enumerate(DOMAINS)
        ],
    )
    yield (
        tables.CORPUS,
        [
            {"doc_id": f"d{i}", "copy": copy, "domain": name, "n_tokens": 100, "text": "t"}
            for i, name in enumerate(DOMAINS)
            for copy in range(2)
        ],
    )


@pytest.fixture(scope="session")
def small_run(spark, tmp_path_factory):
    """Store and configuration of a finished run of one search, `default`."""
    from climb import tables
    from climb.config import load
    from climb.spark.delta.store import Store

    cfg = load(settings=[f"storage.root={tmp_path_factory.mktemp('run')}/out"])
    store = Store(spark, cfg.storage)
    search = small_search()
    for table, rows in (
        *corpus_tables(tables),
        (tables.TRIALS, search.rows),
        (tables.EVALUATIONS, evaluation_rows()),
    ):
        store.append(store.create_frame(rows, table), table)
    inputs = store.history.describe_inputs(tables.DOMAINS)
    rows = store.create_frame(make_mixture_rows(search.result), tables.MIXTURES)
    store.replace(rows, tables.MIXTURES, inputs, "search = 'default'")
    return store, cfg
