"""Borrow sets of runs from other people or other models, if they help to predict the own runs.

The runs of such a set can have the same domains as the own runs, but their metrics have another
level, and they may mislead the predictor. So every metric of a set is shifted to the level of the
own runs. And every set gets one noise: the assumed standard deviation of the errors of its runs, as
a share of the metric's standard deviation over mixtures. Several noises are tried, and the one with
the lowest error on held-out own runs is chosen. A set that does not clearly lower this error is not
used.

Axes: T runs, K domains, Q metrics, D distinct own mixtures.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.surrogate import MIN_MIXTURES, Surrogate
from climb.search.trials import REUSED, STD_PER_TV_DISTANCE, Trials

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

NOISES = (0.1, 0.3, 1.0)
"""Values that are tried for the noise of a set."""


@dataclass(frozen=True)
class BorrowedSet:
    """What a search did with one set of other runs."""

    name: str
    n_runs: int
    """Number of runs of the set that are kept: enough of their text is in domains of own runs."""

    n_dropped: int
    """Number of runs that are dropped, because too much of their text is in domains that the own
    runs lack."""

    noise: float | None
    """Assumed standard deviation of the errors of the set's runs, as a share of the metric's
    standard deviation over mixtures; None: the set is not used."""

    error_change: float
    """Relative change of the squared error on held-out own runs if the set is used, with the best
    noise."""

    def __str__(self) -> str:
        """Return what was done with this set, as part of the notes that a command prints."""
        runs = f"{self.name}: {self.n_runs} runs"
        if self.n_dropped:
            runs += f" ({self.n_dropped} more dropped: too much weight on other domains)"
        if not self.n_runs:
            return f"{runs}, not used"
        change = f"the squared error on held-out own runs by {self.error_change:+.0%}"
        if self.noise is None:
            return (
                f"{runs}, not used: at best, they change {change}, which is not a clear improvement"
            )
        return f"{runs}, used with a noise of {self.noise:g}: they change {change}"


def match_domains(
    own: Trials, other: Trials, name: str, min_kept: float
) -> tuple[Trials, BorrowedSet]:
    """Map runs of another set to the domains and metrics of the own runs, by name.

    Domains that the other set lacks get weight 0. A run may have weight on domains that the own
    runs lack. This weight is distributed over the domains that both sets have, and its amount is
    stored as the `tv_distance` of the run.

    Args:
        own: the own runs.
        other: the other runs.
        name: of the other set, for messages.
        min_kept: runs whose total weight in the own domains is smaller are dropped.

    Raises:
        SearchError: the other set has no domain of the own runs, or lacks a metric of the own runs.
    """
    known = _find_common_domains(own, other, name)
    part_TK = other.weights_TK[:, [other.domains.index(domain) for domain in known]]
    kept_T = part_TK.sum(axis=1)
    keep_T = kept_T >= max(min_kept, 1e-6)
    weights_TK = np.zeros((int(keep_T.sum()), len(own.domains)))
    weights_TK[:, [own.domains.index(k) for k in known]] = part_TK[keep_T] / kept_T[keep_T, None]
    metrics_TQ = other.metrics_TQ[:, [other.metric_names.index(m) for m in own.metric_names]]
    matched = dataclasses.replace(
        other.select(keep_T),
        domains=own.domains,
        weights_TK=weights_TK,
        metric_names=own.metric_names,
        metrics_TQ=metrics_TQ[keep_T],
        tv_distance_T=np.maximum(1.0 - kept_T[keep_T], 0.0),
        methods_T=(REUSED,) * len(weights_TK),
        rounds_T=np.full(len(weights_TK), -1),
        # The other runs read other text, so it is unknown how often they repeated it.
        tokens_T=None,
    )
    return matched, BorrowedSet(name, len(matched), len(other) - len(matched), None, 0.0)


def _find_common_domains(own: Trials, other: Trials, name: str) -> list[str]:
    if missing := sorted(set(own.metric_names) - set(other.metric_names)):
        remedy = "leave this file out, or remove the metric from your runs"
        raise SearchError(
            f"{name}: its runs lack metric {missing[0]!r}, which your runs have; {remedy}"
        )
    # Sorted, because the rounding of a sum over these columns depends on their order.
    known = sorted(set(own.domains) & set(other.domains))
    if not known:
        found = f"no domain of your runs, such as {own.domains[0]!r}"
        raise SearchError(f"{name}: its runs have {found}; leave this file out")
    return known


def borrow(
    own: Trials,
    others: Sequence[tuple[Trials, BorrowedSet]],
    objective: Objective,
    predictor: Predictor,
    seed: int,
) -> tuple[Trials, tuple[BorrowedSet, ...]]:
    """Test the other sets one after the other; a set that reduces the error joins the own runs.

    Args:
        own: the own runs.
        others: for each set, what `match_domains` returned.
        objective: its metrics are predicted.
        predictor: fitted with and without each set.
        seed: of the folds.

    Returns:
        Own and borrowed runs, and what was done with each set.

    Raises:
        SearchError: fewer than 4 distinct own mixtures.
    """
    _check_mixtures(own)
    # Domains are sorted, so that their order in the files does not change the folds and the result.
    order_K = np.argsort(own.domains)
    in_order = combined = own.reorder_domains(order_K)
    done, errors_D = [], _measure_errors(in_order, objective, predictor, seed)
    for trials, borrowed in others:
        if len(trials):
            logger.info("testing whether the runs of %s help", borrowed.name)
            shifted = _shift(in_order, trials.reorder_domains(order_K), objective, predictor)
            candidates = [combined.concatenate([_add_noise(shifted, noise)]) for noise in NOISES]
            found = [_measure_errors(one, objective, predictor, seed) for one in candidates]
            best = int(np.mean(found, axis=1).argmin())
            borrowed, is_used = _judge(borrowed, errors_D, found[best], NOISES[best])
            if is_used:
                errors_D, combined = found[best], candidates[best]
        done.append(borrowed)
    back = own if combined is in_order else combined.reorder_domains(np.argsort(order_K))
    return back, tuple(done)


def _check_mixtures(own: Trials) -> None:
    """Raise a SearchError if the own runs are too few to judge other sets."""
    if (n_own := own.group_replicates().n_mixtures) < MIN_MIXTURES:
        text = f"the own runs have {n_own} distinct mixtures, but a test of other sets needs"
        raise SearchError(
            f"{text} {MIN_MIXTURES} or more: add runs to the first file, or remove the other files"
        )


def _judge(
    borrowed: BorrowedSet, before_D: Array, after_D: Array, noise: float
) -> tuple[BorrowedSet, bool]:
    """Use a set if it lowers the error by more than the standard error of the change."""
    change_D = after_D - before_D
    relative = float(change_D.mean() / before_D.mean()) if before_D.any() else 0.0
    is_used = bool(change_D.mean() < -change_D.std(ddof=1) / np.sqrt(len(change_D)))
    used = noise if is_used else None
    return dataclasses.replace(borrowed, error_change=relative, noise=used), is_used


def _measure_errors(trials: Trials, objective: Objective, predictor: Predictor, seed: int) -> Array:
    """Return the squared error of each held-out own mixture, shape (D,).

    It is the mean of two parts. The first part is the squared error of the score, divided by the
    variance of the score over own mixtures. For the second part, the squared error of each metric
    is divided by the variance of this metric, and the results are averaged over the metrics.
    """
    surrogate = Surrogate.fit(trials, objective, predictor)
    own_D = surrogate.replicates.tv_distance_D == 0.0
    measured_DQ = surrogate.replicates.means_DQ[own_D]
    error_DQ = surrogate.predict_held_out(predictor, seed)[0][own_D] - measured_DQ
    var_Q, score_var = measured_DQ.var(axis=0), float((measured_DQ @ surrogate.weights_Q).var())
    metrics_D = (np.square(error_DQ) / np.where(var_Q > 0.0, var_Q, 1.0)).mean(axis=1)
    score_D = np.square(error_DQ @ surrogate.weights_Q) / (score_var or 1.0)
    return np.asarray(0.5 * (metrics_D + score_D))


def _average_replicates(other: Trials) -> Trials:
    """Return one run per mixture, so that only replicates of own runs determine the seed noise."""
    found = other.group_replicates()
    n = len(found.counts_D)
    return dataclasses.replace(
        other,
        weights_TK=found.weights_DK,
        metrics_TQ=found.means_DQ,
        rounds_T=np.full(n, -1),
        methods_T=(REUSED,) * n,
        seeds_T=np.zeros(n, dtype=np.int64),
        tv_distance_T=found.tv_distance_D,
        tokens_T=None,
        scale_distance_T=found.scale_distance_D if other.scale_distance_T is not None else None,
    )


def _shift(own: Trials, other: Trials, objective: Objective, predictor: Predictor) -> Trials:
    """Average the replicates of the other runs, and shift each metric to the level of the own runs.

    A surrogate is fitted to the own runs, and predicts the metrics of the other runs. The shift of
    a metric is the mean difference between its measured and predicted values.
    """
    other = _average_replicates(other)
    surrogate = Surrogate.fit(own, objective, predictor)
    used = list(objective.weighted_columns)
    metrics_TQ = other.metrics_TQ.copy()
    predicted_TQ = surrogate.predict_means(other.weights_TK)
    metrics_TQ[:, used] -= (metrics_TQ[:, used] - predicted_TQ).mean(axis=0)
    return dataclasses.replace(other, metrics_TQ=metrics_TQ)


def _add_noise(other: Trials, noise: float) -> Trials:
    """Include the noise in `tv_distance_T`, the field from which a fit computes the runs' errors.

    A fit multiplies this field by `STD_PER_TV_DISTANCE`, and the result is an error in standard
    deviations of the metric. The noise has this unit already, so it is divided by the same number.
    """
    least = noise / STD_PER_TV_DISTANCE
    return dataclasses.replace(other, tv_distance_T=np.hypot(other.tv_distance_T, least))
