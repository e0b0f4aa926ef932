"""What to train next: the first round fills the space, later ones ask the predictor.

Axes: M mixtures, N candidates, K domains, T trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.refine import refine
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]

STAGE_PROPOSE, STAGE_ANSWER = 1, 2
"""Keep the random numbers of proposals and of the answer apart."""

_DRAWS_PER_TRIAL = 16
"""Draws among which the first round chooses; more would choose corners of the space alone."""

_STARTS = 12
"""Mixtures that are climbed from."""

_BOLDNESS = 1.0
"""Spreads added to the mean when a trial is chosen."""

_NEAREST = 1e-3
"""Two mixtures of a round are at least so far apart (Hellinger), or one of them teaches nothing."""


def anchors(space: FeasibleSet, n_seeds: int) -> list[tuple[str, Array, int]]:
    """Natural and uniform proportions with their seeds: what an answer must beat, and the noise."""
    mixtures = (("natural", space.project(space.natural_K)), ("uniform", space.uniform_K))
    return [(method, weights_K, seed) for method, weights_K in mixtures for seed in range(n_seeds)]


def propose(
    trials: Trials,
    round_: int,
    space: FeasibleSet,
    objective: Objective,
    predictor: Predictor,
    cfg: SearchConfig,
) -> Array:
    """Choose the mixtures of a round.

    They depend on the finished trials of earlier rounds and on the seed alone, so a round that was
    cut short proposes the same mixtures again; and not on the order of trials or domains.

    Args:
        trials: all finished trials; those of this round and later are not looked at.
        round_: 0 and up; its number of mixtures is `cfg.trials_per_round[round_]`.
        space: the feasible set.
        objective: what to score by.
        predictor: the regression recipe.
        cfg: the section `search`.

    Returns:
        Distinct feasible mixtures, shape (M, K).

    Raises:
        SearchError: no such round, the set holds too few distinct mixtures, or earlier rounds left
            fewer than 4 distinct ones.
    """
    if not 0 <= round_ < len(cfg.trials_per_round):
        raise SearchError(
            f"round {round_} is not among the {len(cfg.trials_per_round)} rounds of "
            f"search.trials_per_round {list(cfg.trials_per_round)}"
        )
    if round_ == 0:
        return first_round(space, cfg.trials_per_round[0], cfg)
    assert trials.domains == space.domains, "one order of domains for trials and set"
    known = trials.before(round_).unanswered()
    return _next_round(known, round_, space, objective, predictor, cfg)


def first_round(space: FeasibleSet, n: int, cfg: SearchConfig) -> Array:
    """Tempered Dirichlet draws inside the set, and among them those that fill it best."""
    ordered, back_K = by_name(space)
    rng = np.random.default_rng([cfg.seed, STAGE_PROPOSE, 0])
    drawn_NK = draw(ordered, rng, n * _DRAWS_PER_TRIAL, cfg)
    taken_MK = np.stack([ordered.project(ordered.natural_K), ordered.uniform_K])
    chosen = spread_out(drawn_NK, taken_MK, n)
    return drawn_NK[_enough(chosen, n, ordered)][:, back_K]


def _next_round(
    known: Trials,
    round_: int,
    space: FeasibleSet,
    objective: Objective,
    predictor: Predictor,
    cfg: SearchConfig,
) -> Array:
    """The optimum of the predicted score, then mixtures that are promising and not yet known."""
    n = cfg.trials_per_round[round_]
    ordered, back_K = by_name(space)
    known = known.reordered(np.argsort(back_K))
    rng = np.random.default_rng([cfg.seed, STAGE_PROPOSE, round_])
    surrogate = Surrogate.fit(known, objective, predictor)
    drawn_NK = draw(ordered, rng, cfg.candidates, cfg)
    tops_SK = climb_to_top(drawn_NK, known.weights_TK, ordered, surrogate, rng)
    near_NK = _around(tops_SK, ordered, cfg.candidates // 4, rng)
    pool_NK = np.vstack([tops_SK, near_NK, drawn_NK])
    pool_NK = pool_NK[np.argsort(-surrogate.mean(pool_NK), kind="stable")]
    n_best = max(cfg.pick_from_top, n)
    while True:
        # The spread costs more than the mean: it is asked for where the mean is high.
        near_NK = pool_NK[: 4 * n_best]
        mean_N, std_N = surrogate.score(near_NK)
        best = np.union1d(np.argsort(-(mean_N + std_N), kind="stable")[:n_best], [0])
        chosen = promising(near_NK[best], mean_N[best], std_N[best], known.weights_TK, n)
        if len(chosen) == n or n_best >= len(pool_NK):
            return np.asarray(near_NK[best][_enough(chosen, n, ordered)][:, back_K])
        n_best *= 2  # the best candidates lie so near each other that they are not n trials


def by_name(space: FeasibleSet) -> tuple[FeasibleSet, NDArray[np.int64]]:
    """The set with its domains sorted by name, and the columns that lead back.

    Everything random and everything iterative happens in that order: no answer depends on the
    order in which somebody lists the domains.
    """
    order_K = np.array(sorted(range(len(space.domains)), key=space.domains.__getitem__))
    return space.reordered(order_K), np.argsort(order_K)


def draw(space: FeasibleSet, rng: np.random.Generator, n: int, cfg: SearchConfig) -> Array:
    """Feasible draws as the configuration wants them: the one sampler of every round."""
    return space.sample(rng, n, concentration=cfg.concentration, temperature=cfg.temperature)


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
    while len(chosen) < n and apart_N.max() > _NEAREST**2:
        chosen.append(int(apart_N.argmax()))
        apart_N = np.minimum(apart_N, np.square(roots_NK - roots_NK[chosen[-1]]).sum(axis=1))
    return np.array(chosen, dtype=np.int64)


def climb_to_top(
    drawn_NK: Array,
    known_TK: Array,
    space: FeasibleSet,
    surrogate: Surrogate,
    rng: np.random.Generator,
) -> Array:
    """Mixtures of highest predicted score, reached from the best draws and trials; best first."""
    fixed = np.stack([space.project(space.natural_K), space.uniform_K])
    pool_NK = np.vstack([fixed, space.project(known_TK), drawn_NK])
    mean_N = surrogate.mean(pool_NK)
    best = np.argsort(-mean_N, kind="stable")[: 10 * _STARTS]
    starts = best[spread_out(pool_NK[best], pool_NK[best[:1]], _STARTS - 1)]
    starts_SK = pool_NK[np.append(best[0], starts)]
    return refine(starts_SK, space, surrogate.mean, rng)[0]


def promising(
    pool_NK: Array, mean_N: Array, std_N: Array, known_TK: Array, n: int
) -> NDArray[np.int64]:
    """Choose n candidates, one after the other, for what they promise and what they would teach.

    The first is the one with the highest mean. Each later one has the highest mean + spread, where
    the spread shrinks near what is chosen already: a trial there would teach the same.
    """
    roots_NK = np.sqrt(pool_NK)
    nearest_N = np.full(len(pool_NK), np.inf)
    for known_K in np.sqrt(known_TK):
        nearest_N = np.minimum(nearest_N, np.square(roots_NK - known_K).sum(axis=1))
    reach = max(float(np.median(nearest_N)), _NEAREST**2)
    apart_N = nearest_N
    new_N = np.ones(len(pool_NK))
    chosen = [int(mean_N.argmax())] if apart_N[mean_N.argmax()] > _NEAREST**2 else []
    for pick in chosen:
        off_N = np.square(roots_NK - roots_NK[pick]).sum(axis=1)
        apart_N, new_N = np.minimum(apart_N, off_N), new_N * (1.0 - np.exp(-off_N / reach))
    while len(chosen) < n:
        worth_N = np.where(apart_N > _NEAREST**2, mean_N + _BOLDNESS * std_N * new_N, -np.inf)
        if not np.isfinite(worth_N.max()):
            break
        chosen.append(int(worth_N.argmax()))
        off_N = np.square(roots_NK - roots_NK[chosen[-1]]).sum(axis=1)
        apart_N, new_N = np.minimum(apart_N, off_N), new_N * (1.0 - np.exp(-off_N / reach))
    return np.array(chosen, dtype=np.int64)


def _around(tops_SK: Array, space: FeasibleSet, n: int, rng: np.random.Generator) -> Array:
    """Mixtures near the best ones: random domains scaled by factors of every size."""
    centre_NK = tops_SK[rng.integers(len(tops_SK), size=n)]
    size_N1 = np.exp(rng.uniform(np.log(0.05), np.log(1.0), size=(n, 1)))
    nudge_NK = rng.normal(size=centre_NK.shape) * size_N1
    return space.project((centre_NK + 0.02 * space.natural_K * size_N1) * np.exp(nudge_NK))


def _enough(chosen: NDArray[np.int64], n: int, space: FeasibleSet) -> NDArray[np.int64]:
    if len(chosen) < n:
        raise SearchError(
            f"the feasible set of {len(space.domains)} domains gave {len(chosen)} distinct "
            f"mixtures of {n} wanted; its limits leave too little choice (raise max_epochs or "
            "max_share_ratio, or lower search.trials_per_round)"
        )
    return chosen
