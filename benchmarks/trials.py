"""Trials through Spark against the same trials in a plain loop over two processes.

    python benchmarks/trials.py
    python benchmarks/trials.py --minutes 5    # starts repeats for five minutes, then stops

Bar: at least 0.95 of the speed of the plain loop, at trials of about 20 s. With Spark, a row of
table `trials` is committed after each trial, as in the search. The plain loop stores nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from pieces import take_repeats
from section import Bar, Section, run_section

from climb import tables
from climb.config import load
from climb.proxy import ProxyRun
from climb.proxy.llama import LlamaProxy
from climb.spark.delta.store import Store
from climb.spark.session import start_session
from climb.spark.slots import Slots
from climb.spark.training.task import train_one
from climb.spark.training.trials import train_batches
from climb.tokenizer import TokenizerFile, train_json

SLOTS, BAR = 2, 0.95
TRIALS, TOKENS, REPEATS = 16, 350_000, 3
QUICK_TRIALS, QUICK_TOKENS, QUICK_REPEATS = 2, 20_000, 1
N_IDS = 512
"""Number of different token ids in the shards; less than the vocabulary of the tokenizer."""

PROXY = LlamaProxy(hidden=96, layers=2, heads=2, sequence=128, batch=16, learning_rate=8e-3)


def prepare_runs(folder: Path, n: int, tokens: int) -> list[tuple[str, ProxyRun]]:
    """Prepare n trials on two domains of random tokens, without a base checkpoint."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(500)]
    (folder / "tokenizer.json").write_text(
        train_json([" ".join(rng.choice(words, 50)) for _ in range(500)], 1024)
    )
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", rng.integers(0, N_IDS, tokens, dtype=np.uint16))
    return [
        (
            f"trial-{i}",
            ProxyRun(
                weights={"a": float(w), "b": float(1 - w)},
                shards={name: str(folder / f"{name}.npy") for name in ("a", "b")},
                tokenizer=TokenizerFile(str(folder / "tokenizer.json")),
                n_tokens=tokens,
                seed=0,
                start=None,
                save=None,
                checkpoints=str(folder / "checkpoints" / str(i)),
                checkpoint_steps=1_000,
            ),
        )
        for i, w in enumerate(np.linspace(0.1, 0.9, n))
    ]


def time_plain_loop(pool: ProcessPoolExecutor, runs: Sequence[tuple[str, ProxyRun]]) -> float:
    """Seconds of the trials in two processes that have already imported the libraries."""
    start = time.monotonic()
    futures = [pool.submit(train_one, PROXY, name, run) for name, run in runs]
    assert all(future.result().status == "finished" for future in futures)
    return time.monotonic() - start


def time_spark(store: Store, runs: Sequence[tuple[str, ProxyRun]]) -> float:
    """Seconds of the same trials as one-task Spark jobs, each with a committed row."""
    start = time.monotonic()
    for batch in train_batches(store.session, PROXY, runs, Slots(SLOTS)):
        assert all(outcome.status == "finished" for outcome in batch)
        rows = [
            dict.fromkeys(tables.TRIALS.column_names)
            | {
                "trial_id": f"{outcome.name} {start}",
                "metrics": outcome.metrics,
                "seconds": outcome.seconds,
            }
            for outcome in batch
        ]
        store.append(store.create_frame(rows, tables.TRIALS), tables.TRIALS)
    return time.monotonic() - start


def measure(args: argparse.Namespace) -> Section:
    n, tokens, repeats = TRIALS, TOKENS, REPEATS
    if args.quick:
        n, tokens, repeats = QUICK_TRIALS, QUICK_TOKENS, QUICK_REPEATS
    deadline = time.monotonic() + 60.0 * args.minutes
    session = start_session(load().spark)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool,
    ):
        runs = prepare_runs(Path(folder), n, tokens)
        store = Store(session, load(settings=[f"storage.root={folder}/out"]).storage)
        time_spark(store, runs[:SLOTS])  # an uncounted run of both sides
        time_plain_loop(pool, runs[:SLOTS])
        times = take_repeats(
            "trials-quick" if args.quick else "trials",
            repeats,
            lambda: [time_spark(store, runs), time_plain_loop(pool, runs)],
            deadline,
        )
    session.stop()
    ratios = [plain / through_spark for through_spark, plain in times]
    seconds = statistics.median(plain for _, plain in times) * SLOTS / n
    return Section(
        "trials",
        "Trials through Spark against a plain loop over both cores",
        f"A round of {n} trials of {tokens:,} tokens ({seconds:.0f} s), {SLOTS} at a time, "
        f"{repeats} interleaved repeats. Through Spark, the row of each trial is committed; the "
        "plain loop stores nothing.",
        bars=(
            Bar(
                "speed through Spark / speed of the plain loop, median",
                statistics.median(ratios),
                at_least=BAR,
                form=".2f",
            ),
        ),
        notes=(f"Range of the ratio: {min(ratios):.2f} to {max(ratios):.2f}.",),
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    run_section(measure, options)
