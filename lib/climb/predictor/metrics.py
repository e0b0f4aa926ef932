"""Predictions of several metrics at once, and the bounds that keep them plausible.

Axes: T trials, K domains, Q metrics, M mixtures.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from climb.errors import ComponentError, one_line
from climb.predictor import (
    Array,
    ExportablePredict,
    ExtraFeatures,
    JointPredict,
    Parameters,
    Predict,
    Predictor,
)
from climb.predictor.informative import select_informative

WIDENED = 1.0
"""Predicted means stay within the range of the trials' values, widened at each end by this multiple
of the range."""

DomainGroups = Sequence[Sequence[int]]
"""Groups of domains. A group is a list of column numbers of `weights_MK`; its total weight is a
feature."""

ExtrasByMetric = Sequence[ExtraFeatures | None]
"""For each metric, a function that computes extra features (estimates of the metric), or None."""


class MetricsPredict(Protocol):
    """For each metric, a fitted function that predicts the metric from the weights."""

    @property
    def predicts_Q(self) -> tuple[Predict, ...]:
        """One function per metric."""

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q)."""

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q)."""


@runtime_checkable
class MetricsPredictor(Protocol):
    """A predictor that fits several metrics together, so that they can share parameters.

    The search fits several folds in threads, so `fit_metrics` must not change shared state.
    """

    def fit_metrics(
        self,
        weights_TK: Array,
        values_TQ: Array,
        noise_TQ: Array,
        domain_groups: DomainGroups = (),
    ) -> MetricsPredict:
        """Fit all metrics of T trials; arguments as for `Predictor.fit`, with a metric axis."""


@dataclass(frozen=True, eq=False)
class SeparatePredicts:
    """Metrics that were fitted one by one; see `MetricsPredict`."""

    predicts_Q: tuple[Predict, ...]

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q); raises as `predict` does."""
        return np.stack([predict_mean(p, weights_MK) for p in self.predicts_Q], axis=1)

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q).

        Raises:
            ComponentError: a predictor returned a wrong shape, a value that is not finite, or a
                negative standard deviation.
        """
        shape = (len(weights_MK),)
        predictions = [_check_both(predict(weights_MK), shape) for predict in self.predicts_Q]
        means, stds = zip(*predictions, strict=True)
        return np.stack(means, axis=1), np.stack(stds, axis=1)


def predict_mean(predict: Predict, weights_MK: Array) -> Array:
    """Predict the mean of one metric; a `JointPredict` computes no standard deviation for this.

    Raises:
        ComponentError: see `SeparatePredicts.predict`.
    """
    shape = (len(weights_MK),)
    if isinstance(predict, JointPredict):
        return _check("mean", predict.mean(weights_MK), shape)
    return _check_both(predict(weights_MK), shape)[0]


def fit_metrics(
    predictor: Predictor,
    weights_TK: Array,
    values_TQ: Array,
    noise_TQ: Array,
    domain_groups: DomainGroups = (),
    extras_Q: ExtrasByMetric = (),
) -> BoundedPredicts:
    """Fit all metrics, together if the predictor has `fit_metrics`, and bound the predictions.

    If any metric has extra features that the predictor can use, all metrics are fitted one by one.
    """
    fitted: MetricsPredict
    if any(extras_Q) and takes_extra(predictor):
        fitted = fit_separately(predictor, weights_TK, values_TQ, noise_TQ, extras_Q)
    elif isinstance(predictor, MetricsPredictor):
        fitted = predictor.fit_metrics(weights_TK, values_TQ, noise_TQ, domain_groups)
    else:
        fitted = fit_separately(predictor, weights_TK, values_TQ, noise_TQ)
    return BoundedPredicts.build(fitted, values_TQ)


def takes_extra(predictor: Predictor) -> bool:
    """Whether a predictor can use extra features."""
    return "extra" in inspect.signature(predictor.fit).parameters


def fit_separately(
    predictor: Predictor,
    weights_TK: Array,
    values_TQ: Array,
    noise_TQ: Array,
    extras_Q: ExtrasByMetric = (),
) -> SeparatePredicts:
    """Fit one predictor per metric; of the metric's extra features, use the informative ones."""
    predicts = []
    for q, (values_T, noise_T) in enumerate(zip(values_TQ.T, noise_TQ.T, strict=True)):
        trials = (weights_TK, values_T, noise_T)
        extra = extras_Q[q] if extras_Q else None
        extra = select_informative(extra, trials) if extra is not None else None
        predicts.append(predictor.fit(*trials) if extra is None else predictor.fit(*trials, extra))
    return SeparatePredicts(tuple(predicts))


