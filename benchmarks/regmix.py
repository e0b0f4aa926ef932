"""RegMix's published runs, and surfaces fitted to all of them that replace training in simulations.

Axes: T runs, M mixtures, K domains, Q losses, S starts.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared import shared_data

from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor.gaussian_process import GaussianProcess
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.xgboost import XGBoostPredictor
from climb.runs.formats import read_regmix, read_regmix_prior
from climb.runs.importer import import_runs
from climb.runs.table import read_runs
from climb.search import Trials
from climb.search.pattern_search import pattern_search

Array = NDArray[np.float64]

NOISE = 0.3
"""Standard deviation of one run's score over seeds, as a share of that over published mixtures."""

CAP = 15.0
"""Upper bound of a weight as a multiple of the token share, for every searcher."""

TARGETS = {"mean of 13": "mean(*):min", "Pile-CC": "pile_cc:min"}
"""Objectives by the name in tables."""

SAMPLER = {"concentration": (0.1, 5.0), "temperature": 0.5}
"""The library's own sampler of mixtures."""


def load_published(part: str) -> Trials:
    """The 512 runs for fitting (`train`) or the 256 for testing (`test`)."""
    folder = shared_data() / "regmix"
    table = read_regmix(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "runs.csv")
        import_runs(table, out)
        return read_runs(out)[0]


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Token shares of `prior.csv`, and the cap of every searcher."""
    shares = read_regmix_prior(shared_data() / "regmix" / "prior.csv")
    constraints = Constraints(
        target_tokens=1.0, max_epochs=None, max_share_ratio=CAP, min_weight=2e-4
    )
    return FeasibleSet.from_constraints(domains, [shares[d] for d in domains], constraints)


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
        """Loss of each mixture, shape (M,)."""
        points_MK = (np.log(weights_MK + 1e-3) - self.lower_K) / self.width_K
        return self.centre + self.scale * self.process.predict_mean(points_MK)


@dataclass(eq=False)
class Surface:
    """The true loss of every mixture in a simulation: a model of all 768 published runs.

    `step` above 1 fits every step-th run only, for a test that the scripts run.
    """

    kind: str
    """blend: mean of a process, a power law and boosted trees; trees: boosted trees alone."""

    space: FeasibleSet
    metric_names: tuple[str, ...]
    std_Q: Array
    """Standard deviation of each loss over the published mixtures."""

    def __init__(self, kind: str, step: int = 1) -> None:
        parts = [load_published("train"), load_published("test")]
        self.kind, self.metric_names = kind, parts[0].metric_names
        self.space = build_feasible_set(parts[0].domains)
        weights_TK = np.vstack([part.weights_TK for part in parts])[::step]
        losses_TQ = np.vstack([part.metrics_TQ for part in parts])[::step]
        exact_T = np.zeros(len(weights_TK))
        self._fits = []
        for q in range(losses_TQ.shape[1]):
            trees = XGBoostPredictor(members=2).fit(weights_TK, losses_TQ[:, q], exact_T)
            fits = [lambda weights_MK, trees=trees: trees(weights_MK)[0]]
            if kind == "blend":
                law = PowerLawPredictor().fit(weights_TK, losses_TQ[:, q], exact_T)
                fits += [law.mean, LogProcess(weights_TK, losses_TQ[:, q])]
            self._fits.append(fits)
        self._feasible_TK = self.space.project(weights_TK)
        self.std_Q = self.losses(self._feasible_TK).std(axis=0)

    def losses(self, weights_MK: Array) -> Array:
        """True losses, shape (M, Q)."""
        return np.stack(
            [np.mean([fit(weights_MK) for fit in fits], axis=0) for fits in self._fits], axis=1
        )

    def compute_noise(self, objective: Objective) -> Array:
        """Standard deviation of each loss over seeds: in proportion to std_Q, NOISE for the score.

        Returns:
            shape (Q,), in nats.
        """
        score_std = float(objective.score(self.losses(self._feasible_TK)).std())
        share = NOISE * score_std / np.linalg.norm(objective.weights_Q * self.std_Q)
        return np.asarray(share * self.std_Q)

    def find_best(self, objective: Objective, n_searches: int) -> Array:
        """The best feasible mixture of several pattern searches, shape (K,).

        Each starts from the 40 best of random and published mixtures. One search alone ends up to
        0.003 nats below the best of four on the trees.
        """

        def score(weights_MK: Array) -> Array:
            return objective.score(self.losses(weights_MK))

        best_NK = []
        for seed in range(n_searches):
            random = np.random.default_rng(seed)
            drawn_MK = np.vstack([self._feasible_TK, self.space.sample(random, 4_000, **SAMPLER)])
            starts_SK = drawn_MK[np.argsort(-score(drawn_MK))[:40]]
            for n_kept in (10, 1):
                starts_SK = pattern_search(starts_SK, self.space, score, random)[0][:n_kept]
            best_NK.append(starts_SK[0])
        return best_NK[int(score(np.stack(best_NK)).argmax())]
