"""Contract check of predictors, built-in and external.

    def test_my_predictor_keeps_the_contract():
        check_predictor(MyPredictor(power=0.5))

Axes: T trials, K domains, Q metrics, M mixtures.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from climb.predictor import Array, JointPredict, Predictor
from climb.predictor.metrics import BoundedPredicts, MetricsPredictor, SeparatePredicts
from climb.testing.rules import call_plugin, check_recipe

_ROUNDING = 1e-6
"""Largest difference between predictions that must be equal up to rounding, as a share of the range
of the trials' values."""

Fit = Callable[..., BoundedPredicts]
"""(weights_TK, values_TQ, noise_TQ) -> predictions of all metrics."""

Trials = tuple[Array, Array, Array]
"""weights_TK, values_TQ, noise_TQ"""


def check_predictor(predictor: Predictor) -> None:
    """Fit a predictor to small generated metrics, in two orders of trials, with and without noise.

    If the predictor has `fit_metrics`, or its functions have `joint`, these are checked too. If its
    `fit` takes `extra`, an informative extra feature must improve the predictions.

    Raises:
        AssertionError: the predictor breaks a rule, which the message states.
    """
    required = "a predictor must have a method fit(weights_TK, values_T, noise_T)"
    assert isinstance(predictor, Predictor), required
    check_recipe(predictor, "predictor")
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.full(5, 0.5), size=24)
    values_T = 1.0 + weights_TK[:, 0] - weights_TK[:, 1] ** 2 + 0.01 * random.normal(size=24)
    unseen_MK = random.dirichlet(np.ones(5), size=7)
    values_TQ = np.stack([values_T, 3.0 - values_T + 0.2 * weights_TK[:, 2]], axis=1)
    for noise in (0.0, 0.01):
        noise_TQ = np.full_like(values_TQ, noise)
        alone = (weights_TK, values_TQ[:, :1], noise_TQ[:, :1])
        _check_fits(functools.partial(_fit, predictor), alone, unseen_MK)
        if isinstance(predictor, MetricsPredictor):
            together = (weights_TK, values_TQ, noise_TQ)
            _check_fits(functools.partial(_fit_together, predictor), together, unseen_MK)
    if "extra" in inspect.signature(predictor.fit).parameters:
        _check_extra(predictor)


def _fit(
    predictor: Predictor, weights_TK: Array, values_T1: Array, noise_T1: Array, **extra: Any
) -> BoundedPredicts:
    """Fit one metric; the result checks predictions as the search does, but does not clip them."""
    with call_plugin("fit"):
        predict = predictor.fit(weights_TK, values_T1[:, 0], noise_T1[:, 0], **extra)
    assert callable(predict), f"fit must return a function; found {type(predict).__name__}"
    return BoundedPredicts.build(SeparatePredicts((predict,)), np.zeros((1, 1)))


def _fit_together(
    predictor: MetricsPredictor, weights_TK: Array, values_TQ: Array, noise_TQ: Array
) -> BoundedPredicts:
    """Fit all metrics with `fit_metrics`."""
    with call_plugin("fit_metrics"):
        fitted = predictor.fit_metrics(weights_TK, values_TQ, noise_TQ, ((0, 1),))
        n_metrics = len(fitted.predicts_Q)
    n = values_TQ.shape[1]
    assert n_metrics == n, f"fit_metrics must return {n} functions in predicts_Q; found {n_metrics}"
    return BoundedPredicts.build(fitted, np.zeros((1, n)))


def _check_fits(fit: Fit, trials: Trials, unseen_MK: Array) -> None:
    """Check the predictions of a fit, and that it depends on the trials alone."""
    tolerance = _ROUNDING * float(np.ptp(trials[1]))
    passed = tuple(array.copy() for array in trials)
    predicts = fit(*passed)
    for before, after in zip(trials, passed, strict=True):
        assert np.array_equal(before, after), "fit must not change its arguments"
    both = _predict(predicts, unseen_MK)
    _check_calls(predicts, unseen_MK, both, tolerance)
    _check_functions(predicts, unseen_MK, both, tolerance)
    order_T = np.random.default_rng(1).permutation(len(trials[0]))
    again = _predict(fit(*(array[order_T] for array in trials)), unseen_MK)
    for name, one_MQ, other_MQ in zip(("mean", "std"), both, again, strict=True):
        same = np.array_equal(one_MQ, other_MQ)
        assert same, f"the {name} must not depend on the order of trials, nor on earlier fits"


