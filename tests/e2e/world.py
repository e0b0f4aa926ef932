"""Small data for whole runs: five kinds of text, one of them junk, and questions about two."""

import gzip
import json
import random
from pathlib import Path

import yaml

WORDS = {
    "cooking": "simmer onion garlic butter oven flour sauce pepper stir bake recipe dough salt pan "
    "teaspoon roast soup cream sugar whisk",
    "law": "court statute plaintiff appeal judge clause liability contract verdict counsel section "
    "defendant tribunal evidence jury hearing treaty lawful decree testimony",
    "space": "orbit planet telescope galaxy comet asteroid rocket moon gravity star nebula lunar "
    "satellite mission astronaut eclipse crater solar launch cosmic",
    "football": "goal striker midfield penalty referee stadium keeper league match defender corner "
    "header season coach team pitch kick tackle score fans",
    "junk": "click buy now free winner cash prize offer discount cheap deal limited bonus viagra "
    "casino subscribe unsubscribe guarantee million lottery",
}
GLUE = (
    *("the", "a", "of", "to", "and", "in", "with", "for", "on", "by", "from"),
    *("that", "this", "was", "is", "were", "has", "had", "over", "under"),
)
TASKS = {"kitchen": "cooking", "heavens": "space"}


def sentence(rng, words):
    """Draw eight to sixteen words; function words and content words alternate."""
    n = rng.randrange(8, 16)
    picked = [rng.choice(words if i % 2 else GLUE) for i in range(n)]
    return " ".join(picked).capitalize() + "."


def documents(n_per_kind, seed=0):
    """Yield rows of text and kind; the kinds alternate."""
    rng = random.Random(seed)
    for i in range(n_per_kind):
        for kind, words in WORDS.items():
            if kind == "junk":
                text = " ".join(rng.choice(words.split()).upper() + " !!!" for _ in range(40))
            else:
                sentences = [sentence(rng, words.split()) for _ in range(rng.randrange(5, 12))]
                text = " ".join(sentences)
            yield {"text": f"{text} ({i})", "kind": kind}


def write_corpus(folder, n_per_kind=60, n_files=3, shuffle=None, prefix="part"):
    """Write the documents as JSON Lines files, in this order and number of files."""
    rows = list(documents(n_per_kind))
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n_files):
        lines = [json.dumps(row) + "\n" for row in rows[i::n_files]]
        with gzip.open(folder / f"{prefix}-{i}.jsonl.gz", "wt") as stream:
            stream.writelines(lines)


def write_targets(folder):
    """Write a file of questions for the search and one for the report, per task."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, kind in TASKS.items():
        for split in ("search", "report"):
            rng = random.Random(f"{task} {split}")
            with (folder / f"{task}.{split}.jsonl").open("w") as stream:
                for _ in range(24):
                    words = WORDS[kind].split()
                    choices = [f" {' '.join(rng.sample(words, 4))}" for _ in range(2)]
                    item = {"context": sentence(rng, words), "choices": choices, "label": 0}
                    stream.write(json.dumps(item) + "\n")


def write_conf(folder, corpus, root):
    """Write a configuration with which every job takes seconds; return its path."""
    model = {"hidden": 16, "layers": 2, "heads": 2, "sequence": 32, "batch": 8}
    conf = {
        "storage": {"root": str(root), "commit_documents": 100},
        "spark": {"shuffle_partitions": 1, "driver_memory": "2g"},
        "ingest": {"inputs": [str(corpus)], "metadata_columns": ["kind"]},
        "count": {"vocab_size": 400, "sample_documents": 100},
        "score": {
            "scorers": [
                {"use": "climb.quality.rules:RuleScorer"},
                {"use": "climb.quality.repetition:RepetitionScorer"},
            ]
        },
        "cluster": {"k": 8, "sample_per_cluster": None},
        "prune": {"thresholds": {"rules": 3.0}, "merge_height": None, "domains": 4},
        "proxy": {
            "model": model,
            "base_tokens": 8_192,
            "trial_tokens": 2_048,
            "checkpoint_steps": 2,
            "targets": [
                {
                    "name": task,
                    "kind": "choices",
                    "search": str(folder / "targets" / f"{task}.search.jsonl"),
                    "report": str(folder / "targets" / f"{task}.report.jsonl"),
                    "limit": None,
                }
                for task in TASKS
            ],
        },
        "search": {
            "trials_per_round": [5, 2],
            "halving": [],
            "replicates": 2,
            "candidates": 200,
            "target_tokens": 20_000,
            "max_share_ratio": None,
        },
        "train": {
            "model": model,
            "base_tokens": 4_096,
            "tokens": 2_048,
            "seeds": 2,
            "curve_steps": 3,
            "evaluate_steps": 4,
        },
    }
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def write_world(folder: Path) -> Path:
    """Write everything for one run below a folder; return the path of the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "text")
    write_targets(folder / "targets")
    return write_conf(folder, folder / "text", folder / "out")
