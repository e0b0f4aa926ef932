"""Runs of several model sizes and token counts, expressed at one target scale.

A trial is expressed at a scale if its metrics are converted to what a run at this scale would give.

    metric(w, N, D) = curve(N, D) * exp(effect(w))

The effect of a mixture w is the same at all model sizes N. It may change during training, so it is
averaged over a trial's checkpoints. Those with tokens D nearest to the target's have most weight.
Each size has an offset from the curve, so runs of the target's size determine the level of the
predictions. If a metric has values of 0 or less, the effect is added to the curve instead.

    expressed = express_at(runs, Scale(1e9, 1e12), predictor)

Tests on published runs of two sizes led to this form of the model (all sizes share the effects, and
each size has an offset) and to the value of `TOKEN_WIDTH` (docs/decisions/predictor.md).

Axes: R rows, T trials, N model sizes, S settings (pairs of size and tokens), K domains, Q metrics.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.mixture import SAME_DECIMALS
from climb.predictor import Predictor
from climb.predictor.metrics import fit_metrics
from climb.search.parallel import map_fits
from climb.search.scale_curve import SAME_SIZE, Scale, ScaleCurves, varies

Array = NDArray[np.float64]
Index = NDArray[np.int64]

logger = logging.getLogger(__name__)

TOKEN_WIDTH = 0.15
"""A checkpoint has the weight exp(-(x / TOKEN_WIDTH)^2 / 2). x is its distance from the target's
tokens, in log tokens, minus the distance of the trial's nearest checkpoint."""

MIN_LEVEL_RUNS = 3
"""With at least this many trials of the target's size, the level at this size counts as known."""

_LOWEST = 0.1
"""The level of a positive metric is at least this share of the metric's smallest value."""

_PASSES = 2
"""How often the curve and the effects are fitted again, after the first fit of each."""


@dataclass(frozen=True, eq=False)
class ScaledRuns:
    """Rows of runs at several scales; rows of one trial are its checkpoints."""

    weights_RK: Array
    metrics_RQ: Array
    params_R: Array
    tokens_R: Array
    run_R: Index
    """Rows with the same number, mixture and model size, but different tokens, are checkpoints of
    one trial. Rows that also have the same tokens belong to different trials (replicates)."""


@dataclass(frozen=True, eq=False)
class ExpressedTrials:
    """Every trial at the target scale."""

    target: Scale
    weights_TK: Array
    metrics_TQ: Array
    first_T: Index
    """Index of the first row of each trial."""

    params_T: Array
    distance_T: Array
    """Distance of the nearest checkpoint from the target's tokens, in log tokens."""

    tokens_T: Array
    """Mean tokens of each trial's checkpoints, with the same weights as in the trial's effect."""

    level_std_Q: Array
    """Standard deviation of the level that all mixtures share; NaN if the level is unknown."""

    rows: Rows
    effect_RQ: Array
    """Effect of the mixture at each row, before it is averaged over checkpoints."""


