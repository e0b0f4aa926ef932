"""What a further round would be worth, before it is trained.

Axes: C candidates for the answer, N trials of the round, M both, Q metrics, Z imagined outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from climb.errors import SearchError
from climb.predictor import JointPredict
from climb.search.calibration import Calibration, Inflation, judge
from climb.search.height import GUARDED, Height, fitted
from climb.search.promising import around, climb_to_top, promising
from climb.search.rounds import kept_inside
from climb.search.searcher import STAGE_FURTHER, Problem, ordered
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]

_CANDIDATES = 300
"""Mixtures among which an imagined outcome may find a new optimum."""

_HOPE = 2.0
"""Spreads added to the mean when those are chosen."""

_OUTCOMES = 1024
"""Imagined outcomes of the round."""


@dataclass(frozen=True)
class Further:
    """What a round that was not trained would be worth."""

    n_trials: int
    worth: float | None
    """Expected rise of the answer's true score; None where the predictor cannot say."""


def further(known: Trials, height: Height, calibration: Calibration, problem: Problem) -> Further:
    """What one more round, as large as the last that is configured, would be worth.

    The knowledge gradient of a batch: the searcher proposes the round, the fitted predictors
    imagine its outcomes (prediction and seed noise), and every outcome moves the predicted scores
    of the candidates; the mean rise of the best is what the round is worth. Spreads are first
    inflated to what held-out mixtures show. A predictor that knows no covariance between mixtures
    does not know what one teaches about another: then nobody knows the worth.

    Args:
        known: trials with their domains in the order of their names, as in `problem`.
        height: fitted to them.
        calibration: of the score, from held-out mixtures.
        problem: what is searched.

    Source:
        Knowledge gradient: Frazier, Powell and Dayanik (2009); of a batch: Wu and Frazier (arXiv
        1606.04414), here on a fixed set of candidates.
    """
    n = problem.cfg.trials_per_round[-1]
    return Further(n, _worth(known, n, height, calibration, problem))


def worth_of_round(trials: Trials, round_: int, problem: Problem) -> float | None:
    """What a configured round would be worth before it is trained; see `further`.

    It depends on the trials of earlier rounds alone, as the round's proposals do.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    known, by_name, _ = ordered(trials.before(round_), problem)
    height = fitted(known, by_name)
    held_out = judge(height.surrogate, known, by_name.predictor, by_name.cfg.seed)
    n = by_name.cfg.trials_per_round[round_]
    return _worth(known, n, height, held_out.score.calibration, by_name)


def _worth(
    known: Trials, n: int, height: Height, calibration: Calibration, problem: Problem
) -> float | None:
    surrogate, space = height.surrogate, problem.space
    if not all(isinstance(predict, JointPredict) for predict in surrogate.predicts_Q):
        return None
    next_round = int(known.rounds_T.max()) + 1
    try:
        asked_NK = problem.searcher.propose(known, next_round, n, problem)
    except SearchError:  # the set holds too few other mixtures: nothing is left to learn
        return 0.0
    asked_NK = kept_inside(asked_NK, (n, len(space.domains)), problem)
    candidates_CK = _candidates(known, height, problem)
    candidates_CK = candidates_CK[height(candidates_CK) > -GUARDED]
    root_CN = learned(surrogate, candidates_CK, asked_NK, calibration.inflation)
    normal_NZ = problem.random(STAGE_FURTHER).normal(size=(n, _OUTCOMES))
    # Predictions count as far as they came true; what pulls towards natural is known exactly.
    height_C = calibration.slope * surrogate.mean(candidates_CK) - space.penalty(candidates_CK)
    risen_Z = (height_C[:, None] + root_CN @ normal_NZ).max(axis=0)
    return max(float(risen_Z.mean() - height_C.max()), 0.0)


def learned(
    surrogate: Surrogate, candidates_CK: Array, asked_NK: Array, inflation: Inflation
) -> Array:
    """A root of the covariance of how the candidates' predicted scores will move, (C, N).

    Errors of metrics are taken as fully correlated, as `Surrogate.combine` takes them and as
    `inflation` was measured.
    """
    every_MK = np.vstack([asked_NK, candidates_CK])
    factor_M = inflation.at(surrogate.mean(every_MK))
    n = len(asked_NK)
    noise_Q = np.nan_to_num(surrogate.repeats.noise_Q, nan=0.0)
    root_CN = np.zeros((len(candidates_CK), n))
    for predict, sign, noise in zip(surrogate.predicts_Q, surrogate.signs_Q, noise_Q, strict=True):
        assert isinstance(predict, JointPredict)
        covariance_MM = predict.joint(every_MK)[1] * np.outer(factor_M, factor_M)
        # What fits infer of noise is inflated with the rest; what repeats show is known.
        own_N = np.full(n, noise) if noise else factor_M[:n] * predict.noise
        asked_NN = covariance_MM[:n, :n]
        jitter = 1e-9 * float(np.trace(asked_NN)) / n + 1e-300
        lower_NN = cholesky(asked_NN + np.diag(np.square(own_N) + jitter), lower=True)
        root_CN += abs(sign) * solve_triangular(lower_NN, covariance_MM[:n, n:], lower=True).T
    return root_CN


def _candidates(known: Trials, height: Height, problem: Problem) -> Array:
    """Where the best mixture may be: the tops, and what promises most in one place and another.

    By the prediction alone all of them would lie around one top, where one outcome moves all
    alike and none overtakes another.
    """
    random = problem.random(STAGE_FURTHER, 1)
    drawn_NK = problem.draw(random, min(problem.cfg.candidates, 2_000))
    tops_SK = climb_to_top(drawn_NK, known, height, random)
    near_NK = around(tops_SK, problem.space, 1_000, random)
    pool_NK = np.vstack([near_NK, drawn_NK])
    hope_N = _HOPE * height.surrogate.score(pool_NK)[1]
    n = _CANDIDATES - len(tops_SK)
    best = promising(pool_NK, height(pool_NK), hope_N, known.weights_TK, n)
    return np.vstack([tops_SK, pool_NK[best]])
