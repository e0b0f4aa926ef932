"""The Pareto front of the metrics: mixtures that no other mixture dominates.

Axes: K domains, Q metrics of the objective, P mixtures of the front.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from climb.search.acquisition import PenalizedScore
from climb.search.optimize import maximize
from climb.search.parallel import use_one_blas_thread
from climb.search.problem import STAGE_PARETO, SearchState

Array = NDArray[np.float64]

_TIE = 1e-6
"""Differences up to this number of standard deviations of a metric over mixtures have no effect,
because they may be rounding errors."""


@use_one_blas_thread
def find_pareto_front(state: SearchState, n: int) -> tuple[Array, Array]:
    """Find mixtures on the predicted Pareto front of the objective's metrics.

    The score is maximized with the objective's own weights, then with random weights of its
    metrics. Optima that another optimum dominates are left out (see `find_nondominated`).

    Args:
        state: what the search knows, with at least 4 distinct mixtures.
        n: number of weightings; at most this many mixtures are returned.

    Returns:
        The mixtures (P, K), and their predicted mean of every metric that the objective uses
        (P, Q). The mixture with the highest penalized score is first; domains have the caller's
        order.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    problem, score = state.problem, state.penalized
    random = problem.random(STAGE_PARETO)
    drawn_NK = problem.sample(random, problem.cfg.candidates)
    weights_Q, trials_TK = score.surrogate.weights_Q, state.trials.weights_TK
    # `maximize` leaves `random` unchanged, so the weightings do not depend on the path of a search.
    optima = [maximize(score, drawn_NK, trials_TK, random)[0]]
    for share_Q in random.dirichlet(np.ones(len(weights_Q)), size=n - 1):
        other = _replace_weights(score, weights_Q * share_Q * len(weights_Q))
        optima.append(maximize(other, drawn_NK, trials_TK, random)[0])
    optima_PK = np.stack(optima)
    means_PQ = score.surrogate.predict_means(optima_PK)
    front = find_nondominated(means_PQ * np.sign(weights_Q) / score.metric_stds_Q, _TIE)
    order = front[np.argsort(-score(optima_PK[front]), kind="stable")]
    return optima_PK[order][:, state.restore_K], means_PQ[order]


def find_nondominated(values_PQ: Array, tie: float = 0.0) -> NDArray[np.int64]:
    """Return the indices of rows that no other row dominates; the first of equal rows is kept.

    Args:
        values_PQ: a value of each metric for each row; higher is better.
        tie: a difference up to this has no effect. A row dominates another row if none of its
            values is lower by more than `tie`, and the sum of its values is higher by more than
            `tie`.
    """
    kept: list[int] = []
    for row, own_Q in enumerate(values_PQ):
        difference_PQ = values_PQ - own_Q
        no_worse_P = (difference_PQ >= -tie).all(axis=1)
        dominated = bool((no_worse_P & (difference_PQ.sum(axis=1) > tie)).any())
        if not dominated and not (np.abs(difference_PQ[kept]) <= tie).all(axis=1).any():
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _replace_weights(score: PenalizedScore, weights_Q: Array) -> PenalizedScore:
    """Return the same fits with other weights of the metrics."""
    surrogate = dataclasses.replace(score.surrogate, weights_Q=weights_Q)
    return dataclasses.replace(score, surrogate=surrogate)
