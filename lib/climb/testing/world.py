"""A synthetic world with a known best mixture, to measure the regret of a search.

    world = PlantedWorld.build(8, 2, noise=0.1, seed=0)
    rows = world.make_baseline_rows(2)
    rows += [world.make_row(weights_K, 0, "proposal", 0) for weights_K in proposed_MK]
    trials = world.make_trials(rows)
    regret = world.compute_regret(recommended_K)

Axes: K domains, Q metrics, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.search.baselines import DEFAULT_BASELINES
from climb.search.trials import Trials

Array = NDArray[np.float64]

_DECAY = 0.3
"""Exponent with which a loss decays with a domain's weight; data scaling laws report 0.1 to 0.4."""

_SHIFT = 0.02
"""Added to every weight, so that losses at weight 0 are finite."""


@dataclass(frozen=True, eq=False)
class PlantedWorld:
    """Losses that decay with every domain's weight, with different coefficients, plus seed noise.

    loss_q(w) = sum_k need_qk (w_k + shift)^-decay. The coefficients need_qk make the mean of all
    losses minimal at `best_K`. The losses are strictly convex, so this minimum is unique.
    """

    space: FeasibleSet
    best_K: Array
    needs_QK: Array
    noise_Q: Array
    """Standard deviation of each loss over seeds."""

    seed: int

    @classmethod
    def build(cls, n_domains: int, n_metrics: int, noise: float, seed: int) -> PlantedWorld:
        """Draw a world.

        Args:
            n_domains: K.
            n_metrics: Q.
            noise: how much the mean of all losses of a trial depends on the seed: its standard
                deviation over seeds, divided by its standard deviation over mixtures.
            seed: determines the world; other seeds give other best mixtures.
        """
        rng = np.random.default_rng([seed, n_domains, n_metrics])
        tokens_K = 1e9 * rng.dirichlet(np.full(n_domains, 2.0))
        names = tuple(f"d{k:02d}" for k in range(n_domains))
        space = FeasibleSet.from_constraints(
            names, tokens_K, Constraints(target_tokens=2e8, max_epochs=4.0, max_share_ratio=15.0)
        )
        # `needs_QK` makes `best_K` the mixture with the lowest mean loss of all mixtures, feasible
        # or not. So `best_K` must be chosen among the feasible mixtures to be the best of them.
        inside = replace(
            space, bounds=replace(space.bounds, upper_K=np.minimum(space.upper_K, 0.9))
        )
        best_K = inside.project(rng.dirichlet(np.full(n_domains, 0.5)))
        share_QK = rng.dirichlet(np.full(n_metrics, 1.0), size=n_domains).T * n_metrics
        needs_QK = share_QK * (best_K + _SHIFT) ** (1.0 + _DECAY)
        world = cls(space, best_K, needs_QK, np.zeros(n_metrics), seed)
        mixtures_MK = space.sample(rng, 2_000, concentration=(0.1, 5.0), temperature=0.5)
        std = noise * float(world.compute_scores(mixtures_MK).std()) * np.sqrt(n_metrics)
        return cls(space, best_K, needs_QK, np.full(n_metrics, std), seed)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the losses."""
        return tuple(f"task{q}.bpb" for q in range(len(self.noise_Q)))

    @property
    def objective(self) -> Objective:
        """The mean of all losses, minimized."""
        return Objective.parse("mean(*.bpb):min", self.metric_names)

    def compute_losses(self, weights_MK: Array) -> Array:
        """Return true losses without noise, shape (M, Q)."""
        return np.asarray((weights_MK + _SHIFT) ** -_DECAY @ self.needs_QK.T)

    def compute_scores(self, weights_MK: Array) -> Array:
        """Return true scores without noise, shape (M,)."""
        return np.asarray(-self.compute_losses(weights_MK).mean(axis=1))

    def compute_regret(self, weights_K: Array) -> float:
        """Return the best mixture's true score minus the true score of this mixture; 0 or more."""
        best, own = self.compute_scores(np.stack([self.best_K, weights_K]))
        return float(best - own)

    def make_row(self, weights_K: Array, round_: int, method: str, seed: int) -> dict[str, object]:
        """Make the row of a finished trial, a function of the mixture and the seed."""
        key = np.frombuffer(np.round(weights_K, 9).tobytes(), dtype=np.uint32)
        rng = np.random.default_rng([self.seed, seed, *key.tolist()])
        noise_Q = self.noise_Q * rng.normal(size=len(self.noise_Q))
        measured_Q = self.compute_losses(weights_K[None])[0] + noise_Q
        return {
            "round": round_,
            "method": method,
            "seed": seed,
            "weights": dict(zip(self.space.domains, weights_K.tolist(), strict=True)),
            "metrics": dict(zip(self.metric_names, measured_Q.tolist(), strict=True)),
        }

    def make_baseline_rows(self, n_replicates: int) -> list[dict[str, object]]:
        """Make the rows of the default baselines, natural and uniform, in round 0."""
        return [
            self.make_row(baseline.make_mixture(self.space), 0, baseline.name, seed)
            for baseline in DEFAULT_BASELINES
            for seed in range(n_replicates)
        ]

    def make_trials(self, rows: list[dict[str, object]]) -> Trials:
        """Convert rows to trials."""
        return Trials.from_rows(rows, self.space.domains, self.metric_names)
