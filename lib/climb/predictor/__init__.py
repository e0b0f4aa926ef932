"""Weights -> one metric with a spread, learned from trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Predict = Callable[[Array], tuple[Array, Array]]
"""weights_MK -> (mean_M, std_M): the expected metric; std leaves seed noise out."""

Extra = Callable[[Array], Array]
"""weights_MK -> features_MF, finite: what something cheaper than a trial says of each mixture."""


@runtime_checkable
class JointPredict(Protocol):
    """A Predict that knows more; what takes it uses that, and does without it elsewhere."""

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's own noise, as the fit infers it."""

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, as every Predict."""

    def mean(self, weights_MK: Array) -> Array:
        """The mean alone, which costs less."""

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Mean (M,) and covariance (M, M): errors at mixtures that are alike go together."""


@runtime_checkable
class Predictor(Protocol):
    """A regression recipe."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit one metric of T trials; noise_T is each value's standard deviation over seeds.

        Where nothing is known of the noise, noise_T is 0 and the predictor judges it by itself.
        The fit is a function of the set of trials: their order changes nothing.

        `extra` gives further features of each mixture, in any unit; the Predict takes weights
        alone and asks `extra` by itself. A predictor without that parameter can be used wherever
        nothing extra is known.
        """


def in_canonical_order(
    weights_TK: Array, values_T: Array, noise_T: Array
) -> tuple[NDArray[np.int64], tuple[Array, Array, Array]]:
    """Sort trials by value, noise and weights, so that a fit cannot depend on how they arrived.

    Returns:
        The rows in sorted order, and the trials so sorted.
    """
    order = np.lexsort((*weights_TK.T[::-1], noise_T, values_T))
    return order, (weights_TK[order], values_T[order], noise_T[order])
