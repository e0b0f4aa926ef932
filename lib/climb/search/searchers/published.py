"""Published search methods. The default method is compared with them at equal budgets of trials.

Axes: M mixtures, N draws, T trials, K domains.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.mixture import SAME_DECIMALS, FeasibleSet
from climb.search.acquisition import PenalizedScore
from climb.search.optimize import maximize
from climb.search.problem import STAGE_PROPOSE, STAGE_RECOMMEND, Problem, SearchState
from climb.search.surrogate import SCORE, Surrogate, express_score
from climb.search.trials import Replicates

Array = NDArray[np.float64]

_MAX_REDRAWS = 100
"""Maximum number of repeated draws. It is limited, because a feasible set may contain hardly any
mixtures that were not trained before."""


@dataclass(frozen=True, kw_only=True)
class RandomSearcher:
    """Random search: the recommendation is the trained mixture with the best measured score."""

    def propose(self, state: SearchState, round_: int, n: int) -> Array:
        """Draw n mixtures, (n, K); new draws replace mixtures that were trained before."""
        random = state.problem.random(STAGE_PROPOSE, round_)
        drawn_NK = state.problem.sample(random, n)
        for _ in range(_MAX_REDRAWS):
            is_new_N = ~_is_any_of(drawn_NK, state.trials.weights_TK)
            if is_new_N.all():
                break
            again_NK = state.problem.sample(random, n - int(is_new_N.sum()))
            drawn_NK = np.vstack([drawn_NK[is_new_N], again_NK])
        return drawn_NK

    def recommend(self, state: SearchState) -> Array:
        """Return the mixture with the best measured mean score over replicates, shape (K,)."""
        return _choose_best(state, state.trials.group_replicates())


@dataclass(frozen=True, kw_only=True)
class NaturalSearcher(RandomSearcher):
    """Always recommend the natural mixture."""

    def recommend(self, state: SearchState) -> Array:
        """Return the token shares, shape (K,)."""
        return state.problem.space.natural_K


@dataclass(frozen=True, kw_only=True)
class UniformSearcher(RandomSearcher):
    """Always recommend equal weights."""

    def recommend(self, state: SearchState) -> Array:
        """Return the feasible mixture nearest to equal weights, shape (K,)."""
        return state.problem.space.uniform_K


@dataclass(frozen=True, kw_only=True)
class SingleDomainSearcher(RandomSearcher):
    """Best single domain: each trial of round 0 has the largest feasible weight on one domain."""

    def propose(self, state: SearchState, round_: int, n: int) -> Array:
        """Propose mixtures of one domain each in round 0, for the largest domains first.

        If round 0 has more trials than there are domains, the other trials are drawn at random. All
        trials of later rounds are drawn at random, too.
        """
        space = state.problem.space
        largest = np.argsort(-space.natural_K, kind="stable")[:n]
        single_MK = space.project(np.eye(len(space.domains))[largest])
        if round_ > 0:
            single_MK = single_MK[:0]
        more_MK = RandomSearcher.propose(self, state, round_, n - len(single_MK))
        return np.vstack([single_MK, more_MK])

    def recommend(self, state: SearchState) -> Array:
        """Return the best single-domain mixture, shape (K,).

        If no trial of a single-domain mixture finished, return the best of all trained mixtures.
        """
        space, replicates = state.problem.space, state.trials.group_replicates()
        single_KK = space.project(np.eye(len(space.domains)))
        is_single_D = _is_any_of(replicates.weights_DK, single_KK)
        if is_single_D.any():
            replicates = replicates.select(is_single_D)
        return _choose_best(state, replicates)


@dataclass(frozen=True, kw_only=True)
class RegMixSearcher(RandomSearcher):
    """RegMix: one regression of the score; the mean of the best simulated mixtures is recommended.

    Every trial is a random draw, so rounds make no difference. Use it with the predictor
    `climb.predictor.lightgbm:LightGBMPredictor` and RegMix's settings.

    Source:
        RegMix (arXiv 2407.01492) and its notebook regression_fitting/regression.ipynb: simulated
        mixtures are Dirichlet draws with the token shares as parameters.
    """

    simulated: int = 100_000
    averaged: int = 128

    def recommend(self, state: SearchState) -> Array:
        """Return the mean of the simulated mixtures with the highest predicted scores, shape (K,).

        The field `simulated` is the number of mixtures that are drawn. The field `averaged` is the
        number of the best mixtures that are averaged.
        """
        random = state.problem.random(STAGE_RECOMMEND)
        drawn_NK = random.dirichlet(_dirichlet_parameters(state.problem.space), self.simulated)
        score_N = _fit_score(state).predict_mean(drawn_NK)
        best = np.argsort(-score_N, kind="stable")[: self.averaged]
        return np.asarray(drawn_NK[best].mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class OlmixSearcher(RandomSearcher):
    """Olmix: one law per metric; the optimum of the score minus a KL penalty is recommended.

    Every trial is a random draw, so rounds make no difference. Use it with the predictor
    `climb.predictor.loglinear:LogLinearPredictor`.

    Source:
        Olmix (arXiv 2602.12237): log-linear laws, an exact solver, and a penalty of 0.05 times the
        Kullback-Leibler divergence from the token shares.
    """

    kl_penalty: float = 0.05

    def recommend(self, state: SearchState) -> Array:
        """Return the optimum of the penalized score, shape (K,)."""
        problem = state.problem
        random = problem.random(STAGE_RECOMMEND)
        space = dataclasses.replace(problem.space, kl_penalty=self.kl_penalty)
        surrogate = problem.fit(state.trials)
        score = PenalizedScore(surrogate, space, None)
        drawn_NK = problem.sample(random, problem.cfg.candidates)
        return np.asarray(maximize(score, drawn_NK, state.trials.weights_TK, random)[0])


@dataclass(frozen=True, kw_only=True)
class ClimbSearcher(RandomSearcher):
    """CLIMB: trials are drawn at random from the best N of a pool; the pool's best is recommended.

    Use it with the predictor `climb.predictor.lightgbm:LightGBMPredictor`, fitted to the score.

    Source:
        arXiv 2504.13161, sections 3 and 4. The paper does not publish N; here it is as in NVIDIA's
        recipe: max(M^2, 128) for a round of M trials.
    """

    pool_setting: ClassVar[str] = "search.candidates"
    """Configuration key that sets the size of the pool, for messages."""

    def propose(self, state: SearchState, round_: int, n: int) -> Array:
        """Draw round 0 at random; later draw n at random from the N best candidates."""
        problem = state.problem
        random = problem.random(STAGE_PROPOSE, round_)
        if round_ == 0:
            return self.sample_first(n, problem, random)
        pool_NK = self.sample_pool(problem, random)
        score_N = _fit_score(state).predict_mean(pool_NK)
        best = np.argsort(-score_N, kind="stable")[: max(n * n, 128)]
        if len(best) < n:
            raise SearchError(
                f"the pool has {len(pool_NK)} mixtures, but a round needs {n}; raise "
                f"{self.pool_setting}"
            )
        return np.asarray(pool_NK[random.choice(best, size=n, replace=False)])

    def recommend(self, state: SearchState) -> Array:
        """Return the mixture of a pool with the highest predicted score, shape (K,)."""
        pool_NK = self.sample_pool(state.problem, state.problem.random(STAGE_RECOMMEND))
        return np.asarray(pool_NK[_fit_score(state).predict_mean(pool_NK).argmax()])

    def sample_first(self, n: int, problem: Problem, random: np.random.Generator) -> Array:
        """Draw the mixtures of the first round, shape (n, K)."""
        return problem.sample(random, n)

    def sample_pool(self, problem: Problem, random: np.random.Generator) -> Array:
        """Draw the pool of later rounds and of the recommendation, shape (N, K)."""
        return problem.sample(random, problem.cfg.candidates)


@dataclass(frozen=True, kw_only=True)
class UniformStartSearcher(ClimbSearcher):
    """CLIMB with a first round that is drawn uniformly from all mixtures.

    Source:
        arXiv 2504.13161, section 5: the ablation of the initial draw, random against Dirichlet.
    """

    def sample_first(self, n: int, problem: Problem, random: np.random.Generator) -> Array:
        """Draw from a Dirichlet distribution with all parameters 1, shape (n, K)."""
        return random.dirichlet(np.ones(len(problem.space.domains)), n)


@dataclass(frozen=True, kw_only=True)
class NvidiaSearcher(ClimbSearcher):
    """NVIDIA's recipe: like CLIMB, but the pool and the first round have different distributions.

    Use it with the predictor `climb.predictor.lightgbm:LightGBMPredictor` and the recipe's
    settings.

    Source:
        NVIDIA-NeMo/Curator, tutorials/text/nemotron-climb-data-curation, 5_mixture.py (Dirichlet
        concentrations at 15 log-spaced values, draws over the cap rejected, small weights set to 0)
        and 8_predict.py (a pool of Dirichlet draws with the token shares as parameters, no caps).
    """

    pool_setting: ClassVar[str] = "search.searcher.simulated"

    min_strength: float = 0.1
    max_strength: float = 5.0
    temperature: float = 0.5
    max_usage: float = 15.0
    minimum: float = 2e-4
    simulated: int = 100_000
    tries: int = 100
    """Number of draws per mixture, the recipe's sample_multiplier; tight caps reject most draws."""

    def sample_first(self, n: int, problem: Problem, random: np.random.Generator) -> Array:
        """Draw mixtures under the cap, shape (n, K).

        If too few draws are under the cap, draws over the cap are added; the caller projects them.
        """
        prior_K = _dirichlet_parameters(problem.space) ** self.temperature
        strengths = np.geomspace(self.min_strength, self.max_strength, 15)
        picked_N1 = random.choice(strengths, size=(n * self.tries, 1))
        gamma_NK = random.gamma(picked_N1 * prior_K / prior_K.sum()) + 1e-300
        drawn_NK = gamma_NK / gamma_NK.sum(axis=1, keepdims=True)
        cap_K = np.minimum(self.max_usage * problem.space.natural_K, 1.0)
        inside_N = (drawn_NK <= cap_K).all(axis=1)
        order = np.argsort(~inside_N, kind="stable")[:n]
        kept_MK = np.where(drawn_NK[order] < self.minimum, 0.0, drawn_NK[order])
        return np.asarray(kept_MK / kept_MK.sum(axis=1, keepdims=True))

    def sample_pool(self, problem: Problem, random: np.random.Generator) -> Array:
        """Draw from a Dirichlet distribution with the token shares as parameters, (N, K)."""
        return random.dirichlet(_dirichlet_parameters(problem.space), self.simulated)


