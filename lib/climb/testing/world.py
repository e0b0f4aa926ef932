"""A world whose best mixture is known: what a search finds can be held against the truth.

Axes: K domains, Q metrics, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.search.trials import Trials

Array = NDArray[np.float64]

_FALL = 0.3
"""How fast a loss falls with a domain's weight; scaling laws of data find 0.1 to 0.4."""

_SHIFT = 0.02
"""Weight that every domain has for nothing: no loss is infinite at weight 0."""


@dataclass(frozen=True, eq=False)
class PlantedWorld:
    """Losses that fall with every domain's weight, each at its own rate, and noise on top.

    loss_q(w) = sum_k need_qk (w_k + shift)^-fall. The needs are chosen such that the mean of all
    losses is lowest exactly at `best_K`. They are convex, so nothing else is as good.
    """

    space: FeasibleSet
    best_K: Array
    needs_QK: Array
    noise_Q: Array
    """Standard deviation of each loss over seeds."""

    seed: int

    @classmethod
    def of(cls, n_domains: int, n_metrics: int, noise: float, seed: int) -> PlantedWorld:
        """Plant a best mixture.

        Args:
            n_domains: K.
            n_metrics: Q.
            noise: noise of the mean loss as a share of its standard deviation over mixtures.
            seed: worlds of different seeds have different best mixtures.
        """
        rng = np.random.default_rng([seed, n_domains, n_metrics])
        tokens_K = 1e9 * rng.dirichlet(np.full(n_domains, 2.0))
        names = tuple(f"d{k:02d}" for k in range(n_domains))
        space = FeasibleSet.of(
            names, tokens_K, Limits(target_tokens=2e8, max_epochs=4.0, max_share_ratio=15.0)
        )
        # Well inside the caps, or the best feasible mixture would not be the planted one.
        inside = replace(space, caps_K=np.minimum(space.caps_K, 0.9))
        best_K = inside.project(rng.dirichlet(np.full(n_domains, 0.5)))
        part_QK = rng.dirichlet(np.full(n_metrics, 1.0), size=n_domains).T * n_metrics
        needs_QK = part_QK * (best_K + _SHIFT) ** (1.0 + _FALL)
        world = cls(space, best_K, needs_QK, np.zeros(n_metrics), seed)
        mixtures_MK = space.sample(rng, 2_000, concentration=(0.1, 5.0), temperature=0.5)
        spread = noise * float(world.scores(mixtures_MK).std()) * np.sqrt(n_metrics)
        return cls(space, best_K, needs_QK, np.full(n_metrics, spread), seed)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the losses."""
        return tuple(f"task{q}.bpb" for q in range(len(self.noise_Q)))

    @property
    def objective(self) -> Objective:
        """The mean of all losses, lower is better."""
        return Objective.parse("mean(*.bpb):min", self.metric_names)

    def losses(self, weights_MK: Array) -> Array:
        """True losses without noise, shape (M, Q)."""
        return np.asarray((weights_MK + _SHIFT) ** -_FALL @ self.needs_QK.T)

    def scores(self, weights_MK: Array) -> Array:
        """True scores without noise, shape (M,)."""
        return np.asarray(-self.losses(weights_MK).mean(axis=1))

    def regret(self, weights_K: Array) -> float:
        """How far below the best mixture's score a mixture lies, 0 or more."""
        best, here = self.scores(np.stack([self.best_K, weights_K]))
        return float(best - here)

    def trial(self, weights_K: Array, round_: int, method: str, seed: int) -> dict[str, object]:
        """A row as a trained proxy would leave it; equal mixtures and seeds give equal rows."""
        mark = np.frombuffer(np.round(weights_K, 9).tobytes(), dtype=np.uint32)
        rng = np.random.default_rng([self.seed, seed, *mark.tolist()])
        measured_Q = self.losses(weights_K[None])[0] + self.noise_Q * rng.normal(
            size=len(self.noise_Q)
        )
        return {
            "round": round_,
            "method": method,
            "seed": seed,
            "weights": dict(zip(self.space.domains, weights_K.tolist(), strict=True)),
            "metrics": dict(zip(self.metric_names, measured_Q.tolist(), strict=True)),
        }

    def trials(self, rows: list[dict[str, object]]) -> Trials:
        """Rows as a search sees them."""
        return Trials.from_rows(rows, self.space.domains, self.metric_names)
