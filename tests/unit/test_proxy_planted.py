"""The proxy without training keeps the contract of a proxy and has a known best mixture."""

import dataclasses

import numpy as np
import pytest

from climb.config import build, recipe_of
from climb.errors import ComponentError, TrialError
from climb.proxy import Proxy, ProxyRun, Target
from climb.testing.contracts import check_proxy
from climb.testing.proxies import PlantedProxy, draw_best_mixture
from climb.tokenizer import TokenizerFile

RUN = ProxyRun(
    weights={"a": 0.5, "b": 0.5},
    shards={},
    tokenizer=TokenizerFile(""),
    n_tokens=1,
    seed=0,
    start=None,
    save=None,
    checkpoints="",
    checkpoint_steps=1,
    targets=(
        Target(name="x", kind="choices", path=""),
        Target(name="y", kind="text", path=""),
    ),
)


def change_run(**changes):
    return dataclasses.replace(RUN, **changes)


def test_the_planted_proxy_keeps_the_contract_of_a_proxy(tmp_path):
    check_proxy(PlantedProxy(noise=0.1), tmp_path)


def test_metrics_follow_the_distance_from_the_best_mixture():
    proxy = PlantedProxy(best={"a": 0.8, "b": 0.2}, floor=2.0, slope=10.0)
    metrics = proxy.train(RUN, "cpu")
    assert metrics["x.bpb"] == pytest.approx(2.0 + 10.0 * 2 * 0.3**2)
    assert metrics["y.bpb"] == metrics["x.bpb"]
    assert set(metrics) == {
        "train.loss", "x.bpb", "x.prob", "x.accuracy", "x.accuracy_norm", "y.bpb",
    }  # fmt: skip
    assert proxy.train(change_run(weights={"a": 0.8, "b": 0.2}), "cpu")["x.bpb"] == 2.0


def test_without_a_configured_mixture_the_best_one_is_drawn_from_the_names():
    best = draw_best_mixture(("a", "b", "c"))
    assert sum(best.values()) == pytest.approx(1.0)
    assert best == draw_best_mixture(("c", "b", "a"))
    assert len(set(best.values())) == 3
    metrics = PlantedProxy(floor=1.5).train(change_run(weights=best), "cpu")
    assert metrics["y.bpb"] == pytest.approx(1.5)


def test_noise_has_the_configured_std_and_depends_on_seed_mixture_and_target():
    proxy = PlantedProxy(noise=0.1)
    runs = [proxy.train(change_run(seed=seed), "cpu") for seed in range(400)]
    for name in ("x.bpb", "y.bpb"):
        # 400 draws: the standard error of the std is 0.0035, of the mean 0.005
        assert np.std([run[name] for run in runs]) == pytest.approx(0.1, abs=0.015)
        assert np.mean([run[name] for run in runs]) == pytest.approx(
            proxy.predict_bpb(RUN.weights), abs=0.02
        )
    noise_x, noise_y = (np.array([run[name] for run in runs]) for name in ("x.bpb", "y.bpb"))
    assert abs(np.corrcoef(noise_x, noise_y)[0, 1]) < 0.2
    assert proxy.train(change_run(seed=3), "cpu") == runs[3]


def test_a_run_above_the_configured_weight_fails_like_diverged_training():
    proxy = PlantedProxy(nan_when_above={"a": 0.5})
    proxy.train(RUN, "cpu")
    with pytest.raises(TrialError, match=r"the loss is nan .* a has weight 0\.6000 > 0\.5"):
        proxy.train(change_run(weights={"a": 0.6, "b": 0.4}), "cpu")


def test_a_missing_checkpoint_folder_is_reported(tmp_path):
    with pytest.raises(ComponentError, match="checkpoint folder `start` does not exist"):
        PlantedProxy().train(change_run(start=str(tmp_path / "none")), "cpu")


def test_the_proxy_is_built_from_configuration_and_its_recipe_depends_on_its_fields():
    spec = {"use": "climb.testing.proxies:PlantedProxy", "noise": 0.1, "best": {"a": 1.0}}
    proxy = build(spec, Proxy)
    assert proxy == PlantedProxy(noise=0.1, best={"a": 1.0})
    assert recipe_of(proxy) != recipe_of(PlantedProxy(noise=0.2, best={"a": 1.0}))
