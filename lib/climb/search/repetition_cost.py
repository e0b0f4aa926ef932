"""Measure what repetition costs: cross-validation chooses one of several decays, or "no cost".

Axes: T trials, D distinct runs, C decays.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.mixture import SAME_DECIMALS
from climb.search.problem import Problem
from climb.search.repetition import count_epochs
from climb.search.surrogate import SCORE, Surrogate, express_score
from climb.search.trials import Trials

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

DECAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Decays that are compared with "no cost"."""

REPEATED = 1.5
"""A run counts as repeating a domain if it reads the domain at least this many times."""

MIN_REPEATING = 8
"""A measurement needs this many distinct mixtures that repeat a domain."""

_STANDARD_ERRORS = 2.0
"""A cost of repetition is accepted if it lowers the absolute error of the predictions by at least
this many standard errors. Squared errors are not used, because they depend on a few extreme
mixtures. In simulated runs, a test of squared errors detected a cost less often than a test of
absolute errors."""


@dataclass(frozen=True)
class RepetitionCost:
    """What runs say about the cost of repeating text."""

    n_repeating: int
    """Distinct mixtures that repeat a domain."""

    max_epochs: float
    """Largest number of epochs of any domain in any run."""

    decay: float | None = None
    """Measured decay; None: the runs do not repeat enough, or show no cost beyond noise."""

    decays: tuple[float, ...] = ()
    """Decays whose error is less than two standard errors above that of `decay`."""


def measure_repetition(trials: Trials, problem: Problem) -> RepetitionCost | None:
    """Measure what repetition costs, from the errors of the score in cross-validation.

    Args:
        trials: with the tokens of the runs, and the domains in the order of the problem.
        problem: has the tokens of the domains, the objective, the predictor and the seed.

    Returns:
        The measured cost; None if the tokens of runs or of domains are unknown.
    """
    # The order of domains must not change the folds of the cross-validation.
    problem, restore_K = problem.sort_domains()
    trials = trials.reorder_domains(np.argsort(restore_K))
    available_K = problem.space.tokens_K
    if trials.tokens_T is None or np.isnan(available_K).any():
        return None
    epochs_TK = count_epochs(trials.weights_TK, trials.tokens_T, available_K)
    is_repeating_T = (epochs_TK >= REPEATED).any(axis=1)
    mixtures_TK = np.round(trials.weights_TK[is_repeating_T], SAME_DECIMALS)
    n_repeating = len(np.unique(mixtures_TK, axis=0))
    cost = RepetitionCost(n_repeating, float(epochs_TK.max(initial=0.0)))
    if n_repeating < MIN_REPEATING:
        return cost
    scored = express_score(trials, problem.required_objective)
    logger.info("measuring the cost of repeated text: %d decays", len(DECAYS))
    return _choose_decay(cost, [_measure_errors(scored, problem, d) for d in (None, *DECAYS)])


def _measure_errors(scored: Trials, problem: Problem, decay: float | None) -> Array:
    """Return the absolute error of every distinct run in cross-validation, shape (D,)."""
    repetition = dataclasses.replace(problem, decay=decay).repetition
    surrogate = Surrogate.fit(scored, SCORE, problem.predictor, repetition)
    means_D1, _ = surrogate.predict_held_out(problem.predictor, problem.cfg.seed)
    return np.asarray(np.abs(means_D1 - surrogate.replicates.means_DQ)[:, 0])


def _choose_decay(cost: RepetitionCost, errors: list[Array]) -> RepetitionCost:
    """Choose the decay with the smallest error, if the error without a cost is clearly larger."""
    without_D, *rest = errors
    error_CD = np.stack(rest)
    best = int(error_CD.mean(axis=1).argmin())
    if _compare(without_D, error_CD[best]) < _STANDARD_ERRORS:
        return cost
    is_close = [_compare(error_D, error_CD[best]) < _STANDARD_ERRORS for error_D in error_CD]
    close = tuple(decay for decay, near in zip(DECAYS, is_close, strict=True) if near)
    return RepetitionCost(cost.n_repeating, cost.max_epochs, DECAYS[best], close)


def _compare(one_D: Array, other_D: Array) -> float:
    """Return the mean of one_D - other_D, divided by the standard error of this mean.

    If the standard error is 0, the result is 0.
    """
    difference_D = one_D - other_D
    error = float(difference_D.std(ddof=1)) / np.sqrt(len(difference_D))
    return float(difference_D.mean()) / error if error > 0.0 else 0.0
