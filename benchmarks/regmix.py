"""RegMix's published runs, and surfaces fitted to all of them that stand in for training.

Axes: T runs, M mixtures, K domains, Q losses.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared import shared_data

from climb.formats import regmix, regmix_prior
from climb.imported import import_runs
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.process import Process
from climb.predictor.xgb import XGBoostPredictor
from climb.rows import read_runs
from climb.search.refine import refine
from climb.search.trials import Trials

Array = NDArray[np.float64]

NOISE = 0.3
"""Noise of one run's score, as a share of the score's standard deviation over published runs."""

CAP = 15.0
"""Largest weight as a multiple of the token share, for every searcher."""

TARGETS = {"mean of 13": "mean(*):min", "Pile-CC": "pile_cc:min"}
OUR_SAMPLER = {"concentration": (0.1, 5.0), "temperature": 0.5}


def published(part: str) -> Trials:
    """The 512 runs for fitting (`train`) or the 256 for testing (`test`)."""
    folder = shared_data() / "regmix"
    table = regmix(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "runs.csv")
        import_runs(table, out)
        return read_runs(out)[0]


def feasible(domains: tuple[str, ...]) -> FeasibleSet:
    """Token shares of `prior.csv`, and the cap that holds for everybody."""
    shares = regmix_prior(shared_data() / "regmix" / "prior.csv")
    limits = Limits(target_tokens=1.0, max_epochs=None, max_share_ratio=CAP, min_weight=2e-4)
    return FeasibleSet.of(domains, [shares[d] for d in domains], limits)


class LogProcess:
    """A Gaussian process on log(weight + 0.001): not the features of our own."""

    def __init__(self, weights_TK: Array, values_T: Array) -> None:
        points_TK = np.log(weights_TK + 1e-3)
        self.low_K, self.width_K = points_TK.min(axis=0), np.ptp(points_TK, axis=0)
        self.centre, self.scale = float(values_T.mean()), float(values_T.std())
        scaled_T = (values_T - self.centre) / self.scale
        points_TK = (points_TK - self.low_K) / self.width_K
        self.process = Process.most_probable(points_TK, scaled_T, np.zeros(len(values_T)), 200)

    def __call__(self, weights_MK: Array) -> Array:
        """Loss of each mixture, shape (M,)."""
        points_MK = (np.log(weights_MK + 1e-3) - self.low_K) / self.width_K
        return self.centre + self.scale * self.process.mean_at(points_MK)


@dataclass(eq=False)
class Surface:
    """The true loss of every mixture, as a model of all 768 published runs has it."""

    kind: str
    """blend: mean of a process, a power law and boosted trees; trees: boosted trees alone."""

    space: FeasibleSet
    metric_names: tuple[str, ...]
    spread_Q: Array
    """Standard deviation of each loss over the published mixtures."""

    def __init__(self, kind: str) -> None:
        parts = [published("train"), published("test")]
        self.kind, self.metric_names = kind, parts[0].metric_names
        self.space = feasible(parts[0].domains)
        weights_TK = np.vstack([part.weights_TK for part in parts])
        losses_TQ = np.vstack([part.metrics_TQ for part in parts])
        known_T = np.zeros(len(weights_TK))
        self._fits = []
        for q in range(losses_TQ.shape[1]):
            trees = XGBoostPredictor(members=2).fit(weights_TK, losses_TQ[:, q], known_T)
            fits = [lambda weights_MK, trees=trees: trees(weights_MK)[0]]
            if kind == "blend":
                law = PowerLawPredictor().fit(weights_TK, losses_TQ[:, q], known_T)
                fits += [law.mean, LogProcess(weights_TK, losses_TQ[:, q])]
            self._fits.append(fits)
        self._inside_TK = self.space.project(weights_TK)
        self.spread_Q = self.losses(self._inside_TK).std(axis=0)

    def losses(self, weights_MK: Array) -> Array:
        """True losses, shape (M, Q)."""
        return np.stack(
            [np.mean([fit(weights_MK) for fit in fits], axis=0) for fits in self._fits], axis=1
        )

    def noise(self, objective: Objective) -> Array:
        """Deviation of each loss over seeds: in proportion to its spread, NOISE for the score."""
        score_spread = float(objective.score(self.losses(self._inside_TK)).std())
        share = NOISE * score_spread / np.linalg.norm(objective.weights_Q * self.spread_Q)
        return np.asarray(share * self.spread_Q)

    def best(self, objective: Objective) -> Array:
        """The best feasible mixture, climbed to from 40 random ones and the published runs."""
        random = np.random.default_rng(0)

        def height(weights_MK: Array) -> Array:
            return objective.score(self.losses(weights_MK))

        drawn_MK = np.vstack([self._inside_TK, self.space.sample(random, 4_000, **OUR_SAMPLER)])
        starts_SK = drawn_MK[np.argsort(-height(drawn_MK))[:40]]
        for n_kept in (10, 1):
            starts_SK = refine(starts_SK, self.space, height, random)[0][:n_kept]
        return starts_SK[0]
