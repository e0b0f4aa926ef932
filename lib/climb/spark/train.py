"""Test the answer: a larger model on found, natural and uniform mixtures, several seeds each."""

from __future__ import annotations

from typing import Any

from climb import tables
from climb.config import Config
from climb.progress import bar, say
from climb.spark.bench import Bench, ensure_base
from climb.spark.session import parallel_slots
from climb.spark.store import Store
from climb.spark.trials import Outcome, train_all


def train_mixtures(store: Store, cfg: Config, bench: Bench) -> tuple[int, int, int]:
    """Train every mixture of the search with every seed, unless it is recorded.

    Returns:
        How many models were trained now, how many were not because they failed, and how many
        were known. Those that failed are tried again at the next start.
    """
    planned: dict[str, tuple[str, dict[str, float], int]] = {}
    mixtures = store.rows(tables.MIXTURES, search=cfg.search.name)
    for seed in range(cfg.train.seeds):  # seeds outside: a run cut short leaves whole comparisons
        for row in mixtures:
            weights = row["weights"]
            planned[bench.name(weights, seed)] = (row["method"], weights, seed)
    known: set[str] = set()
    if store.exists(tables.EVALUATIONS):
        known = {row["model"] for row in store.rows(tables.EVALUATIONS)}
    todo = {name: plan for name, plan in planned.items() if name not in known}
    n_failed = 0
    if todo:
        slots = parallel_slots(store.session, cfg.spark.parallel_trials)
        ensure_base(store, bench)
        runs = [(name, bench.run(weights, seed)) for name, (_, weights, seed) in todo.items()]
        outcomes = train_all(store.session, bench.proxy, runs, slots)
        # As in the search: models whose rows somebody deleted are written again.
        start = store.version(tables.EVALUATIONS)
        for outcome in bar(outcomes, len(runs), "train", "model"):
            method, _, seed = todo[outcome.name]
            if outcome.status != "finished":
                n_failed += 1
                say("train", f"{method} seed {seed} {outcome.status}: {outcome.error}")
            else:
                rows = evaluation_rows(outcome, method, seed, bench.n_tokens)
                once = f"{outcome.name}:{start}"
                frame = store.frame(rows, tables.EVALUATIONS)
                store.append(frame, tables.EVALUATIONS, once=once)
    return len(todo) - n_failed, n_failed, len(planned) - len(todo)


def evaluation_rows(
    outcome: Outcome, method: str, seed: int, n_tokens: int
) -> list[dict[str, Any]]:
    """A model's rows of `evaluations`, one a metric."""
    return [
        {
            "model": outcome.name,
            "method": method,
            "seed": seed,
            "metric": metric,
            "value": value,
            "n_tokens": n_tokens,
            "seconds": outcome.seconds,
        }
        for metric, value in sorted(outcome.metrics.items())
    ]
