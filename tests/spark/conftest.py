"""The tables of a finished small run, written once for the tests that only read them."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

NATURAL = {"recipes": 0.15, "law": 0.6, "space": 0.2, "chat": 0.05}
FOUND = {"recipes": 0.45, "law": 0.05, "space": 0.3, "chat": 0.2}
UNIFORM = dict.fromkeys(NATURAL, 0.25)
ANSWERS = {"found": FOUND, "natural": NATURAL, "uniform": UNIFORM}
BEST = {"recipes": 0.5, "law": 0.0, "space": 0.35, "chat": 0.15}


def metrics(weights, rng):
    """Bits per byte rise with the distance from one best mixture."""
    distance = sum(abs(weights[name] - BEST[name]) for name in BEST)
    return {
        f"{task}.{name}": float(value + 0.003 * rng.standard_normal())
        for task, level in (("piqa", 2.2), ("siqa", 2.4))
        for name, value in (("bpb", level + 0.08 * distance), ("accuracy", 0.5))
    }


def trial_rows():
    rng = np.random.default_rng(1)
    plan = [(0, method, ANSWERS[method], s) for method in ("natural", "uniform") for s in (0, 1)]
    for round_, strength in enumerate((1.0, 5.0)):
        for _ in range(4):
            drawn = rng.dirichlet([BEST[name] * strength + 0.3 for name in BEST])
            plan.append((round_, "proposal", dict(zip(BEST, map(float, drawn), strict=True)), 0))
    plan += [(2, "found", FOUND, seed) for seed in (0, 1)]
    rows = [
        {
            "trial_id": f"{i:016x}",
            "search": "default",
            "round": round_,
            "method": method,
            "seed": seed,
            "proxy": "LlamaProxy-1",
            "data": "d1",
            "weights": weights,
            "metrics": metrics(weights, rng),
            "status": "finished",
            "error": None,
            "n_tokens": 200_000,
            "seconds": 9.5,
            "finished": datetime(2025, 1, 2, tzinfo=UTC) + timedelta(seconds=i),
        }
        for i, (round_, method, weights, seed) in enumerate(plan)
    ]
    rows[6] |= {"status": "failed", "error": "loss became NaN at step 7", "metrics": {}}
    return rows


def mixture_rows():
    gain = {"mean": 0.06, "low": 0.05, "high": 0.07, "p_better": 0.999}
    evidence = {"direct": {"natural": gain, "uniform": gain}, "n_trials": 13, "n_failed": 1}
    empty = dict.fromkeys(("gain_mean", "gain_low", "gain_high", "p_better", "verdict", "evidence"))
    rows = [
        {
            "search": "default",
            "method": method,
            "weights": weights,
            "epochs": {name: weights[name] / NATURAL[name] for name in weights},
            "score": -2.3,
            "score_std": 0.01,
        }
        | empty
        for method, weights in ANSWERS.items()
    ]
    rows[0] |= {f"gain_{key}": gain[key] for key in ("mean", "low", "high")}
    rows[0] |= {"p_better": 0.999, "verdict": "gain", "evidence": json.dumps(evidence)}
    return rows


def evaluation_rows():
    rng = np.random.default_rng(2)
    return [
        {
            "model": f"{method}-{seed}",
            "method": method,
            "seed": seed,
            "metric": metric,
            "value": value,
            "n_tokens": 1_000_000,
            "seconds": 60.0,
        }
        for method, weights in ANSWERS.items()
        for seed in range(3)
        for metric, value in metrics(weights, rng).items()
    ]


def corpus_side(tables):
    """Rows of the tables about documents, clusters and domains."""
    document = {"source": "s", "n_bytes": 10, "repairs": [], "metadata": {}, "text": "t"}
    yield tables.DOCUMENTS, [{"doc_id": f"d{i}"} | document for i in range(8)]
    rejected = [("duplicate", 5, "same as d1"), ("duplicate", 1, None), ("too short", 2, "3 chars")]
    yield (
        tables.REJECTED,
        [
            {
                "reject_id": str(i),
                "reason": reason,
                "file": "a.jsonl",
                "n_rows": n,
                "detail": detail,
            }
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
                "domain": list(NATURAL)[i] if i < 4 else None,
            }
            for i in range(5)
        ],
    )
    yield (
        tables.DOMAINS,
        [
            {
                "domain": name,
                "clusters": [i],
                "n_documents": int(1000 * share),
                "n_tokens": int(400_000 * share),
                "token_share": share,
                "terms": [f"{name}-{word}" for word in ("one", "two", "three")],
                "examples": [f"An example of {name} with <b>markup</b>."],
            }
            for i, (name, share) in enumerate(NATURAL.items())
        ],
    )
    yield (
        tables.CORPUS,
        [
            {"doc_id": f"d{i}", "copy": copy, "domain": name, "n_tokens": 100, "text": "t"}
            for i, name in enumerate(NATURAL)
            for copy in range(2)
        ],
    )


@pytest.fixture(scope="session")
def small_run(spark, tmp_path_factory):
    """Store and configuration of a finished run of one search, `default`."""
    from climb import tables
    from climb.config import load
    from climb.spark.store import Store

    cfg = load(settings=[f"storage.root={tmp_path_factory.mktemp('run')}/out"])
    store = Store(spark, cfg.storage)
    for table, rows in corpus_side(tables):
        store.append(store.frame(rows, table), table)
    store.append(store.frame(trial_rows(), tables.TRIALS), tables.TRIALS)
    store.append(store.frame(evaluation_rows(), tables.EVALUATIONS), tables.EVALUATIONS)
    inputs = store.inputs(tables.DOMAINS)
    scope = "search = 'default'"
    store.replace(store.frame(mixture_rows(), tables.MIXTURES), tables.MIXTURES, inputs, scope)
    return store, cfg