def express_at(runs: ScaledRuns, target: Scale, predictor: Predictor) -> ExpressedTrials:
    """Express every trial at the target scale.

    Args:
        runs: two or more trials.
        target: the scale of the predictions.
        predictor: of the effect of a mixture.
    """
    logger.info("expressing %d rows at %s", len(runs.run_R), target)
    rows = Rows.index(runs, target)
    setting_R, params_S, tokens_S = rows.list_settings()
    fitted_TQ = np.zeros((len(rows.first_T), runs.metrics_RQ.shape[1]))
    for _ in range(1 + _PASSES):
        means_SQ, counts_S = _average(
            rows.remove(fitted_TQ[rows.trial_R]), setting_R, np.ones(len(setting_R))
        )
        curves = ScaleCurves.fit(params_S, tokens_S, means_SQ, counts_S / counts_S.mean())
        curve_RQ = curves.predict(params_S, tokens_S)[0][setting_R]
        effect_RQ = rows.compare(curve_RQ)
        raw_TQ = _average(effect_RQ, rows.trial_R, rows.near_R)[0]
        offsets = Offsets.fit(raw_TQ, rows, predictor)
        effect_TQ = raw_TQ - offsets.offset_NQ[rows.size_T]
        fitted_TQ = offsets.effects_TQ
    level_Q, level_std_Q = offsets.find_level(curves, rows, target)
    effect_RQ = effect_RQ - offsets.offset_NQ[rows.size_T][rows.trial_R]
    return ExpressedTrials(
        target,
        rows.weights_TK,
        rows.add(level_Q, effect_TQ),
        rows.first_T,
        rows.params_N[rows.size_T],
        rows.distance_T,
        _average(runs.tokens_R[:, None], rows.trial_R, rows.near_R)[0][:, 0],
        level_std_Q,
        rows,
        effect_RQ,
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows with the indices of their trials and model sizes."""

    runs: ScaledRuns
    is_log_Q: NDArray[np.bool_]
    """Metrics with multiplicative effects."""

    trial_R: Index
    first_T: Index
    size_T: Index
    params_N: Array
    near_R: Array
    """Weight of a checkpoint in the effect of its trial."""

    distance_T: Array
    """See `ExpressedTrials.distance_T`."""

    @classmethod
    def index(cls, runs: ScaledRuns, target: Scale) -> Self:
        """Number the trials and sizes, and weight the checkpoints."""
        size_R, params_N = group_sizes(runs.params_R)
        keys = np.column_stack([np.round(runs.weights_RK, SAME_DECIMALS), size_R, runs.run_R])
        keys = np.column_stack([keys, _count_repeats(np.column_stack([keys, runs.tokens_R]))])
        _, first_T, trial_R = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        trial_R = trial_R.reshape(-1)
        distance_R = np.abs(np.log(runs.tokens_R / target.tokens))
        nearest_T = np.full(len(first_T), np.inf)
        np.minimum.at(nearest_T, trial_R, distance_R)
        near_R = np.exp(-0.5 * np.square((distance_R - nearest_T[trial_R]) / TOKEN_WIDTH))
        is_log_Q = np.asarray((runs.metrics_RQ > 0.0).all(axis=0))
        sizes = (size_R[first_T], params_N)
        return cls(runs, is_log_Q, trial_R, first_T, *sizes, near_R, nearest_T)

    @property
    def weights_TK(self) -> Array:
        """Mixture of each trial."""
        return self.runs.weights_RK[self.first_T]

    def list_settings(self) -> tuple[Index, Array, Array]:
        """Return the setting of each row, and model size and tokens of each setting."""
        size_R = self.size_T[self.trial_R]
        keys = np.column_stack([size_R, np.round(np.log(self.runs.tokens_R), 2)])
        _, first_S, setting_R = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return setting_R.reshape(-1), self.params_N[size_R[first_S]], self.runs.tokens_R[first_S]

    def remove(self, effect_RQ: Array) -> Array:
        """Return the metrics without the effects of the mixtures, shape (R, Q)."""
        metrics_RQ = self.runs.metrics_RQ
        factor_RQ = np.exp(np.where(self.is_log_Q, -effect_RQ, 0.0))
        return np.where(self.is_log_Q, metrics_RQ * factor_RQ, metrics_RQ - effect_RQ)

    def compare(self, curve_RQ: Array) -> Array:
        """Return the effect of the mixture at each row, relative to the curve, shape (R, Q)."""
        metrics_RQ = self.runs.metrics_RQ
        smallest = np.maximum(1e-6 * np.abs(metrics_RQ).mean(axis=0), 1e-300)
        ratio_RQ = np.where(self.is_log_Q, metrics_RQ / np.maximum(curve_RQ, smallest), 1.0)
        return np.where(self.is_log_Q, np.log(ratio_RQ), metrics_RQ - curve_RQ)

    def add(self, level_Q: Array, effect_TQ: Array) -> Array:
        """Return the metrics of mixtures with these effects, shape (T, Q)."""
        factor_TQ = np.exp(np.where(self.is_log_Q, effect_TQ, 0.0))
        return np.where(self.is_log_Q, level_Q * factor_TQ, level_Q + effect_TQ)


@dataclass(frozen=True, eq=False)
class Offsets:
    """Offset of every model size from the curve.

    The effects of the mixtures are fitted to the trials of the model size with the most trials.
    """

    offset_NQ: Array
    error_NQ: Array
    """Standard error of each offset."""

    effects_TQ: Array
    """Fitted effect of each trial's mixture, without the trial's error. Metrics minus this effect
    can be compared between settings, even if the settings have different mixtures."""

    @classmethod
    def fit(cls, raw_TQ: Array, rows: Rows, predictor: Predictor) -> Self:
        """Fit the effects to the size with the most trials, then find the offset of each size."""
        counts_N = np.bincount(rows.size_T)
        anchor = int(counts_N.argmax())
        is_anchor_T = rows.size_T == anchor
        center_Q = raw_TQ[is_anchor_T].mean(axis=0)
        anchor_TQ = raw_TQ[is_anchor_T] - center_Q
        inputs = (rows.weights_TK[is_anchor_T], anchor_TQ, np.zeros_like(anchor_TQ))
        [effects] = map_fits(lambda trials: fit_metrics(predictor, *trials), [inputs], False)
        effects_TQ = effects.predict_means(rows.weights_TK)
        rest_TQ = raw_TQ - effects_TQ
        offset_NQ, _ = _average(rest_TQ, rows.size_T, np.ones(len(rest_TQ)))
        offset_NQ[anchor] = center_Q
        square_TQ = np.square(rest_TQ - offset_NQ[rows.size_T])
        mean_NQ, _ = _average(square_TQ, rows.size_T, np.ones(len(rest_TQ)))
        own_NQ = np.sqrt(mean_NQ * (counts_N / np.maximum(counts_N - 1, 1))[:, None])
        pooled_Q = np.sqrt(square_TQ.mean(axis=0))
        # Residuals are too small at the size that the effects were fitted to, and uncertain at a
        # size with few trials. So a size gets the residuals of all sizes if they exceed its own.
        error_NQ = np.maximum(own_NQ, pooled_Q) / np.sqrt(counts_N)[:, None]
        return cls(offset_NQ, error_NQ, effects_TQ)

    def find_level(self, curves: ScaleCurves, rows: Rows, target: Scale) -> tuple[Array, Array]:
        """Return every metric's mean over mixtures at the target, and this mean's std, (Q,)."""
        at_size = np.flatnonzero(is_size(rows.params_N, target.params))
        near_R = is_size(rows.runs.params_R, target.params)
        tokens_R = rows.runs.tokens_R[near_R] if len(at_size) else rows.runs.tokens_R
        nearest = float(np.clip(target.tokens, tokens_R.min(), tokens_R.max()))
        mean_2Q, std_2Q = curves.predict(
            np.full(2, target.params), np.array([target.tokens, nearest])
        )
        unit_Q = np.where(rows.is_log_Q, np.abs(mean_2Q[0]), 1.0)
        extrapolated_Q = np.maximum(np.square(std_2Q[0]) - np.square(std_2Q[1]), 0.0)
        if len(at_size):
            n = int(at_size[0])
            level_Q = rows.add(mean_2Q[0], self.offset_NQ[n][None])[0]
            level_std_Q = np.sqrt(np.square(unit_Q * self.error_NQ[n]) + extrapolated_Q)
        else:
            anchor_Q = self.offset_NQ[0] if len(rows.params_N) == 1 else 0.0 * unit_Q
            level_Q = rows.add(mean_2Q[0], anchor_Q[None])[0]
            spread_Q = unit_Q * np.sqrt(np.square(self.offset_NQ).mean(axis=0))
            level_std_Q = np.hypot(std_2Q[0], spread_Q)
        # Runs of one size, or of one number of tokens, say nothing about the level at another one.
        is_elsewhere = (len(rows.params_N) == 1 and not len(at_size)) or (
            not varies(rows.runs.tokens_R) and varies(np.append(tokens_R, target.tokens))
        )
        # Far from the runs, a curve may leave the range of a positive metric.
        lowest_Q = _LOWEST * np.abs(rows.runs.metrics_RQ).min(axis=0)
        is_low_Q = rows.is_log_Q & (level_Q < lowest_Q)
        level_std_Q = np.where(is_low_Q | is_elsewhere, np.nan, level_std_Q)
        return np.where(is_low_Q, lowest_Q, level_Q), level_std_Q


def _average(values_RQ: Array, index_R: Index, weight_R: Array) -> tuple[Array, Array]:
    """Return the weighted mean of every group of rows, and the group's total weight."""
    total = np.bincount(index_R, weight_R).astype(np.float64)
    sums = np.zeros((len(total), values_RQ.shape[1]))
    np.add.at(sums, index_R, values_RQ * weight_R[:, None])
    return sums / total[:, None], total


def _count_repeats(keys: Array) -> Index:
    """Number the replicates: return how many equal rows come before each row."""
    _, group_R = np.unique(keys, axis=0, return_inverse=True)
    seen: dict[int, int] = {}
    repeats = []
    for group in group_R.reshape(-1).tolist():
        repeats.append(seen.get(group, 0))
        seen[group] = repeats[-1] + 1
    return np.array(repeats, dtype=np.int64)


def group_sizes(params_R: Array) -> tuple[Index, Array]:
    """Group the model sizes; neighbours that differ by at most `SAME_SIZE` are in one group.

    Returns:
        For each row, the index of its group, by increasing size; and each group's largest size.
    """
    order_R = np.argsort(params_R, kind="stable")
    sorted_R = params_R[order_R]
    starts_R = np.append(True, sorted_R[1:] > (1.0 + SAME_SIZE) * sorted_R[:-1])
    size_R = np.empty(len(params_R), dtype=np.int64)
    size_R[order_R] = np.cumsum(starts_R) - 1
    return size_R, sorted_R[np.append(starts_R[1:], True)]


def is_size(params: Array, size: float) -> NDArray[np.bool_]:
    """Return which model sizes differ from `size` by at most `SAME_SIZE`, as a share of `size`."""
    return np.asarray(np.abs(params / size - 1.0) <= SAME_SIZE)
