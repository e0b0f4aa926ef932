"""Ridge regression on weights and log weights.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from climb.predictor import Array, Extra, Predict
from climb.predictor.sample import InUnits, Points, Sample, Scaling, raw_and_log

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV


@dataclass(frozen=True, kw_only=True)
class RidgePredictor:
    """Linear in two columns a domain and the extra features; least leave-one-out error.

    The spread is that of the coefficients, the penalty taken as their prior: where the metric is
    not linear in these columns, the misfit counts as noise, and a search's calibration shows it.
    """

    penalties: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-8, 7))
    """Penalties that are tried, for columns and values of spread 1."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit on T trials; noisy ones weigh less. See `climb.predictor.Predictor`."""
        from sklearn.linear_model import RidgeCV

        sample = Sample.of(weights_TK, values_T, noise_T, extra)
        columns_TF = sample.columns(raw_and_log)
        points = Points(raw_and_log, extra, Scaling.to_standard(columns_TF))
        points_TF = points.scaling(columns_TF)
        found = RidgeCV(alphas=self.penalties).fit(points_TF, sample.values_T, sample.trust_T)
        line = _Line.through(found, points_TF, sample)
        return InUnits(line, points, sample.centre, sample.scale)


@dataclass(frozen=True, eq=False)
class _Line:
    """A line with the spread of its coefficients; see `climb.predictor.sample.Fitted`."""

    level: float
    """Mean at the centre of the trials."""

    level_var: float
    slopes_F: Array
    centre_F: Array
    lower_FF: Array
    """Cholesky factor of the slopes' precision, in units of the noise."""

    noise: float

    @classmethod
    def through(cls, found: RidgeCV, points_TF: Array, sample: Sample) -> _Line:
        trust_T = sample.trust_T
        centre_F = np.average(points_TF, axis=0, weights=trust_T)
        off_TF = (points_TF - centre_F) * np.sqrt(trust_T)[:, None]
        penalty_FF = found.alpha_ * np.eye(len(centre_F))
        lower_FF = np.linalg.cholesky(off_TF.T @ off_TF + penalty_FF)
        # What the slopes and the level take of the degrees of freedom.
        used = 1.0 + float(np.square(solve_triangular(lower_FF, off_TF.T, lower=True)).sum())
        rest_T = sample.values_T - found.predict(points_TF)
        noise = float(np.sqrt(trust_T @ np.square(rest_T) / max(len(rest_T) - used, 1.0)))
        level = float(found.predict(centre_F[None])[0])
        level_var = noise**2 / float(trust_T.sum())
        return cls(level, level_var, np.asarray(found.coef_), centre_F, lower_FF, noise)

    def mean_at(self, points_MF: Array) -> Array:
        return np.asarray(self.level + (points_MF - self.centre_F) @ self.slopes_F)

    def at(self, points_MF: Array) -> tuple[Array, Array]:
        var_M = np.square(self._spread(points_MF)).sum(axis=0) + self.level_var
        return self.mean_at(points_MF), np.sqrt(var_M)

    def joint_at(self, points_MF: Array) -> tuple[Array, Array]:
        spread_FM = self._spread(points_MF)
        return self.mean_at(points_MF), spread_FM.T @ spread_FM + self.level_var

    def _spread(self, points_MF: Array) -> Array:
        off_MF = points_MF - self.centre_F
        return np.asarray(self.noise * solve_triangular(self.lower_FF, off_MF.T, lower=True))
