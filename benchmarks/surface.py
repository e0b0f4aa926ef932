"""Surfaces fitted to published runs; simulations use them in place of training.

Axes: T runs, M mixtures, K domains, Q metrics, C components, S starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor.gaussian_process import GaussianProcess
from climb.predictor.metrics import predict_mean
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.xgboost import XGBoostPredictor
from climb.search import Trials
from climb.search.pattern_search import pattern_search

Array = NDArray[np.float64]

NOISE = 0.3
"""Standard deviation of the score over seeds / standard deviation over published mixtures."""

SAMPLER = {"concentration": (0.1, 5.0), "temperature": 0.5}
"""Distribution of the draws from which the search for a surface's best mixture starts."""


class LogProcess:
    """A Gaussian process on log(weight + 0.001); the features of `GPPredictor` differ."""

    def __init__(self, weights_TK: Array, values_T: Array) -> None:
        points_TK = np.log(weights_TK + 1e-3)
        self.lower_K, self.width_K = points_TK.min(axis=0), np.ptp(points_TK, axis=0)
        self.centre, self.scale = float(values_T.mean()), float(values_T.std())
        scaled_T = (values_T - self.centre) / self.scale
        points_TK = (points_TK - self.lower_K) / self.width_K
        self.process = GaussianProcess.fit(points_TK, scaled_T, np.zeros(len(values_T)), 200)

    def __call__(self, weights_MK: Array) -> Array:
        """Value of each mixture, shape (M,)."""
        points_MK = (np.log(weights_MK + 1e-3) - self.lower_K) / self.width_K
        return self.centre + self.scale * self.process.predict_mean(points_MK)


@dataclass(frozen=True, eq=False)
class Surface:
    """The true metrics of every mixture in a simulation."""

    space: FeasibleSet
    metric_names: tuple[str, ...]
    fits: tuple[tuple[Callable[[Array], Array], ...], ...]
    """Fitted models of each component; their mean is the component."""

    center_Q: Array
    loadings_CQ: Array
    """Metrics are `center_Q` plus a linear function of the components."""

    feasible_TK: Array
    """The published mixtures, projected into the feasible set."""

    @classmethod
    def fit(
        cls,
        kind: str,
        parts: Sequence[Trials],
        space: FeasibleSet,
        step: int = 1,
        components: int | None = None,
    ) -> Self:
        """Fit models to published runs.

        Args:
            kind: blend (mean of a process, a power law and boosted trees) or trees (boosted trees).
            parts: the published runs, with the same domains and metrics.
            space: feasible set of all searchers.
            step: only every step-th run is fitted; above 1 for quick tests.
            components: fit this many principal components of the standardized metrics; None: fit
                every metric.
        """
        weights_TK = np.vstack([part.weights_TK for part in parts])[::step]
        metrics_TQ = np.vstack([part.metrics_TQ for part in parts])[::step]
        n_metrics = metrics_TQ.shape[1]
        center_Q, loadings_CQ, values_TC = np.zeros(n_metrics), np.eye(n_metrics), metrics_TQ
        if components is not None:
            center_Q, std_Q = metrics_TQ.mean(axis=0), metrics_TQ.std(axis=0)
            u_TC, s_C, v_CQ = np.linalg.svd((metrics_TQ - center_Q) / std_Q, full_matrices=False)
            values_TC = u_TC[:, :components] * s_C[:components]
            loadings_CQ = v_CQ[:components] * std_Q
        fits = tuple(_fit_models(kind, weights_TK, values_T) for values_T in values_TC.T)
        feasible_TK = space.project(weights_TK)
        return cls(space, parts[0].metric_names, fits, center_Q, loadings_CQ, feasible_TK)

    def measure(self, weights_MK: Array) -> Array:
        """True metrics, shape (M, Q)."""
        values_MC = np.stack(
            [np.mean([fit(weights_MK) for fit in fits], axis=0) for fits in self.fits], axis=1
        )
        return np.asarray(self.center_Q + values_MC @ self.loadings_CQ)

    @cached_property
    def _feasible_TQ(self) -> Array:
        return self.measure(self.feasible_TK)

    def build_noise(self, objective: Objective, correlation: float) -> Noise:
        """Build noise over seeds: proportional to each metric's std over mixtures; see `NOISE`.

        Args:
            objective: defines the score.
            correlation: of the noise of any two metrics of one run.
        """
        std_Q = self._feasible_TQ.std(axis=0)
        score_std = float(objective.score(self._feasible_TQ).std())
        part_Q = objective.weights_Q * std_Q
        common, own = float(part_Q.sum()) ** 2, float(part_Q @ part_Q)
        share = NOISE * score_std / np.sqrt(correlation * common + (1.0 - correlation) * own)
        return Noise(share * std_Q, correlation)

    def find_best(self, objective: Objective, n_searches: int) -> Array:
        """Find the best feasible mixture with several pattern searches, shape (K,).

        Each starts from the 40 best random and published mixtures. On `trees`, a single search is
        up to 0.003 nats below the best of four.
        """

        def score(weights_MK: Array) -> Array:
            return objective.score(self.measure(weights_MK))

        best_NK = []
        for seed in range(n_searches):
            random = np.random.default_rng(seed)
            drawn_MK = np.vstack([self.feasible_TK, self.space.sample(random, 4_000, **SAMPLER)])
            starts_SK = drawn_MK[np.argsort(-score(drawn_MK))[:40]]
            for n_kept in (10, 1):
                starts_SK = pattern_search(starts_SK, self.space, score, random)[0][:n_kept]
            best_NK.append(starts_SK[0])
        return best_NK[int(score(np.stack(best_NK)).argmax())]


@dataclass(frozen=True, eq=False)
class Noise:
    """Observation noise of one run."""

    std_Q: Array
    correlation: float

    def draw(self, n: int, random: np.random.Generator) -> Array:
        """Draw the noise of n runs, shape (n, Q)."""
        own_TQ = np.sqrt(1.0 - self.correlation) * random.normal(size=(n, len(self.std_Q)))
        if self.correlation:
            own_TQ += np.sqrt(self.correlation) * random.normal(size=(n, 1))
        return np.asarray(self.std_Q * own_TQ)


def _fit_models(
    kind: str, weights_TK: Array, values_T: Array
) -> tuple[Callable[[Array], Array], ...]:
    exact_T = np.zeros(len(values_T))
    trees = XGBoostPredictor(members=2).fit(weights_TK, values_T, exact_T)
    fits: list[Callable[[Array], Array]] = [partial(predict_mean, trees)]
    if kind == "blend":
        law = PowerLawPredictor().fit(weights_TK, values_T, exact_T)
        fits += [law.mean, LogProcess(weights_TK, values_T)]
    return tuple(fits)