def _predict(predicts: BoundedPredicts, weights_MK: Array) -> tuple[Array, Array]:
    """Predict mean and standard deviation, shapes (M, Q)."""
    passed_MK = weights_MK.copy()
    with call_plugin("a prediction"):
        both = predicts.predict(passed_MK)
    assert np.array_equal(passed_MK, weights_MK), "a prediction must not change the weights"
    return both


def _check_calls(
    predicts: BoundedPredicts, unseen_MK: Array, both: tuple[Array, Array], tolerance: float
) -> None:
    """Check that predictions depend on the mixture alone."""
    again = _predict(predicts, unseen_MK)
    alone = [_predict(predicts, weights_1K) for weights_1K in unseen_MK[:, None]]
    singles = [np.vstack(parts) for parts in zip(*alone, strict=True)]
    for name, own_MQ, again_MQ, single_MQ in zip(
        ("mean", "std"), both, again, singles, strict=True
    ):
        same = np.array_equal(own_MQ, again_MQ)
        assert same, f"the {name} of a mixture must be equal in every call"
        close = np.allclose(own_MQ, single_MQ, rtol=0.0, atol=tolerance)
        assert close, f"the {name} of a mixture must not depend on the other mixtures of the call"


def _check_functions(
    predicts: BoundedPredicts, unseen_MK: Array, both: tuple[Array, Array], tolerance: float
) -> None:
    """Check that all functions of a fit predict the same."""
    mean_MQ, std_MQ = both

    def check(name: str, one: Array, other: Array, unit: float = 1.0) -> None:
        close = np.allclose(one, other, rtol=_ROUNDING, atol=unit * tolerance)
        assert close, f"{name} must agree with the mean and std of the other predictions"

    with call_plugin("mean, joint or noise of a fitted function"):
        check("mean or predict_means", predicts.predict_means(unseen_MK), mean_MQ)
        for q, predict in enumerate(predicts.fitted.predicts_Q):
            own = BoundedPredicts.build(SeparatePredicts((predict,)), np.zeros((1, 1)))
            for name, one_M1, other_MQ in zip(
                ("mean", "std"), own.predict(unseen_MK), both, strict=True
            ):
                check(f"the {name} of a function in predicts_Q", one_M1[:, 0], other_MQ[:, q])
            if isinstance(predict, JointPredict):
                check("the mean of joint", predict.joint(unseen_MK)[0], mean_MQ[:, q])
            covariance_MM = predicts.predict_covariance(q, unseen_MK)
            check("the diagonal of joint", np.sqrt(np.diag(covariance_MM)), std_MQ[:, q])
            check("the transpose of joint", covariance_MM, covariance_MM.T, float(std_MQ.max()))
        noise_Q = predicts.noise_Q
        valid = all(math.isfinite(noise) and noise >= 0.0 for noise in noise_Q)
        assert valid, f"noise must be finite and at least 0; found {noise_Q.tolist()}"


def _check_extra(predictor: Predictor) -> None:
    """Check that an informative extra feature, with values near 50, improves the predictions."""
    random = np.random.default_rng(2)
    weights_TK = random.dirichlet(np.ones(5), size=96)
    waves_K = np.array([40.0, -25.0, 10.0, 0.0, 0.0])

    def extra(weights_MK: Array) -> Array:
        return np.asarray(50.0 + 3.0 * np.sin(weights_MK @ waves_K)[:, None])

    values_T = weights_TK[:, 0] + extra(weights_TK)[:, 0] + 0.1 * random.normal(size=96)
    trials = (weights_TK[:64], values_T[:64, None], np.zeros((64, 1)))
    unseen_MK, unseen_M = weights_TK[64:], values_T[64:]
    fit = functools.partial(_fit, predictor)
    fit_extra = functools.partial(fit, extra=extra)
    _check_fits(fit_extra, trials, unseen_MK)
    means = [_predict(one(*trials), unseen_MK)[0][:, 0] for one in (fit, fit_extra)]
    r_without, r_with = (_correlate(mean_M, unseen_M) for mean_M in means)
    assert r_with > r_without, (
        "an informative extra feature must improve the predictions: the correlation with unseen "
        f"trials is {r_with:.3f} with the feature and {r_without:.3f} without"
    )


def _correlate(one_M: Array, other_M: Array) -> float:
    """Return Pearson's correlation; 0 if either is constant."""
    one_M, other_M = one_M - one_M.mean(), other_M - other_M.mean()
    norm = float(np.linalg.norm(one_M) * np.linalg.norm(other_M))
    return float(one_M @ other_M) / norm if norm > 0.0 else 0.0