@dataclass(frozen=True, eq=False)
class BoundedPredicts:
    """Predictions that stay plausible, whatever a predictor returns.

    A mean is clipped to the range of the trials' values, widened as `WIDENED` describes. A standard
    deviation is at most the range of the values. Without these bounds, one metric whose fit
    explodes far from the trials would decide a recommendation.
    """

    fitted: MetricsPredict
    bounds_Q: tuple[MetricBounds, ...]
    low_Q: Array
    high_Q: Array

    @classmethod
    def build(cls, fitted: MetricsPredict, values_TQ: Array) -> Self:
        """Derive the bounds from the trials' values."""
        low_Q, high_Q = values_TQ.min(axis=0), values_TQ.max(axis=0)
        # Constant values say nothing about the range of a metric.
        range_Q = np.where(high_Q > low_Q, high_Q - low_Q, np.inf)
        low_Q, high_Q = low_Q - WIDENED * range_Q, high_Q + WIDENED * range_Q
        bounds = zip(low_Q.tolist(), high_Q.tolist(), range_Q.tolist(), strict=True)
        return cls(fitted, tuple(MetricBounds(*one) for one in bounds), low_Q, high_Q)

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q); raises as `predict` does."""
        shape = (len(weights_MK), len(self.low_Q))
        means_MQ = _check("mean", self.fitted.predict_means(weights_MK), shape)
        return np.clip(means_MQ, self.low_Q, self.high_Q)

    def predict(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q).

        Raises:
            ComponentError: a predictor returned a wrong shape, a value that is not finite, or a
                negative standard deviation.
        """
        shape = (len(weights_MK), len(self.low_Q))
        means_MQ, stds_MQ = _check_both(self.fitted.predict(weights_MK), shape)
        max_stds_Q = [bounds.max_std for bounds in self.bounds_Q]
        return np.clip(means_MQ, self.low_Q, self.high_Q), np.minimum(stds_MQ, max_stds_Q)

    @property
    def has_covariances(self) -> bool:
        """Whether the predictor has covariances of its errors, for every metric."""
        return all(isinstance(predict, JointPredict) for predict in self.fitted.predicts_Q)

    def predict_covariance(self, q: int, weights_MK: Array) -> Array:
        """Predict the covariance of one metric's errors, shape (M, M).

        If the predictor has no covariances, errors of different mixtures count as independent.

        Raises:
            ComponentError: see `predict`.
        """
        predict, bounds, shape = self.fitted.predicts_Q[q], self.bounds_Q[q], (len(weights_MK),)
        if isinstance(predict, JointPredict):
            _, covariance_MM = _unpack(predict.joint(weights_MK), "covariance")
            return bounds.clip_covariance(_check("covariance", covariance_MM, 2 * shape))
        std_M = bounds.clip(*_check_both(predict(weights_MK), shape))[1]
        return np.diag(np.square(std_M))

    @property
    def noise_Q(self) -> Array:
        """Standard deviation of each metric's observation noise; 0 if its fit does not infer it."""
        return np.array(
            [p.noise if isinstance(p, JointPredict) else 0.0 for p in self.fitted.predicts_Q]
        )

    def export(self) -> list[Parameters]:
        """Return the parameters of every metric; empty for a metric whose fit has no `export`."""
        predicts_Q = self.fitted.predicts_Q
        return [p.export() if isinstance(p, ExportablePredict) else {} for p in predicts_Q]


@dataclass(frozen=True)
class MetricBounds:
    """Plausible predictions of one metric, in its unit."""

    low: float
    high: float
    max_std: float

    def clip(self, mean_M: Array, std_M: Array) -> tuple[Array, Array]:
        """Clip means and standard deviations, shapes (M,)."""
        return np.clip(mean_M, self.low, self.high), np.minimum(std_M, self.max_std)

    def clip_covariance(self, covariance_MM: Array) -> Array:
        """Reduce predicted standard deviations above `max_std` to `max_std`; keep correlations.

        The standard deviation of a mixture is the root of its element on the diagonal.
        """
        std_M = np.sqrt(np.maximum(np.diag(covariance_MM), 0.0))
        if (std_M <= self.max_std).all():
            return covariance_MM
        scale_M = self.max_std / np.maximum(std_M, self.max_std)
        return np.asarray(covariance_MM * np.outer(scale_M, scale_M))


def _check_both(prediction: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    mean, std = _unpack(prediction, "std")
    return _check("mean", mean, shape), _check("std", std, shape, 0.0)


def _unpack(prediction: Any, second: str) -> tuple[Any, Any]:
    try:
        mean, other = prediction
    except (TypeError, ValueError) as error:
        raise ComponentError(
            f"the predictor returned {type(prediction).__name__} where it must return two arrays, "
            f"mean and {second}; fix the predictor in search.predictor"
        ) from error
    return mean, other


def _check(name: str, values: Any, shape: tuple[int, ...], lower: float = -np.inf) -> Array:
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ComponentError(
            f"the predictor's {name} is no array of numbers: {one_line(error)}; fix the predictor "
            "in search.predictor"
        ) from error
    invalid = ~(np.isfinite(values) & (values >= lower))
    if values.shape != shape or invalid.any():
        wrong = "not finite" if np.isneginf(lower) else "not finite or are negative"
        raise ComponentError(
            f"the predictor's {name} has shape {values.shape} and {int(invalid.sum())} values "
            f"that are {wrong}; for {shape[0]} mixtures, the shape must be {shape}; fix the "
            "predictor in search.predictor"
        )
    return np.asarray(values)
