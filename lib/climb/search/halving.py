"""Successive halving within a round: which trials go on, and what the stopped ones would measure.

A rung is a share of a trial's tokens. At a rung, all active trials of a round are measured, and
those with the best scores go on; the others stop. Up to a rung, a trial is trained with the
learning rates of the whole run. So a trial that goes on to the end equals one without rungs.

A stopped trial has only partial metrics, those at the rung. Their level and range over mixtures
differ from those of whole runs. Trials that went on have partial and final metrics. A straight line
that is fitted to them converts the metrics of stopped trials, and its residuals give the error of
the converted metrics. Which trials go on depends on the partial scores alone. With one metric, this
selection does not bias the line.

Source:
    Successive halving: Karnin, Koren and Somekh (2013); Jamieson and Talwalkar (arXiv 1502.07943).

Axes: T stopped trials, P trials with partial and final metrics, Q metrics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.search.trials import STD_PER_TV_DISTANCE, Trials

Array = NDArray[np.float64]

MIN_PAIRS = 4
"""If fewer trials have partial and final metrics, only a shift is fitted, and the slope is 1."""

_ROUNDING = 1e-9
"""The product of a share and a number of trials is rounded up. It is rounded down only if
it exceeds a whole number by at most this value."""


def select_survivors(score_by_trial: Mapping[str, float], keep: float) -> frozenset[str]:
    """Choose the trials with the highest scores; equal scores are ordered by trial id.

    Args:
        score_by_trial: trial id -> score at the rung, of all trials that were measured there.
        keep: share of these trials, rounded up to a whole number; at least one trial goes on.
    """
    n_kept = _count_survivors(len(score_by_trial), keep)
    order = sorted(score_by_trial, key=lambda trial_id: (-score_by_trial[trial_id], trial_id))
    return frozenset(order[:n_kept])


def find_stopped(
    entered: Collection[str],
    keep: Sequence[float],
    score: Callable[[int, frozenset[str]], Mapping[str, float]],
) -> dict[str, int]:
    """Find the stopped trials of a round: trial id -> index of the rung at which it was stopped.

    Args:
        entered: ids of the trials that compete, without replicates of baselines.
        keep: for each rung, the share of its trials that go on.
        score: index of a rung and ids of the trials that reached it -> scores there. A trial that
            failed before a rung has no score: it never goes on, and is not counted in the share.
    """
    stopped: dict[str, int] = {}
    active = frozenset(entered)
    for rung, share in enumerate(keep):
        score_by_trial = score(rung, active)
        active = select_survivors(score_by_trial, share)
        stopped |= dict.fromkeys(sorted(score_by_trial.keys() - active), rung)
    return stopped


def count_full_trials(n_trials: int, rungs: Sequence[tuple[float, float]]) -> float:
    """Return the tokens of a round, in units of a whole trial, if no trial fails.

    Args:
        n_trials: trials that compete.
        rungs: for each rung, its share of the tokens, and the share of its trials that go on.
    """
    total, n_active, before = 0.0, n_trials, 0.0
    for share, keep in rungs:
        total += n_active * (share - before)
        n_active, before = _count_survivors(n_active, keep), share
    return total + n_active * (1.0 - before)


def predict_final_metrics(
    stopped: Trials, partial: Trials, final: Trials, columns: Sequence[int]
) -> Trials:
    """Convert the partial metrics of stopped trials to those of whole runs.

    Args:
        stopped: trials that were stopped at one rung, with their metrics there.
        partial: trials that went on, with their metrics at the same rung.
        final: the same trials in the same order, with their metrics at the end.
        columns: metrics of the objective; their conversion errors are stored in `tv_distance_T`, so
            that a predictor gives a stopped trial less weight.

    Raises:
        SearchError: no trial has partial and final metrics.
    """
    if not len(partial):
        raise SearchError(
            f"{len(stopped)} trials were stopped, and none of the trials that went on has "
            "finished, so nothing shows what a whole run would measure; raise `keep` in "
            "search.halving"
        )
    metrics_TQ, std_TQ = _fit_lines(stopped.metrics_TQ, partial.metrics_TQ, final.metrics_TQ)
    scale_Q = np.std(np.vstack([final.metrics_TQ, metrics_TQ]), axis=0)
    share_TQ = np.divide(std_TQ, scale_Q, out=np.ones_like(std_TQ), where=scale_Q > 0.0)
    share_T = np.sqrt(np.square(np.minimum(share_TQ[:, list(columns)], 1.0)).mean(axis=1))
    return dataclasses.replace(
        stopped, metrics_TQ=metrics_TQ, tv_distance_T=share_T / STD_PER_TV_DISTANCE
    )


def _count_survivors(n_trials: int, keep: float) -> int:
    return max(1, math.ceil(keep * n_trials - _ROUNDING))


def _fit_lines(new_TQ: Array, partial_PQ: Array, final_PQ: Array) -> tuple[Array, Array]:
    """Fit final = level + slope * partial per metric; return predictions and their errors' std.

    The std is that of a new observation. It includes the residuals of the fit, and the uncertainty
    of level and slope.
    """
    n = len(partial_PQ)
    x_PQ, y_PQ = partial_PQ - partial_PQ.mean(axis=0), final_PQ - final_PQ.mean(axis=0)
    # einsum adds in a fixed order, so the same trials always give exactly the same line.
    sum_Q = np.einsum("pq,pq->q", x_PQ, x_PQ)
    slope_Q, n_fitted = np.ones(len(sum_Q)), 1
    if n >= MIN_PAIRS:
        product_Q = np.einsum("pq,pq->q", x_PQ, y_PQ)
        slope_Q, n_fitted = np.divide(product_Q, sum_Q, out=slope_Q, where=sum_Q > 0.0), 2
    residual_PQ = y_PQ - slope_Q * x_PQ
    var_Q = np.full(len(sum_Q), np.inf)  # a single pair shows no residual
    if n > n_fitted:
        var_Q = np.einsum("pq,pq->q", residual_PQ, residual_PQ) / (n - n_fitted)
    x_TQ = new_TQ - partial_PQ.mean(axis=0)
    distance_TQ = np.zeros_like(x_TQ)
    if n_fitted == 2:
        np.divide(np.square(x_TQ), sum_Q, out=distance_TQ, where=sum_Q > 0.0)
    std_TQ = np.sqrt(var_Q * (1.0 + 1.0 / n + distance_TQ))
    return final_PQ.mean(axis=0) + slope_Q * x_TQ, std_TQ
