"""The parameters in a search result are enough to predict other mixtures without this package."""

import json

import numpy as np
import pytest

from climb.predictor.gp import GPPredictor
from climb.predictor.loglinear import LogLinearPredictor
from climb.predictor.powerlaw import PowerLawPredictor
from climb.predictor.stack import StackPredictor
from climb.testing.world import PlantedWorld

WORLD = PlantedWorld.build(5, 1, noise=0.1, seed=0)


def evaluate(exported, weights_MK):
    """Predict from the exported numbers alone, as a page with a script would."""
    if exported["kind"] == "stack":
        means = [evaluate(member, weights_MK) for member in exported["members"]]
        return np.array(exported["shares"]) @ means
    return {"gaussian_process": gaussian_process, "power_law": power_law}[exported["kind"]](
        exported, weights_MK
    )


def gaussian_process(p, weights_MK):
    features = (weights_MK ** p["power"] - p["offset"]) / p["feature_scale"] / p["lengths"]
    points = np.array(p["points"])
    distance = np.sqrt(5.0) * np.linalg.norm(features[:, None] - points[None], axis=2)
    kernel = (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)
    return p["center"] + p["scale"] * (p["prior_mean"] + p["variance"] * kernel @ p["alpha"])


def power_law(p, weights_MK):
    *logs, log_base, floor, log_scale, log_decay, log_exponent = p["parameters"]
    exponent = np.exp(log_exponent)
    data = (np.exp(logs) * weights_MK**exponent).sum(axis=1) + np.exp(log_base)
    return p["center"] + p["sign"] * p["scale"] * (
        floor + np.exp(log_scale) * data ** -np.exp(log_decay)
    )


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


def test_a_fit_with_extra_features_exports_no_parameters():
    """Weights alone do not determine its predictions."""
    for predictor in (GPPredictor(), LogLinearPredictor()):
        assert fit(predictor, lambda weights_MK: weights_MK[:, :1]).export() == {}
