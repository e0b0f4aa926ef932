"""A predictor whose every answer can be computed by hand: a plane over the weights."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plane:
    """A linear model: mean `slopes`, each with standard deviation `std`; trials have `noise`."""

    std: float
    noise: float
    slopes: tuple[float, ...] = (0.0, 0.0, 0.0)

    def fit(self, weights_TK, values_T, noise_T):
        return self

    def __call__(self, weights_MK):
        return self.mean(weights_MK), np.sqrt(np.diag(self.joint(weights_MK)[1]))

    def mean(self, weights_MK):
        return weights_MK @ np.array(self.slopes)

    def joint(self, weights_MK):
        return self.mean(weights_MK), self.std**2 * weights_MK @ weights_MK.T
