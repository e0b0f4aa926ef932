"""Pattern search on the simplex: from good mixtures to better ones, for any predictor.

Trees have no gradient, and a Gaussian process has many local optima. So steps of every size are
tried from several starts at once, and each step is projected into the feasible set. The search ends
near an optimum, at a mixture that depends on its path; `climb.search.local_search` continues there.

A step is taken only if it increases the score by more than `min_increase`, and by more than
rounding can change it. A start uses the same random numbers whatever happens to the other starts
and to the caller's generator.

Axes: S starts, J steps that are tried from each start, K domains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet

Array = NDArray[np.float64]

_STEPS = 48
"""Number of steps that are tried from each start in an iteration."""

_MAX_ITERATIONS = 80

_ROUNDING = 1e-13
"""Share of a score by which two computations of it may differ."""

_MIN_STEP = 2e-3
"""A start has converged if its step, in nats (logarithm of a weight), is at most this."""


def pattern_search(
    starts_SK: Array,
    space: FeasibleSet,
    score: Callable[[Array], Array],
    random: np.random.Generator,
    min_increase: float = 0.0,
) -> tuple[Array, Array]:
    """Increase the score from each start; it never decreases.

    Args:
        starts_SK: feasible mixtures.
        space: the feasible set; every step is projected into it.
        score: mixtures (M, K) -> values to maximize (M,).
        random: parent of the generator of the random steps; its own numbers are not used.
        min_increase: a step must gain more than this, and more than rounding.

    Returns:
        The mixtures reached (S, K), and their scores (S,), best first.
    """
    (step_random,) = random.spawn(1)
    current_SK = np.array(starts_SK, dtype=np.float64)
    score_S, step_S = score(current_SK), np.full(len(current_SK), 1.0)
    for _ in range(_MAX_ITERATIONS):
        active = np.flatnonzero(step_S > _MIN_STEP)
        if not len(active):
            break
        steps_SJK = _make_steps(current_SK, step_S, space, step_random)
        tried_MK = space.project(steps_SJK[active].reshape(-1, current_SK.shape[1]))
        tried_SJ = score(tried_MK).reshape(len(active), _STEPS)
        tie_S = np.maximum(min_increase, _ROUNDING * np.abs(score_S[active]))
        best_S = _choose_steps(tried_SJ, tie_S)
        reached_S = tried_SJ[np.arange(len(active)), best_S]
        better_S = reached_S > score_S[active] + tie_S
        chosen_SK = tried_MK.reshape(len(active), _STEPS, -1)[np.arange(len(active)), best_S]
        current_SK[active[better_S]] = chosen_SK[better_S]
        score_S[active[better_S]] = reached_S[better_S]
        step_S[active] *= np.where(better_S, 1.3, 0.7)
        step_S = np.minimum(step_S, 2.0)
    order = np.argsort(-score_S, kind="stable")
    return current_SK[order], score_S[order]


def _choose_steps(score_SJ: Array, tie_S: Array) -> NDArray[np.int64]:
    """For each start, choose the first step whose score is within a tie of the highest, (S,).

    Rounding must not choose among steps of equal scores.
    """
    threshold_S1 = (score_SJ.max(axis=1) - tie_S)[:, None]
    return np.asarray((score_SJ >= threshold_S1).argmax(axis=1))


def _make_steps(
    current_SK: Array, step_S: Array, space: FeasibleSet, random: np.random.Generator
) -> Array:
    """Make the steps of every start, (S, J, K).

    Half of them scale random domains, half move weight from one domain to another.
    """
    n_starts, n_domains = current_SK.shape
    half = _STEPS // 2
    factor = random.normal(size=(n_starts, half, n_domains)) * step_S[:, None, None]
    share = random.choice([0.15, 0.4, 1.0], size=(n_starts, half, 1))
    factor *= random.random(factor.shape) < share
    # A domain of weight 0 cannot grow by scaling: it starts from a small part of its token share.
    small = 0.02 * space.natural_K * np.abs(factor)
    scaled = (current_SK[:, None, :] + small) * np.exp(factor)
    moved = np.repeat(current_SK[:, None, :], _STEPS - half, axis=1)
    row, column = np.ogrid[:n_starts, : _STEPS - half]
    source = random.integers(n_domains, size=row.shape[:1] + column.shape[1:])
    target = random.integers(n_domains, size=source.shape)
    part = random.random(source.shape) * np.minimum(step_S[:, None], 1.0)
    amount = moved[row, column, source] * part
    moved[row, column, source] -= amount
    moved[row, column, target] += amount
    return np.concatenate([scaled, moved], axis=1)
