"""The surrogate: one predictor per metric of the objective, combined to the score.

Axes: T trials, D distinct mixtures, K domains, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from climb.errors import SearchError
from climb.mixture import SAME_DECIMALS
from climb.objective import Objective
from climb.predictor import Predictor
from climb.predictor.metrics import (
    BoundedPredicts,
    ExtrasByMetric,
    MetricsPredictor,
    fit_metrics,
)
from climb.search.fidelities import Fidelities
from climb.search.parallel import map_fits
from climb.search.repetition import Repetition
from climb.search.trials import Replicates, Trials

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

MIN_MIXTURES = 4
"""Distinct mixtures that a fit and its cross-validation need."""

_FOLDS = 5
"""Folds of the cross-validation."""

_NEAR = 0.001
"""Total variation distance up to which mixtures share a fold. A mixture and its copy with weights
rounded to 4 decimals are nearer to each other than this, unless there are many domains."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Predicts what proxies of any mixture would measure: weights -> metrics -> score."""

    objective: Objective
    replicates: Replicates
    """Distinct mixtures with only the metrics of the objective."""

    predicts: BoundedPredicts
    """The fitted predictors of the metrics."""

    domain_groups: tuple[tuple[int, ...], ...]
    """Groups of domains that are passed to the fit; see `group_by_prefix`."""

    weights_Q: Array
    """Weight of each metric in the score."""

    repetition: Repetition | None = None
    """Converts weights to effective weights, which count repeated text less than new text; None:
    all text counts as new."""

    extras_Q: ExtrasByMetric = ()
    """Cheap estimates of every metric; empty without fidelities."""

    @classmethod
    def fit(
        cls,
        trials: Trials,
        objective: Objective,
        predictor: Predictor,
        repetition: Repetition | None = None,
        fidelities: Fidelities | None = None,
    ) -> Self:
        """Fit one predictor to each metric that has a weight in the objective.

        Args:
            trials: to fit to.
            objective: has the metrics, and their weights in the score.
            predictor: of each metric.
            repetition: the cost of repeated text, with the domains in the order of the trials.
            fidelities: cheap estimates of the metrics; None: there are none.

        Raises:
            SearchError: fewer than 4 distinct mixtures.
        """
        replicates = trials.group_replicates().select_metrics(objective.weighted_columns)
        n_mixtures = replicates.n_mixtures
        if n_mixtures < MIN_MIXTURES:
            raise SearchError(
                f"{n_mixtures} distinct mixtures have finished trials; a predictor needs "
                f"{MIN_MIXTURES} or more (10 or more are recommended): train more mixtures"
            )
        weights_Q = objective.weights_Q[list(objective.weighted_columns)]
        groups = group_by_prefix(trials.domains)
        every = np.arange(len(replicates.counts_D))
        sizes = (len(weights_Q), len(every), len(trials.domains))
        logger.info("fitting %d metrics to %d mixtures of %d domains", *sizes)
        inputs_DK = _list_inputs(replicates, repetition)
        names = objective.weighted_names
        extras_Q = fidelities.list_features(names, trials.domains) if fidelities else ()
        fit = partial(_fit, predictor, groups, extras_Q, replicates, inputs_DK)
        [predicts] = map_fits(fit, [every], False)
        return cls(objective, replicates, predicts, groups, weights_Q, repetition, extras_Q)

    @property
    def validation_D(self) -> NDArray[np.bool_]:
        """Mixtures that validate predictions: those trained on these domains.

        The mixture of a reused run differs from the mixture that the run is mapped to. So the
        prediction's error for such a run does not come from the predictor alone.
        With fewer than 4 mixtures that were trained on these domains, all mixtures are used.
        """
        own_D: NDArray[np.bool_] = self.replicates.tv_distance_D == 0.0
        return own_D if own_D.sum() >= MIN_MIXTURES else np.ones_like(own_D)

    def predict_metrics(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of every metric, shapes (M, Q), not calibrated.

        Raises:
            ComponentError: a predictor returned a wrong shape, a value that is not finite, or a
                negative standard deviation.
        """
        return self.predicts.predict(self._discount(weights_MK))

    def predict_score(self, weights_MK: Array) -> tuple[Array, Array]:
        """Predict mean and standard deviation of the score, shapes (M,), not calibrated."""
        return self.combine(*self.predict_metrics(weights_MK))

    def predict_means(self, weights_MK: Array) -> Array:
        """Predict the mean of every metric, shape (M, Q); cheaper than `predict_metrics`."""
        return self.predicts.predict_means(self._discount(weights_MK))

    def predict_mean(self, weights_MK: Array) -> Array:
        """Predict the mean of the score, shape (M,)."""
        return np.asarray(self.predict_means(weights_MK) @ self.weights_Q)

    def predict_covariance(self, q: int, weights_MK: Array) -> Array:
        """Predict the covariance of one metric's errors, shape (M, M)."""
        return self.predicts.predict_covariance(q, self._discount(weights_MK))

    def predict_difference_stds(self, one_K: Array, others_MK: Array) -> Array:
        """Predict the std of every metric's difference between one mixture and others, (M, Q).

        With a `JointPredict`, errors that two mixtures share cancel.
        """
        all_MK = np.vstack([one_K[None], others_MK])
        std_QM = []
        for q in range(len(self.weights_Q)):
            covariance_MM = self.predict_covariance(q, all_MK)
            var_M = np.diag(covariance_MM)
            difference_M = var_M[0] + var_M[1:] - 2.0 * covariance_MM[0, 1:]
            std_QM.append(np.sqrt(np.maximum(difference_M, 0.0)))
        return np.stack(std_QM, axis=1)

    def predict_difference_std(self, one_K: Array, other_K: Array) -> float:
        """Predict the std of the difference of two scores.

        The errors of different metrics count as fully correlated.
        """
        std_1Q = self.predict_difference_stds(one_K, other_K[None])
        return float(np.abs(self.weights_Q) @ std_1Q[0])

    def infer_noise(self, view: Objective) -> float:
        """Return the noise of one run's score that the predictors infer; 0 if they infer none.

        The noise that a predictor infers contains errors of its fit. The fits of different metrics
        have different errors. So the noises are treated as independent here, and their variances
        are added.
        """
        weights_Q = view.weights_Q[list(self.objective.weighted_columns)]
        return float(np.linalg.norm(weights_Q * self.predicts.noise_Q))

    def combine(self, means_MQ: Array, stds_MQ: Array) -> tuple[Array, Array]:
        """Combine metrics to mean and std of the score; their errors count as fully correlated."""
        return means_MQ @ self.weights_Q, stds_MQ @ np.abs(self.weights_Q)

    def predict_held_out(self, predictor: Predictor, seed: int) -> tuple[Array, Array]:
        """Predict every distinct mixture by cross-validation: means and stds, (D, Q).

        All runs of a mixture are in the same fold, also runs with different numbers of tokens, and
        runs whose weights are rounded differently.
        """
        inputs_DK = _list_inputs(self.replicates, self.repetition)
        folds_D = _assign_folds(self.replicates.weights_DK, seed)
        in_fold_FD = folds_D == np.arange(int(folds_D.max()) + 1)[:, None]

        plugged = (predictor, self.domain_groups, self.extras_Q)

        def predict_fold(out_D: NDArray[np.bool_]) -> tuple[Array, Array]:
            predicts = _fit(*plugged, self.replicates, inputs_DK, np.flatnonzero(~out_D))
            return predicts.predict(inputs_DK[out_D])

        is_safe = isinstance(predictor, MetricsPredictor)
        logger.info("cross-validation: %d more fits", len(in_fold_FD))
        predictions = map_fits(predict_fold, list(in_fold_FD), is_safe)
        means_DQ = np.empty_like(self.replicates.means_DQ)
        stds_DQ = np.empty_like(means_DQ)
        for out_D, (means, stds) in zip(in_fold_FD, predictions, strict=True):
            means_DQ[out_D], stds_DQ[out_D] = means, stds
        return means_DQ, stds_DQ

    def _discount(self, weights_MK: Array) -> Array:
        """Return the weights that predictors see: effective weights at the target run's epochs."""
        return self.repetition.discount(weights_MK) if self.repetition else weights_MK


SCORE = Objective.from_metric("score", ("score",))
"""The objective of trials whose only metric is the score."""


def express_score(trials: Trials, view: Objective) -> Trials:
    """Return the trials with one metric, their score."""
    return trials.replace_metrics(("score",), view.score(trials.metrics_TQ)[:, None])


def group_scores(trials: Trials, view: Objective) -> Replicates:
    """Return the distinct mixtures with one metric, the score of their trials."""
    return express_score(trials, view).group_replicates()


def group_by_prefix(domains: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Group domains by the part of the name before a colon (`web:news`, `web:sports`).

    Returns:
        Columns of each group of two or more domains; no group has all domains.
    """
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(domains):
        prefix, colon, _ = name.partition(":")
        if colon:
            columns.setdefault(prefix, []).append(column)
    return tuple(tuple(group) for group in columns.values() if 1 < len(group) < len(domains))


def _list_inputs(replicates: Replicates, repetition: Repetition | None) -> Array:
    """Return the weights that predictors are fitted to, shape (D, K)."""
    if repetition is None:
        return replicates.weights_DK
    return repetition.discount(replicates.weights_DK, replicates.tokens_D)


def _assign_folds(weights_DK: Array, seed: int) -> NDArray[np.int64]:
    """Return the fold of every row, shape (D,); rows of one group are in the same fold."""
    rounded_DK = np.round(weights_DK, SAME_DECIMALS)
    mixtures_NK, mixture_D = np.unique(rounded_DK, axis=0, return_inverse=True)
    group_D = _group_near(mixtures_NK)[mixture_D.reshape(-1)]
    n = int(group_D.max()) + 1
    fold_G = np.random.default_rng([seed, n]).permutation(n) % min(_FOLDS, n)
    return np.asarray(fold_G[group_D], dtype=np.int64)


def _group_near(mixtures_NK: Array) -> NDArray[np.int64]:
    """Return the group of every mixture, shape (N,); mixtures within `_NEAR` share a group.

    Files may round the weights of one run differently. If such copies were in different folds, the
    value of a held-out run would be known. Many mixtures of few domains can be so close together
    that few groups would be left, or one group with more than half of the mixtures. In both cases,
    no mixtures are grouped: every mixture gets a group of its own.
    """
    n = len(mixtures_NK)
    # The sum of absolute differences is twice the total variation distance.
    pairs_P2 = cKDTree(mixtures_NK).query_pairs(2.0 * _NEAR, p=1.0, output_type="ndarray")
    links_NN = sparse.coo_array((np.ones(len(pairs_P2)), tuple(pairs_P2.T)), shape=(n, n))
    n_groups, group_N = connected_components(links_NN, directed=False)
    if n_groups < MIN_MIXTURES or 2 * np.bincount(group_N).max() > n:
        return np.arange(n)
    return np.asarray(group_N, dtype=np.int64)


def _fit(
    predictor: Predictor,
    domain_groups: Sequence[Sequence[int]],
    extras_Q: ExtrasByMetric,
    replicates: Replicates,
    inputs_DK: Array,
    rows: NDArray[np.int64],
) -> BoundedPredicts:
    values_DQ, noise_DQ = replicates.means_DQ[rows], replicates.noise_DQ[rows]
    return fit_metrics(predictor, inputs_DK[rows], values_DQ, noise_DQ, domain_groups, extras_Q)
