"""Evaluation: multiple-choice items through climb and through EleutherAI's lm_eval.

    python benchmarks/harness.py

Both score the same items with the same model in the same process, in turns, each with one thread.
lm_eval reads the items with its own definitions of the tasks ARC-Easy and PIQA. Times include
tokenization and exclude the reading of files. Needs requirements/bench.txt.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from section import Bar, Section, Table, run_section
from shared import sample_corpora, shared_data

from climb.proxy import Target
from climb.proxy.evaluate import ItemScores, score_items
from climb.tokenizer import END_OF_TEXT, TokenizerFile, train_json

Item = dict[str, Any]

ITEMS, QUICK_ITEMS = {"arc_easy": ("test", 500), "piqa": ("validation", 500)}, 8
REPEATS, QUICK_REPEATS = 3, 1
SEQUENCE = 512
BATCHES = (1, 16, 64)
"""Batch sizes of lm_eval; the fastest counts."""

SPEEDUP = 1.5
YAML = {
    "arc_easy": "arc/arc_easy.yaml",
    "piqa": "piqa/piqa.yaml",
}
"""Task -> its definition in lm_eval's package."""


def publish_arc(item: Item) -> Item:
    """Convert an item to the form in which ARC is published."""
    question = item["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
    texts = [choice.removeprefix(" ") for choice in item["choices"]]
    letters = "ABCDEFGH"[: len(texts)]
    choices = {"text": texts, "label": list(letters)}
    return {"question": question, "choices": choices, "answerKey": letters[item["label"]]}


def publish_piqa(item: Item) -> Item:
    """Convert an item to the form in which PIQA is published."""
    goal = item["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
    first, second = (choice.removeprefix(" ") for choice in item["choices"])
    return {"goal": goal, "sol1": first, "sol2": second, "label": item["label"]}


PUBLISH: Mapping[str, Callable[[Item], Item]] = {"arc_easy": publish_arc, "piqa": publish_piqa}


def load_task(task: str, items: Sequence[Item], folder: Path) -> Any:
    """Load a task of lm_eval with these items instead of those that it would download."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    lines = [json.dumps(PUBLISH[task](item)) for item in items]
    (folder / f"{task}.json").write_text("\n".join(lines))
    definition = Path(lm_eval.__file__).parent / "tasks" / YAML[task]
    files = {split: str(folder / f"{task}.json") for split in ("train", "validation", "test")}
    config = {
        "include": str(definition),
        "task": f"local_{task}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
    }
    (folder / f"local_{task}.yaml").write_text(json.dumps(config))  # JSON is YAML
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return manager.load([f"local_{task}"])["tasks"][f"local_{task}"]


def open_model(model: Any, tokenizer: TokenizerFile, folder: Path, batch: int) -> Any:
    """Open a model for lm_eval, with a tokenizer that starts every text with the end-of-text token.

    So do climb's items, since this token precedes every document in training.
    """
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_file(tokenizer.path)
    own.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, own.token_to_id(END_OF_TEXT))]
    )
    own.save(str(folder / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(pretrained=model, tokenizer=fast, batch_size=batch, device="cpu")


def score_with_harness(model: Any, task: Any) -> list[dict[str, Any]]:
    """Return lm_eval's record of every item, in the order of the items."""
    from lm_eval import simple_evaluate

    found = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=True)
    (samples,) = found["samples"].values()
    return sorted(samples, key=lambda sample: sample["doc_id"])


def write_target(task: str, items: Sequence[Item], folder: Path) -> Target:
    """Write the items for climb."""
    path = folder / f"{task}.jsonl"
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return Target(name=task, kind="choices", path=str(path))


def order_like(items: Sequence[Item], scores: ItemScores) -> list[tuple[float, float, float]]:
    """Return bits of the right choice, accuracy and normalized accuracy in the order of the items.

    climb orders the items of a target by the hashes of their lines.
    """
    hashes = [hashlib.sha256(json.dumps(item).encode()).digest() for item in items]
    rows = list(zip(scores.bits_N, scores.correct_N, scores.correct_norm_N, strict=True))
    by_hash = dict(zip(sorted(range(len(items)), key=hashes.__getitem__), rows, strict=True))
    return [by_hash[number] for number in range(len(items))]


def count_equal(ours: Sequence[tuple[float, float, float]], theirs: Sequence[Any]) -> int:
    """Count the items with equal accuracy and equal normalized accuracy."""
    return sum(
        own[1:] == (sample["acc"], sample["acc_norm"])
        for own, sample in zip(ours, theirs, strict=True)
    )


def read_items(task: str, n: int | None) -> list[Item]:
    """Read items of a task: those with the lowest hashes."""
    split, n_items = ITEMS[task]
    path = shared_data() / "evals" / f"{task}.{split}.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    keys = ("context", "choices", "label")
    return [{key: row[key] for key in keys} for row in rows[: n or n_items]]


def build_model(folder: Path, quick: bool) -> tuple[Any, TokenizerFile]:
    """Build a model like the default proxy, with random weights, and train its tokenizer."""
    import torch

    from climb.proxy.llama import LlamaProxy

    texts, _, _ = sample_corpora(5 if quick else 60)
    path = folder / "bpe.json"
    path.write_text(train_json(texts, 2048))
    torch.manual_seed(0)
    recipe = LlamaProxy(
        hidden=96, layers=2, heads=2, sequence=SEQUENCE, batch=16, learning_rate=8e-3
    )
    model = recipe.create_model(2048)
    for parameter in model.parameters():  # so that the choices differ clearly
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval(), TokenizerFile(str(path))


def time_in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each call, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def measure_tasks(folder: Path, quick: bool) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
    """Yield task, number of items, equal items, and seconds of each way of scoring."""
    model, tokenizer = build_model(folder, quick)
    for task in ITEMS:
        items = read_items(task, QUICK_ITEMS if quick else None)
        target, theirs = write_target(task, items, folder), load_task(task, items, folder)

        def score(target: Target = target) -> ItemScores:
            Path(target.path).touch()  # so that the items are read and tokenized again
            return score_items(model, target, tokenizer, SEQUENCE)

        calls: dict[str, Callable[[], Any]] = {"climb": score}
        for batch in BATCHES:
            opened = open_model(model, tokenizer, folder, batch)
            calls[f"lm_eval, batch {batch}"] = lambda opened=opened, theirs=theirs: (
                score_with_harness(opened, theirs)
            )
        n_equal = count_equal(order_like(items, score()), calls[f"lm_eval, batch {BATCHES[0]}"]())
        yield task, len(items), n_equal, time_in_turns(calls, QUICK_REPEATS if quick else REPEATS)


def measure(args: argparse.Namespace) -> Section:
    """Score all items both ways."""
    import torch

    torch.set_num_threads(1)
    rows, ratios, n_items, n_equal = [], [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for task, n, equal, seconds in measure_tasks(Path(folder), args.quick):
            n_items, n_equal = n_items + n, n_equal + equal
            medians = {name: float(np.median(values)) for name, values in seconds.items()}
            fastest = min((name for name in medians if name != "climb"), key=medians.__getitem__)
            own = seconds["climb"]
            ratios.append(np.array(seconds[fastest]) / np.array(own))
            for name, value in medians.items():
                ratio = f"{value / medians['climb']:.2f}"
                rows.append((task, str(n), name, f"{value:.2f}", f"{n / value:.0f}", ratio))
    speedup = float(np.median(np.mean(ratios, axis=0)))
    columns = ("task", "items", "program", "seconds", "items/s", "times climb's seconds")
    return Section(
        "harness",
        "Evaluation: multiple-choice items against lm_eval",
        f"A model of 0.4 M parameters with random weights scores {n_items:,} items of "
        f"{len(ITEMS)} tasks, with one thread. Seconds are medians of "
        f"{QUICK_REPEATS if args.quick else REPEATS} turns. The bar is the mean over the tasks of "
        "the ratio to lm_eval's fastest batch size, in the same turn; median of the turns.",
        (Table(columns, tuple(rows)),),
        (
            Bar("times faster than lm_eval", speedup, at_least=SPEEDUP, form=".2f"),
            Bar("items with equal acc and acc_norm", n_equal / n_items, at_least=1.0, form=".3f"),
        ),
    )


def find_missing() -> str | None:
    """Return why lm_eval cannot be imported; None if it can."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        return f"{error}; run pip install --no-deps -r requirements/bench.txt"
    return None


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if missing := find_missing():
        print(f"skipped: this benchmark compares with lm_eval: {missing}")
        sys.exit(0)
    run_section(measure)
