"""Mixtures none of which is better than another on every metric: the trade-offs there are.

Axes: T trials, K domains, Q metrics of the objective, P mixtures of the front.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from climb.search.height import Height, fitted
from climb.search.promising import climb_to_top
from climb.search.searcher import STAGE_PARETO, Problem, ordered
from climb.search.trials import Trials

Array = NDArray[np.float64]


def pareto(trials: Trials, n: int, problem: Problem) -> tuple[Array, Array]:
    """Propose mixtures on the predicted Pareto front of the objective's metrics.

    The objective's own weights, then random re-weightings of its metrics, are each climbed to
    their top; what another top beats on every metric is left out.

    Args:
        trials: at least 4 distinct mixtures.
        n: weightings tried; at most so many mixtures come back.
        problem: the set, with caps, guard and pull, and the objective.

    Returns:
        Mixtures (P, K), the best by the objective's own weights first, and the mean of every
        metric that the objective weighs as predicted there, (P, Q).

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    known, by_name, back_K = ordered(trials, problem)
    height = fitted(known, by_name)
    random = by_name.random(STAGE_PARETO)
    drawn_NK = by_name.draw(random, by_name.cfg.candidates)
    signs_Q = height.surrogate.signs_Q
    tops = [climb_to_top(drawn_NK, known, height, random)[0]]
    for share_Q in random.dirichlet(np.ones(len(signs_Q)), size=n - 1):
        other = _weighed(height, signs_Q * share_Q * len(signs_Q))
        tops.append(climb_to_top(drawn_NK, known, other, random)[0])
    tops_PK = np.stack(tops)
    means_PQ = height.surrogate.means(tops_PK)
    front = undominated(means_PQ * np.sign(signs_Q))
    order = front[np.argsort(-height(tops_PK[front]), kind="stable")]
    return tops_PK[order][:, back_K], means_PQ[order]


def undominated(better_PQ: Array) -> NDArray[np.int64]:
    """Rows that no other row beats: indices. Higher is better; of equal rows the first stays."""
    kept = []
    for row, here_Q in enumerate(better_PQ):
        no_worse_P = (better_PQ >= here_Q).all(axis=1)
        better_P = no_worse_P & (better_PQ > here_Q).any(axis=1)
        same_before = bool((better_PQ[:row] == here_Q).all(axis=1).any())
        if not better_P.any() and not same_before:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _weighed(height: Height, signs_Q: Array) -> Height:
    """The same fits under other weights of the metrics."""
    surrogate = dataclasses.replace(height.surrogate, signs_Q=signs_Q)
    return dataclasses.replace(height, surrogate=surrogate)
