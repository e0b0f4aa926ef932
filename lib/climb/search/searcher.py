"""What a searcher is: it chooses the mixtures of a round, and at the end it answers.

Axes: M mixtures, K domains.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import build
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]

STAGE_PROPOSE, STAGE_ANSWER, STAGE_FURTHER, STAGE_PARETO = 1, 2, 3, 4
"""Keep the random numbers of proposals and of the answer apart."""


@runtime_checkable
class Searcher(Protocol):
    """A way to spend trials: a frozen dataclass with these two methods.

    Both get the domains in the order of their names, and what they return is moved into the
    feasible set, whatever it was. Their only randomness is `problem.random`.
    """

    def propose(self, known: Trials, round_: int, n: int, problem: Problem) -> Array:
        """Choose n mixtures to train, shape (n, K); `known` are the trials of earlier rounds."""

    def answer(self, known: Trials, problem: Problem) -> Array:
        """Choose the mixture to recommend, shape (K,)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched, by what, and with which settings."""

    space: FeasibleSet
    objective: Objective | None
    """What to score by; None before the first trials, when nobody knows what they measure."""

    predictor: Predictor
    searcher: Searcher
    cfg: SearchConfig

    @classmethod
    def of(cls, space: FeasibleSet, objective: Objective | None, cfg: SearchConfig) -> Self:
        """With the plug-ins that the configuration names.

        Raises:
            ConfigError: one of them cannot be made.
        """
        predictor, searcher = build(cfg.predictor, Predictor), build(cfg.searcher, Searcher)
        return cls(space, objective, predictor, searcher, cfg)

    @property
    def wanted(self) -> Objective:
        """The objective, where trials exist."""
        assert self.objective is not None, "nothing was measured yet"
        return self.objective

    def scored_by(self, objective: Objective) -> Problem:
        """The same problem with another objective."""
        return dataclasses.replace(self, objective=objective)

    def by_name(self) -> tuple[Problem, NDArray[np.int64]]:
        """The problem with its domains sorted by name, and the columns that lead back.

        Everything random and everything iterative happens in that order: no answer depends on the
        order in which somebody lists the domains.
        """
        names = self.space.domains
        order_K = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        return dataclasses.replace(self, space=self.space.reordered(order_K)), np.argsort(order_K)

    def random(self, *stage: int) -> np.random.Generator:
        """Random numbers of a stage: a function of the seed and the stage alone."""
        return np.random.default_rng([self.cfg.seed, *stage])

    def draw(self, random: np.random.Generator, n: int) -> Array:
        """Feasible mixtures from the one sampler of every round, shape (n, K)."""
        return self.space.sample(
            random, n, concentration=self.cfg.concentration, temperature=self.cfg.temperature
        )


@functools.lru_cache(maxsize=1)
def ordered(trials: Trials, problem: Problem) -> tuple[Trials, Problem, NDArray[np.int64]]:
    """Trials to learn from and problem, domains sorted by name, and the columns that lead back.

    Trials of the answer are left out: measuring it must not change it. Equal arguments give the
    same objects, so what was fitted to them is found again (`climb.search.height.fitted`).
    """
    assert trials.domains == problem.space.domains, "one order of domains for trials and set"
    by_name, back_K = problem.by_name()
    return trials.unanswered().reordered(np.argsort(back_K)), by_name, back_K
