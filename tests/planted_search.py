"""A search over tables whose proxies are planted, with what the jobs before it leave behind."""

import json

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.testing.search_inputs import VOCABULARY, make_search_inputs

NATURAL = {"code": 0.5, "law": 0.3, "news": 0.15, "recipes": 0.05}
BEST = {"code": 0.1, "law": 0.2, "news": 0.4, "recipes": 0.3}


def settings(root, **proxy):
    """Two rounds of planted proxies; `proxy` are fields of the planted one."""
    target = {"name": "quiz", "kind": "choices", "limit": None}
    target |= {part: f"{root}/{part}.jsonl" for part in ("search", "report")}
    model = {"use": "climb.testing.proxies:PlantedProxy", "best": BEST, "noise": 0.002, **proxy}
    return load(
        settings=[
            f"storage.root={root}/out",
            "tracking.enabled=false",
            f"count.vocab_size={VOCABULARY}",
            f"proxy.model={json.dumps(model)}",
            f"train.model={json.dumps(model)}",
            f"proxy.targets={json.dumps([target])}",
            "search.trials_per_round=[6, 4]",
            "search.halving=[]",
            "search.replicates=2",
            "search.candidates=300",
            "search.target_tokens=1_000_000",
            "search.max_epochs=8",
            "search.max_share_ratio=null",
            "train.seeds=2",
        ]
    )


def open_store(spark, root, cfg):
    """A store that holds what the jobs before the search leave behind."""
    for part in ("search", "report"):
        item = {"context": part, "choices": [" yes", " no"], "label": 0}
        (root / f"{part}.jsonl").write_text(json.dumps(item) + "\n")
    store = Store(spark, cfg.storage)
    for table, rows in make_search_inputs(NATURAL).items():
        store.append(store.create_frame(rows, table), table)
    return store


def read_mixtures(store):
    return {row["method"]: row for row in store.read_rows(tables.MIXTURES)}
