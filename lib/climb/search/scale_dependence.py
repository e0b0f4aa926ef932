"""Whether the effect of a mixture depends on model size or on tokens, beyond noise.

For mixtures that were measured at a small and at a large scale, the difference of the two scores is
predicted from the mixture, in cross-validation. If the predictions are better than the mean
difference by more than chance, the best mixture depends on the scale. The part of the differences
that is proportional to the scores is removed first, because this part changes the size of a gain,
but not the order of mixtures.

Axes: R rows, T trials, P mixtures measured at both scales, K domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.mixture import SAME_DECIMALS
from climb.predictor import Predictor
from climb.predictor.metrics import fit_metrics
from climb.search.parallel import map_fits
from climb.search.scale import ExpressedTrials, is_size
from climb.search.scale_curve import varies

Array = NDArray[np.float64]

MIN_PAIRS = 10
"""A verdict needs at least this many mixtures that were measured at both scales."""

MIN_RATIO = 2.0
"""Late and early checkpoints of a trial count as two scales if their tokens differ by at least this
factor."""

_FOLDS, _REPEATS = 5, 4
"""Folds of the cross-validation, and repeats with other folds; errors are averaged over repeats."""

_CHANCE = 2.0
"""A dependence is beyond noise if the error falls by more than this many standard errors."""


@dataclass(frozen=True)
class Dependence:
    """Whether the best mixture depends on model size (`params`) or on `tokens`."""

    axis: str
    n_mixtures: int
    """Mixtures that were measured at both scales."""

    error_change: float | None
    """Relative change of the squared error of held-out differences, if they are predicted from the
    mixture instead of by the mean difference; None with too few mixtures."""

    is_beyond_noise: bool | None
    """Whether the error falls by more than chance; None with too few mixtures."""


def measure_dependence(
    expressed: ExpressedTrials, weights_Q: Array, predictor: Predictor
) -> tuple[Dependence, Dependence]:
    """Measure how the score depends on model size and on tokens.

    Args:
        expressed: the trials at the target scale.
        weights_Q: weight of each metric in the score.
        predictor: predicts a difference of scores from the mixture.

    Returns:
        The dependence on model size, and the dependence on tokens.
    """
    pairs = {"params": _pair_sizes(expressed), "tokens": _pair_tokens(expressed)}
    size, tokens = (
        _judge(axis, mixtures_PK, _remove_scaling(scales_P2Q @ weights_Q), predictor)
        for axis, (mixtures_PK, scales_P2Q) in pairs.items()
    )
    return size, tokens


def _remove_scaling(scores_P2: Array) -> Array:
    """Return the change of every mixture's score between two scales, apart from scaling.

    The part of the changes that is proportional to the mean of a mixture's two scores is removed.
    """
    change_P, mean_P = scores_P2[:, 1] - scores_P2[:, 0], scores_P2.mean(axis=1)
    if len(scores_P2) < MIN_PAIRS:
        return change_P
    change_P, mean_P = change_P - change_P.mean(), mean_P - mean_P.mean()
    return np.asarray(
        change_P - mean_P * float(change_P @ mean_P) / max(float(mean_P @ mean_P), 1e-300)
    )


def _pair_sizes(expressed: ExpressedTrials) -> tuple[Array, Array]:
    """Return mixtures run at several sizes, and metrics at the smallest and largest (P, 2, Q)."""
    rounded_TK = np.round(expressed.weights_TK, SAME_DECIMALS)
    _, mixture_T = np.unique(rounded_TK, axis=0, return_inverse=True)
    mixtures, scales = [], []
    for mixture in range(int(mixture_T.max()) + 1):
        own = np.flatnonzero(mixture_T.reshape(-1) == mixture)
        low, high = (edge(expressed.params_T[own]) for edge in (np.min, np.max))
        if varies(np.array([low, high])):
            values_TQ, params_T = expressed.metrics_TQ[own], expressed.params_T[own]
            scales.append([values_TQ[is_size(params_T, x)].mean(axis=0) for x in (low, high)])
            mixtures.append(expressed.weights_TK[own[0]])
    return _stack(mixtures, scales, expressed)


def _pair_tokens(expressed: ExpressedTrials) -> tuple[Array, Array]:
    """Return mixtures with early and late checkpoints, and the metrics at both (P, 2, Q)."""
    rows, tokens_R = expressed.rows, expressed.rows.runs.tokens_R
    mixtures, scales = [], []
    for trial in range(len(rows.first_T)):
        own = np.flatnonzero(rows.trial_R == trial)
        is_late_R = tokens_R[own] > np.sqrt(tokens_R[own].min() * tokens_R[own].max())
        if not is_late_R.any():
            continue
        late, early = (np.exp(np.log(tokens_R[own][x]).mean()) for x in (is_late_R, ~is_late_R))
        if late >= MIN_RATIO * early:
            effect_RQ = expressed.effect_RQ[own]
            effect_2Q = np.stack([effect_RQ[x].mean(axis=0) for x in (~is_late_R, is_late_R)])
            scales.append(rows.add(np.abs(expressed.metrics_TQ).mean(axis=0), effect_2Q))
            mixtures.append(rows.weights_TK[trial])
    return _stack(mixtures, scales, expressed)


def _stack(
    mixtures: list[Array], scales: list[Any], expressed: ExpressedTrials
) -> tuple[Array, Array]:
    n_domains, n_metrics = expressed.weights_TK.shape[1], expressed.metrics_TQ.shape[1]
    return np.reshape(mixtures, (-1, n_domains)), np.reshape(scales, (-1, 2, n_metrics))


def _judge(axis: str, mixtures_PK: Array, change_P: Array, predictor: Predictor) -> Dependence:
    _, mixture_P = np.unique(np.round(mixtures_PK, SAME_DECIMALS), axis=0, return_inverse=True)
    mixture_P = mixture_P.reshape(-1)
    n_mixtures = int(mixture_P.max()) + 1 if len(mixture_P) else 0
    if n_mixtures < MIN_PAIRS:
        return Dependence(axis, n_mixtures, None, None)
    random = np.random.default_rng(n_mixtures)
    folds = [(random.permutation(n_mixtures) % _FOLDS)[mixture_P] for _ in range(_REPEATS)]
    held_out = [fold_P == fold for fold_P in folds for fold in range(_FOLDS)]

    def compare(out_P: NDArray[np.bool_]) -> tuple[Array, Array]:
        values_P1 = change_P[~out_P, None]
        fit = fit_metrics(predictor, mixtures_PK[~out_P], values_P1, np.zeros_like(values_P1))
        without = np.square(change_P[out_P] - values_P1.mean())
        return without, np.square(change_P[out_P] - fit.predict_means(mixtures_PK[out_P])[:, 0])

    without_P, with_P = np.zeros(len(change_P)), np.zeros(len(change_P))
    errors = map_fits(compare, held_out, False)
    for out_P, (without, predicted) in zip(held_out, errors, strict=True):
        without_P[out_P] += without / _REPEATS
        with_P[out_P] += predicted / _REPEATS
    fall_P = without_P - with_P
    relative = -float(fall_P.sum() / without_P.sum()) if without_P.any() else 0.0
    std_error = float(fall_P.std(ddof=1)) / np.sqrt(n_mixtures)
    return Dependence(axis, n_mixtures, relative, bool(fall_P.mean() > _CHANCE * std_error))
