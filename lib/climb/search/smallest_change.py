"""The smallest change of the natural mixture that improves one metric by a given amount.

Axes: K domains, M mixtures, Q metrics of the objective.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.objective import Objective
from climb.search.acquisition import INFEASIBLE, PenalizedScore
from climb.search.optimize import maximize
from climb.search.parallel import use_one_blas_thread
from climb.search.problem import STAGE_CHANGE, SearchState

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NearNatural(PenalizedScore):
    """A score that is highest for the feasible mixture nearest to the natural mixture.

    It is minus the KL divergence of a mixture from the natural mixture. A mixture is infeasible if
    a predicted metric is worse than its bound in `min_metrics_Q`.
    """

    @classmethod
    def of(cls, score: PenalizedScore, q: int, amount: float) -> Self:
        """Require that metric q is better than at the natural mixture by an amount.

        The outcome constraints of `search.max_drop` on the other metrics still apply.
        """
        natural_K = score.space.project(score.space.natural_K)
        sign_Q = np.sign(score.surrogate.weights_Q)
        natural_Q = score.surrogate.predict_means(natural_K[None])[0] * sign_Q
        earlier_Q = score.min_metrics_Q
        min_metrics_Q = np.full(len(sign_Q), -np.inf) if earlier_Q is None else earlier_Q.copy()
        min_metrics_Q[q] = natural_Q[q] + amount
        return cls(score.surrogate, score.space, min_metrics_Q)

    def evaluate(self, weights_MK: Array) -> tuple[Array, Array]:
        """Return minus the divergence (M,), and the slack of each metric (M, Q)."""
        assert self.min_metrics_Q is not None
        natural_K = np.maximum(self.space.natural_K, 1e-12)
        logs_MK = np.log(np.maximum(weights_MK, 1e-300) / natural_K)
        divergence_M = (weights_MK * np.where(weights_MK > 0.0, logs_MK, 0.0)).sum(axis=1)
        means_MQ = self.surrogate.predict_means(weights_MK)
        slack_MQ = means_MQ * np.sign(self.surrogate.weights_Q) - self.min_metrics_Q
        return -divergence_M, np.where(np.isfinite(slack_MQ), slack_MQ, 1.0)

    @cached_property
    def score_std(self) -> float:
        """Scale of tolerances: 1 nat, instead of the standard deviation of a score."""
        return 1.0


@dataclass(frozen=True, eq=False)
class SmallestChange:
    """A mixture near the natural one that improves a metric."""

    metric: str
    domains: tuple[str, ...]
    weights_K: Array
    natural_K: Array
    improvement: float
    """Predicted, in the metric's unit; positive is better."""

    improvement_std: float
    """Standard deviation of the prediction error."""

    @property
    def moved(self) -> float:
        """Share of the mixture that moves between domains (total variation distance)."""
        return 0.5 * float(np.abs(self.weights_K - self.natural_K).sum())

    def inflate(self, factor: float) -> SmallestChange:
        """Return the same change with its standard deviation multiplied by a factor."""
        return dataclasses.replace(self, improvement_std=factor * self.improvement_std)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        weights = dict(zip(self.domains, self.weights_K.tolist(), strict=True))
        numbers = {"improvement": self.improvement, "improvement_std": self.improvement_std}
        return {"metric": self.metric, "weights": weights, "moved": self.moved, **numbers}

    def list_moves(self, n: int) -> list[tuple[str, float]]:
        """Return the domains whose weights change most, and the changes."""
        change_K = self.weights_K - self.natural_K
        order = np.argsort(-np.abs(change_K), kind="stable")[:n]
        return [(self.domains[k], float(change_K[k])) for k in order]


def _describe_best(improvement: float, amount: float) -> str:
    if improvement < 1e-6 * amount:
        return "no mixture found improves it; train more mixtures, or relax the constraints"
    best = f"the best mixture found improves it by {improvement:.3g}"
    return f"{best}; use a smaller amount, or relax the constraints"


@use_one_blas_thread
def find_smallest_change(state: SearchState, metric: str, amount: float) -> SmallestChange:
    """Find the mixture nearest to the natural one among those that improve a metric by an amount.

    "Nearest" means the lowest Kullback-Leibler divergence. The search's constraints apply.

    Args:
        state: trials and problem of the search.
        metric: one that the objective uses.
        amount: in the metric's unit, above 0; better means higher or lower as in the objective.

    Raises:
        SearchError: the objective does not use the metric, or no mixture is predicted to improve
            it that much. The message has the improvement of the best mixture found.
    """
    problem, surrogate = state.problem, state.penalized.surrogate
    q = require_metric(problem.required_objective, metric)
    space = problem.space
    near = NearNatural.of(state.penalized, q, amount)
    random = problem.random(STAGE_CHANGE)
    natural_K = space.project(space.natural_K)
    starts_NK = _make_starts(state, q, problem.sample(random, problem.cfg.candidates))
    found_K = maximize(near, starts_NK, state.trials.weights_TK, random)[0]
    improvement = float(_predict_improvements(state, q, found_K[None])[0])
    if float(near(found_K[None])[0]) <= -INFEASIBLE:
        raise SearchError(
            f"no mixture is predicted to improve {metric} by {amount:g} within the constraints "
            f"(search.max_drop included): {_describe_best(improvement, amount)}"
        )
    restore_K = state.restore_K
    return SmallestChange(
        metric,
        tuple(space.domains[k] for k in restore_K),
        found_K[restore_K],
        natural_K[restore_K],
        improvement,
        float(surrogate.predict_difference_stds(natural_K, found_K[None])[0, q]),
    )


def require_metric(objective: Objective, metric: str) -> int:
    """Return the column of a metric among those that the objective uses.

    Raises:
        SearchError: the objective does not use the metric.
    """
    names = objective.weighted_names
    if metric not in names:
        raise SearchError(
            f"metric {metric!r} is not part of the objective; choose one of {', '.join(names[:5])}"
            f"{' and others' if len(names) > 5 else ''}"
        )
    return names.index(metric)


def _predict_improvements(state: SearchState, q: int, weights_MK: Array) -> Array:
    """Predict how much better metric q is than at the natural mixture, shape (M,)."""
    space, surrogate = state.problem.space, state.penalized.surrogate
    natural_1K = space.project(space.natural_K)[None]
    means_MQ = surrogate.predict_means(np.vstack([natural_1K, weights_MK]))
    return np.asarray(np.sign(surrogate.weights_Q[q]) * (means_MQ[1:, q] - means_MQ[0, q]))


def _make_starts(state: SearchState, q: int, drawn_NK: Array) -> Array:
    """Return the draws, and mixtures between the natural mixture and the best draws.

    The best draws are those with the best predicted values of metric q.
    """
    space = state.problem.space
    natural_K = space.project(space.natural_K)
    order = np.argsort(-_predict_improvements(state, q, drawn_NK), kind="stable")
    part_P11 = np.linspace(0.05, 1.0, 20)[:, None, None]
    between_PNK = natural_K + part_P11 * (drawn_NK[order[:8]] - natural_K)
    return np.vstack([drawn_NK, space.project(between_PNK.reshape(-1, len(natural_K)))])
