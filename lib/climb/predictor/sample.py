"""What a fit starts from, trials in one order and one scale, and the way back to the metric.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from climb.errors import ComponentError
from climb.predictor import Array, Extra, in_canonical_order

EPSILON = 1e-3
"""Added before a logarithm: below a thousandth, a share of a domain makes no difference."""

Columns = Callable[[Array], Array]
"""weights_MK -> columns_MF."""

_CONSTANT = 1e-9
"""Spread of a column, as a share of its size, under which it is taken as constant."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Trials in canonical order, their values with mean 0 and spread 1."""

    weights_TK: Array
    extra_TF: Array
    """What the caller's features say of the trials, shape (T, 0) where there are none."""

    values_T: Array
    known_T: Array
    """Known variance of each value, 0 where nothing is known."""

    centre: float
    scale: float
    """Mean and spread of the values in the metric's own unit."""

    order_T: NDArray[np.int64]

    @classmethod
    def of(cls, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None) -> Self:
        """Sort and scale trials.

        Raises:
            ComponentError: `extra` answered with a wrong shape or something not finite.
        """
        order_T, trials = in_canonical_order(weights_TK, values_T, noise_T)
        centre, scale = float(trials[1].mean()), float(trials[1].std())
        if scale <= _CONSTANT * abs(centre):
            scale = 1.0
        return cls(
            trials[0],
            # Asked in canonical order: a matrix product may differ by order in its last bits.
            extra_columns(extra, trials[0]),
            (trials[1] - centre) / scale,
            np.square(trials[2] / scale),
            centre,
            scale,
            order_T,
        )

    @property
    def trust_T(self) -> Array:
        """Weight of a trial measured with noise s beside others of spread 1: 1 / (1 + s^2)."""
        return np.asarray(1.0 / (1.0 + self.known_T))

    def columns(self, own: Columns) -> Array:
        """Features of the trials in their own units: functions of the weights, then the extra."""
        return np.hstack([own(self.weights_TK), self.extra_TF])

    def as_given(self, values_T: Array) -> Array:
        """Scaled values in the metric's unit and in the order in which the trials arrived."""
        given_T = np.empty_like(values_T)
        given_T[self.order_T] = self.centre + self.scale * values_T
        return given_T


def extra_columns(extra: Extra | None, weights_MK: Array) -> Array:
    """What `extra` says of each mixture, shape (M, F); shape (M, 0) where there is none.

    Raises:
        ComponentError: a wrong shape, or something not finite.
    """
    if extra is None:
        return np.empty((len(weights_MK), 0))
    columns_MF = np.asarray(extra(weights_MK), dtype=np.float64)
    if columns_MF.ndim != 2 or len(columns_MF) != len(weights_MK):
        raise ComponentError(
            f"the extra features have shape {columns_MF.shape} for {len(weights_MK)} mixtures; "
            f"it must be ({len(weights_MK)}, number of features)"
        )
    if not np.isfinite(columns_MF).all():
        row = int(np.argmax(~np.isfinite(columns_MF).all(axis=1)))
        raise ComponentError(
            f"the extra features of mixture {row} are {columns_MF[row].tolist()}; "
            f"they must be finite"
        )
    return columns_MF


@dataclass(frozen=True, eq=False)
class Scaling:
    """Columns moved and stretched as those of the trials ask; constant ones are only moved."""

    low_F: Array
    width_F: Array

    @classmethod
    def to_unit(cls, columns_TF: Array) -> Self:
        """Trials fill 0 to 1 in every column."""
        return cls._of(columns_TF, columns_TF.min(axis=0), np.ptp(columns_TF, axis=0))

    @classmethod
    def to_standard(cls, columns_TF: Array) -> Self:
        """Trials have mean 0 and spread 1 in every column."""
        return cls._of(columns_TF, columns_TF.mean(axis=0), columns_TF.std(axis=0))

    @classmethod
    def _of(cls, columns_TF: Array, low_F: Array, width_F: Array) -> Self:
        least_F = _CONSTANT * np.abs(columns_TF).max(axis=0)
        return cls(low_F, np.where(width_F > least_F, width_F, 1.0))

    def __call__(self, columns_MF: Array) -> Array:
        """Scale columns of any mixtures.

        Raises:
            ComponentError: another number of columns than the trials had.
        """
        if columns_MF.shape[1] != len(self.low_F):
            raise ComponentError(
                f"{columns_MF.shape[1]} features of a mixture after a fit on {len(self.low_F)}; "
                f"`extra` must give as many as it gave before"
            )
        return np.asarray((columns_MF - self.low_F) / self.width_F)


@dataclass(frozen=True, eq=False)
class Points:
    """From weights to scaled features: functions of the weights, then the extra ones."""

    own: Columns
    extra: Extra | None
    scaling: Scaling

    def __call__(self, weights_MK: Array) -> Array:
        """Scaled features, shape (M, F)."""
        columns = [self.own(weights_MK), extra_columns(self.extra, weights_MK)]
        return self.scaling(np.hstack(columns))


class Fitted(Protocol):
    """A fit to scaled values, asked at points: scaled features of mixtures."""

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's own noise."""

    def at(self, points_MF: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at each point, shapes (M,)."""

    def mean_at(self, points_MF: Array) -> Array:
        """The mean alone."""

    def joint_at(self, points_MF: Array) -> tuple[Array, Array]:
        """Mean (M,) and covariance (M, M)."""


@dataclass(frozen=True, eq=False)
class InUnits:
    """A fit in the units of weights and metric; see `climb.predictor.JointPredict`."""

    fitted: Fitted
    points: Points

    centre: float
    scale: float

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's own noise."""
        return self.scale * self.fitted.noise

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, shapes (M,)."""
        mean_M, std_M = self.fitted.at(self.points(weights_MK))
        return self.centre + self.scale * mean_M, self.scale * std_M

    def mean(self, weights_MK: Array) -> Array:
        """The mean alone."""
        return self.centre + self.scale * self.fitted.mean_at(self.points(weights_MK))

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean (M,) and covariance (M, M)."""
        mean_M, covariance_MM = self.fitted.joint_at(self.points(weights_MK))
        return self.centre + self.scale * mean_M, self.scale**2 * covariance_MM


def raw_and_log(weights_MK: Array) -> Array:
    """Raw weights show the large shares, logarithms the small ones, shape (M, 2 K)."""
    return np.hstack([weights_MK, np.log(weights_MK + EPSILON)])
