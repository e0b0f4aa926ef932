"""Which metrics tell mixtures apart, and what the objective makes of that.

Axes: T trials, D distinct mixtures, Q metrics of the objective.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from climb.errors import SearchError
from climb.objective import Objective
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]

_LEAST_SHARE = 1e-3
"""Of a metric's weight: what down-weighting leaves at least."""


@dataclass(frozen=True, eq=False)
class Signal:
    """How far a metric varies over mixtures, against how far it varies over seeds."""

    metric_names: tuple[str, ...]
    ratio_Q: Array
    """Variance over mixtures, seeds' part taken out, over variance over seeds; NaN where no
    mixture was run twice, inf where seeds make no difference."""

    noise_Q: Array
    """Standard deviation over seeds."""

    @classmethod
    def of(cls, trials: Trials, objective: Objective) -> Self:
        """Measure the metrics that the objective weighs."""
        repeats = trials.repeats().columns(objective.used)
        seeds_Q = np.square(repeats.noise_Q)
        mixtures_Q = np.zeros_like(seeds_Q)
        if len(repeats.counts_D) > 1:
            # The mean of a mixture's n runs holds a part 1/n of the seeds' variance.
            part = float(np.mean(1.0 / repeats.counts_D))
            mixtures_Q = np.maximum(repeats.means_DQ.var(axis=0, ddof=1) - part * seeds_Q, 0.0)
        ratio_Q = np.full(len(seeds_Q), np.inf)
        np.divide(mixtures_Q, seeds_Q, out=ratio_Q, where=seeds_Q != 0.0)
        names = tuple(objective.metric_names[q] for q in objective.used)
        return cls(names, ratio_Q, repeats.noise_Q)

    def below(self, least: float) -> tuple[str, ...]:
        """Metrics whose ratio is known and under `least`."""
        low_Q = np.nan_to_num(self.ratio_Q, nan=np.inf, posinf=np.inf) < least
        return tuple(name for name, low in zip(self.metric_names, low_Q, strict=True) if low)


def weighed(objective: Objective, trials: Trials, cfg: SearchConfig) -> Objective:
    """The objective with weights as `search.scale` and `search.down_weight` want them.

    Both come from the trials of round 0 alone, so the score means the same in every round.
    A metric below `search.min_signal` is weighed with ratio / (1 + ratio), the share of its
    variance that the mixtures make.

    Raises:
        SearchError: no mixture was run twice, or a metric has no noise to be scaled by.
    """
    if cfg.scale == "raw" and not cfg.down_weight:
        return objective
    signal = Signal.of(trials.where(trials.rounds_T == 0), objective)
    for name, noise in zip(signal.metric_names, signal.noise_Q.tolist(), strict=True):
        if np.isnan(noise) or (cfg.scale == "noise" and noise == 0.0):
            raise SearchError(
                f"search.scale {cfg.scale!r} and down_weight {cfg.down_weight} need the noise of "
                f"every metric, but that of {name!r} is {noise}: run mixtures with several seeds, "
                "or set search.scale=raw and search.down_weight=false"
            )
    factor_Q = np.ones(len(signal.noise_Q)) if cfg.scale == "raw" else 1.0 / signal.noise_Q
    if cfg.down_weight:
        low_Q = signal.ratio_Q < cfg.min_signal
        known_Q = np.where(low_Q, signal.ratio_Q, 0.0)
        # At weight 0 a metric would be named, predicted and guarded no more.
        share_Q = np.maximum(known_Q / (1.0 + known_Q), _LEAST_SHARE)
        factor_Q *= np.where(low_Q, share_Q, 1.0)
        if not signal.ratio_Q.any():
            raise SearchError("search.down_weight left no metric: none varies over the mixtures")
    weights_Q = objective.weights_Q.copy()
    weights_Q[list(objective.used)] *= factor_Q
    return dataclasses.replace(objective, weights_Q=weights_Q)
