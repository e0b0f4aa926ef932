"""How much better one mixture is than another, with an interval: measured, seed against seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from climb.errors import SearchError
from climb.objective import Objective
from climb.search.trials import Trials

LEVEL = 0.90
"""Coverage of every interval of a gain."""


@dataclass(frozen=True)
class Gain:
    """A difference of scores, with its 90 % interval."""

    mean: float
    low: float
    high: float
    p_better: float
    """Probability that the difference is above 0. It comes from the interval; far beyond 0.95 a
    heavier tail would make it a little smaller."""

    @classmethod
    def of(cls, mean: float, spread: float, freedom: float = np.inf) -> Self:
        """From a mean, its standard error, and the degrees of freedom behind that (Student's t)."""
        if spread <= 0.0:
            return cls(mean, mean, mean, 0.5 * (1.0 + float(np.sign(mean))))
        reach = float(stats.t.ppf(0.5 + LEVEL / 2.0, freedom)) * spread
        better = float(stats.t.cdf(mean / spread, freedom))
        return cls(mean, mean - reach, mean + reach, better)

    @property
    def verdict(self) -> str:
        """`gain` when the whole interval lies above 0, else `no gain found`."""
        return "gain" if self.low > 0.0 else "no gain found"


def compare(trials: Trials, objective: Objective, method_a: str, method_b: str) -> Gain:
    """How much higher `method_a` scores than `method_b`, from the seeds both were trained with.

    Welch's t: the two may differ in noise and in number of seeds. No predictor has a part in it,
    so it is the better evidence where it exists.

    Raises:
        SearchError: fewer than two seeds of one of them; one run says nothing about its noise.
    """
    scores = {}
    for method in (method_a, method_b):
        scores[method] = objective.score(trials.of(method).metrics_TQ)
        if len(scores[method]) < 2:
            raise SearchError(
                f"method {method!r} has {len(scores[method])} finished trials; a comparison needs "
                "2 seeds or more (search.anchor_seeds)"
            )
    a_T, b_T = scores[method_a], scores[method_b]
    share_a, share_b = float(a_T.var(ddof=1)) / len(a_T), float(b_T.var(ddof=1)) / len(b_T)
    spread = np.sqrt(share_a + share_b)
    freedom = np.inf
    if spread > 0.0:
        freedom = (share_a + share_b) ** 2 / (
            share_a**2 / (len(a_T) - 1) + share_b**2 / (len(b_T) - 1)
        )
    return Gain.of(float(a_T.mean() - b_T.mean()), float(spread), freedom)
