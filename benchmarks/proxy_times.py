"""The speed of one proxy on a CPU, and the time of a search in which no trial is trained."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handwritten import HandwrittenLoop
from section import Bar, Section, Table
from training_loops import OurLoop, Shape, start, time_steps

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.spark.session import start_session
from climb.testing.search_inputs import VOCABULARY, make_search_inputs

SHAPES = {
    "0.3 M": Shape(80, 2, 2, 16, 128, 120, 2_048),
    "3 M": Shape(192, 6, 6, 16, 128, 20, 2_048),
}
QUICK_SHAPES = {name: Shape(16, 2, 2, 4, 16, 2, 100) for name in SHAPES}
REPEATS, QUICK_REPEATS = 9, 2

EAGER_BAR, COMPILED_BAR, OVERHEAD_BAR = 0.9, 1.0, 0.05

DOMAINS, SLOTS = 12, 2
PART_SECONDS, QUICK_PART_SECONDS = 10.0, 0.1
"""Duration of a trial up to the rung of conf/default.yaml, and from there to its end."""

ROUNDS, QUICK_ROUNDS = [96, 16], [4, 2]


def measure_speed(quick: bool) -> Section:
    """Time our loop, our compiled loop and the hand-written one, interleaved."""
    rows, bars = [], []
    for name, shape in (QUICK_SHAPES if quick else SHAPES).items():
        times = _time_loops(shape, QUICK_REPEATS if quick else REPEATS)
        by_hand = times["by hand"]
        ratios = {
            loop: [own / other for own, other in zip(found, by_hand, strict=True)]
            for loop, found in times.items()
        }
        rows += [
            (
                f"{name} ({shape.count_parameters():,} parameters)",
                loop,
                f"{statistics.median(times[loop]):,.0f}",
                f"{statistics.median(own):.2f}",
                f"{min(own):.2f} to {max(own):.2f}",
            )
            for loop, own in ratios.items()
        ]
        eager, compiled = (statistics.median(ratios[x]) for x in ("climb", "climb, compiled"))
        best = max(eager, compiled)
        bars += [
            Bar(f"speed / by hand, {name}", eager, at_least=EAGER_BAR, form=".2f"),
            Bar(f"the same, compiled if faster, {name}", best, at_least=COMPILED_BAR, form=".2f"),
        ]
    return Section(
        "proxy_speed",
        "Proxies: tokens/s on one core",
        f"Training in float32 with one thread, 16 x 128 tokens a step, {REPEATS} interleaved "
        "repeats, medians. By hand: a Llama and its loop in 130 lines, with the same parameters.",
        (Table(("model", "loop", "tokens/s", "ratio", "range"), tuple(rows)),),
        tuple(bars),
    )


def _time_loops(shape: Shape, repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each loop in each repeat."""
    builders: dict[str, Callable[[], Any]] = {
        "by hand": lambda: HandwrittenLoop(shape),
        "climb": lambda: OurLoop(shape, "cpu"),
        "climb, compiled": lambda: OurLoop(shape, "cpu", compile="layers"),
    }
    loops = {name: start(build, "cpu")[0] for name, build in builders.items()}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            times[name].append(time_steps(loop, shape, "cpu"))
    return times


def measure_overhead(quick: bool) -> Section:
    """Time a search whose trials sleep: the rest of its time is not spent in proxies."""
    from climb.jobs import base, search

    seconds = QUICK_PART_SECONDS if quick else PART_SECONDS
    session = start_session(load().spark)
    with tempfile.TemporaryDirectory() as folder:
        cfg = _configure(Path(folder), seconds, QUICK_ROUNDS if quick else ROUNDS)
        store = _fill_store(Store(session, cfg.storage), Path(folder))
        base.run(store, cfg)  # as `climb run` does; trials start from it
        began = time.monotonic()
        search.run(store, cfg)
        total = time.monotonic() - began
        rows = [*store.read_rows(tables.RUNGS), *store.read_rows(tables.TRIALS)]
        trained = {row["trial_id"]: row["seconds"] for row in rows}  # a whole trial's has its rung
    session.stop()
    in_trials = sum(trained.values()) / SLOTS
    share = 1.0 - in_trials / total
    return Section(
        "proxy_overhead",
        "Proxies: time of a search that is not spent in trials",
        f"A whole search through Spark on {SLOTS} cores, with {len(trained)} trials that sleep "
        f"instead of training: {seconds:g} s up to the rung, and {seconds:g} s from there to the "
        f"end if they are not stopped. Rounds ({', '.join(map(str, ROUNDS))}) and rung are those "
        "of conf/default.yaml. The base checkpoint is trained before. The time outside of trials "
        "has the start of tasks, commits, fits, proposals and MLflow.",
        bars=(Bar("share of the time", share, at_most=OVERHEAD_BAR, form=".1%"),),
        notes=(f"The search took {total:,.0f} s; its trials {in_trials:,.0f} s on each core.",),
    )


def _configure(folder: Path, seconds: float, rounds: list[int]) -> Any:
    target = {"name": "quiz", "kind": "choices", "limit": None, "report": None}
    target["search"] = str(folder / "search.jsonl")
    model = {"use": "climb.testing.proxies:PlantedProxy", "noise": 0.01, "sleep_seconds": seconds}
    return load(
        settings=[
            f"storage.root={folder}/out",
            f"count.vocab_size={VOCABULARY}",
            f"proxy.model={json.dumps(model)}",
            f"proxy.targets={json.dumps([target])}",
            f"search.trials_per_round={json.dumps(rounds)}",
            "search.target_tokens=1_000_000",
            f"spark.parallel_trials={SLOTS}",
        ]
    )


def _fill_store(store: Store, folder: Path) -> Store:
    """Write the tables that a search reads: domains of different sizes, shards, a tokenizer."""
    item = {"context": "one", "choices": [" yes", " no"], "label": 0}
    (folder / "search.jsonl").write_text(json.dumps(item) + "\n")
    total = DOMAINS * (DOMAINS + 1) // 2
    shares = {f"domain-{i:02}": (i + 1) / total for i in range(DOMAINS)}
    for table, rows in make_search_inputs(shares).items():
        store.append(store.create_frame(rows, table), table)
    return store