def _choose_best(state: SearchState, replicates: Replicates) -> Array:
    """Choose the mixture with the best measured score, among own runs if there are any.

    Reused runs are left out, because they were not trained on the mixtures that they are mapped to.
    """
    is_own_D = replicates.tv_distance_D == 0.0
    if is_own_D.any():
        replicates = replicates.select(is_own_D)
    score_D = state.problem.required_objective.score(replicates.means_DQ)
    return np.asarray(replicates.weights_DK[score_D.argmax()])


def _is_any_of(one_MK: Array, others_NK: Array) -> NDArray[np.bool_]:
    """Return which mixtures are equal to one of the others, up to rounding, shape (M,)."""
    distance_MN = np.abs(one_MK[:, None] - others_NK).max(axis=2)
    return np.asarray((distance_MN < 10.0**-SAME_DECIMALS).any(axis=1))


def _dirichlet_parameters(space: FeasibleSet) -> Array:
    """Return the token shares as Dirichlet parameters, which must be positive."""
    return np.maximum(space.natural_K, 1e-6)


def _fit_score(state: SearchState) -> Surrogate:
    """Fit one predictor to the score itself, as the published methods do."""
    trials, problem = state.trials, state.problem
    scored = express_score(trials, problem.required_objective)
    return Surrogate.fit(scored, SCORE, problem.predictor, problem.repetition)
