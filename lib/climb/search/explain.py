"""Why a mixture is what it is: what one percent more of a domain does, and which metrics part ways.

Axes: K domains, Q metrics of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.search.surrogate import Surrogate

Array = NDArray[np.float64]

STEP = 0.01
"""One percent of the mixture goes to a domain; the others give it in proportion."""

_APART = -0.3
"""Correlation of two metrics' effects over domains from which they are said to trade off."""

_SHOWN = 5
"""Pairs named at most."""


@dataclass(frozen=True)
class TradeOff:
    """Two metrics that want different domains."""

    metrics: tuple[str, str]
    correlation: float
    """Of what one percent more of each domain does for the one and for the other; -1 to 1."""

    domain: str
    """The domain over which they differ most: more of it helps the first and costs the second."""

    effects: tuple[float, float]
    """What one percent more of it does to each, in the metric's own unit, better is positive."""


@dataclass(frozen=True, eq=False)
class Effects:
    """What one percent more of each domain does at one mixture."""

    domains: tuple[str, ...]
    metric_names: tuple[str, ...]
    mean_KQ: Array
    """Change of each metric in its own unit; positive is better, whatever its direction."""

    std_KQ: Array
    score_K: Array
    """Change of the score."""

    score_std_K: Array

    def reordered(self, order_K: NDArray[np.int64]) -> Effects:
        """The same with the domains in another order."""
        return Effects(
            tuple(self.domains[k] for k in order_K),
            self.metric_names,
            self.mean_KQ[order_K],
            self.std_KQ[order_K],
            self.score_K[order_K],
            self.score_std_K[order_K],
        )

    @property
    def trade_offs(self) -> tuple[TradeOff, ...]:
        """Pairs of metrics whose effects over domains run against each other, worst first.

        A metric of which no effect exceeds its spread has nothing to say.
        """
        clear_Q = (np.abs(self.mean_KQ) > self.std_KQ).any(axis=0)
        usable = np.flatnonzero(clear_Q & (self.mean_KQ.std(axis=0) > 0.0)).tolist()
        pairs = []
        for i, q in enumerate(usable):
            for r in usable[i + 1 :]:
                together = float(np.corrcoef(self.mean_KQ[:, q], self.mean_KQ[:, r])[0, 1])
                if together <= _APART:
                    pairs.append((together, q, r))
        return tuple(self._pair(*pair) for pair in sorted(pairs)[:_SHOWN])

    def _pair(self, together: float, q: int, r: int) -> TradeOff:
        """Name the domain where the two differ most surely, each measured by its own spread."""
        own_2 = self.mean_KQ[:, [q, r]].std(axis=0)
        apart_K = self.mean_KQ[:, q] / own_2[0] - self.mean_KQ[:, r] / own_2[1]
        doubt_K = np.hypot(self.std_KQ[:, q] / own_2[0], self.std_KQ[:, r] / own_2[1])
        k = int((np.abs(apart_K) / (1.0 + doubt_K)).argmax())
        first, second = (q, r) if apart_K[k] > 0.0 else (r, q)
        return TradeOff(
            (self.metric_names[first], self.metric_names[second]),
            together,
            self.domains[k],
            (float(self.mean_KQ[k, first]), float(self.mean_KQ[k, second])),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values: by domain the score and every metric, each as mean and std."""
        return {
            "step": STEP,
            "domains": {
                domain: {
                    "score": {"mean": float(self.score_K[k]), "std": float(self.score_std_K[k])},
                    **{
                        name: {
                            "mean": float(self.mean_KQ[k, q]),
                            "std": float(self.std_KQ[k, q]),
                        }
                        for q, name in enumerate(self.metric_names)
                    },
                }
                for k, domain in enumerate(self.domains)
            },
            "trade_offs": [vars(pair) for pair in self.trade_offs],
        }


def effects(
    surrogate: Surrogate, domains: tuple[str, ...], weights_K: Array, inflation: float
) -> Effects:
    """Predict what one percent more of each domain does at a mixture.

    Args:
        surrogate: fitted; `domains` are its columns.
        domains: names of the K domains.
        weights_K: the mixture to step from.
        inflation: real error over claimed spread of the score there, for every metric alike, as
            held-out mixtures show it.
    """
    steps_KK = (1.0 - STEP) * weights_K + STEP * np.eye(len(weights_K))
    change_KQ = surrogate.means(steps_KK) - surrogate.means(weights_K[None])
    std_KQ = inflation * surrogate.difference_stds(weights_K, steps_KK)
    return Effects(
        domains,
        tuple(surrogate.objective.metric_names[q] for q in surrogate.objective.used),
        change_KQ * np.sign(surrogate.signs_Q),
        std_KQ,
        change_KQ @ surrogate.signs_Q,
        std_KQ @ np.abs(surrogate.signs_Q),
    )
