"""Rounds with successive halving, replayed on curves of trials that exist.

Axes: T trials, K domains, Q metrics.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shared import shared_data

from climb.objective import Objective
from climb.search import Trials
from climb.search.halving import count_full_trials, find_stopped, predict_final_metrics
from climb.search.trials import PROPOSAL

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Policy:
    """A number of trials, and the rungs: share of the tokens, and share of trials that go on."""

    n_trials: int
    rungs: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        """Return the name in tables."""
        parts = [f"{keep:.0%} go on at {share:.0%}" for share, keep in self.rungs]
        return f"{self.n_trials} trials, {', '.join(parts) or 'all in full'}"

    @property
    def cost(self) -> float:
        """Tokens of the round, in those of a whole trial."""
        return count_full_trials(self.n_trials, self.rungs)


@dataclass(frozen=True, eq=False)
class Curves:
    """Trials with their metrics at every checkpoint; the last checkpoint has share 1."""

    domains: tuple[str, ...]
    metric_names: tuple[str, ...]
    weights_TK: Array
    methods_T: tuple[str, ...]
    seeds_T: Rows
    metrics_by_share: dict[float, Array]
    """Share of the tokens -> metrics, shape (T, Q)."""

    def select(self, share: float, rows: Rows) -> Trials:
        """Return trials in the order of the rows, with their metrics at a share of the tokens."""
        n = len(rows)
        return Trials(
            self.domains,
            self.weights_TK[rows],
            self.metric_names,
            self.metrics_by_share[share][rows],
            np.zeros(n, dtype=np.int64),
            tuple(self.methods_T[row] for row in rows),
            self.seeds_T[rows],
            np.zeros(n),
        )


def replay_round(
    curves: Curves, rows: Sequence[int], policy: Policy, objective: Objective
) -> Trials:
    """Return what a search knows after a round with this policy.

    Args:
        curves: all trials.
        rows: trials of the round, in the order in which a smaller round takes them. Those that are
            no proposals are trained in full.
        policy: its first `n_trials` proposals compete.
        objective: scores the trials at rungs.
    """
    competing = [row for row in rows if curves.methods_T[row] == PROPOSAL][: policy.n_trials]
    others = [row for row in rows if curves.methods_T[row] != PROPOSAL]
    ids = {f"{row:06d}": row for row in competing}

    def score(rung: int, active: frozenset[str]) -> dict[str, float]:
        metrics_TQ = curves.metrics_by_share[policy.rungs[rung][0]]
        return {name: float(objective.score(metrics_TQ[ids[name]])) for name in sorted(active)}

    stopped = find_stopped(ids, [keep for _, keep in policy.rungs], score)
    final = np.array(others + [row for name, row in ids.items() if name not in stopped])
    trials, parts = curves.select(1.0, final), []
    for rung in sorted(set(stopped.values())):
        share = policy.rungs[rung][0]
        here = np.array([row for name, row in ids.items() if stopped.get(name) == rung])
        at_rung, partial = curves.select(share, here), curves.select(share, final)
        columns = objective.weighted_columns
        parts.append(predict_final_metrics(at_rung, partial, trials, columns))
    return trials.concatenate(parts)


def load_multisize() -> dict[str, Curves]:
    """Load the published curves: model size -> mixtures that have all checkpoints."""
    with next((shared_data() / "multisize").glob("*.csv")).open() as file:
        rows = list(csv.DictReader(file))
    weights = tuple(name for name in rows[0] if name.startswith("weight_"))
    metrics = tuple(name for name in rows[0] if name.endswith("_loss"))
    found: dict[str, dict[tuple[float, ...], dict[float, list[float]]]] = defaultdict(dict)
    for row in rows:
        mixture = tuple(float(row[name]) for name in weights)
        values = [float(row[name] or "nan") for name in metrics]
        found[row["model_size"]].setdefault(mixture, {})[float(row["n_tokens"])] = values
    return {
        f"{float(size) / 1e6:.0f}M": _build(runs, weights, metrics) for size, runs in found.items()
    }


def _build(
    runs: dict[tuple[float, ...], dict[float, list[float]]],
    weights: tuple[str, ...],
    metrics: tuple[str, ...],
) -> Curves:
    tokens = sorted({t for run in runs.values() for t in run})
    table_TSQ = np.array(
        [[run.get(t, [np.nan] * len(metrics)) for t in tokens] for run in runs.values()]
    )
    whole_T = np.isfinite(table_TSQ).all(axis=(1, 2))
    weights_TK = np.array(list(runs))[whole_T]
    n = len(weights_TK)
    return Curves(
        tuple(name.removeprefix("weight_") for name in weights),
        metrics,
        weights_TK / weights_TK.sum(axis=1, keepdims=True),
        (PROPOSAL,) * n,
        np.zeros(n, dtype=np.int64),
        {round(t / tokens[-1], 1): table_TSQ[whole_T, s] for s, t in enumerate(tokens)},
    )
