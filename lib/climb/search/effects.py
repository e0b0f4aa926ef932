"""Effect of one percent more of each domain on every metric, and trade-offs between metrics.

One percent more of a domain: one percent of the mixture is moved to this domain.

Axes: K domains, Q metrics of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.search.surrogate import Surrogate

Array = NDArray[np.float64]

STEP = 0.01
"""Share of the mixture that is moved to a domain. The share is taken from all domains, including
the domain that receives it, in proportion to their weights."""

_MAX_CORRELATION = -0.3
"""Two metrics trade off if their effects over domains correlate at this value or below."""

_MAX_TRADE_OFFS = 5
"""Maximum number of trade-offs that are reported."""


@dataclass(frozen=True)
class TradeOff:
    """Two metrics that improve with different domains."""

    metrics: tuple[str, str]
    correlation: float
    """Correlation, over domains, of the effects on the two metrics; -1 to 1."""

    domain: str
    """Domain whose effects on the two metrics differ most clearly; it helps the first metric
    more."""

    effects: tuple[float, float]
    """Effect of one percent more of this domain on each metric, in the metric's unit; positive is
    better."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of one percent more of each domain at one mixture."""

    domains: tuple[str, ...]
    metric_names: tuple[str, ...]
    mean_KQ: Array
    """Change of each metric in its own unit; positive is better, also for minimized metrics."""

    std_KQ: Array
    score_K: Array
    """Change of the score."""

    score_std_K: Array

    def reorder_domains(self, order_K: NDArray[np.int64]) -> Effects:
        """Return the same effects with the domains in another order."""
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
        """Pairs of metrics whose effects correlate negatively, the most negative first.

        Metrics are left out if none of their effects exceeds its standard deviation.
        """
        clear_Q = (np.abs(self.mean_KQ) > self.std_KQ).any(axis=0)
        usable = np.flatnonzero(clear_Q & (self.mean_KQ.std(axis=0) > 0.0)).tolist()
        pairs = []
        for i, q in enumerate(usable):
            for r in usable[i + 1 :]:
                correlation = float(np.corrcoef(self.mean_KQ[:, q], self.mean_KQ[:, r])[0, 1])
                if correlation <= _MAX_CORRELATION:
                    pairs.append((correlation, q, r))
        return tuple(self._build_trade_off(*pair) for pair in sorted(pairs)[:_MAX_TRADE_OFFS])

    def _build_trade_off(self, correlation: float, q: int, r: int) -> TradeOff:
        """Find the domain whose effects on the two metrics differ most clearly.

        The effects on each metric are first divided by their standard deviation over domains.
        """
        scale_2 = self.mean_KQ[:, [q, r]].std(axis=0)
        difference_K = self.mean_KQ[:, q] / scale_2[0] - self.mean_KQ[:, r] / scale_2[1]
        std_K = np.hypot(self.std_KQ[:, q] / scale_2[0], self.std_KQ[:, r] / scale_2[1])
        k = int((np.abs(difference_K) / (1.0 + std_K)).argmax())
        first, second = (q, r) if difference_K[k] > 0.0 else (r, q)
        return TradeOff(
            (self.metric_names[first], self.metric_names[second]),
            correlation,
            self.domains[k],
            (float(self.mean_KQ[k, first]), float(self.mean_KQ[k, second])),
        )


def estimate_effects(
    surrogate: Surrogate, domains: tuple[str, ...], weights_K: Array, inflation: float
) -> Effects:
    """Predict the effect of one percent more of each domain at a mixture.

    Args:
        surrogate: fitted with `domains` as columns.
        domains: names of the K domains.
        weights_K: the mixture, shape (K,).
        inflation: factor for every metric's standard deviation, from the score's calibration.
    """
    steps_KK = (1.0 - STEP) * weights_K + STEP * np.eye(len(weights_K))
    change_KQ = surrogate.predict_means(steps_KK) - surrogate.predict_means(weights_K[None])
    std_KQ = inflation * surrogate.predict_difference_stds(weights_K, steps_KK)
    return Effects(
        domains,
        surrogate.objective.weighted_names,
        change_KQ * np.sign(surrogate.weights_Q),
        std_KQ,
        change_KQ @ surrogate.weights_Q,
        std_KQ @ np.abs(surrogate.weights_Q),
    )
