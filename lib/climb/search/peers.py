"""The searchers that ours is compared with, as published, each on the same budget of trials.

Axes: M mixtures, N draws, T trials, K domains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.search.searcher import STAGE_ANSWER, STAGE_PROPOSE, Problem
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]

_SCORE = Objective.single("score", ("score",))


@dataclass(frozen=True, kw_only=True)
class RandomSearcher:
    """Best of n random mixtures: the draw whose proxy did best."""

    def propose(self, known: Trials, round_: int, n: int, problem: Problem) -> Array:
        """Plain draws from the sampler."""
        return problem.draw(problem.random(STAGE_PROPOSE, round_), n)

    def answer(self, known: Trials, problem: Problem) -> Array:
        """The best measured mixture, its repeats averaged."""
        repeats = known.repeats()
        best: Array = repeats.weights_DK[problem.wanted.score(repeats.means_DQ).argmax()]
        return best


@dataclass(frozen=True, kw_only=True)
class NaturalSearcher(RandomSearcher):
    """Natural proportions, whatever the trials say."""

    def answer(self, known: Trials, problem: Problem) -> Array:
        """Token shares."""
        return problem.space.natural_K


@dataclass(frozen=True, kw_only=True)
class UniformSearcher(RandomSearcher):
    """Equal weights, whatever the trials say."""

    def answer(self, known: Trials, problem: Problem) -> Array:
        """The same weight for every domain."""
        return problem.space.uniform_K


@dataclass(frozen=True, kw_only=True)
class SingleDomainSearcher(RandomSearcher):
    """The best single domain, as far as its cap lets it be single; the best measured one wins."""

    def propose(self, known: Trials, round_: int, n: int, problem: Problem) -> Array:
        """One domain each, the largest first; trials left over are random."""
        largest = np.argsort(-problem.space.natural_K, kind="stable")[:n]
        alone_MK = problem.space.project(np.eye(len(problem.space.domains))[largest])
        if round_ > 0:
            alone_MK = alone_MK[:0]
        more_MK = RandomSearcher.propose(self, known, round_, n - len(alone_MK), problem)
        return np.vstack([alone_MK, more_MK])


@dataclass(frozen=True, kw_only=True)
class RegMixSearcher(RandomSearcher):
    """One regression of the score on the weights; the mean of the best simulated mixtures.

    Every trial is a random draw, so rounds make no difference. Its predictor is
    `climb.predictor.lightgbm:LightGBMPredictor` with RegMix's settings.

    Source:
        RegMix (arXiv 2407.01492) and its notebook regression_fitting/regression.ipynb: simulated
        mixtures are Dirichlet draws with the token shares as parameters.
    """

    simulated: int = 100_000
    averaged: int = 128

    def answer(self, known: Trials, problem: Problem) -> Array:
        """The mean of the `averaged` best of `simulated` mixtures."""
        random = problem.random(STAGE_ANSWER)
        drawn_NK = random.dirichlet(_positive(problem.space), self.simulated)
        score_N = _of_score(known, problem).mean(drawn_NK)
        best = np.argsort(-score_N, kind="stable")[: self.averaged]
        return np.asarray(drawn_NK[best].mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class ClimbSearcher(RandomSearcher):
    """CLIMB's rule: trials are picked at random among the best N of a pool; the pool's best wins.

    Its predictor is `climb.predictor.lightgbm:LightGBMPredictor`, one of the score itself.

    Source:
        arXiv 2504.13161, sections 3 and 4; N as in NVIDIA's recipe, max(M^2, 128) for M trials,
        since the paper does not publish it.
    """

    def propose(self, known: Trials, round_: int, n: int, problem: Problem) -> Array:
        """Plain draws first; then n at random among the N best draws."""
        random = problem.random(STAGE_PROPOSE, round_)
        if round_ == 0:
            return self.first(n, problem, random)
        pool_NK = self.pool(problem, random)
        score_N = _of_score(known, problem).mean(pool_NK)
        best = np.argsort(-score_N, kind="stable")[: max(n * n, 128)]
        if len(best) < n:
            raise SearchError(
                f"search.candidates {len(pool_NK)} is less than the {n} mixtures of a round; "
                "raise it"
            )
        return np.asarray(pool_NK[random.choice(best, size=n, replace=False)])

    def answer(self, known: Trials, problem: Problem) -> Array:
        """The best draw of a pool under the last predictor."""
        pool_NK = self.pool(problem, problem.random(STAGE_ANSWER))
        return np.asarray(pool_NK[_of_score(known, problem).mean(pool_NK).argmax()])

    def first(self, n: int, problem: Problem, random: np.random.Generator) -> Array:
        """The mixtures of the first round."""
        return problem.draw(random, n)

    def pool(self, problem: Problem, random: np.random.Generator) -> Array:
        """What later rounds and the answer choose from."""
        return problem.draw(random, problem.cfg.candidates)


@dataclass(frozen=True, kw_only=True)
class NvidiaSearcher(ClimbSearcher):
    """NVIDIA's recipe: as CLIMB, but its pool is not what its first round was drawn from.

    Its predictor is `climb.predictor.lightgbm:LightGBMPredictor` with the recipe's settings.

    Source:
        NVIDIA-NeMo/Curator, tutorials/text/nemotron-climb-data-curation, 5_mixture.py (strengths
        at 15 log-spaced values, draws over the cap rejected, small weights to 0) and 8_predict.py
        (a pool of Dirichlet draws with the token shares as parameters, without the cap).
    """

    min_strength: float = 0.1
    max_strength: float = 5.0
    temperature: float = 0.5
    max_usage: float = 15.0
    minimum: float = 2e-4
    simulated: int = 100_000
    tries: int = 100
    """Draws per wanted mixture, as the recipe's sample_multiplier; tight caps reject most."""

    def first(self, n: int, problem: Problem, random: np.random.Generator) -> Array:
        """Draws under the cap; where too few are, the rest are draws that the set mends."""
        prior_K = _positive(problem.space) ** self.temperature
        strengths = np.geomspace(self.min_strength, self.max_strength, 15)
        picked_N1 = random.choice(strengths, size=(n * self.tries, 1))
        gamma_NK = random.gamma(picked_N1 * prior_K / prior_K.sum()) + 1e-300
        drawn_NK = gamma_NK / gamma_NK.sum(axis=1, keepdims=True)
        cap_K = np.minimum(self.max_usage * problem.space.natural_K, 1.0)
        inside_N = (drawn_NK <= cap_K).all(axis=1)
        order = np.argsort(~inside_N, kind="stable")[:n]
        kept_MK = np.where(drawn_NK[order] < self.minimum, 0.0, drawn_NK[order])
        return np.asarray(kept_MK / kept_MK.sum(axis=1, keepdims=True))

    def pool(self, problem: Problem, random: np.random.Generator) -> Array:
        """Dirichlet draws around the token shares, nearly one-hot."""
        return random.dirichlet(_positive(problem.space), self.simulated)


def _positive(space: FeasibleSet) -> Array:
    """Token shares as Dirichlet parameters, which must be above 0."""
    return np.maximum(space.natural_K, 1e-6)


def _of_score(known: Trials, problem: Problem) -> Surrogate:
    """Fit one predictor to the score itself, as the published searchers do."""
    score_T1 = problem.wanted.score(known.metrics_TQ)[:, None]
    return Surrogate.fit(known.with_metrics(("score",), score_T1), _SCORE, problem.predictor)
