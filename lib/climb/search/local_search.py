"""Move a mixture to the local optimum near it: a smooth optimizer, then changes of single domains.

A pattern search ends near an optimum, at a mixture that depends on the path of the search. The
local search of this module continues from there to the local optimum, which does not depend on the
path. If the surrogate has no gradient (trees), only changes of single domains can increase the
score.

Axes: A domains that vary, K domains, Q metrics of the objective, N mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from climb.search.acquisition import INFEASIBLE, PenalizedScore

Array = NDArray[np.float64]

_MAX_ROUNDS = 6
"""Maximum number of rounds; a round is a run of the optimizer, then a change of domains."""

_MAX_ITERATIONS = 50
"""Maximum number of steps of one run of the optimizer."""

_CONVERGED = 1e-4
"""A threshold for increases of the score. Its unit is the standard deviation of the score over the
trials' mixtures. If the changes of single domains in a round increase the score by at most this
much, the round is the last. Only single changes that increase it by more are combined with
others."""

_TOLERANCE = 1e-9
"""The optimizer stops if the score changes by less than this number of standard deviations."""

_MAX_VARIED = 128
"""The optimizer varies at most this many domains, those with the largest weights. Its cost grows
with the cube of their number."""

_STEP = 1e-4
"""Step of a finite difference, in the logarithm of a weight."""

_MIN_WEIGHT = 1e-6
"""Lower bound of a weight in the optimizer. The changes of single domains also try weight 0."""

_MARGIN = 1e-6
"""Slack that the optimizer keeps to an outcome constraint, in the metric's standard deviations."""

_ENTRY_WEIGHTS = (1e-3, 1e-2)
"""Weights that are tried for a domain of weight 0, in addition to the smallest allowed weight."""

_JOINT_CHANGES = (2, 4, 8, 16, 32)
"""For each of these numbers n, the n best single changes are tried together. A single change is
left out if it does not increase the score when it is the only change."""


def search_locally(start_K: Array, score: PenalizedScore) -> tuple[Array, float]:
    """Increase the score to a local optimum; it never decreases.

    Args:
        start_K: a feasible mixture.
        score: what to maximize; the mixture stays in its feasible set.

    Returns:
        The mixture reached (K,), and its score. A start that violates an outcome constraint is
        returned as it is.
    """
    current_K, value = start_K, float(score(start_K[None])[0])
    if score.score_std == 0.0 or value <= -INFEASIBLE:
        return current_K, value
    for _ in range(_MAX_ROUNDS):
        smooth_NK = _optimize_smooth(current_K, score)
        current_K, smooth = _take_best(current_K, value, smooth_NK, score)
        changed_NK = _change_domains(current_K, smooth, score)
        current_K, value = _take_best(current_K, smooth, changed_NK, score)
        if value - smooth <= _CONVERGED * score.score_std:
            break
    return current_K, value


def _take_best(
    current_K: Array, value: float, tried_NK: Array, score: PenalizedScore
) -> tuple[Array, float]:
    """Return the best of the tried mixtures; the current one if none gains more than rounding."""
    score_N = score(tried_NK)
    best = int(score_N.argmax())
    if score_N[best] > value + score.min_increase:
        return tried_NK[best], float(score_N[best])
    return current_K, value


