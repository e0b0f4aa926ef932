"""The penalized score, which a search maximizes, and functions that select a set of mixtures.

Axes: M mixtures, N candidates, T finished trials, D distinct mixtures of these trials, K domains,
Q metrics of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet
from climb.search.surrogate import Surrogate

Array = NDArray[np.float64]

MIN_DISTANCE = 1e-3
"""Minimum distance between two mixtures of a round: the Euclidean distance between the square roots
of their weights. Nearer mixtures add no information."""

INFEASIBLE = 1e200
"""A mixture that violates an outcome constraint has the score -INFEASIBLE * (1 + violation). This
score is below those of all mixtures that satisfy the outcome constraints. The constant is so large
because a score has the unit of the metrics: a metric that is a sum over a corpus may be far above
1e9."""

_ROUNDING = 1e-9
"""Relative rounding error of a prediction. If the same mixture is predicted twice, in arrays with
different numbers of mixtures, the two predictions may differ by this share."""

_MIN_INCREASE = 1e-8
"""Two scores are tied if they differ by less than this. The unit is the standard deviation of the
score over the trials' mixtures."""


@dataclass(frozen=True, eq=False)
class PenalizedScore:
    """The predicted score minus the KL penalty, with outcome constraints: (M, K) -> (M,)."""

    surrogate: Surrogate
    space: FeasibleSet
    min_metrics_Q: Array | None
    """Lower bound of sign * metric, with the sign of the metric's weight; None: no constraint."""

    @classmethod
    def build(cls, surrogate: Surrogate, space: FeasibleSet, max_drop: float | None) -> Self:
        """Add the outcome constraint of `search.max_drop` to a fitted surrogate.

        No metric may be predicted worse than at the natural mixture by more than `max_drop`. The
        natural mixture satisfies this constraint by definition, so the constraint never excludes
        all mixtures.
        """
        min_metrics_Q = None
        if max_drop is not None:
            natural_Q = surrogate.predict_means(space.project(space.natural_K)[None])[0]
            min_metrics_Q = natural_Q * np.sign(surrogate.weights_Q) - max_drop
            # A mean near 0 may be a sum of larger terms; its rounding error is that of the terms.
            std_Q = surrogate.predict_means(surrogate.replicates.weights_DK).std(axis=0)
            min_metrics_Q -= _ROUNDING * np.maximum(np.abs(natural_Q), std_Q)
        return cls(surrogate, space, min_metrics_Q)

    def __call__(self, weights_MK: Array) -> Array:
        """Return the penalized score of each mixture, shape (M,)."""
        score_M, slack_MQ = self.evaluate(weights_MK)
        violation_M = np.maximum(-slack_MQ, 0.0).sum(axis=1)
        return np.where(violation_M > 0.0, -INFEASIBLE * (1.0 + violation_M), score_M)

    def evaluate(self, weights_MK: Array) -> tuple[Array, Array]:
        """Return the score without outcome constraints (M,), and the constraints' slacks (M, Q).

        A negative slack violates the outcome constraint; without constraints all slacks are 0.
        """
        means_MQ = self.surrogate.predict_means(weights_MK)
        score_M: Array = means_MQ @ self.surrogate.weights_Q - self.space.penalty(weights_MK)
        if self.min_metrics_Q is None:
            return score_M, np.zeros_like(means_MQ)
        return score_M, means_MQ * np.sign(self.surrogate.weights_Q) - self.min_metrics_Q

    @cached_property
    def metric_stds_Q(self) -> Array:
        """Standard deviation of each predicted metric over the trials' mixtures; 1 if it is 0."""
        std_Q = self._means_DQ.std(axis=0)
        return np.where(std_Q > 0.0, std_Q, 1.0)

    @cached_property
    def score_std(self) -> float:
        """Standard deviation of the score over the trials' mixtures; 0 if it is only rounding."""
        score_D = self._means_DQ @ self.surrogate.weights_Q
        std = float(score_D.std())
        return std if std > _ROUNDING * float(np.abs(score_D).max()) else 0.0

    @property
    def min_increase(self) -> float:
        """Smallest difference of scores that is not a tie; smaller ones may be rounding errors."""
        return _MIN_INCREASE * self.score_std

    @cached_property
    def _means_DQ(self) -> Array:
        return self.surrogate.predict_means(self.surrogate.replicates.weights_DK)


def select_distant(drawn_NK: Array, existing_MK: Array, n: int) -> NDArray[np.int64]:
    """Select up to n draws that are far from each other and from existing mixtures.

    Each step selects the draw that is farthest from all existing and selected mixtures. Distances
    are Euclidean, between the square roots of weights. So a difference between two small weights
    counts more than the same difference between two large weights.

    Returns:
        Indices into `drawn_NK`, in the order of selection. There are fewer than n if every draw
        that is left is nearer than `MIN_DISTANCE` to an existing or selected mixture.
    """
    roots_NK = np.sqrt(drawn_NK)
    distance_N = np.full(len(drawn_NK), np.inf)
    for existing_K in np.sqrt(existing_MK):
        distance_N = np.minimum(distance_N, np.square(roots_NK - existing_K).sum(axis=1))
    selected: list[int] = []
    while len(selected) < n and distance_N.max() > MIN_DISTANCE**2:
        selected.append(int(distance_N.argmax()))
        last_N = np.square(roots_NK - roots_NK[selected[-1]]).sum(axis=1)
        distance_N = np.minimum(distance_N, last_N)
    return np.array(selected, dtype=np.int64)


def select_batch(
    pool_NK: Array, mean_N: Array, std_N: Array, existing_TK: Array, n: int
) -> NDArray[np.int64]:
    """Select a batch of up to n candidates by upper confidence bounds with diversity.

    The candidate with the highest mean is selected first, unless it is near the mixture of an
    existing trial. Each further selected candidate has the highest mean + std. The std shrinks near
    a selected candidate, because a trial there would add the same information as the selected
    candidate.

    Returns:
        Indices into `pool_NK`, in the order of selection.
    """
    roots_NK = np.sqrt(pool_NK)
    nearest_N = np.full(len(pool_NK), np.inf)
    for existing_K in np.sqrt(existing_TK):
        nearest_N = np.minimum(nearest_N, np.square(roots_NK - existing_K).sum(axis=1))
    length_scale = max(float(np.median(nearest_N)), MIN_DISTANCE**2)
    shrinkage_N = np.ones(len(pool_NK))
    selected: list[int] = []

    def select(index: int) -> None:
        nonlocal nearest_N, shrinkage_N
        selected.append(index)
        off_N = np.square(roots_NK - roots_NK[index]).sum(axis=1)
        nearest_N = np.minimum(nearest_N, off_N)
        shrinkage_N = shrinkage_N * (1.0 - np.exp(-off_N / length_scale))

    if nearest_N[mean_N.argmax()] > MIN_DISTANCE**2:
        select(int(mean_N.argmax()))
    while len(selected) < n:
        bound_N = np.where(nearest_N > MIN_DISTANCE**2, mean_N + std_N * shrinkage_N, -np.inf)
        if not np.isfinite(bound_N.max()):
            break
        select(int(bound_N.argmax()))
    return np.array(selected, dtype=np.int64)
