"""Selection of the extra features of a fit: those that rise with the metric more than by chance.

Axes: T trials, K domains, F features, M mixtures.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, ExtraFeatures, sort_fit_inputs
from climb.predictor.sample import compute_extra_features

MIN_T_VALUE = 2.0
"""Minimum t value of the slope of a selected feature. With 12 trials, 1 in 27 features that are
unrelated to the metric reaches it."""


def select_informative(
    extra: ExtraFeatures, trials: tuple[Array, Array, Array]
) -> ExtraFeatures | None:
    """Select the features that rise with the metric; return None if there are none.

    A useful estimate of a metric rises with the metric. With few trials, any other feature only
    adds a parameter that is fitted to noise (docs/decisions/predictor.md).

    Args:
        extra: features of mixtures, each an estimate of the metric.
        trials: weights (T, K), values (T,) and standard deviations of the values (T,).

    Raises:
        ComponentError: `extra` returned a wrong shape or a value that is not finite.
    """
    _, (weights_TK, values_T, noise_T) = sort_fit_inputs(*trials)
    features_TF = compute_extra_features(extra, weights_TK)
    t_value_F = _compute_t_values(features_TF, values_T, noise_T)
    columns = np.flatnonzero(t_value_F >= MIN_T_VALUE)
    return partial(_compute_columns, extra, columns) if len(columns) else None


def _compute_t_values(features_TF: Array, values_T: Array, noise_T: Array) -> Array:
    """Return t values of slopes, one regression per feature, (F,); 0 for a constant feature."""
    variance = float(values_T.var())
    if len(values_T) <= 2 or variance == 0.0:
        return np.zeros(features_TF.shape[1])
    share_T = 1.0 / (1.0 + np.square(noise_T) / variance)
    share_T /= share_T.sum()
    features_TF = features_TF - share_T @ features_TF
    values_T = values_T - share_T @ values_T
    square_F = share_T @ np.square(features_TF)
    product_F = (share_T * values_T) @ features_TF
    scale_F = np.sqrt(np.maximum(square_F * (share_T @ np.square(values_T)), 1e-300))
    correlation_F = np.clip(product_F / scale_F, -1.0, 1.0)
    rest_F = np.sqrt(np.maximum(1.0 - np.square(correlation_F), 1e-12))
    return np.asarray(correlation_F * np.sqrt(len(values_T) - 2) / rest_F)


def _compute_columns(extra: ExtraFeatures, columns: NDArray[np.int64], weights_MK: Array) -> Array:
    return compute_extra_features(extra, weights_MK)[:, columns]
