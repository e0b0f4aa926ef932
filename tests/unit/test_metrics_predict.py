"""Predictions of several metrics: bounded, whatever a predictor returns."""

from dataclasses import dataclass

import numpy as np
import pytest

from climb.errors import ComponentError
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.predictor.metrics import WIDENED, fit_metrics
from climb.search import Surrogate, Trials
from climb.search.surrogate import group_by_prefix

DOMAINS = ("a", "b", "c")
WEIGHTS_TK = np.random.default_rng(0).dirichlet(np.ones(3), size=12)
VALUES_TQ = np.stack([1.0 + WEIGHTS_TK[:, 0], 3.0 - WEIGHTS_TK[:, 1]], axis=1)
NOISE_TQ = np.zeros_like(VALUES_TQ)


@dataclass(frozen=True)
class Explosion:
    """A joint predictor whose values and deviations are absurd where the first weight is large."""

    size: float = 1e6

    def fit(self, weights_TK, values_T, noise_T):
        return _Exploded(self.size, float(values_T.mean()))


@dataclass(frozen=True)
class _Exploded:
    size: float
    center: float
    noise: float = 0.1

    def __call__(self, weights_MK):
        return self.mean(weights_MK), 1.0 + self.size * weights_MK[:, 0]

    def mean(self, weights_MK):
        return self.center + self.size * np.maximum(weights_MK[:, 0] - 0.5, 0.0)

    def joint(self, weights_MK):
        mean_M, std_M = self(weights_MK)
        return mean_M, np.outer(std_M, std_M)


def test_means_and_deviations_stay_near_the_range_of_the_trials():
    predicts = fit_metrics(Explosion(), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    far_MK = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    means_MQ, stds_MQ = predicts.predict(far_MK)
    range_Q = np.ptp(VALUES_TQ, axis=0)
    np.testing.assert_allclose(means_MQ[0], VALUES_TQ.max(axis=0) + WIDENED * range_Q)
    np.testing.assert_allclose(means_MQ[1], VALUES_TQ.mean(axis=0))
    np.testing.assert_array_equal(predicts.predict_means(far_MK), means_MQ)
    np.testing.assert_allclose(stds_MQ[0], range_Q)
    for q in range(2):
        covariance_MM = predicts.predict_covariance(q, far_MK)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance_MM)), stds_MQ[:, q])
        correlation = covariance_MM[0, 1] / np.sqrt(covariance_MM[0, 0] * covariance_MM[1, 1])
        assert correlation == pytest.approx(1.0)


