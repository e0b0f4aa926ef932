"""LightGBM with the settings of NVIDIA's recipe, of the CLIMB paper, or of RegMix.

Axes: T trials, K domains, M mixtures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from climb.predictor import Array, ExtraFeatures, Predict
from climb.predictor.sample import Sample
from climb.predictor.trees import Booster, Rows, TreesPredict, fit_bootstrap


@dataclass(frozen=True, kw_only=True)
class LightGBMPredictor:
    """Gradient boosting on raw weights with early stopping on held-out trials.

    The defaults are those of NVIDIA's recipe. With them, the patience (number of rounds without
    improvement after which a fit stops) is at most the number of held-out trials. CLIMB's paper and
    RegMix use other values:

        search:
          predictor:           # the paper: the patience is 20 for any number of held-out trials
            use: climb.predictor.lightgbm:LightGBMPredictor
            patience_within_held: false

        search:
          predictor:           # RegMix: no maximum depth, no penalty, patience of 3
            use: climb.predictor.lightgbm:LightGBMPredictor
            depth: -1
            leaf_rows: 20
            l1: 0.0
            l2: 0.0
            held_share: 0.128
            patience: 3
            patience_within_held: false

    Values are scaled to standard deviation 1 first, so the penalties do not depend on a metric's
    unit. Early stopping uses a part of the trials that `fit` receives. RegMix's notebook uses its
    held-out runs for early stopping, and reports the rank correlation of predictions on the same
    runs. The standard deviation of a prediction is that of the predictions of `members` bootstrap
    fits. It does not increase with distance from the trials.

    Source:
        NVIDIA: NeMo Curator, tutorials/text/nemotron-climb-data-curation/8_predict.py.
        CLIMB: arXiv 2504.13161 (depth, rows per leaf, both penalties, patience; the rest is not
        published). RegMix: sail-sg/regmix, regression_fitting/regression.ipynb (128 of 1000 runs
        held out; number of trees and learning rate as here; all other settings are LightGBM's
        defaults).
    """

    needs: ClassVar[tuple[str, ...]] = ("lightgbm",)
    """Packages that `fit` imports."""

    extra: ClassVar[str] = "lightgbm"
    """Extra of climb-mixture that installs these packages."""

    trees: int = 1000
    """Maximum number of trees."""

    rate: float = 0.01
    """Learning rate."""

    depth: int = 4
    """Maximum depth of a tree; -1: no maximum."""

    leaf_rows: int = 5
    """Minimum number of trials in a leaf."""

    l1: float = 1.0
    l2: float = 1.0
    """Penalties on the values of leaves."""

    held_share: float = 0.1
    """Share of the trials that is held out for early stopping. The number of held-out trials is
    rounded up."""

    patience: int = 20
    """A fit stops when the squared or the absolute error on held-out trials has not improved for
    this many rounds."""

    patience_within_held: bool = True
    """Whether the number of held-out trials is an upper bound of the patience."""

    members: int = 6
    """Number of bootstrap fits; all hold out the same trials."""

    seed: int = 42

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit on T trials; noisy trials get less weight. See `climb.predictor.Predictor`."""
        sample = Sample.from_trials(weights_TK, values_T, noise_T, extra)
        shuffled_T = np.random.default_rng([self.seed, len(values_T)]).permutation(len(values_T))
        n_training = max(int(len(values_T) * (1.0 - self.held_share)), 1)
        training, held_out = np.sort(shuffled_T[:n_training]), np.sort(shuffled_T[n_training:])
        booster = self._fit_booster(sample, training, held_out, self.seed)
        members = fit_bootstrap(
            lambda drawn, seed: self._fit_booster(sample, drawn, held_out, seed),
            training,
            self.members,
            self.seed,
        )
        return TreesPredict(booster, members, _keep_raw, extra, sample)

    def _fit_booster(self, sample: Sample, rows: Rows, held_out: Rows, seed: int) -> Booster:
        import lightgbm

        features_TF, weight_T = sample.compute_features(_keep_raw), sample.sample_weight_T
        weight_T = weight_T / weight_T.mean()
        data = lightgbm.Dataset(features_TF[rows], sample.values_T[rows], weight=weight_T[rows])
        validation = lightgbm.Dataset(
            features_TF[held_out],
            sample.values_T[held_out],
            weight=weight_T[held_out],
            reference=data,
        )
        patience = min(self.patience, len(held_out)) if self.patience_within_held else self.patience
        booster = lightgbm.train(
            self._make_parameters(seed),
            data,
            num_boost_round=self.trees,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
        )
        return lambda features_MF: np.asarray(booster.predict(features_MF, num_threads=1))

    def _make_parameters(self, seed: int) -> dict[str, Any]:
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


def _keep_raw(weights_MK: Array) -> Array:
    return weights_MK
