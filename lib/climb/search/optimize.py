"""Maximize the penalized score over the feasible set: many starts, pattern search, local search.

Axes: N draws, S starts, K domains, T trials.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet
from climb.search.acquisition import PenalizedScore, select_distant
from climb.search.local_search import search_locally
from climb.search.pattern_search import pattern_search

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

_STARTS = 12
"""Maximum number of mixtures from which the pattern search starts."""

_LOCAL_SEARCHES = 3
"""Number of best mixtures of the pattern search that are moved to their local optimum."""


def maximize(
    score: PenalizedScore, drawn_NK: Array, trials_TK: Array, random: np.random.Generator
) -> Array:
    """Search for mixtures of high penalized score, starting from the best draws and trials.

    The best mixture comes first, and is a local optimum. If optima tie, the one that was the best
    after the pattern search comes first.

    Args:
        score: what to maximize; the result is in its feasible set.
        drawn_NK: feasible mixtures.
        trials_TK: mixtures of the trials.
        random: parent of the generators of the random steps; its own numbers are not used.

    Returns:
        Mixtures, shape (S, K).
    """
    logger.info("searching for the best mixture")
    space = score.space
    fixed = np.stack([space.project(space.natural_K), space.uniform_K])
    supports_NK = _draw_supports(space, len(drawn_NK), random)
    pool_NK = np.vstack([fixed, space.project(trials_TK), drawn_NK, supports_NK])
    best = np.argsort(-score(pool_NK), kind="stable")[: 10 * _STARTS]
    distant = best[select_distant(pool_NK[best], pool_NK[best[:1]], _STARTS - 1)]
    starts_SK = pool_NK[np.append(best[0], distant)]
    optima_SK, score_S = pattern_search(starts_SK, space, score, random, score.min_increase)
    for s in range(min(_LOCAL_SEARCHES, len(optima_SK))):
        optima_SK[s], score_S[s] = search_locally(optima_SK[s], score)
    first = int((score_S >= score_S.max() - score.min_increase).argmax())
    order = np.argsort(-score_S, kind="stable")
    return np.asarray(optima_SK[np.append(first, order[order != first])])


def _draw_supports(space: FeasibleSet, n: int, random: np.random.Generator) -> Array:
    """Draw n mixtures of random sets of domains if no mixture can have all domains; else none.

    With a large `min_weight`, a mixture has few domains. Projection keeps the domains with the
    largest weights. For mixtures near the natural mixture, these are nearly always the same
    domains. So random sets of domains are drawn here, too.
    """
    n_domains, least = len(space.domains), space.min_weight
    if least * n_domains <= 1.0:
        return np.empty((0, n_domains))
    (own_random,) = random.spawn(1)
    size_N1 = own_random.integers(1, int(1.0 / least + 1e-9), size=(n, 1), endpoint=True)
    chosen_NK = own_random.random((n, n_domains)).argsort(axis=1) < size_N1
    part_NK = own_random.exponential(size=(n, n_domains)) * chosen_NK
    part_NK /= part_NK.sum(axis=1, keepdims=True)
    return space.project(least * chosen_NK + (1.0 - least * size_N1) * part_NK)


def sample_around(
    centers_SK: Array, space: FeasibleSet, n: int, random: np.random.Generator
) -> Array:
    """Draw n feasible mixtures around centers, by random factors on the weights of all domains.

    The typical size of the factors differs between mixtures.
    """
    center_NK = centers_SK[random.integers(len(centers_SK), size=n)]
    size_N1 = np.exp(random.uniform(np.log(0.05), np.log(1.0), size=(n, 1)))
    step_NK = random.normal(size=center_NK.shape) * size_N1
    return space.project((center_NK + 0.02 * space.natural_K * size_N1) * np.exp(step_NK))
