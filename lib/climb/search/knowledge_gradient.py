"""The expected gain of a further round, before it is trained.

Axes: C candidates for the recommendation, N trials of the round, M = N + C mixtures (the trials of
the round, then the candidates), Q metrics, Z simulated outcomes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from climb.errors import SearchError
from climb.search.acquisition import INFEASIBLE, select_batch
from climb.search.calibration import Calibration, cross_validate
from climb.search.optimize import maximize, sample_around
from climb.search.parallel import use_one_blas_thread
from climb.search.problem import STAGE_FURTHER, Problem, SearchState
from climb.search.rounds import propose_batch
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

_CANDIDATES = 300
"""Number of mixtures whose scores are compared after each simulated outcome."""

_EXPLORATION = 2.0
"""Number of standard deviations added to the mean when the candidates are selected."""

_OUTCOMES = 1024
"""Number of simulated outcomes of the round."""


@dataclass(frozen=True)
class FurtherRound:
    """What a round that was not trained is expected to gain."""

    n_trials: int
    expected_gain: float | None
    """Expected increase of the recommendation's true score; None if it cannot be computed, because
    the predictor has no covariance between mixtures."""


def estimate_further_round(state: SearchState, calibration: Calibration) -> FurtherRound:
    """Estimate the expected gain of one more round, as large as the last configured one.

    This is the knowledge gradient of a batch. The searcher proposes the round. Its outcomes are
    simulated with the fitted predictors: an outcome includes prediction error and observation
    noise. Every outcome changes the predicted scores of the candidates. The result is the highest
    predicted score after an outcome, averaged over outcomes, minus the highest predicted score now.
    Standard deviations are first inflated to match the errors in cross-validation.

    Args:
        state: what the search knows.
        calibration: of the score, from cross-validation.

    Source:
        Knowledge gradient: Frazier, Powell and Dayanik (2009); of a batch: Wu and Frazier (arXiv
        1606.04414), here on a fixed set of candidates.
    """
    n = state.problem.cfg.trials_per_round[-1]
    logger.info("estimating the expected gain of %d more trials", n)
    next_round = int(state.trials.rounds_T.max()) + 1
    return FurtherRound(n, _estimate_gain(state, next_round, n, calibration))


@use_one_blas_thread
def estimate_gain_of_round(trials: Trials, round_: int, problem: Problem) -> float | None:
    """Estimate the expected gain of a configured round before it is trained.

    Like the proposals of the round, the estimate depends only on the trials of earlier rounds; see
    `estimate_further_round`.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    state = SearchState.from_trials(trials.select_before(round_), problem)
    cfg = state.problem.cfg
    surrogate = state.penalized.surrogate
    validation = cross_validate(surrogate, state.trials, state.problem.predictor, cfg.seed)
    n = cfg.trials_per_round[round_]
    return _estimate_gain(state, round_, n, validation.score.calibration)


def _estimate_gain(
    state: SearchState, round_: int, n: int, calibration: Calibration
) -> float | None:
    score, space = state.penalized, state.problem.space
    surrogate = score.surrogate
    if not surrogate.predicts.has_covariances:
        return None
    try:
        proposed_NK = propose_batch(state, round_, n)
    except SearchError:  # too few feasible mixtures are untried, so a round cannot gain anything
        return 0.0
    candidates_CK = _make_candidates(state)
    candidates_CK = candidates_CK[score(candidates_CK) > -INFEASIBLE]
    logger.info("simulating %d outcomes of a round", _OUTCOMES)
    root_CN = predict_changes(surrogate, candidates_CK, proposed_NK, calibration)
    # Every random number is used with both signs, so the mean change of a candidate's score is 0.
    # Otherwise, the gain could be above 0 even if there were only one mixture to recommend.
    normal_NZ = state.problem.random(STAGE_FURTHER).normal(size=(n, _OUTCOMES // 2))
    normal_NZ = np.hstack([normal_NZ, -normal_NZ])
    # The slope shrinks predictions to what cross-validation supports. The KL penalty is exact, so
    # it is not shrunk.
    score_C = calibration.slope * surrogate.predict_mean(candidates_CK) - space.penalty(
        candidates_CK
    )
    best_Z = (score_C[:, None] + root_CN @ normal_NZ).max(axis=0)
    return max(float(best_Z.mean() - score_C.max()), 0.0)


def predict_changes(
    surrogate: Surrogate, candidates_CK: Array, proposed_NK: Array, calibration: Calibration
) -> Array:
    """Return a matrix (C, N) that maps standard normal numbers to changes of predicted scores.

    The round changes the predicted scores of the candidates. The returned matrix is a square root
    of the covariance matrix of these changes. The errors of different metrics count as fully
    correlated, as in `Surrogate.combine` and in the measurement of the inflation.
    """
    every_MK = np.vstack([proposed_NK, candidates_CK])
    factor_M = calibration.inflate(every_MK, surrogate.predict_mean(every_MK))
    n = len(proposed_NK)
    spread_N = calibration.spread_at(proposed_NK)
    noise_Q = surrogate.replicates.known_noise_Q
    root_CN = np.zeros((len(candidates_CK), n))
    inferred_Q = surrogate.predicts.noise_Q
    for q, (sign, noise) in enumerate(zip(surrogate.weights_Q, noise_Q, strict=True)):
        covariance_MM = surrogate.predict_covariance(q, every_MK)
        covariance_MM = covariance_MM * np.outer(factor_M, factor_M)
        # Noise that a predictor infers is inflated like the errors. Measured noise is multiplied
        # only by `spread_at`.
        own_N = noise * spread_N if noise else factor_M[:n] * inferred_Q[q]
        proposed_NN = covariance_MM[:n, :n]
        jitter = 1e-9 * float(np.trace(proposed_NN)) / n + 1e-300
        lower_NN = cholesky(proposed_NN + np.diag(np.square(own_N) + jitter), lower=True)
        root_CN += abs(sign) * solve_triangular(lower_NN, covariance_MM[:n, n:], lower=True).T
    return root_CN


def _make_candidates(state: SearchState) -> Array:
    """Collect mixtures that may become the best: optima, and diverse ones of high mean + std.

    If candidates were selected by their means alone, all would be near one optimum. An outcome
    would then change the scores of all by the same amount, and none would overtake another.
    """
    problem, score = state.problem, state.penalized
    random = problem.random(STAGE_FURTHER, 1)
    drawn_NK = problem.sample(random, min(problem.cfg.candidates, 2_000))
    optima_SK = maximize(score, drawn_NK, state.trials.weights_TK, random)
    near_NK = sample_around(optima_SK, problem.space, 1_000, random)
    pool_NK = np.vstack([near_NK, drawn_NK])
    std_N = _EXPLORATION * score.surrogate.predict_score(pool_NK)[1]
    n = _CANDIDATES - len(optima_SK)
    best = select_batch(pool_NK, score(pool_NK), std_N, state.trials.weights_TK, n)
    return np.vstack([optima_SK, pool_NK[best]])