def _optimize_smooth(current_K: Array, score: PenalizedScore) -> Array:
    """Optimize the positive weights, and return the optimum and mixtures on the way, (N, K)."""
    varied = np.argsort(-current_K, kind="stable")[:_MAX_VARIED]
    varied = np.sort(varied[current_K[varied] > 0.0])
    if len(varied) < 2:
        return current_K[None]
    problem = _SmoothProblem(current_K, varied, score)
    found = minimize(
        problem.cost,
        np.log(current_K[varied]),
        jac=problem.gradient,
        method="SLSQP",
        bounds=problem.make_bounds(),
        constraints=problem.make_constraints(),
        options={"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE},
    ).x
    if not np.isfinite(found).all():
        return current_K[None]
    optimum_K = problem.to_mixtures(found[None])[0]
    # The optimum may slightly violate an outcome constraint. Mixtures on the way may satisfy it.
    part_N1 = np.array([1.0, 0.999, 0.99, 0.9, 0.5])[:, None]
    return score.space.project(current_K + part_N1 * (optimum_K - current_K))


def _change_domains(current_K: Array, value: float, score: PenalizedScore) -> Array:
    """Remove or add domains, and return the changed mixtures, (N, K).

    The first one has the best change of a single domain. The others have joint changes, one for
    each number in `_JOINT_CHANGES`.
    """
    bounds = score.space.bounds.support_bounds
    # The only domain of a mixture cannot be removed. It is recognized by the number of positive
    # weights, because its weight may differ from 1 by rounding.
    is_alone = np.count_nonzero(current_K) == 1
    removable_K = (current_K > 0.0) & ~bounds.required_K & ~is_alone
    column, weight = [np.flatnonzero(removable_K)], [np.zeros(removable_K.sum())]
    for entry in (0.0, *_ENTRY_WEIGHTS):
        entry_K = np.maximum(bounds.lower_K, max(entry, _MIN_WEIGHT))
        added = np.flatnonzero((current_K == 0.0) & (entry_K <= bounds.upper_K))
        column, weight = [*column, added], [*weight, entry_K[added]]
    column_N, weight_N = np.concatenate(column), np.concatenate(weight)
    if not len(column_N):
        return current_K[None]
    tried_NK = np.repeat(current_K[None], len(column_N), axis=0)
    tried_NK[np.arange(len(column_N)), column_N] = weight_N
    tried_NK = score.space.project(tried_NK)
    increase_N = score(tried_NK) - value
    order = np.argsort(-increase_N, kind="stable")
    better = order[increase_N[order] > _CONVERGED * score.score_std]
    joint_NK = np.repeat(current_K[None], len(_JOINT_CHANGES), axis=0)
    for row, n in enumerate(_JOINT_CHANGES):
        # A domain may have several changes. The best one is assigned last and replaces the others.
        some = better[:n][::-1]
        joint_NK[row, column_N[some]] = weight_N[some]
    joint_NK = joint_NK[joint_NK.any(axis=1)]
    return np.vstack([tried_NK[order[:1]], score.space.project(joint_NK)])


@dataclass(frozen=True, eq=False)
class _SmoothProblem:
    """The problem in the logarithms of the weights that vary, as SciPy expects it."""

    current_K: Array
    varied: NDArray[np.int64]
    score: PenalizedScore
    last: dict[bytes, tuple[Array, Array]] = field(default_factory=dict)
    """The last evaluation, because SciPy asks for cost, constraints and gradients of the same point
    one after the other."""

    @property
    def varied_total(self) -> float:
        """Sum of the weights that vary."""
        return float(self.current_K[self.varied].sum())

    def to_mixtures(self, logs_NA: Array) -> Array:
        """Convert logarithms (N, A) to mixtures (N, K); the other domains keep their weights."""
        mixtures_NK = np.repeat(self.current_K[None], len(logs_NA), axis=0)
        part_NA = np.exp(logs_NA)
        part_NA *= self.varied_total / part_NA.sum(axis=1, keepdims=True)
        mixtures_NK[:, self.varied] = part_NA
        return mixtures_NK

    def cost(self, logs_A: Array) -> float:
        """Return the negative score in standard deviations."""
        return -float(self._evaluate(logs_A)[0][0])

    def gradient(self, logs_A: Array) -> Array:
        """Return the gradient of the cost, shape (A,)."""
        score_N = self._evaluate(logs_A)[0]
        return np.asarray((score_N[0] - score_N[1:]) / _STEP)

    def make_bounds(self) -> list[tuple[float, float]]:
        """Make the bounds of the logarithms."""
        bounds, own_A = self.score.space.bounds.support_bounds, self.current_K[self.varied]
        lower_A = np.minimum(np.maximum(bounds.lower_K[self.varied], _MIN_WEIGHT), own_A)
        upper_A = np.maximum(bounds.upper_K[self.varied], own_A)
        return list(zip(np.log(lower_A).tolist(), np.log(upper_A).tolist(), strict=True))

    def make_constraints(self) -> list[dict[str, Any]]:
        """Make the constraints: the sum of the weights, bounds of groups, outcome constraints."""
        constraints = [_bound_sum(np.ones(len(self.varied)), self.varied_total, "eq")]
        for pool in self.score.space.bounds.support_bounds.pools:
            if not pool.is_unbounded:
                inside_A = np.isin(self.varied, pool.columns).astype(np.float64)
                varied_part = inside_A @ self.current_K[self.varied]
                fixed = float(self.current_K[pool.columns].sum() - varied_part)
                constraints.append(_bound_sum(inside_A, pool.lower - fixed, "ineq"))
                constraints.append(_bound_sum(-inside_A, fixed - pool.upper, "ineq"))
        if self.score.min_metrics_Q is not None:
            constraints.append(
                {"type": "ineq", "fun": self._get_slack, "jac": self._get_slack_gradient}
            )
        return constraints

    def _get_slack(self, logs_A: Array) -> Array:
        return np.asarray(self._evaluate(logs_A)[1][0] - _MARGIN)

    def _get_slack_gradient(self, logs_A: Array) -> Array:
        slack_NQ = self._evaluate(logs_A)[1]
        return np.asarray((slack_NQ[1:] - slack_NQ[0]).T / _STEP)

    def _evaluate(self, logs_A: Array) -> tuple[Array, Array]:
        """Evaluate the mixture, and a step in each logarithm: score (1 + A,), slack (1 + A, Q)."""
        key = logs_A.tobytes()
        if key not in self.last:
            stepped_NA = np.vstack([logs_A, logs_A + _STEP * np.eye(len(logs_A))])
            score_N, slack_NQ = self.score.evaluate(self.to_mixtures(stepped_NA))
            scaled = (score_N / self.score.score_std, slack_NQ / self.score.metric_stds_Q)
            self.last.clear()
            self.last[key] = scaled
        return self.last[key]


def _bound_sum(sign_A: Array, lower: float, kind: str) -> dict[str, Any]:
    """Make the constraint that a signed sum of weights equals or exceeds a bound."""
    return {
        "type": kind,
        "fun": lambda logs_A: sign_A @ np.exp(logs_A) - lower,
        "jac": lambda logs_A: sign_A * np.exp(logs_A),
    }
