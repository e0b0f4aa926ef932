"""The default searcher: fill the feasible set, then use upper confidence bounds with diversity.

Axes: M mixtures, N candidates, S starts, K domains.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError
from climb.search.acquisition import INFEASIBLE, select_batch
from climb.search.optimize import maximize, sample_around
from climb.search.pattern_search import pattern_search
from climb.search.problem import STAGE_PROPOSE, STAGE_RECOMMEND, SearchState
from climb.search.rounds import require_count, sample_first_round

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

_BOLD_STARTS = 6
"""The search for the highest mean + std starts from at most this many of the best mixtures."""

_NEAR_TIES = 500
"""Number of mixtures around the optimum that are tested for a tie with it."""


@dataclass(frozen=True, kw_only=True)
class UCBSearcher:
    """Upper confidence bounds with diversity; the recommendation is the optimum of the mean.

    The first mixture of a later round is the optimum of the penalized score, unless it was trained
    already. Each further mixture has the highest mean + std, where the std shrinks near mixtures of
    the same round. Candidates are optima, mixtures around them, and plain draws.
    """

    exploration: float = 1.0
    """Standard deviations added to the mean when a trial is selected (the kappa of UCB)."""

    shortlist: int = 1024
    """Number of candidates from which a batch is selected. First, four times as many are chosen by
    their mean; among these, those with the highest mean + std are kept. So a standard deviation,
    which costs more than a mean, is computed only for candidates that were chosen by their mean."""

    near_ties: float = 0.0
    """The recommendation is the mean of all candidates that tie with the best. A candidate ties if
    the best score exceeds its score by at most this many standard deviations of the difference
    between the two scores. 0: only the best candidate is used."""

    def __post_init__(self) -> None:
        if self.exploration < 0.0 or self.shortlist < 1 or self.near_ties < 0.0:
            raise ConfigError(
                f"{self}: exploration and near_ties must be at least 0, shortlist at least 1"
            )

    def propose(self, state: SearchState, round_: int, n: int) -> Array:
        """Propose distant draws in round 0, and a batch by upper confidence bounds later."""
        problem, existing_TK = state.problem, state.trials.weights_TK
        if round_ == 0:
            return sample_first_round(n, problem, existing_TK)
        score = state.penalized
        pool_NK = self._make_pool(state, problem.random(STAGE_PROPOSE, round_))
        score_N = score(pool_NK)
        order = np.argsort(-score_N, kind="stable")
        pool_NK, score_N = pool_NK[order], score_N[order]
        n_best = max(self.shortlist, n)
        while True:
            near_NK, mean_N = pool_NK[: 4 * n_best], score_N[: 4 * n_best]
            std_N = self.exploration * score.surrogate.predict_score(near_NK)[1]
            best = np.union1d(np.argsort(-(mean_N + std_N), kind="stable")[:n_best], [0])
            selected = select_batch(near_NK[best], mean_N[best], std_N[best], existing_TK, n)
            if len(selected) == n or n_best >= len(pool_NK):
                require_count(selected, n, problem.space)
                return np.asarray(near_NK[best][selected])
            n_best *= 2  # the best candidates are too near each other for n trials

    def _make_pool(self, state: SearchState, random: np.random.Generator) -> Array:
        """Collect candidates: optima of mean and of mean + std, mixtures around them, draws."""
        problem, score = state.problem, state.penalized
        n, space = problem.cfg.candidates, problem.space
        drawn_NK = problem.sample(random, n)
        optima_SK = maximize(score, drawn_NK, state.trials.weights_TK, random)

        def upper_bound(weights_MK: Array) -> Array:
            return (
                score(weights_MK) + self.exploration * score.surrogate.predict_score(weights_MK)[1]
            )

        logger.info("searching for mixtures of high mean and uncertainty")
        bold_SK, _ = pattern_search(optima_SK[:_BOLD_STARTS], space, upper_bound, random)
        optima_SK = np.vstack([optima_SK, bold_SK])
        return np.vstack([optima_SK, sample_around(optima_SK, space, n // 4, random), drawn_NK])

    def recommend(self, state: SearchState) -> Array:
        """Return the optimum of the penalized score, or the mean of its near-ties."""
        problem, score = state.problem, state.penalized
        random, space = problem.random(STAGE_RECOMMEND), problem.space
        drawn_NK = problem.sample(random, problem.cfg.candidates)
        optima_SK = maximize(score, drawn_NK, state.trials.weights_TK, random)
        if self.near_ties == 0.0:
            return np.asarray(optima_SK[0])
        near_NK = np.vstack([optima_SK, sample_around(optima_SK[:1], space, _NEAR_TIES, random)])
        std_NQ = score.surrogate.predict_difference_stds(optima_SK[0], near_NK)
        std_N = std_NQ @ np.abs(score.surrogate.weights_Q)
        score_N = score(near_NK)
        tied_N = score_N >= score_N[0] - self.near_ties * std_N
        mean_K = space.project(near_NK[tied_N].mean(axis=0))
        # A mean of feasible mixtures may violate an outcome constraint: then use the best alone.
        return mean_K if score(mean_K[None])[0] > -INFEASIBLE else np.asarray(optima_SK[0])
