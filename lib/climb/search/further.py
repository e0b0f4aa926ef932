"""What a further round would be worth, before it is trained.

Axes: C candidates for the answer, N trials of the round, Q metrics, Z imagined outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from climb.errors import SearchError
from climb.predictor import JointPredict, Predict
from climb.search.calibration import Calibration, judge
from climb.search.height import Height, fitted
from climb.search.promising import around, climb_to_top, promising
from climb.search.rounds import kept_inside
from climb.search.searcher import STAGE_FURTHER, STAGE_PROPOSE, Problem
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
    worth: float
    """Expected rise of the answer's true score."""


def further(known: Trials, height: Height, calibration: Calibration, problem: Problem) -> Further:
    """What one more round, as large as the last that is configured, would be worth.

    The knowledge gradient of a batch: the searcher proposes the round, the fitted predictors
    imagine its outcomes (prediction and seed noise), and every outcome moves the predicted scores
    of the candidates; the mean rise of the best is what the round is worth. Spreads are first
    inflated to what held-out mixtures show. Predictors that know no covariance between mixtures
    learn nothing about one from another here: then the worth is understated.

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
    worth = _worth(known, n, height, calibration, problem)
    return Further(n, worth)


def worth_of_round(trials: Trials, round_: int, problem: Problem) -> float:
    """What a configured round would be worth before it is trained; see `further`.

    It depends on the trials of earlier rounds alone, as the round's proposals do.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    ordered, back_K = problem.by_name()
    known = trials.before(round_).unanswered().reordered(np.argsort(back_K))
    height = fitted(known, ordered)
    held_out = judge(height.surrogate, known, ordered.predictor, ordered.cfg.seed)
    n = ordered.cfg.trials_per_round[round_]
    return _worth(known, n, height, held_out.calibration, ordered)


def _worth(
    known: Trials, n: int, height: Height, calibration: Calibration, problem: Problem
) -> float:
    next_round = int(known.rounds_T.max()) + 1
    try:
        asked_NK = problem.searcher.propose(known, next_round, n, problem)
    except SearchError:  # the set holds too few other mixtures: nothing is left to learn
        return 0.0
    asked_NK = kept_inside(asked_NK, (n, len(problem.space.domains)), problem)
    candidates_CK = _candidates(known, height, problem)
    inflation_C = calibration.inflation.at(height.surrogate.mean(candidates_CK))
    root_CX = inflation_C[:, None] * learned(height, candidates_CK, asked_NK)
    normal_XZ = problem.random(STAGE_FURTHER).normal(size=(root_CX.shape[1], _OUTCOMES))
    height_C = calibration.slope * height(candidates_CK)
    risen_Z = (height_C[:, None] + root_CX @ normal_XZ).max(axis=0)
    return max(float(risen_Z.mean() - height_C.max()), 0.0)


def learned(height: Height, candidates_CK: Array, asked_NK: Array) -> Array:
    """A root of the covariance of how the candidates' predicted scores will move, (C, N * Q).

    Metrics are learned about independently of each other.
    """
    surrogate, n = height.surrogate, len(asked_NK)
    noise_Q = np.nan_to_num(surrogate.repeats.noise_Q, nan=0.0)
    roots = []
    for predict, sign, noise in zip(surrogate.predicts_Q, surrogate.signs_Q, noise_Q, strict=True):
        own = noise or (predict.noise if isinstance(predict, JointPredict) else 0.0)
        covariance = _covariance(predict, np.vstack([asked_NK, candidates_CK]))
        asked_NN = covariance[:n, :n]
        jitter = 1e-9 * float(np.trace(asked_NN)) / n + 1e-300
        lower_NN = cholesky(asked_NN + np.diag(np.full(n, own**2 + jitter)), lower=True)
        roots.append(sign * solve_triangular(lower_NN, covariance[:n, n:], lower=True).T)
    return np.hstack(roots)


def _covariance(predict: Predict, weights_MK: Array) -> Array:
    if isinstance(predict, JointPredict):
        return predict.joint(weights_MK)[1]
    return np.diag(np.square(predict(weights_MK)[1]))


def _candidates(known: Trials, height: Height, problem: Problem) -> Array:
    """Where the best mixture may be: the tops, and what promises most in one place and another.

    By the prediction alone all of them would lie around one top, where one outcome moves all
    alike and none overtakes another.
    """
    random = problem.random(STAGE_PROPOSE, STAGE_FURTHER)
    drawn_NK = problem.draw(random, min(problem.cfg.candidates, 2_000))
    tops_SK = climb_to_top(drawn_NK, known, height, random)
    near_NK = around(tops_SK, problem.space, 1_000, random)
    pool_NK = np.vstack([near_NK, drawn_NK])
    hope_N = _HOPE * height.surrogate.score(pool_NK)[1]
    n = _CANDIDATES - len(tops_SK)
    best = promising(pool_NK, height(pool_NK), hope_N, known.weights_TK, n)
    return np.vstack([tops_SK, pool_NK[best]])
