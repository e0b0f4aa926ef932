"""Training runs on real text, kept in a folder so that a benchmark can be interrupted.

Each file of the corpus is one domain. All runs continue one base checkpoint, as in a search. A
finished run is a line of `runs.jsonl` and is never trained again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from shared import shared_data

from climb.files import is_complete
from climb.proxy import Proxy, ProxyRun, Target
from climb.proxy.llama import LlamaProxy
from climb.spark.training.setup import TrainingSetup
from climb.spark.training.task import train_one
from climb.tokenizer import TokenizerFile, open_tokenizer, train_json

DOMAINS = (
    *("children_stories", "code_python", "community_qa", "fiction_books", "law_statutes"),
    *("math_latex", "medicine_qa", "news", "recipes", "science_abstracts", "textbooks_science"),
    "wikipedia",
)
"""Files of the corpus that are domains, as many as the demo has."""

TASKS = ("arc_challenge", "arc_easy", "piqa")
"""The targets of the demo."""

PROXY = LlamaProxy(hidden=96, layers=2, heads=2, sequence=128, batch=16, learning_rate=8e-3)
"""The demo's proxy, 0.4 M parameters."""

VOCABULARY = 2_048
SAMPLE_DOCUMENTS = 60
"""Documents of each domain that the tokenizer is trained on."""

PROCESSES = 2


@dataclass(frozen=True)
class Size:
    """How much text is read and trained on."""

    domains: int
    """Number of domains, the first of `DOMAINS`."""

    chars: int
    """Characters of each domain."""

    base_tokens: int
    trial_tokens: int
    items: int
    """Items of each task."""

    tasks: tuple[str, ...] = TASKS


def prepare_setup(folder: Path, size: Size) -> TrainingSetup:
    """Tokenize the corpus into a folder, unless it is there, and return the setup of trials.

    Args:
        folder: for shards, checkpoints and results.
        size: of the text and of the runs.
    """
    files = [shared_data() / "corpus" / f"{name}.parquet" for name in DOMAINS[: size.domains]]
    meta = folder / "domains.json"
    if not meta.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _tokenize(folder, files, size.chars)
    tokens = json.loads(meta.read_text())
    total = sum(tokens.values())
    shards = {name: str(folder / f"{name}.npy") for name in tokens}
    return TrainingSetup(
        proxy=PROXY,
        natural={name: n / total for name, n in tokens.items()},
        shards=shards,
        base_shards=shards,
        corpus_digest=f"real-text-{size.chars}-{len(tokens)}",
        base_digest=f"real-text-{size.chars}-{len(tokens)}",
        tokenizer=TokenizerFile(str(folder / "tokenizer.json")),
        base_tokens=size.base_tokens,
        n_tokens=size.trial_tokens,
        checkpoint_steps=1_000,
        targets=tuple(
            Target(
                name=task,
                kind="choices",
                path=str(shared_data() / "evals" / f"{task}.train.jsonl.gz"),
                limit=size.items,
            )
            for task in size.tasks
        ),
        files=folder,
    )


def _tokenize(folder: Path, files: Sequence[Path], chars: int) -> None:
    """Write the tokenizer, a shard per domain, and last the tokens of each whole domain."""
    texts: dict[str, list[str]] = {}
    tokens: dict[str, int] = {}
    for file in files:
        table = pq.read_table(file, columns=["text", "n_tokens_gpt2"])
        order = np.random.default_rng(0).permutation(table.num_rows)
        every = table["text"].to_pylist()
        kept, n = [], 0
        for i in order:
            if n >= chars:
                break
            kept.append(every[i])
            n += len(every[i])
        texts[file.stem] = kept
        tokens[file.stem] = int(np.sum(table["n_tokens_gpt2"].to_numpy()))
    sample = [text for kept in texts.values() for text in kept[:SAMPLE_DOCUMENTS]]
    (folder / "tokenizer.json").write_text(train_json(sample, VOCABULARY))
    tokenizer = open_tokenizer((folder / "tokenizer.json").read_text())
    end = TokenizerFile(str(folder / "tokenizer.json")).find_end_of_text_id()
    for name, kept in texts.items():
        encoded = tokenizer.encode_batch_fast(kept, add_special_tokens=False)
        ids = np.concatenate([[end, *one.ids] for one in encoded]).astype(np.uint16)
        np.save(folder / f"{name}.npy", ids)
    (folder / "domains.json").write_text(json.dumps(tokens))


@dataclass(frozen=True)
class Results:
    """The finished runs of a folder."""

    path: Path

    def read(self) -> dict[str, dict[str, object]]:
        """Read the rows by name of the run."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        return {row["name"]: row for row in map(json.loads, lines)}

    def train(
        self, proxy: Proxy, runs: Mapping[str, ProxyRun], deadline: float = float("inf")
    ) -> bool:
        """Train the runs that have no row, in processes of one thread.

        Returns:
            Whether all are finished; false if the deadline (time.monotonic) stopped the start of
            further runs.
        """
        todo = [name for name in runs if name not in self.read()]
        if not todo:
            return True
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
            active = {}
            while (todo and time.monotonic() < deadline) or active:
                while todo and len(active) < PROCESSES and time.monotonic() < deadline:
                    name = todo.pop(0)
                    active[pool.submit(train_one, proxy, name, runs[name])] = name
                done, _ = wait(active, return_when=FIRST_COMPLETED)
                for future in done:
                    self._append(active.pop(future), runs, future.result())
        return not todo

    def _append(self, name: str, runs: Mapping[str, ProxyRun], outcome: object) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome.status == "finished", outcome.error
        row = {"name": name, "weights": dict(runs[name].weights), "seed": runs[name].seed}
        row |= {"n_tokens": runs[name].n_tokens, "seconds": outcome.seconds}
        with self.path.open("a") as file:
            file.write(json.dumps(row | {"metrics": outcome.metrics}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def ensure_base(setup: TrainingSetup) -> None:
    """Train the base checkpoint unless it is complete."""
    if not is_complete(setup.base_folder):
        outcome = train_one(setup.proxy, "base", setup.build_base_run())
        assert not isinstance(outcome, Exception), outcome
        assert outcome.status == "finished", outcome.error
