"""What candidates are compared by: the predicted score, less what pull and guard take from it.

Axes: M mixtures, K domains, Q metrics of the objective.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet
from climb.search.searcher import Problem
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]

_ROUNDING = 1e-9
"""Of a metric's size: what a prediction may differ by, alone and among others."""

GUARDED = 1e9
"""Taken from a mixture that breaks a guard: lower than every score, and lower the more it does."""


@dataclass(frozen=True, eq=False)
class Height:
    """A fitted surrogate as a searcher sees it: mixtures (M, K) -> what to make large (M,)."""

    surrogate: Surrogate
    space: FeasibleSet
    least_Q: Array | None
    """Least allowed value of every metric, in its own direction; None without a guard."""

    @classmethod
    def of(cls, surrogate: Surrogate, problem: Problem) -> Self:
        """With the guard `search.max_drop`: no metric predicted worse than natural by more.

        Natural proportions keep it by definition, so there is always a mixture inside.
        """
        drop, space = problem.cfg.max_drop, problem.space
        least_Q = None
        if drop is not None:
            natural_Q = surrogate.means(space.project(space.natural_K)[None])[0]
            least_Q = natural_Q * np.sign(surrogate.signs_Q) - drop
            least_Q -= _ROUNDING * np.abs(natural_Q)
        return cls(surrogate, space, least_Q)

    def __call__(self, weights_MK: Array) -> Array:
        """Height of each mixture, shape (M,)."""
        means_MQ = self.surrogate.means(weights_MK)
        height_M: Array = means_MQ @ self.surrogate.signs_Q - self.space.penalty(weights_MK)
        if self.least_Q is None:
            return height_M
        short_MQ = self.least_Q - means_MQ * np.sign(self.surrogate.signs_Q)
        short_M = np.maximum(short_MQ, 0.0).sum(axis=1)
        return np.where(short_M > 0.0, -GUARDED * (1.0 + short_M), height_M)


@functools.lru_cache(maxsize=1)
def fitted(known: Trials, problem: Problem) -> Height:
    """Fit the problem's predictor to every metric of its objective; once per trials and problem.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    return Height.of(Surrogate.fit(known, problem.wanted, problem.predictor), problem)
