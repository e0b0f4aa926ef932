"""Halving on curves that exist: choose who goes on, fit, and return the best predicted mixture.

Axes: T trials of a round, K domains, Q metrics, C candidates.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shared import shared_data

from climb.config import build
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Surrogate, Trials
from climb.search.halving import find_stopped, predict_final_metrics

Array = NDArray[np.float64]

DEFAULT = {"use": "climb.predictor.default:DefaultPredictor"}


@dataclass(frozen=True)
class Policy:
    """Rungs as shares of the tokens, and the share of trials that each one keeps."""

    rungs: tuple[float, ...] = ()
    keep: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Return the name in tables."""
        parts = [f"{k:.0%} at {r:.0%}" for r, k in zip(self.rungs, self.keep, strict=True)]
        return f"keep {', '.join(parts)}" if parts else "all trials in full"


@dataclass(frozen=True, eq=False)
class Curves:
    """Mixtures with their metrics at every checkpoint; the last checkpoint has share 1."""

    domains: tuple[str, ...]
    metric_names: tuple[str, ...]
    weights_TK: Array
    metrics_by_share: dict[float, Array]
    """Share of the tokens -> metrics, shape (T, Q)."""

    def make_trials(self, share: float, rows: NDArray[np.int64]) -> Trials:
        """Make trials of rows, in the order of the rows."""
        n = len(rows)
        return Trials(
            self.domains,
            self.weights_TK[rows],
            self.metric_names,
            self.metrics_by_share[share][rows],
            np.zeros(n, dtype=np.int64),
            ("proposal",) * n,
            np.zeros(n, dtype=np.int64),
            np.zeros(n),
        )


def load_multisize() -> dict[str, Curves]:
    """Load the published curves: size -> mixtures that have all checkpoints."""
    with next((shared_data() / "multisize").glob("*.csv")).open() as file:
        rows = list(csv.DictReader(file))
    weights = tuple(name for name in rows[0] if name.startswith("weight_"))
    metrics = tuple(name for name in rows[0] if name.endswith("_loss"))
    found: dict[str, dict[tuple[float, ...], dict[float, list[float]]]] = defaultdict(dict)
    for row in rows:
        values = [float(row[name] or "nan") for name in metrics]
        mixture = tuple(float(row[name]) for name in weights)
        by_tokens = found[row["model_size"]].setdefault(mixture, {})
        by_tokens[float(row["n_tokens"])] = values
    curves = {}
    for size, runs in found.items():
        tokens = sorted({t for run in runs.values() for t in run})
        table_MSQ = np.array(
            [[run.get(t, [np.nan] * len(metrics)) for t in tokens] for run in runs.values()]
        )
        whole_M = np.isfinite(table_MSQ).all(axis=(1, 2))
        weights_MK = np.array(list(runs))[whole_M]
        curves[f"{float(size) / 1e6:.0f}M"] = Curves(
            weights,
            metrics,
            weights_MK / weights_MK.sum(axis=1, keepdims=True),
            {round(t / tokens[-1], 3): table_MSQ[whole_M, s] for s, t in enumerate(tokens)},
        )
    return curves


def fit_round(
    curves: Curves, rows: NDArray[np.int64], policy: Policy, objective: Objective
) -> tuple[Surrogate, float]:
    """Train a round by replaying curves, and fit the surrogate.

    Returns:
        The surrogate, and the tokens of the round as a share of those of all trials in full.
    """
    ids = [f"{row:06d}" for row in rows]
    score_by_share = {
        share: dict(zip(ids, objective.score(table[rows]).tolist(), strict=True))
        for share, table in curves.metrics_by_share.items()
    }

    def score(rung: int, active: frozenset[str]) -> dict[str, float]:
        return {name: score_by_share[policy.rungs[rung]][name] for name in active}

    stopped = find_stopped(ids, policy.keep, score)
    final = rows[[name not in stopped for name in ids]]
    trials = curves.make_trials(1.0, final)
    spent, parts = float(len(final)), []
    for rung, share in enumerate(policy.rungs):
        here = rows[[stopped.get(name) == rung for name in ids]]
        spent += share * len(here)
        if len(here):
            partial, whole = curves.make_trials(share, final), curves.make_trials(1.0, final)
            at_rung = curves.make_trials(share, here)
            columns = objective.weighted_columns
            parts.append(predict_final_metrics(at_rung, partial, whole, columns))
    predictor: Predictor = build(DEFAULT, Predictor)
    surrogate = Surrogate.fit(trials.concatenate(parts), objective, predictor)
    return surrogate, spent / len(rows)
