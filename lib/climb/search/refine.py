"""Climb from good mixtures to the best one, inside the feasible set, for any predictor.

Trees have no gradient and a process has many hills, so this is a pattern search: steps of every
size from several starts at once, each step projected back into the set.

Axes: S starts, J steps tried from each, K domains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet

Array = NDArray[np.float64]

_TRIED = 48
"""Steps tried from each start in an iteration."""

_ITERATIONS = 80
"""Rounds of steps at most."""

_SMALLEST = 2e-3
"""Step, in nats of a weight, at which a start counts as arrived."""


def refine(
    starts_SK: Array,
    space: FeasibleSet,
    height: Callable[[Array], Array],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Climb from each start; never goes down.

    Args:
        starts_SK: feasible mixtures.
        space: the set to stay in.
        height: mixtures (M, K) -> what to make large (M,).
        rng: where the steps come from.

    Returns:
        The mixtures reached, and their heights; best first.
    """
    here_SK = np.array(starts_SK, dtype=np.float64)
    top_S = height(here_SK)
    step_S = np.full(len(here_SK), 1.0)
    for _ in range(_ITERATIONS):
        going = np.flatnonzero(step_S > _SMALLEST)
        if not len(going):
            break
        tried_MK = space.project(_steps(here_SK[going], step_S[going], space, rng))
        tried = height(tried_MK).reshape(len(going), _TRIED)
        best_S = tried.argmax(axis=1)
        reached_S = tried[np.arange(len(going)), best_S]
        up_S = reached_S > top_S[going]
        chosen = tried_MK.reshape(len(going), _TRIED, -1)[np.arange(len(going)), best_S]
        here_SK[going[up_S]], top_S[going[up_S]] = chosen[up_S], reached_S[up_S]
        step_S[going] *= np.where(up_S, 1.3, 0.7)
        step_S = np.minimum(step_S, 2.0)
    order = np.argsort(-top_S, kind="stable")
    return here_SK[order], top_S[order]


def _steps(here_SK: Array, step_S: Array, space: FeasibleSet, rng: np.random.Generator) -> Array:
    """Half the steps scale random domains, half hand weight from one domain to another."""
    n_starts, n_domains = here_SK.shape
    half = _TRIED // 2
    nudge = rng.normal(size=(n_starts, half, n_domains)) * step_S[:, None, None]
    share = rng.choice([0.15, 0.4, 1.0], size=(n_starts, half, 1))
    nudge *= rng.random(nudge.shape) < share
    # A domain at 0 cannot grow by scaling: it starts again from a small part of its natural share.
    scaled = (here_SK[:, None, :] + 0.02 * space.natural_K * np.abs(nudge)) * np.exp(nudge)
    moved = np.repeat(here_SK[:, None, :], _TRIED - half, axis=1)
    row, column = np.ogrid[:n_starts, : _TRIED - half]
    giver = rng.integers(n_domains, size=row.shape[:1] + column.shape[1:])
    taker = rng.integers(n_domains, size=giver.shape)
    part = rng.random(giver.shape) * np.minimum(step_S[:, None], 1.0)
    given = moved[row, column, giver] * part
    moved[row, column, giver] -= given
    moved[row, column, taker] += given
    steps_MK: Array = np.concatenate([scaled, moved], axis=1).reshape(-1, n_domains)
    return steps_MK
