"""LightGBM as CLIMB's recipe and RegMix use it, for comparison.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from climb.predictor import Array, Extra, Predict
from climb.predictor.sample import Sample
from climb.predictor.trees import Boosted, Rows, TreesPredict, bootstrap


@dataclass(frozen=True, kw_only=True)
class LightGBMPredictor:
    """Gradient boosting on raw weights, stopped by the error on trials that are held out.

    The defaults are NVIDIA's recipe. CLIMB's paper and RegMix are the same with other fields:

        search:
          predictor:           # the paper: patience of 20 rounds, whatever is held out
            use: climb.predictor.lightgbm:LightGBMPredictor
            patience_within_held: false

        search:
          predictor:           # RegMix: no limit on depth, no penalty, patience of 3
            use: climb.predictor.lightgbm:LightGBMPredictor
            depth: -1
            leaf_rows: 20
            l1: 0.0
            l2: 0.0
            held_share: 0.128
            patience: 3
            patience_within_held: false

    Values are scaled to spread 1 first, so that the penalties do not depend on a metric's unit.
    Stopping looks at part of the trials that are given, never at others; RegMix stops on the very
    runs that it reports on. The spread is what `members` bootstrap fits disagree about; far from
    every trial it does not grow.

    Source:
        NVIDIA: NeMo Curator, tutorials/text/nemotron-climb-data-curation/8_predict.py.
        CLIMB: arXiv 2504.13161 (depth, rows a leaf, both penalties, patience; the rest is not
        published). RegMix: sail-sg/regmix, regression_fitting/regression.ipynb (128 of 1000 runs
        held out; what it does not set is LightGBM's default).
    """

    needs: ClassVar[tuple[str, ...]] = ("lightgbm",)
    """Packages that it imports when it is used."""

    trees: int = 1000
    """Trees at most."""

    rate: float = 0.01
    depth: int = 4
    """-1 is no limit."""

    leaf_rows: int = 5
    """Trials in a leaf at least."""

    l1: float = 1.0
    l2: float = 1.0
    held_share: float = 0.1
    """Share of the trials that decides when to stop; rounded up."""

    patience: int = 20
    """Rounds without a better squared or absolute error on held-out trials before it stops."""

    patience_within_held: bool = True
    """Whether patience is at most as many rounds as trials are held out."""

    members: int = 6
    """Bootstrap fits behind the spread, held-out trials apart."""

    seed: int = 42

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: Extra | None = None
    ) -> Predict:
        """Fit on T trials; noisy ones weigh less. See `climb.predictor.Predictor`."""
        sample = Sample.of(weights_TK, values_T, noise_T, extra)
        shuffled_T = np.random.default_rng([self.seed, len(values_T)]).permutation(len(values_T))
        n_fitted = max(int(len(values_T) * (1.0 - self.held_share)), 1)
        fitted, held = np.sort(shuffled_T[:n_fitted]), np.sort(shuffled_T[n_fitted:])
        whole = self._boost(sample, fitted, held, self.seed)
        members = bootstrap(
            lambda rows, seed: self._boost(sample, rows, held, seed),
            fitted,
            self.members,
            self.seed,
        )
        return TreesPredict(whole, members, _raw, extra, sample)

    def _boost(self, sample: Sample, rows: Rows, held: Rows, seed: int) -> Boosted:
        """One booster as a function of its columns."""
        import lightgbm

        columns_TF, trust_T = sample.columns(_raw), sample.trust_T
        trust_T = trust_T / trust_T.mean()
        data = lightgbm.Dataset(columns_TF[rows], sample.values_T[rows], weight=trust_T[rows])
        against = lightgbm.Dataset(
            columns_TF[held], sample.values_T[held], weight=trust_T[held], reference=data
        )
        patience = min(self.patience, len(held)) if self.patience_within_held else self.patience
        booster = lightgbm.train(
            self._parameters(seed),
            data,
            num_boost_round=self.trees,
            valid_sets=[against],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
        )
        return lambda columns_MF: np.asarray(booster.predict(columns_MF, num_threads=1))

    def _parameters(self, seed: int) -> dict[str, Any]:
        return {
            "objective": "regression",
            "boosting": "gbdt",
            "metric": ["l1", "l2"],
            "learning_rate": self.rate,
            "max_depth": self.depth,
            "min_data_in_leaf": self.leaf_rows,
            "lambda_l1": self.l1,
            "lambda_l2": self.l2,
            "seed": seed,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


def _raw(weights_MK: Array) -> Array:
    return weights_MK
