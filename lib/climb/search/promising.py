"""The default searcher: fill the set, then train what promises most and is not yet known.

Axes: M mixtures, N candidates, S starts, K domains, T trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError
from climb.mixture import FeasibleSet
from climb.search.height import GUARDED, Height, fitted
from climb.search.refine import refine
from climb.search.rounds import NEAREST, enough, first_round, spread_out
from climb.search.searcher import STAGE_ANSWER, STAGE_PROPOSE, Problem
from climb.search.trials import Trials

Array = NDArray[np.float64]

_STARTS = 12
"""Mixtures that are climbed from."""

_NEAR_TIES = 500
"""Mixtures around the top that are asked whether they tie with it."""


@dataclass(frozen=True, kw_only=True)
class PromisingSearcher:
    """Confidence bounds with diversity, on the simplex; the answer is the refined optimum.

    The first mixture of a later round is the optimum of the predicted score, unless that was run.
    Each further one has the highest mean + spread, where the spread shrinks near mixtures that are
    chosen already. Candidates are the tops that were climbed to, mixtures around them, and plain
    draws.
    """

    boldness: float = 1.0
    """Spreads added to the mean when a trial is chosen."""

    pick_from_top: int = 1024
    """Candidates of highest mean for which the spread is asked, which costs more."""

    ties: float = 0.0
    """The answer is the mean of all candidates that lie so many spreads of the difference, or less,
    under the best; 0: the best alone."""

    def __post_init__(self) -> None:
        if self.boldness < 0.0 or self.pick_from_top < 1 or self.ties < 0.0:
            raise ConfigError(
                f"{self}: boldness and ties must be at least 0, pick_from_top at least 1"
            )

    def propose(self, known: Trials, round_: int, n: int, problem: Problem) -> Array:
        """Spread-out draws first; then what promises most."""
        if round_ == 0:
            return first_round(n, problem, known.weights_TK)
        random = problem.random(STAGE_PROPOSE, round_)
        height = fitted(known, problem)
        pool_NK = self._pool(known, height, problem, random)
        height_N = height(pool_NK)
        order = np.argsort(-height_N, kind="stable")
        pool_NK, height_N = pool_NK[order], height_N[order]
        n_best = max(self.pick_from_top, n)
        while True:
            near_NK, mean_N = pool_NK[: 4 * n_best], height_N[: 4 * n_best]
            std_N = self.boldness * height.surrogate.score(near_NK)[1]
            best = np.union1d(np.argsort(-(mean_N + std_N), kind="stable")[:n_best], [0])
            chosen = promising(near_NK[best], mean_N[best], std_N[best], known.weights_TK, n)
            if len(chosen) == n or n_best >= len(pool_NK):
                return np.asarray(near_NK[best][enough(chosen, n, problem.space)])
            n_best *= 2  # the best candidates lie so near each other that they are not n trials

    def _pool(
        self, known: Trials, height: Height, problem: Problem, random: np.random.Generator
    ) -> Array:
        """Candidates: what climbing finds by the mean and by mean + spread, around both, draws."""
        n, space = problem.cfg.candidates, problem.space
        drawn_NK = problem.draw(random, n)
        tops_SK = climb_to_top(drawn_NK, known, height, random)

        def bold(weights_MK: Array) -> Array:
            return height(weights_MK) + self.boldness * height.surrogate.score(weights_MK)[1]

        bold_SK, _ = refine(tops_SK[: _STARTS // 2], space, bold, random)
        tops_SK = np.vstack([tops_SK, bold_SK])
        return np.vstack([tops_SK, around(tops_SK, space, n // 4, random), drawn_NK])

    def answer(self, known: Trials, problem: Problem) -> Array:
        """The mixture of highest predicted score that climbing finds, or the mean of near-ties."""
        random = problem.random(STAGE_ANSWER)
        height, space = fitted(known, problem), problem.space
        drawn_NK = problem.draw(random, problem.cfg.candidates)
        tops_SK = climb_to_top(drawn_NK, known, height, random)
        if self.ties == 0.0:
            return np.asarray(tops_SK[0])
        near_NK = np.vstack([tops_SK, around(tops_SK[:1], space, _NEAR_TIES, random)])
        spread_NQ = height.surrogate.difference_stds(tops_SK[0], near_NK)
        doubt_N = spread_NQ @ np.abs(height.surrogate.signs_Q)
        height_N = height(near_NK)
        tied_N = height_N >= height_N[0] - self.ties * doubt_N
        mean_K = space.project(near_NK[tied_N].mean(axis=0))
        # A guard need not hold between mixtures that keep it: then the best stands alone.
        return mean_K if height(mean_K[None])[0] > -GUARDED else np.asarray(tops_SK[0])


def climb_to_top(
    drawn_NK: Array, known: Trials, height: Height, random: np.random.Generator
) -> Array:
    """Mixtures of greatest height, reached from the best draws and trials; best first."""
    space = height.space
    fixed = np.stack([space.project(space.natural_K), space.uniform_K])
    pool_NK = np.vstack([fixed, space.project(known.weights_TK), drawn_NK])
    best = np.argsort(-height(pool_NK), kind="stable")[: 10 * _STARTS]
    starts = best[spread_out(pool_NK[best], pool_NK[best[:1]], _STARTS - 1)]
    return refine(pool_NK[np.append(best[0], starts)], space, height, random)[0]


def promising(
    pool_NK: Array, mean_N: Array, std_N: Array, known_TK: Array, n: int
) -> NDArray[np.int64]:
    """Choose n candidates, one after the other, for what they promise and what they would teach.

    The first is the one with the highest mean. Each later one has the highest mean + spread, where
    the spread shrinks near what is chosen already: a trial there would teach the same.
    """
    roots_NK = np.sqrt(pool_NK)
    nearest_N = np.full(len(pool_NK), np.inf)
    for known_K in np.sqrt(known_TK):
        nearest_N = np.minimum(nearest_N, np.square(roots_NK - known_K).sum(axis=1))
    reach = max(float(np.median(nearest_N)), NEAREST**2)
    apart_N = nearest_N
    new_N = np.ones(len(pool_NK))
    chosen = [int(mean_N.argmax())] if apart_N[mean_N.argmax()] > NEAREST**2 else []
    for pick in chosen:
        off_N = np.square(roots_NK - roots_NK[pick]).sum(axis=1)
        apart_N, new_N = np.minimum(apart_N, off_N), new_N * (1.0 - np.exp(-off_N / reach))
    while len(chosen) < n:
        worth_N = np.where(apart_N > NEAREST**2, mean_N + std_N * new_N, -np.inf)
        if not np.isfinite(worth_N.max()):
            break
        chosen.append(int(worth_N.argmax()))
        off_N = np.square(roots_NK - roots_NK[chosen[-1]]).sum(axis=1)
        apart_N, new_N = np.minimum(apart_N, off_N), new_N * (1.0 - np.exp(-off_N / reach))
    return np.array(chosen, dtype=np.int64)


def around(tops_SK: Array, space: FeasibleSet, n: int, random: np.random.Generator) -> Array:
    """Mixtures near the best ones: random domains scaled by factors of every size."""
    centre_NK = tops_SK[random.integers(len(tops_SK), size=n)]
    size_N1 = np.exp(random.uniform(np.log(0.05), np.log(1.0), size=(n, 1)))
    nudge_NK = random.normal(size=centre_NK.shape) * size_N1
    return space.project((centre_NK + 0.02 * space.natural_K * size_N1) * np.exp(nudge_NK))
