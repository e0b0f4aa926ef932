"""The parameters in a search result are enough to predict other mixtures without this package."""

import json

import numpy as np
import pytest

from climb.predictor.gp import GPPredictor
from climb.predictor.loglinear import LogLinearPredictor
from climb.predictor.pooled import PooledPredictor
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.stack import StackPredictor
from climb.testing.world import PlantedWorld

WORLD = PlantedWorld.build(5, 1, noise=0.1, seed=0)


def evaluate(exported, weights_MK):
    """Predict from the exported numbers alone, as a page with a script would."""
    if exported["kind"] == "stack":
        means = [evaluate(member, weights_MK) for member in exported["members"]]
        return np.array(exported["shares"]) @ means
    if exported["kind"] == "constant":
        return np.full(len(weights_MK), exported["value"])
    return {"gaussian_process": gaussian_process, "power_law": power_law}[exported["kind"]](
        exported, weights_MK
    )


def gaussian_process(p, weights_MK):
    weights_MK = append_sums(p, weights_MK)
    features = (weights_MK ** p["power"] - p["offset"]) / p["feature_scale"] / p["lengths"]
    points = np.array(p["points"])
    distance = np.sqrt(5.0) * np.linalg.norm(features[:, None] - points[None], axis=2)
    kernel = (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)
    level = p["center"] + p["scale"] * (p["prior_mean"] + p["variance"] * kernel @ p["alpha"])
    return np.exp(level) if p.get("log") else level


def append_sums(p, weights_MK):
    groups = p.get("domain_groups", [])
    sums = [weights_MK[:, group].sum(axis=1, keepdims=True) for group in groups]
    return np.hstack([weights_MK, *sums])


def power_law(p, weights_MK):
    *logs, log_base, floor, log_scale, log_decay, log_exponent = p["parameters"]
    exponent, weights_MK = np.exp(log_exponent), append_sums(p, weights_MK)
    data = (np.exp(logs) * weights_MK**exponent).sum(axis=1) + np.exp(log_base)
    law = floor + np.exp(log_scale) * data ** -np.exp(log_decay)
    value = p["center"] + p["sign"] * p["scale"] * law
    return np.clip(value, p.get("low", -np.inf), p.get("high", np.inf))


def fit(predictor, extra=None):
    rng = np.random.default_rng(0)
    weights_TK = WORLD.space.sample(rng, 40, concentration=(0.1, 5.0), temperature=0.5)
    values_T = WORLD.compute_losses(weights_TK)[:, 0]
    return predictor.fit(weights_TK, values_T, np.zeros(40), extra)


@pytest.mark.parametrize(
    "predictor", [GPPredictor(), PowerLawPredictor(), StackPredictor()], ids=lambda p: str(type(p))
)
def test_exported_parameters_give_the_predictions(predictor):
    predict = fit(predictor)
    exported = json.loads(json.dumps(predict.export()))
    others_MK = np.random.default_rng(1).dirichlet(np.ones(5), size=20)
    np.testing.assert_allclose(evaluate(exported, others_MK), predict.mean(others_MK), rtol=1e-8)


def test_exported_parameters_of_shared_fits_give_the_predictions():
    weights_TK = WORLD.space.sample(
        np.random.default_rng(0), 40, concentration=(0.1, 5.0), temperature=0.5
    )
    values_TQ = np.hstack([WORLD.compute_losses(weights_TK), -weights_TK[:, :1]])
    predicts = PooledPredictor().fit_metrics(
        weights_TK, values_TQ, np.zeros_like(values_TQ), ((1, 3),)
    )
    others_MK = np.random.default_rng(1).dirichlet(np.ones(5), size=20)
    for q, predict in enumerate(predicts.predicts_Q):
        exported = json.loads(json.dumps(predict.export()))
        assert [member["kind"] for member in exported["members"]] == [
            "gaussian_process",
            "power_law",
            "constant",
        ]
        np.testing.assert_allclose(
            evaluate(exported, others_MK), predicts.predict_means(others_MK)[:, q], rtol=1e-8
        )


def test_a_fit_with_extra_features_exports_no_parameters():
    """Weights alone do not determine its predictions."""
    for predictor in (GPPredictor(), LogLinearPredictor()):
        assert fit(predictor, lambda weights_MK: weights_MK[:, :1]).export() == {}
