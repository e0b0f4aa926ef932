"""Trials through Spark against the same trials in a plain loop over two processes.

Bar: at least 0.9 of the plain loop's speed. Spark's side commits a row of the table `trials` as
each trial ends, as the search does; the plain loop keeps nothing.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from climb import tables
from climb.config import load
from climb.proxy import ProxyRun
from climb.proxy.llama import LlamaProxy
from climb.spark.session import start_session
from climb.spark.store import Store
from climb.spark.trials import train_all, train_one
from climb.tokenizer import train_json

TRIALS, SLOTS, REPEATS, BAR = 6, 2, 3, 0.9
TOKENS = 200_000
N_IDS = 512
"""Fewer than the tokenizer of the made-up words has."""
PROXY = LlamaProxy(hidden=96, layers=2, heads=2, sequence=128, batch=16, learning_rate=8e-3)


def runs(folder: Path) -> list[tuple[str, ProxyRun]]:
    """Trials on two domains of random tokens, from random weights."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(500)]
    (folder / "tokenizer.json").write_text(
        train_json([" ".join(rng.choice(words, 50)) for _ in range(500)], 1024)
    )
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", rng.integers(0, N_IDS, TOKENS, dtype=np.uint16))
    weights = np.linspace(0.1, 0.9, TRIALS)
    return [
        (
            f"trial-{i}",
            ProxyRun(
                weights={"a": float(w), "b": float(1 - w)},
                shards={name: str(folder / f"{name}.npy") for name in ("a", "b")},
                tokenizer=str(folder / "tokenizer.json"),
                n_tokens=TOKENS,
                seed=0,
                start=None,
                save=None,
                checkpoints=str(folder / "checkpoints" / str(i)),
                checkpoint_steps=1_000,
            ),
        )
        for i, w in enumerate(weights)
    ]


def plain(pool: ProcessPoolExecutor, todo: Sequence[tuple[str, ProxyRun]]) -> float:
    """Seconds of a loop over two processes that have the libraries loaded already."""
    began = time.monotonic()
    done = [pool.submit(train_one, PROXY, name, run) for name, run in todo]
    assert all(future.result().status == "finished" for future in done)
    return time.monotonic() - began


def through_spark(store: Store, todo: Sequence[tuple[str, ProxyRun]]) -> float:
    """Seconds of the same trials as one-task jobs, each with its row committed."""
    began = time.monotonic()
    for outcome in train_all(store.session, PROXY, todo, SLOTS):
        assert outcome.status == "finished"
        row = dict.fromkeys(tables.TRIALS.column_names) | {
            "trial_id": f"{outcome.name} {began}",
            "metrics": outcome.metrics,
            "seconds": outcome.seconds,
        }
        store.append(store.frame([row], tables.TRIALS), tables.TRIALS)
    return time.monotonic() - began


def main() -> int:
    """Measure, interleaved, and print; 1 where the bar is missed."""
    session = start_session(load().spark)
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool,
    ):
        todo = runs(Path(folder))
        store = Store(session, load(settings=[f"storage.root={folder}/out"]).storage)
        through_spark(store, todo[:SLOTS])  # warm both sides
        plain(pool, todo[:SLOTS])
        for _ in range(REPEATS):
            ours = through_spark(store, todo)
            ratios.append(plain(pool, todo) / ours)
    session.stop()
    print(
        f"{TRIALS} trials of {TOKENS:,} tokens, {SLOTS} at a time, {REPEATS} interleaved repeats: "
        f"speed through Spark / plain loop **{statistics.median(ratios):.2f}** "
        f"({min(ratios):.2f} to {max(ratios):.2f}); bar {BAR}"
    )
    return int(statistics.median(ratios) < BAR)


if __name__ == "__main__":
    sys.exit(main())
