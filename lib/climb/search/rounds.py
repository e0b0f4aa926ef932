"""What to train next: the mixtures of a round, as the searcher proposes them.

A fidelity is a plug-in that measures mixtures more cheaply than proxies, and less exactly.

Axes: M mixtures, N draws, T trials, K domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError, SearchError
from climb.mixture import FeasibleSet
from climb.search.acquisition import select_distant
from climb.search.parallel import use_one_blas_thread
from climb.search.problem import STAGE_FIDELITY, STAGE_PROPOSE, Problem, SearchState
from climb.search.trials import Trials

Array = NDArray[np.float64]

_DRAWS_PER_TRIAL = 16
"""Number of random mixtures that are drawn per trial of the first round. The trials are selected
from them so that they are far from each other. From many more draws, only extreme mixtures (corners
of the space) would be selected."""

_DRAWS_PER_MEASURED = 4
"""Draws for each mixture that a fidelity measures."""

_DRAWS_PER_ESTIMATE = 2
"""Factor for the number of draws if there are fidelities. Of these draws, one half is kept: those
with the highest estimated scores. The kept half still fills the whole feasible set, which the
predictor needs."""


def propose(trials: Trials, round_: int, problem: Problem) -> Array:
    """Choose the mixtures of a round.

    They depend on the finished trials of earlier rounds and on the seed alone. So a round that was
    interrupted proposes the same mixtures again. The order of trials or domains has no effect.

    Args:
        trials: all finished trials; those of this round and later ones are ignored.
        round_: 0 and up; it has `cfg.trials_per_round[round_]` mixtures.
        problem: the feasible set, the objective (None in round 0), and the plug-ins.

    Returns:
        Feasible mixtures, shape (M, K).

    Raises:
        SearchError: the round does not exist, the feasible set has too few distinct mixtures, or
            earlier rounds have fewer than 4 distinct mixtures.
        ComponentError: the searcher returned a wrong shape or invalid mixtures.
    """
    per_round = problem.cfg.trials_per_round
    if not 0 <= round_ < len(per_round):
        raise SearchError(
            f"round {round_} does not exist: search.trials_per_round {list(per_round)} has rounds "
            f"0 to {len(per_round) - 1}"
        )
    state = SearchState.from_trials(trials.select_before(round_), problem)
    return propose_batch(state, round_, per_round[round_])[:, state.restore_K]


@use_one_blas_thread
def propose_batch(state: SearchState, round_: int, n: int) -> Array:
    """Ask the searcher for n mixtures, shape (n, K), in the order of the state's domains.

    Raises:
        SearchError: see `propose`.
        ComponentError: see `propose`.
    """
    proposed_MK = state.problem.searcher.propose(state, round_, n)
    return project_proposals(proposed_MK, (n, len(state.restore_K)), state.problem)


def project_proposals(proposed_MK: Array, shape: tuple[int, ...], problem: Problem) -> Array:
    """Check what a searcher returned, and project it into the feasible set.

    Raises:
        ComponentError: another shape, or weights that are negative, not finite, or all 0.
    """
    proposed = np.asarray(proposed_MK, dtype=np.float64)
    name = f"the searcher {type(problem.searcher).__name__}"
    if proposed.shape != shape:
        raise ComponentError(
            f"{name} returned an array of shape {proposed.shape}; it must have shape {shape}"
        )
    is_valid = np.isfinite(proposed).all(axis=-1) & (proposed >= 0.0).all(axis=-1)
    is_valid &= proposed.sum(axis=-1) > 0.0
    if not is_valid.all():
        first = proposed.reshape(-1, shape[-1])[np.argmin(is_valid)]
        raise ComponentError(
            f"{name} returned a mixture with smallest weight {first.min():g} and largest weight "
            f"{first.max():g}; weights must be finite, non-negative and not all 0"
        )
    return problem.space.project(proposed)


def sample_first_round(n: int, problem: Problem, existing_TK: Array | None = None) -> Array:
    """Draw tempered Dirichlet mixtures in the feasible set, and select those that fill it best.

    Args:
        n: number of mixtures.
        problem: with its domains sorted by name.
        existing_TK: mixtures of earlier runs; the selection keeps away from them and from the
            baselines.

    Raises:
        SearchError: the feasible set has too few distinct mixtures.
    """
    drawn_NK = _draw_candidates(n * _DRAWS_PER_TRIAL, problem)
    existing_MK = problem.make_baselines()
    if existing_TK is not None:
        existing_MK = np.vstack([existing_MK, existing_TK])
    selected = select_distant(drawn_NK, existing_MK, n)
    require_count(selected, n, problem.space)
    return drawn_NK[selected]


def sample_measured(n: int, problem: Problem) -> Array:
    """Draw n mixtures that a fidelity measures; they fill the feasible set, corners included.

    Raises:
        SearchError: the feasible set has too few distinct mixtures.
    """
    random = problem.random(STAGE_FIDELITY)
    drawn_NK = problem.sample(random, n * _DRAWS_PER_MEASURED)
    selected = select_distant(drawn_NK, problem.make_baselines(), n)
    require_count(selected, n, problem.space, "`mixtures` of the fidelity in search.fidelities")
    return drawn_NK[selected]


def _draw_candidates(n: int, problem: Problem) -> Array:
    """Draw n mixtures; with fidelities, draw more and keep the n of the highest estimated score."""
    random = problem.random(STAGE_PROPOSE, 0)
    if problem.fidelities is None:
        return problem.sample(random, n)
    drawn_NK = problem.sample(random, _DRAWS_PER_ESTIMATE * n)
    score_N = problem.fidelities.rank(drawn_NK, problem.space.domains)
    return drawn_NK[np.argsort(-score_N, kind="stable")[:n]]


def require_count(
    selected: NDArray[np.int64],
    n: int,
    space: FeasibleSet,
    setting: str = "search.trials_per_round (climb propose: --n)",
) -> None:
    """Check that a selection has n mixtures.

    Args:
        selected: indices of the mixtures.
        n: number that is needed.
        space: for the message.
        setting: what sets n, for the message.

    Raises:
        SearchError: the selection has fewer than n mixtures.
    """
    if len(selected) < n:
        raise SearchError(
            f"only {len(selected)} mixtures were found that differ from each other and from "
            f"earlier ones, but {n} are needed ({len(space.domains)} domains); relax the "
            "constraints (search.constraints, search.max_epochs, search.max_share_ratio), or lower "
            f"{setting}"
        )
