"""The definition of a search (Problem), and its trials so far (SearchState).

Axes: B baselines, M mixtures, K domains.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import build
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.acquisition import PenalizedScore
from climb.search.baselines import DEFAULT_BASELINES, Baseline, build_baselines
from climb.search.fidelities import Fidelities
from climb.search.repetition import Repetition
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]

_USUAL_DOMAINS = 21
"""With more domains than this, `search.concentration` is multiplied by the number of domains and
divided by this constant. So the share of domains with a weight above 0 stays the same.
Concentrations of 0.1 to 5 were published for 17 to 21 domains."""

STAGE_PROPOSE, STAGE_RECOMMEND, STAGE_FURTHER, STAGE_PARETO, STAGE_CHANGE = 1, 2, 3, 4, 5
STAGE_FIDELITY = 6
"""Stages of a search: proposals, recommendation, further rounds, Pareto fronts, smallest changes
and fidelities. Every stage has its own random numbers (see `Problem.random`)."""


@runtime_checkable
class Searcher(Protocol):
    """Chooses the mixtures to train and the one to recommend.

    It is a frozen dataclass with these methods. The caller projects the returned mixtures into the
    feasible set. The methods' only source of randomness is `state.problem.random`.
    """

    def propose(self, state: SearchState, round_: int, n: int) -> Array:
        """Choose n mixtures to train, shape (n, K); `state` has the trials of earlier rounds."""

    def recommend(self, state: SearchState) -> Array:
        """Choose the mixture to recommend, shape (K,)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The feasible set, the objective, the plug-ins and the settings of a search."""

    space: FeasibleSet
    objective: Objective | None
    """None before the first trials, which show the names of the metrics."""

    predictor: Predictor
    searcher: Searcher
    cfg: SearchConfig
    baselines: tuple[Baseline, ...] = DEFAULT_BASELINES
    """The first is the reference baseline."""

    decay: float | None = None
    """Decay of `climb.search.repetition`; None: repeated text helps as much as new text."""

    fidelities: Fidelities | None = None
    """Cheap estimates of the metrics; None: there are none."""

    @classmethod
    def from_config(
        cls, space: FeasibleSet, objective: Objective | None, cfg: SearchConfig
    ) -> Self:
        """Build a problem with the plug-ins of the configuration.

        Raises:
            ConfigError: a plug-in cannot be built, or the baselines are invalid.
        """
        predictor, searcher = build(cfg.predictor, Predictor), build(cfg.searcher, Searcher)
        return cls(space, objective, predictor, searcher, cfg, build_baselines(cfg.baselines))

    @property
    def required_objective(self) -> Objective:
        """The objective; only for callers that have trials."""
        assert self.objective is not None, "a problem without trials has no objective"
        return self.objective

    @property
    def repetition(self) -> Repetition | None:
        """Converts weights to effective weights, which count repeated text less than new text.

        Text is repeated as often as in a target run of `search.target_tokens`. None: all text
        counts as new.
        """
        if self.decay is None:
            return None
        return Repetition(self.decay, self.space.tokens_K, self.cfg.target_tokens)

    def fit(self, trials: Trials) -> Surrogate:
        """Fit the surrogate of the objective.

        Raises:
            SearchError: fewer than 4 distinct mixtures.
        """
        plugged = (self.required_objective, self.predictor, self.repetition, self.fidelities)
        return Surrogate.fit(trials, *plugged)

    def with_objective(self, objective: Objective) -> Problem:
        """Return the same problem with another objective."""
        return dataclasses.replace(self, objective=objective)

    def sort_domains(self) -> tuple[Problem, NDArray[np.int64]]:
        """Return the problem with its domains sorted by name, and the columns to restore the order.

        Random draws and iterations use the sorted order, so no result depends on the order in which
        the domains are listed.
        """
        names = self.space.domains
        order_K = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        space = self.space.reorder_domains(order_K)
        return dataclasses.replace(self, space=space), np.argsort(order_K)

    def random(self, *stage: int) -> np.random.Generator:
        """Return the random generator of a stage: a function of the seed and the stage alone."""
        return np.random.default_rng([self.cfg.seed, *stage])

    def sample(self, random: np.random.Generator, n: int) -> Array:
        """Draw feasible mixtures, shape (n, K); every round uses this sampler."""
        factor = max(1.0, len(self.space.domains) / _USUAL_DOMAINS)
        low, high = (factor * strength for strength in self.cfg.concentration)
        return self.space.sample(
            random, n, concentration=(low, high), temperature=self.cfg.temperature
        )

    def make_baselines(self) -> Array:
        """Return the mixtures of the baselines, shape (B, K)."""
        return np.stack([baseline.make_mixture(self.space) for baseline in self.baselines])


@dataclass(frozen=True, eq=False)
class SearchState:
    """Trials to learn from and the problem, both with the domains sorted by name.

    The surrogate is fitted once, when it is first needed, and belongs to this object.
    """

    trials: Trials
    """Without replicates of the recommendation: they must not change the recommendation."""

    problem: Problem
    restore_K: NDArray[np.int64]
    """Columns that restore the caller's order of domains: `weights_MK[:, restore_K]`."""

    @classmethod
    def from_trials(cls, trials: Trials, problem: Problem) -> Self:
        """Sort the domains of trials and problem, which must list them in the same order."""
        assert trials.domains == problem.space.domains, "trials and problem differ in domains"
        sorted_problem, restore_K = problem.sort_domains()
        own = trials.without_recommended().reorder_domains(np.argsort(restore_K))
        return cls(own, sorted_problem, restore_K)

    @cached_property
    def penalized(self) -> PenalizedScore:
        """The surrogate of the objective with its penalties, fitted to the trials.

        Raises:
            SearchError: fewer than 4 distinct mixtures.
        """
        problem = self.problem
        surrogate = problem.fit(self.trials)
        return PenalizedScore.build(surrogate, problem.space, problem.cfg.max_drop)
