"""Cheap estimates of the metrics of any mixture, interpolated from the measurements of fidelities.

A fidelity is a plug-in that measures some mixtures, at lower cost than proxies. Between these
mixtures, a Gaussian process interpolates each metric, so an estimate costs microseconds. The
estimates are extra features of the predictor. They are also used to choose the first round: of the
mixtures that are drawn at random for it, only those with the highest estimated scores are kept.

Axes: D measured mixtures, K domains, Q metrics, M mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.predictor import Array, ExtraFeatures
from climb.predictor.gp import GPPredictor
from climb.predictor.metrics import ExtrasByMetric, predict_mean
from climb.search.parallel import map_fits


@dataclass(frozen=True, eq=False)
class MeasuredFidelity:
    """The mixtures that a fidelity has measured."""

    metric_names: tuple[str, ...]
    weights_DK: Array
    metrics_DQ: Array


@dataclass(frozen=True, eq=False)
class Fidelities:
    """Estimates of the metrics of the objective, by every configured fidelity."""

    domains: tuple[str, ...]
    objective: Mapping[str, float]
    """Metric -> its weight in the score."""

    estimates: tuple[Mapping[str, ExtraFeatures], ...]
    """For each fidelity: metric -> function from weights (M, K) to estimates (M, 1)."""

    @classmethod
    def fit(
        cls,
        domains: Sequence[str],
        objective: Mapping[str, float],
        measured: Sequence[MeasuredFidelity],
    ) -> Self:
        """Interpolate the metrics of the objective.

        Args:
            domains: in the order of the measured weights.
            objective: metric -> its weight in the score, not 0.
            measured: the measured mixtures of each fidelity.
        """

        def interpolate(one: MeasuredFidelity) -> dict[str, ExtraFeatures]:
            return {
                name: _interpolate(one.weights_DK, values_D)
                for name, values_D in zip(one.metric_names, one.metrics_DQ.T, strict=True)
                if name in objective
            }

        fitted = map_fits(interpolate, measured, is_thread_safe=True)
        return cls(tuple(domains), dict(objective), tuple(fitted))

    def list_features(self, metric_names: Sequence[str], domains: Sequence[str]) -> ExtrasByMetric:
        """Return for each metric a function from weights to estimates; None without an estimate.

        Args:
            metric_names: the metrics.
            domains: the order of the columns of the weights.
        """
        order_K = np.array([domains.index(name) for name in self.domains])

        def select(name: str) -> ExtraFeatures | None:
            found = [one[name] for one in self.estimates if name in one]
            return partial(_estimate, found, order_K) if found else None

        return tuple(select(name) for name in metric_names)

    def rank(self, weights_MK: Array, domains: Sequence[str]) -> Array:
        """Return estimated scores: the mean of the fidelities' standardized scores, shape (M,)."""
        own_MK = weights_MK[:, [domains.index(name) for name in self.domains]]
        total_M = np.zeros(len(weights_MK))
        for one in self.estimates:
            terms = [
                self.objective[name] * estimate(own_MK)[:, 0] for name, estimate in one.items()
            ]
            score_M = np.sum(terms, axis=0)
            total_M += (score_M - score_M.mean()) / (float(score_M.std()) or 1.0)
        return np.asarray(total_M / max(1, len(self.estimates)))


def _interpolate(weights_DK: Array, values_D: Array) -> ExtraFeatures:
    predict = GPPredictor().fit(weights_DK, values_D, np.zeros(len(values_D)))
    return lambda weights_MK: predict_mean(predict, weights_MK)[:, None]


def _estimate(
    functions: Sequence[ExtraFeatures], order_K: NDArray[np.int64], weights_MK: Array
) -> Array:
    own_MK = weights_MK[:, order_K]
    return np.hstack([function(own_MK) for function in functions])
