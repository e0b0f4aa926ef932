"""Trials through Spark against the same trials in a plain loop over two processes.

Bar: at least 0.9 of the plain loop's speed. Spark adds a job, a task and a table commit a trial.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from climb.config import load
from climb.proxy import ProxyRun
from climb.proxy.llama import LlamaProxy
from climb.spark.session import start_session
from climb.spark.trials import train_all, train_one
from climb.tokenizer import train_json

TRIALS, SLOTS, REPEATS = 8, 2, 3
TOKENS = 100_000
PROXY = LlamaProxy(hidden=96, layers=2, heads=2, sequence=128, batch=16, learning_rate=8e-3)


def runs(folder: Path) -> list[tuple[str, ProxyRun]]:
    """Eight trials on two domains of random tokens, from random weights."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(500)]
    (folder / "tokenizer.json").write_text(
        train_json([" ".join(rng.choice(words, 50)) for _ in range(500)], 1024)
    )
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", rng.integers(0, 1024, TOKENS, dtype=np.uint16))
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


def main() -> list[str]:
    """Measure, interleaved, and return the lines of the report."""
    session = start_session(load().spark)
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool,
    ):
        todo = runs(Path(folder))
        list(train_all(session, PROXY, todo[:SLOTS], SLOTS))  # warm both sides
        plain(pool, todo[:SLOTS])
        for _ in range(REPEATS):
            began = time.monotonic()
            outcomes = list(train_all(session, PROXY, todo, SLOTS))
            through_spark = time.monotonic() - began
            assert all(outcome.status == "finished" for outcome in outcomes)
            ratios.append(plain(pool, todo) / through_spark)
    session.stop()
    return [
        f"{TRIALS} trials of {TOKENS:,} tokens, {SLOTS} at a time, {REPEATS} interleaved repeats: "
        f"speed through Spark / plain loop **{statistics.median(ratios):.2f}** "
        f"({min(ratios):.2f} to {max(ratios):.2f}); bar 0.9"
    ]


if __name__ == "__main__":
    print("\n".join(main()))
