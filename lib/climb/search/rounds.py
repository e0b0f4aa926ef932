"""What to train next: the anchors, and the mixtures that the searcher proposes.

Axes: M mixtures, N draws, K domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError, SearchError
from climb.mixture import FeasibleSet
from climb.search.searcher import STAGE_PROPOSE, Problem, ordered
from climb.search.trials import Trials

Array = NDArray[np.float64]

NEAREST = 1e-3
"""Two mixtures of a round are at least so far apart (Hellinger), or one of them teaches nothing."""

_DRAWS_PER_TRIAL = 16
"""Draws among which the first round chooses; more would choose corners of the space alone."""


def anchors(space: FeasibleSet, n_seeds: int) -> list[tuple[str, Array, int]]:
    """Natural and uniform proportions with their seeds: what an answer must beat, and the noise."""
    mixtures = (("natural", space.project(space.natural_K)), ("uniform", space.uniform_K))
    return [(method, weights_K, seed) for method, weights_K in mixtures for seed in range(n_seeds)]


def propose(trials: Trials, round_: int, problem: Problem) -> Array:
    """Choose the mixtures of a round.

    They depend on the finished trials of earlier rounds and on the seed alone, so a round that was
    cut short proposes the same mixtures again; and not on the order of trials or domains.

    Args:
        trials: all finished trials; those of this round and later are not looked at.
        round_: 0 and up; its number of mixtures is `cfg.trials_per_round[round_]`.
        problem: the set, the objective (None in round 0), the recipes.

    Returns:
        Feasible mixtures, shape (M, K).

    Raises:
        SearchError: no such round, the set holds too few distinct mixtures, or earlier rounds left
            fewer than 4 distinct ones.
        ComponentError: the searcher's mixtures have a wrong shape, or are none.
    """
    per_round = problem.cfg.trials_per_round
    if not 0 <= round_ < len(per_round):
        raise SearchError(
            f"round {round_} is not among the {len(per_round)} rounds of "
            f"search.trials_per_round {list(per_round)}"
        )
    known, by_name, back_K = ordered(trials.before(round_), problem)
    n = per_round[round_]
    wanted_MK = by_name.searcher.propose(known, round_, n, by_name)
    return kept_inside(wanted_MK, (n, len(back_K)), by_name)[:, back_K]


def kept_inside(wanted_MK: Array, shape: tuple[int, ...], problem: Problem) -> Array:
    """What a searcher returned, checked and moved into the feasible set.

    Raises:
        ComponentError: another shape, or weights that are negative, not finite, or all 0.
    """
    wanted = np.asarray(wanted_MK, dtype=np.float64)
    usable = wanted.shape == shape and np.isfinite(wanted).all() and bool((wanted >= 0.0).all())
    if not usable or not (wanted.sum(axis=-1) > 0.0).all():
        raise ComponentError(
            f"the searcher {type(problem.searcher).__name__} returned an array of shape "
            f"{wanted.shape} for {shape}, the smallest weight {np.min(wanted, initial=0.0)}; "
            "mixtures are finite, not negative, and not 0 everywhere"
        )
    return problem.space.project(wanted)


def first_round(n: int, problem: Problem, known_TK: Array | None = None) -> Array:
    """Tempered Dirichlet draws inside the set, and among them those that fill it best.

    Args:
        n: mixtures wanted.
        problem: with its domains in the order of their names.
        known_TK: mixtures that were run already, beside natural and uniform proportions.

    Raises:
        SearchError: the set holds too few distinct mixtures.
    """
    space = problem.space
    drawn_NK = problem.draw(problem.random(STAGE_PROPOSE, 0), n * _DRAWS_PER_TRIAL)
    taken_MK = np.stack([space.project(space.natural_K), space.uniform_K])
    if known_TK is not None:
        taken_MK = np.vstack([taken_MK, known_TK])
    return drawn_NK[enough(spread_out(drawn_NK, taken_MK, n), n, space)]


def spread_out(drawn_NK: Array, taken_MK: Array, n: int) -> NDArray[np.int64]:
    """Choose n draws that lie far from each other and from what is taken: indices, in order.

    One after the other, the draw that lies farthest from everything chosen. Distances are between
    square roots of weights (Hellinger), in which small shares count.
    """
    roots_NK = np.sqrt(drawn_NK)
    apart_N = np.full(len(drawn_NK), np.inf)
    for taken_K in np.sqrt(taken_MK):
        apart_N = np.minimum(apart_N, np.square(roots_NK - taken_K).sum(axis=1))
    chosen: list[int] = []
    while len(chosen) < n and apart_N.max() > NEAREST**2:
        chosen.append(int(apart_N.argmax()))
        apart_N = np.minimum(apart_N, np.square(roots_NK - roots_NK[chosen[-1]]).sum(axis=1))
    return np.array(chosen, dtype=np.int64)


def enough(chosen: NDArray[np.int64], n: int, space: FeasibleSet) -> NDArray[np.int64]:
    """The choice, if it is one of n mixtures.

    Raises:
        SearchError: it is not.
    """
    if len(chosen) < n:
        raise SearchError(
            f"the feasible set of {len(space.domains)} domains gave {len(chosen)} distinct "
            f"mixtures of {n} wanted; its limits leave too little choice (raise max_epochs or "
            "max_share_ratio, or lower search.trials_per_round)"
        )
    return chosen
