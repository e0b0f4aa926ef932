"""Predictors: regression from mixture weights to one metric, with a standard deviation.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Predict = Callable[[Array], tuple[Array, Array]]
"""weights_MK -> (mean_M, std_M) of the expected metric; the std excludes observation noise."""

Parameters = dict[str, Any]
"""Fitted parameters of one metric as JSON values; `kind` names the formula."""

ExtraFeatures = Callable[[Array], Array]
"""weights_MK -> features_MF, finite: for example, what a smaller proxy measures on each mixture."""


@runtime_checkable
class JointPredict(Protocol):
    """A Predict with covariances; the search uses them where a predictor provides them."""

    @property
    def noise(self) -> float:
        """Standard deviation of one trial's observation noise, inferred by the fit."""

    def __call__(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation, shapes (M,), as every Predict does."""

    def mean(self, weights_MK: Array) -> Array:
        """Predict the mean alone, shape (M,), at lower cost."""

    def joint(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict the mean (M,), and the covariance (M, M) of the errors of this mean."""


@runtime_checkable
class ExportablePredict(Protocol):
    """A Predict whose parameters can be written down, so that another program can evaluate it."""

    def export(self) -> Parameters:
        """Return the parameters."""


@runtime_checkable
class Predictor(Protocol):
    """A regression method, which fits one metric to mixture weights."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit one metric of T trials. The order of the trials must not change the result.

        A predictor may leave out the parameter `extra`; then it cannot use extra features.

        Args:
            weights_TK: mixtures, shape (T, K), rows summing to 1.
            values_T: the metric, shape (T,).
            noise_T: standard deviation of the noise of each value, shape (T,). It includes the
                noise over seeds. Trials may be reused runs: runs of an earlier domain set, whose
                mixtures are mapped to the current domains. The noise of a reused run includes the
                error of this mapping too. 0 means unknown; the predictor then infers the noise.
            extra: function for further features of mixtures, in any unit. The returned Predict
                takes weights alone and calls `extra` itself.
        """


def sort_fit_inputs(
    weights_TK: Array, values_T: Array, noise_T: Array
) -> tuple[NDArray[np.int64], tuple[Array, Array, Array]]:
    """Sort trials by value, noise and weights, so that their input order cannot affect a fit.

    Returns:
        The indices that sort the trials, and the sorted trials.
    """
    order_T = np.lexsort((*weights_TK.T[::-1], noise_T, values_T))
    return order_T, (weights_TK[order_T], values_T[order_T], noise_T[order_T])