def test_plausible_predictions_are_not_changed():
    predictor = GPPredictor()
    predicts = fit_metrics(predictor, WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    for q in range(2):
        alone = predictor.fit(WEIGHTS_TK, VALUES_TQ[:, q], NOISE_TQ[:, q])
        mean_M, std_M = alone(WEIGHTS_TK)
        means_MQ, stds_MQ = predicts.predict(WEIGHTS_TK)
        np.testing.assert_array_equal(means_MQ[:, q], mean_M)
        np.testing.assert_array_equal(stds_MQ[:, q], std_M)
        np.testing.assert_array_equal(
            predicts.predict_covariance(q, WEIGHTS_TK), alone.joint(WEIGHTS_TK)[1]
        )


def test_equal_values_give_no_bounds():
    constant_TQ = np.zeros_like(VALUES_TQ)
    predicts = fit_metrics(Explosion(), WEIGHTS_TK, constant_TQ, NOISE_TQ)
    assert predicts.predict_means(np.array([[1.0, 0.0, 0.0]]))[0, 0] == pytest.approx(5e5)


def test_one_metric_that_explodes_does_not_decide_the_score():
    """The mean of ten metrics; the last one is noise, and its fit is absurd far from the trials."""
    names = tuple(f"m{q}" for q in range(10))
    random = np.random.default_rng(1)
    slopes_KQ = random.normal(size=(3, 10))
    rows = [
        {"round": 0, "method": "proposal", "seed": seed}
        | {"weights": dict(zip(DOMAINS, w_K.tolist(), strict=True))}
        | {"metrics": dict(zip(names, (w_K @ slopes_KQ).tolist(), strict=True))}
        for seed, w_K in enumerate(WEIGHTS_TK)
    ]
    trials = Trials.from_rows(rows, DOMAINS, names)
    objective = Objective.parse("mean(*):max", names)

    @dataclass(frozen=True)
    class OneExplodes:
        def fit(self, weights_TK, values_T, noise_T):
            explodes = np.allclose(values_T, weights_TK @ slopes_KQ[:, 9])
            predictor = Explosion() if explodes else GPPredictor()
            return predictor.fit(weights_TK, values_T, noise_T)

    surrogate = Surrogate.fit(trials, objective, OneExplodes())
    corners_KK = np.eye(3)
    error_K = surrogate.predict_mean(corners_KK) - corners_KK @ slopes_KQ.mean(axis=1)
    score_range = np.ptp(WEIGHTS_TK @ slopes_KQ.mean(axis=1))
    metric_range = np.ptp(WEIGHTS_TK @ slopes_KQ[:, 9])
    assert np.abs(error_K).max() < 0.5 * score_range + 0.2 * metric_range


@pytest.mark.parametrize(
    "prediction",
    [
        (np.zeros(5), np.ones(5)),
        (np.full(12, np.nan), np.ones(12)),
        (np.zeros(12), np.full(12, -1.0)),
        ([0.0] * 12, 1.0),
    ],
)
def test_an_invalid_prediction_is_an_error_of_the_plug_in(prediction):
    class Invalid:
        def fit(self, weights_TK, values_T, noise_T):
            return lambda weights_MK: prediction

    predicts = fit_metrics(Invalid(), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    with pytest.raises(ComponentError, match=r"the predictor's (mean|std) has shape"):
        predicts.predict(WEIGHTS_TK)


def test_domains_are_grouped_by_the_part_of_their_names_before_a_colon():
    assert group_by_prefix(("arxiv", "web:a", "web:b", "pdf:a", "web:c")) == ((1, 2, 4),)
    assert group_by_prefix(("web:a", "web:b")) == ()
    assert group_by_prefix(("a", "b")) == ()


def test_predictions_of_fits_that_share_parameters_are_checked_too():
    @dataclass(frozen=True)
    class NotFinite:
        predicts_Q: tuple = ()

        def fit_metrics(self, weights_TK, values_TQ, noise_TQ, domain_groups=()):
            return self

        def predict_means(self, weights_MK):
            return np.full((len(weights_MK), 2), np.nan)

        def predict(self, weights_MK):
            return self.predict_means(weights_MK), np.ones((len(weights_MK), 2))

    predicts = fit_metrics(NotFinite(), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    for predict in (predicts.predict, predicts.predict_means):
        with pytest.raises(
            ComponentError, match=r"mean has shape \(12, 2\) and 24 values that are not"
        ):
            predict(WEIGHTS_TK)


@dataclass(frozen=True)
class Fixed:
    """Predicts the same values for all mixtures."""

    prediction: tuple

    def fit(self, weights_TK, values_T, noise_T):
        return lambda weights_MK: self.prediction


@pytest.mark.parametrize(
    ("prediction", "found"),
    [
        ((np.zeros(()), np.ones(())), r"the predictor's mean has shape \(\)"),
        ((np.zeros(5), np.ones(5)), r"the predictor's mean has shape \(5,\)"),
        (np.zeros(12), "the predictor returned ndarray where it must return two arrays"),
        (None, "the predictor returned NoneType where it must return two arrays"),
        (("a" * 12, np.ones(12)), "the predictor's mean is no array of numbers"),
    ],
)
def test_an_invalid_prediction_is_an_error_of_the_plug_in_for_means_too(prediction, found):
    predicts = fit_metrics(Fixed(prediction), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    for predict in (predicts.predict, predicts.predict_means):
        with pytest.raises(ComponentError, match=found):
            predict(WEIGHTS_TK)


def test_a_prediction_may_be_any_two_arrays():
    class Generates:
        def fit(self, weights_TK, values_T, noise_T):
            return lambda weights_MK: (np.full(len(weights_MK), value) for value in (2.0, 0.1))

    predicts = fit_metrics(Generates(), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    np.testing.assert_array_equal(predicts.predict_means(WEIGHTS_TK), np.full((12, 2), 2.0))


@pytest.mark.parametrize(
    ("joint", "found"),
    [
        ((np.zeros(12), np.ones(12)), r"the predictor's covariance has shape \(12,\)"),
        ((np.zeros(12), np.full((12, 12), np.nan)), "and 144 values that are not finite"),
        (None, "the predictor returned NoneType where it must return two arrays"),
    ],
)
def test_an_invalid_covariance_is_an_error_of_the_plug_in(joint, found):
    class Joint(_Exploded):
        def joint(self, weights_MK):
            return joint

    class Invalid:
        def fit(self, weights_TK, values_T, noise_T):
            return Joint(1.0, 0.0)

    predicts = fit_metrics(Invalid(), WEIGHTS_TK, VALUES_TQ, NOISE_TQ)
    with pytest.raises(ComponentError, match=found):
        predicts.predict_covariance(0, WEIGHTS_TK)
