"""The contract check of predictors states the rule that a predictor breaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from climb.testing.contracts_predictor import check_predictor
from climb.testing.predictors import BowlPredictor


@dataclass(frozen=True)
class Function:
    """Predictions of an exact fit, with a fault."""

    exact: Any
    fault: str
    random: Any

    def __call__(self, weights_MK):
        mean_M, std_M = self.exact(weights_MK)
        if self.fault == "changes weights":
            weights_MK[:] = 0.2
        if self.fault == "raises":
            raise ValueError("two\nlines")
        return {
            "draws numbers": (mean_M + self.random.normal(size=len(mean_M)), std_M),
            "centers": (mean_M - mean_M.mean(), std_M),
            "squeezes": (np.squeeze(mean_M), np.squeeze(std_M)),
            "columns": (mean_M[:, None], std_M[:, None]),
            "mean only": mean_M,
            "one std": (mean_M, 0.01),
            "negative": (mean_M, -std_M),
            "nothing": None,
            "generator": (values for values in (mean_M, std_M)),
            "lists": (mean_M.tolist(), std_M.tolist()),
        }.get(self.fault, (mean_M, std_M))


@dataclass(frozen=True)
class Joint(Function):
    """The same with covariances."""

    @property
    def noise(self):
        return -1.0 if self.fault == "noise" else 0.1

    def mean(self, weights_MK):
        mean_M, _ = self.exact(weights_MK)
        return -mean_M if self.fault == "mean" else mean_M

    def joint(self, weights_MK):
        mean_M, std_M = self.exact(weights_MK)
        covariance_MM = np.diag(std_M**2)
        return {
            "joint mean": (-mean_M, covariance_MM),
            "joint shape": (mean_M, std_M),
            "joint nan": (mean_M, covariance_MM * np.nan),
            "joint std": (mean_M, 4.0 * covariance_MM),
            "joint lower": (mean_M, covariance_MM + 0.01 * np.tri(len(mean_M), k=-1)),
        }.get(self.fault, (mean_M, covariance_MM))


@dataclass(frozen=True)
class Faulty:
    """An exact predictor with a fault."""

    fault: str
    function: type = Function

    def fit(self, weights_TK, values_T, noise_T):
        if self.fault == "no function":
            return None
        exact = BowlPredictor().fit(weights_TK, values_T, noise_T)
        return self.function(exact, self.fault, np.random.default_rng(0))


@dataclass(frozen=True)
class Together:
    """Functions of all metrics, with a fault."""

    predicts_Q: tuple
    fault: str

    def predict_means(self, weights_MK):
        sign = -1.0 if self.fault == "predict_means" else 1.0
        return sign * self.predict(weights_MK)[0]

    def predict(self, weights_MK):
        predicts_Q = self.predicts_Q[::-1] if self.fault == "order of metrics" else self.predicts_Q
        parts = zip(*(predict(weights_MK) for predict in predicts_Q), strict=True)
        return tuple(np.stack(part, axis=1) for part in parts)


@dataclass(frozen=True)
class FaultyTogether(Faulty):
    """The same for predictors that fit all metrics together."""

    def fit_metrics(self, weights_TK, values_TQ, noise_TQ, domain_groups=()):
        if self.fault == "order of trials":
            values_TQ = values_TQ + values_TQ[0]
        pairs = zip(values_TQ.T, noise_TQ.T, strict=True)
        predicts = [self.fit(weights_TK, v_T, n_T) for v_T, n_T in pairs]
        return Together(tuple(predicts[:1] if self.fault == "one" else predicts), self.fault)


@pytest.mark.parametrize("fault", ["none", "generator", "lists"])
@pytest.mark.parametrize("plugin", [Faulty, FaultyTogether])
@pytest.mark.parametrize("function", [Function, Joint])
def test_predictors_that_the_search_can_use_keep_the_contract(fault, plugin, function):
    check_predictor(plugin(fault, function))


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("no function", "fit must return a function; found NoneType"),
        ("changes weights", "a prediction must not change the weights"),
        ("raises", "a prediction must not fail; found ValueError: two lines"),
        ("draws numbers", "the mean of a mixture must be equal in every call"),
        ("centers", "the mean of a mixture must not depend on the other mixtures of the call"),
        ("squeezes", r"the predictor's mean has shape \(\)"),
        ("columns", r"the predictor's mean has shape \(7, 1\)"),
        ("mean only", "the predictor returned ndarray where it must return two arrays"),
        ("one std", r"the predictor's std has shape \(\)"),
        ("negative", "7 values that are not finite"),
        ("nothing", "the predictor returned NoneType where it must return two arrays"),
    ],
)
def test_the_check_states_the_broken_rule_of_predictions(fault, rule):
    with pytest.raises(AssertionError, match=rule):
        check_predictor(Faulty(fault))


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("mean", "mean or predict_means must agree"),
        ("noise", r"noise must be finite and at least 0; found \[-1.0\]"),
        ("joint mean", "the mean of joint must agree"),
        ("joint shape", r"the predictor's covariance has shape \(7,\)"),
        ("joint nan", "49 values that are not finite"),
        ("joint std", "the diagonal of joint must agree"),
        ("joint lower", "the transpose of joint must agree"),
    ],
)
def test_the_check_states_the_broken_rule_of_covariances(fault, rule):
    with pytest.raises(AssertionError, match=rule):
        check_predictor(Faulty(fault, Joint))


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("one", "fit_metrics must return 2 functions in predicts_Q; found 1"),
        ("predict_means", "mean or predict_means must agree"),
        ("order of metrics", "the mean of a function in predicts_Q must agree"),
        ("order of trials", "the mean must not depend on the order of trials"),
    ],
)
def test_the_check_states_the_broken_rule_of_fits_of_all_metrics(fault, rule):
    with pytest.raises(AssertionError, match=rule):
        check_predictor(FaultyTogether(fault))
