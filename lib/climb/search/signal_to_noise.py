"""Signal-to-noise ratio of every metric, and the weights of the objective that follow from it.

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

_MIN_FACTOR = 1e-3
"""Smallest factor of down-weighting: with weight 0 a metric would leave the objective."""


@dataclass(frozen=True, eq=False)
class SignalToNoise:
    """Variance of each metric over mixtures, divided by its variance over seeds."""

    metric_names: tuple[str, ...]
    ratio_Q: Array
    """Ratio of the two variances. The variance over mixtures excludes the part that seeds cause.
    NaN without replicates; inf where seeds make no difference."""

    noise_Q: Array
    """Standard deviation over seeds; NaN without replicates."""

    @classmethod
    def measure(cls, trials: Trials, objective: Objective) -> Self:
        """Measure the ratio of every metric that has a weight in the objective."""
        replicates = trials.group_replicates().select_metrics(objective.weighted_columns)
        seeds_Q = np.square(replicates.noise_Q)
        mixtures_Q = np.zeros_like(seeds_Q)
        if len(replicates.counts_D) > 1:
            # The variance of a mean of n replicates contains 1/n of the seeds' variance.
            seeds_share = float(np.mean(1.0 / replicates.counts_D))
            means_var_Q = replicates.means_DQ.var(axis=0, ddof=1)
            mixtures_Q = np.maximum(means_var_Q - seeds_share * seeds_Q, 0.0)
        ratio_Q = np.full(len(seeds_Q), np.inf)
        np.divide(mixtures_Q, seeds_Q, out=ratio_Q, where=seeds_Q != 0.0)
        return cls(objective.weighted_names, ratio_Q, replicates.noise_Q)

    def list_below(self, min_ratio: float) -> tuple[str, ...]:
        """Return the metrics whose ratio is measured and below `min_ratio`."""
        low_Q = np.nan_to_num(self.ratio_Q, nan=np.inf, posinf=np.inf) < min_ratio
        return tuple(name for name, low in zip(self.metric_names, low_Q, strict=True) if low)


def build_objective(text: str, trials: Trials, cfg: SearchConfig) -> Objective:
    """Build the objective that scores trials, and change its weights as configured.

    Args:
        text: the objective as text; see `climb.objective`.
        trials: with the metrics, and with the replicates of round 0 that a reweighting needs.
        cfg: `scale`, `down_weight` and `min_signal_to_noise` are used.

    Raises:
        ConfigError: `text` names a metric that the trials lack.
        SearchError: see `reweight_objective`.
    """
    return reweight_objective(Objective.parse(text, trials.metric_names), trials, cfg)


def reweight_objective(objective: Objective, trials: Trials, cfg: SearchConfig) -> Objective:
    """Return the objective with weights according to `search.scale` and `search.down_weight`.

    Weights depend on the trials of round 0 alone, so the score means the same in every round. With
    `search.down_weight`, the weight of a metric with a ratio below `search.min_signal_to_noise` is
    multiplied by ratio / (1 + ratio): the share of the metric's variance that mixtures cause.

    Raises:
        SearchError: the noise of a metric is unknown, or is 0 and cannot be a divisor; or no metric
            varies over mixtures beyond its noise.
    """
    if cfg.scale == "raw" and not cfg.down_weight:
        return objective
    measured = SignalToNoise.measure(trials.select(trials.rounds_T == 0), objective)
    for name, noise in zip(measured.metric_names, measured.noise_Q.tolist(), strict=True):
        if np.isnan(noise) or (cfg.scale == "noise" and noise == 0.0):
            raise SearchError(_explain_noise(cfg, name, noise))
    factor_Q = np.ones(len(measured.noise_Q)) if cfg.scale == "raw" else 1.0 / measured.noise_Q
    if cfg.down_weight:
        low_Q = measured.ratio_Q < cfg.min_signal_to_noise
        finite_Q = np.where(low_Q, measured.ratio_Q, 0.0)
        share_Q = np.maximum(finite_Q / (1.0 + finite_Q), _MIN_FACTOR)
        factor_Q *= np.where(low_Q, share_Q, 1.0)
        if not measured.ratio_Q.any():
            raise SearchError(
                "search.down_weight=true leaves no metric: none varies over the mixtures beyond "
                "its noise; set search.down_weight=false or train more mixtures"
            )
    weights_Q = objective.weights_Q.copy()
    weights_Q[list(objective.weighted_columns)] *= factor_Q
    return dataclasses.replace(objective, weights_Q=weights_Q)


def _explain_noise(cfg: SearchConfig, name: str, noise: float) -> str:
    """Explain which settings need a metric's noise, if this noise is unknown or 0."""
    is_unknown = bool(np.isnan(noise))
    settings = ["search.scale=raw"] if cfg.scale == "noise" else []
    settings += ["search.down_weight=false"] if cfg.down_weight and is_unknown else []
    found = "unknown" if is_unknown else f"{noise:g}, which cannot be a divisor"
    return (
        f"search.scale={cfg.scale} with search.down_weight={str(cfg.down_weight).lower()} needs "
        f"the noise of every metric, but that of {name!r} is {found}: train mixtures with several "
        f"seeds, or set {' and '.join(settings)}"
    )
